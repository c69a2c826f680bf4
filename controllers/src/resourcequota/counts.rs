//! Numbers of objects by resource and namespace, for quotas such as `count/jobs.batch`.
//!
//! A resource is followed from the first time that a quota names it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use api::{
    amounts::Amounts,
    quantity::{Format, Quantity},
    quota::{Evaluator, Requirement},
};
use k8s_openapi::api::{core::v1::ResourceQuota, resource::v1::ResourceClaim};
use kube::{Api, Client, runtime::watcher::Event};
use parking_lot::Mutex;
use reconcile::{Informer, Key, Queue};
use tokio::sync::watch;

use super::plan;
use crate::{
    Error,
    context::Context,
    discovery::{self, Resource},
    metadata::{self, Metadata},
};

/// A resource that does not exist may come: a custom one.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Group and plural name.
type Name = (String, String);

#[derive(Clone)]
pub(super) struct Counts {
    process: Client,
    context: Context,
    quotas: Informer<ResourceQuota>,
    queue: Queue<Key>,
    followed: Arc<Mutex<HashMap<Name, Followed>>>,
    devices: Arc<Mutex<Option<Informer<ResourceClaim>>>>,
}

/// The objects of one resource.
#[derive(Clone)]
struct Followed {
    objects: Arc<Mutex<Objects>>,
    synced: watch::Receiver<bool>,
}

/// Names by namespace.
#[derive(Default)]
pub(super) struct Objects {
    present: HashMap<String, HashSet<String>>,
    /// During a list: what it has delivered so far.
    listed: HashMap<String, HashSet<String>>,
}

/// What was counted under which name.
#[derive(Debug, Default)]
pub(super) struct Counted {
    numbers: BTreeMap<String, i64>,
    /// Not everything that is limited exists.
    pub(super) look_again: Option<Duration>,
}

impl Counted {
    /// Objects that are only counted are in no scope.
    pub(super) fn used(&self, requirements: &[Requirement]) -> Amounts {
        let amount = |number: i64| Quantity::new(if requirements.is_empty() { number } else { 0 }, Format::DecimalSi);
        self.numbers.iter().map(|(name, number)| (name.clone(), amount(*number))).collect()
    }
}

impl Counts {
    pub(super) fn new(context: &Context, queue: &Queue<Key>) -> Self {
        Self {
            process: context.process.clone(),
            context: context.clone(),
            quotas: context.informer(),
            queue: queue.clone(),
            followed: Arc::default(),
            devices: Arc::default(),
        }
    }

    /// The number of objects in a namespace under each name that only counts objects.
    pub(super) async fn of(&self, namespace: &str, names: impl Iterator<Item = &str>) -> Result<Counted, Error> {
        let mut counted = Counted::default();
        for name in names {
            let Some((group, plural)) = Evaluator::counted(name).filter(|(group, plural)| is_plain(group, plural))
            else {
                continue;
            };
            match self.follow(group, plural).await? {
                Some(mut followed) => {
                    // The sender lives as long as the process.
                    drop(followed.synced.wait_for(|done| *done).await);
                    let number = followed.objects.lock().number(namespace);
                    counted.numbers.insert(name.to_owned(), number);
                }
                None => counted.look_again = Some(LOOK_AGAIN),
            }
        }
        Ok(counted)
    }

    /// The informer of device claims; `first` is called with it when it starts.
    pub(super) fn devices(
        &self,
        context: &Context,
        first: impl FnOnce(&Informer<ResourceClaim>, &Queue<Key>),
    ) -> Informer<ResourceClaim> {
        let mut devices = self.devices.lock();
        if let Some(informer) = &*devices {
            return informer.clone();
        }
        let informer = context.informer::<ResourceClaim>();
        first(&informer, &self.queue);
        devices.insert(informer).clone()
    }

    /// None when the server has no such resource.
    async fn follow(&self, group: &str, plural: &str) -> Result<Option<Followed>, Error> {
        let name: Name = (group.to_owned(), plural.to_owned());
        if let Some(followed) = self.followed.lock().get(&name) {
            return Ok(Some(followed.clone()));
        }
        let found = discovery::discover(&self.process).await?;
        let is_it = |it: &Resource| {
            it.api.group == group
                && it.api.plural == plural
                && it.namespaced
                && it.can(&["create", "list", "watch", "delete"])
        };
        let Some(resource) = found.resources.into_iter().find(is_it) else { return Ok(None) };
        let mut followed = self.followed.lock();
        Ok(Some(followed.entry(name).or_insert_with(|| self.start(&resource)).clone()))
    }

    fn start(&self, resource: &Resource) -> Followed {
        let (synced, receiver) = watch::channel(false);
        let objects = Arc::new(Mutex::new(Objects::default()));
        let api = Api::<Metadata>::all_with(self.process.clone(), &resource.api);
        let (counts, fed, drain) = (self.clone(), objects.clone(), self.context.drain.clone());
        let (plural, evaluator) =
            (resource.api.plural.clone(), Evaluator::of(&resource.api.group, &resource.api.plural));
        self.context.tasks.spawn("resource quota monitor", async move {
            let take = |event| {
                let is_list = matches!(event, Event::InitDone);
                let emptied = fed.lock().take(event);
                if is_list {
                    synced.send_replace(true);
                }
                for namespace in emptied {
                    counts.fewer(&namespace, evaluator.as_ref());
                }
            };
            drain.run(metadata::follow(&api, &plural, take)).await;
        });
        Followed { objects, synced: receiver }
    }

    /// There are fewer objects in a namespace.
    fn fewer(&self, namespace: &str, evaluator: Option<&Evaluator>) {
        for quota in self.quotas.list_in(namespace) {
            if evaluator.is_some_and(|evaluator| plan::limits(&quota, evaluator)) {
                self.queue.add(Key::of(&*quota));
            }
        }
    }
}

/// It is only counted, and not measured as well.
fn is_plain(group: &str, plural: &str) -> bool {
    matches!(Evaluator::of(group, plural), Some(Evaluator::Count(_)))
}

impl Objects {
    /// The namespaces that have fewer objects than before.
    pub(super) fn take(&mut self, event: Event<Metadata>) -> Vec<String> {
        let name = |object: &Metadata| {
            let meta = &object.metadata;
            (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
        };
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let (namespace, name) = name(&object);
                self.listed.entry(namespace).or_default().insert(name);
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.present, std::mem::take(&mut self.listed));
                let fewer = |(namespace, names): &(String, HashSet<String>)| {
                    names.iter().any(|name| !self.present.get(namespace).is_some_and(|now| now.contains(name)))
                };
                return before.into_iter().filter(fewer).map(|(namespace, _)| namespace).collect();
            }
            Event::Apply(object) => {
                let (namespace, name) = name(&object);
                self.present.entry(namespace).or_default().insert(name);
            }
            Event::Delete(object) => {
                let (namespace, name) = name(&object);
                if let Some(names) = self.present.get_mut(&namespace) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.present.remove(&namespace);
                    }
                }
                return vec![namespace];
            }
        }
        Vec::new()
    }

    pub(super) fn number(&self, namespace: &str) -> i64 {
        self.present.get(namespace).map_or(0, |names| i64::try_from(names.len()).unwrap_or(i64::MAX))
    }
}
