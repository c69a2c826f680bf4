//! Tells each node how long it may keep secrets and config maps before it asks again: the longer, the more nodes ask.
//!
//! Nothing is said anew when a node comes and goes at the border between two sizes: the ranges overlap.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use reconcile::{Change, Queue};
use serde_json::json;

use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 5;
const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Fewest and most nodes, and seconds.
const SIZES: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// How large the cluster is.
#[derive(Debug, Default)]
struct Size {
    nodes: usize,
    step: usize,
}

impl Size {
    /// True when nodes are to be told something else than before.
    fn set(&mut self, nodes: usize) -> bool {
        self.nodes = nodes;
        let before = self.step;
        while nodes > SIZES[self.step].1 {
            self.step += 1;
        }
        while nodes < SIZES[self.step].0 {
            self.step -= 1;
        }
        self.step != before
    }

    fn seconds(&self) -> u32 {
        SIZES[self.step].2
    }
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let nodes = context.informer::<Node>();
    let queue = Queue::<String>::new();
    let size = Arc::<Mutex<Size>>::default();
    let (changed, all, counted) = (queue.clone(), nodes.clone(), size.clone());
    nodes.handle(move |change| {
        let name = change.object().name_any();
        let is_new_step = {
            let mut size = counted.lock();
            let nodes = match change {
                Change::Added(_) => size.nodes + 1,
                Change::Updated { .. } => size.nodes,
                Change::Deleted(_) => size.nodes.saturating_sub(1),
            };
            size.set(nodes)
        };
        if is_new_step {
            all.list().iter().for_each(|node| changed.add(node.name_any()));
        }
        if !change.is_deleted() {
            changed.add(name);
        }
    });
    nodes.synced().await;
    let sync = |name: String| {
        let wanted = size.lock().seconds().to_string();
        let node = nodes.get("", &name).filter(|node| node.annotations().get(ANNOTATION) != Some(&wanted));
        let api = Api::<Node>::all(context.client.clone());
        async move {
            if node.is_some() {
                let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted}}});
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                patched.during("annotate node", &name).found()?;
            }
            Ok(None::<Duration>)
        }
    };
    context.work("ttl-controller", &queue, WORKERS, sync).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_cluster_and_does_not_flap() {
        let mut size = Size::default();
        let cases =
            [(1, 0), (100, 0), (101, 15), (100, 15), (90, 15), (89, 0), (5000, 300), (1800, 300), (1799, 60), (0, 0)];
        for (nodes, seconds) in cases {
            let before = size.seconds();
            assert_eq!(size.set(nodes), before != seconds, "{nodes}");
            assert_eq!(size.seconds(), seconds, "{nodes}");
        }
    }
}
