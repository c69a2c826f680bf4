//! Watches the metadata of every resource that can be deleted, and feeds the graph.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use daemon::Trigger;
use kube::{Api, runtime::watcher::Event};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Shared,
    graph::{Todo, Uid},
};
use crate::{
    Error,
    context::Context,
    discovery::{self, Resource},
    metadata::{self, Metadata},
};

/// The running watches.
#[derive(Clone, Default)]
pub(super) struct Monitors(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    running: HashMap<Arc<Resource>, Running>,
    /// Every resource by group and kind, also those that are not watched.
    kinds: HashMap<(String, String), Arc<Resource>>,
}

struct Running {
    synced: watch::Receiver<bool>,
    stop: Trigger,
}

impl Monitors {
    /// The resource of a kind, whatever version of its group a reference names.
    pub(super) fn find(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.0.lock().kinds.get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    /// Returns when every watch has delivered its first list.
    pub(super) async fn synced(&self) {
        let waiting: Vec<_> = self.0.lock().running.values().map(|it| it.synced.clone()).collect();
        for mut synced in waiting {
            // A watch that ended is not waited for.
            drop(synced.wait_for(|done| *done).await);
        }
    }
}

/// Starts watches of what the server has, and ends those of what it no longer has.
pub(super) async fn sync(shared: &Shared, context: &Context) -> Result<(), Error> {
    let found = discovery::discover(&context.process).await?;
    let all: Vec<Arc<Resource>> = found.resources.into_iter().map(Arc::new).collect();
    let wanted: BTreeSet<Uid> = all.iter().filter(|it| is_collected(it)).map(|it| name(it)).collect();
    let mut state = shared.monitors.0.lock();
    state.kinds = all.iter().map(|it| ((it.api.group.clone(), it.api.kind.clone()), it.clone())).collect();
    // What cannot be found out now may still be there: nothing is ended until it can.
    if found.failed.is_empty() {
        state.running.retain(|resource, running| {
            let keep = wanted.contains(&name(resource));
            if !keep {
                running.stop.start();
                let todo = shared.graph.lock().retain(resource, &BTreeSet::new());
                shared.queue(todo);
            }
            keep
        });
    }
    for resource in all.into_iter().filter(|it| is_collected(it)) {
        let entry = state.running.entry(resource);
        let resource = entry.key().clone();
        entry.or_insert_with(|| start(shared, context, resource));
    }
    Ok(())
}

/// Events are many, own nothing, and go by themselves.
fn is_collected(resource: &Resource) -> bool {
    resource.can(&["delete", "list", "watch"]) && resource.api.plural != "events"
}

fn name(resource: &Resource) -> Uid {
    format!("{}/{}", resource.api.api_version, resource.api.plural).into()
}

fn start(shared: &Shared, context: &Context, resource: Arc<Resource>) -> Running {
    let (synced, receiver) = watch::channel(false);
    let (stop, drain) = context.drain.child();
    let api = Api::<Metadata>::all_with(context.process.clone(), &resource.api);
    let feed = Feed { shared: shared.clone(), resource, synced, listed: BTreeSet::new() };
    context.tasks.spawn("garbage-collector monitor", async move {
        drain.run(feed.run(api)).await;
    });
    Running { synced: receiver, stop }
}

struct Feed {
    shared: Shared,
    resource: Arc<Resource>,
    synced: watch::Sender<bool>,
    /// Uids seen during a list.
    listed: BTreeSet<Uid>,
}

impl Feed {
    async fn run(mut self, api: Api<Metadata>) {
        let resource = self.resource.clone();
        let take = |event| {
            let todo = self.take(event);
            self.shared.queue(todo);
        };
        metadata::follow(&api, &resource.api.plural, take).await;
    }

    fn take(&mut self, event: Event<Metadata>) -> Vec<Todo> {
        let mut graph = self.shared.graph.lock();
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.extend(object.metadata.uid.as_deref().map(Uid::from));
                graph.apply(&self.resource, &object.metadata)
            }
            Event::InitDone => {
                let todo = graph.retain(&self.resource, &std::mem::take(&mut self.listed));
                self.synced.send_replace(true);
                todo
            }
            Event::Apply(object) => graph.apply(&self.resource, &object.metadata),
            Event::Delete(object) => graph.remove(object.metadata.uid.as_deref().unwrap_or_default()),
        }
    }
}
