//! When what is being written down happened: the annotation from which others measure how long it took.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use reconcile::Key;

use crate::pods;

/// What was seen of each service at its last sync.
#[derive(Default)]
pub(crate) struct Triggers(Mutex<HashMap<Key, Seen>>);

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

impl Triggers {
    /// The earliest change since the last call, if there was any.
    pub(crate) fn since_last(&self, key: &Key, service: &Service, selected: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let changed = |pod: &Arc<Pod>| {
            let condition = pods::condition(pod, "Ready")?;
            Some((pod.metadata.name.clone()?, condition.last_transition_time.as_ref()?.0))
        };
        let now = Seen { service: created, pods: selected.iter().filter_map(changed).collect() };
        let mut all = self.0.lock();
        let Some(last) = all.get(key) else {
            all.insert(key.clone(), now);
            return created;
        };
        let newer = now.pods.iter().filter(|(name, time)| last.pods.get(*name).is_none_or(|seen| *time > seen));
        let times = newer.map(|(_, time)| *time).chain(created.filter(|time| Some(*time) > last.service));
        let earliest = times.min();
        all.insert(key.clone(), now);
        earliest
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}
