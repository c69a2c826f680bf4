//! Gives every node a part of the pods' address ranges.

mod plan;

use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use reconcile::{Change, EventType, Informer, Queue, Recorder};
use serde_json::json;
use tracing::info;

use self::plan::Ranges;
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Informer<Node>,
    /// One for each address family.
    ranges: Vec<Mutex<Ranges>>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let config = &context.config;
    if config.node_cidrs.is_empty() {
        info!("node address ranges are not allocated here");
        context.drain.cancelled().await;
        return Ok(());
    }
    let mask = |range: &IpNet| if range.addr().is_ipv4() { config.node_mask_ipv4 } else { config.node_mask_ipv6 };
    let mut ranges = Vec::new();
    for range in &config.node_cidrs {
        let mut allocator = Ranges::new(*range, mask(range))?;
        config.service_cidrs.iter().for_each(|services| allocator.occupy(services));
        ranges.push(Mutex::new(allocator));
    }
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("cidrAllocator"),
        nodes: context.informer(),
        ranges,
    };
    controller.nodes.synced().await;
    // What nodes have must be known before the first of them is given anything.
    for node in controller.nodes.list() {
        controller.occupy(&node);
    }
    let queue = Queue::<String>::new();
    let changed = queue.clone();
    controller.nodes.handle(move |change| match change {
        Change::Updated { new, .. } if has_ranges(new) => {}
        _ => changed.add(change.object().name_any()),
    });
    // One at a time: who asks first gets the first range.
    let known = Mutex::new(std::collections::HashMap::<String, Vec<IpNet>>::new());
    context.work("node-ipam-controller", &queue, 1, |name| controller.sync(name, &known)).await;
    Ok(())
}

fn ranges_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let list = spec.pod_cidrs.clone().unwrap_or_else(|| spec.pod_cidr.clone().into_iter().collect());
    list.iter().filter_map(|it| it.parse().ok()).collect()
}

fn has_ranges(node: &Node) -> bool {
    !ranges_of(node).is_empty()
}

type Known = Mutex<std::collections::HashMap<String, Vec<IpNet>>>;

impl Controller {
    async fn sync(&self, name: String, known: &Known) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get("", &name) else {
            let had = known.lock().remove(&name);
            had.into_iter().flatten().for_each(|range| self.release(&range));
            return Ok(None);
        };
        if has_ranges(&node) {
            self.occupy(&node);
            self.note(known, name, ranges_of(&node));
            return Ok(None);
        }
        let Some(ranges) = self.allocate() else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.recorder.event(&*node, EventType::Normal, "CIDRNotAvailable", message);
            return Err(Error::Unfinished(format!("no address range is left for node {name}")));
        };
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let patch = json!({"spec": {"podCIDR": texts[0], "podCIDRs": texts}});
        let api = Api::<Node>::all(self.client.clone());
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        match patched.during("give a range to node", &name).found() {
            Ok(Some(_)) => {
                self.note(known, name, ranges);
                Ok(None)
            }
            failed => {
                ranges.iter().for_each(|range| self.release(range));
                failed.map(|_| None)
            }
        }
    }

    /// What a node has. A former node of its name may have had something else.
    fn note(&self, known: &Known, name: String, ranges: Vec<IpNet>) {
        let had = known.lock().insert(name, ranges.clone());
        had.into_iter().flatten().filter(|range| !ranges.contains(range)).for_each(|range| self.release(&range));
    }

    /// One range of each family, or nothing.
    fn allocate(&self) -> Option<Vec<IpNet>> {
        let mut taken = Vec::new();
        for ranges in &self.ranges {
            match ranges.lock().take() {
                Some(range) => taken.push(range),
                None => {
                    taken.iter().for_each(|range| self.release(range));
                    return None;
                }
            }
        }
        Some(taken)
    }

    fn occupy(&self, node: &Node) {
        for range in ranges_of(node) {
            self.ranges.iter().for_each(|ranges| ranges.lock().occupy(&range));
        }
    }

    fn release(&self, range: &IpNet) {
        self.ranges.iter().for_each(|ranges| ranges.lock().release(range));
    }
}
