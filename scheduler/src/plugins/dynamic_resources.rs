//! `DynamicResources`: devices that a pod claims. Nobody allocates them here: such a pod waits and says why, instead of
//! running without its devices.

use crate::{
    cache::Snapshot,
    framework::{Events, Filter, Plugin, Rejection},
    model::PodInfo,
};

pub(super) struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn events(&self) -> Events {
        Events::default()
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let mut claims = pod.object.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
        match claims.next() {
            None => Ok(Filter::Skip),
            Some(claim) => Err(Rejection::unresolvable(format!(
                "the resource claim {:?} cannot be allocated: this scheduler knows no devices",
                claim.name
            ))),
        }
    }
}
