//! How much storage drivers have left where (`CSIStorageCapacity`), for volumes that are still to be made. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::{Plan, Storage, asked, capacity, class_of, requested};
use crate::framework::MAX_SCORE;
use crate::model::affinity::{Labels, Selector};

fn bytes(quantity: Option<&WireQuantity>) -> Option<i64> {
    Some(quantity?.0.parse::<Quantity>().ok()?.value())
}

/// The largest volume that can be made: what the driver says about one volume is more exact than what is left in all.
fn limit(room: &CSIStorageCapacity) -> Option<i64> {
    bytes(room.maximum_volume_size.as_ref().or(room.capacity.as_ref()))
}

/// The driver publishes what it has left.
pub(crate) fn is_tracked(driver: &CSIDriver) -> bool {
    driver.spec.storage_capacity == Some(true)
}

/// A pod that found too little may find enough now.
pub(crate) fn has_grown(old: &CSIStorageCapacity, new: &CSIStorageCapacity) -> bool {
    limit(new).is_some_and(|new| limit(old).is_none_or(|old| new > old))
}

impl Storage {
    /// Whether a volume for the claim can be made where these labels are. Drivers that do not tell are believed to
    /// have enough.
    pub(super) fn has_room(&self, claim: &PersistentVolumeClaim, class: &StorageClass, labels: &Labels) -> bool {
        let (Some(asked), true) =
            (asked(claim), self.drivers.get(&class.provisioner).is_some_and(|one| is_tracked(one)))
        else {
            return true;
        };
        self.room(asked, class_of(claim), labels).is_some()
    }

    /// The first published capacity of a class that is in reach and enough.
    fn room(&self, asked: i64, class: &str, labels: &Labels) -> Option<&CSIStorageCapacity> {
        let mut published = self.capacities.values().filter(|room| room.storage_class_name == class);
        let reaches = |room: &CSIStorageCapacity| Selector::new(room.node_topology.as_ref()).matches(labels);
        let found = published.find(|room| limit(room).is_some_and(|limit| limit >= asked) && reaches(room));
        found.map(|room| &**room)
    }

    /// How well a plan uses what there is: the more is left, the better. Volumes that exist count alone when there are
    /// any, as upstream.
    pub(crate) fn score(&self, plan: &Plan, labels: &Labels) -> i64 {
        let mut classes: BTreeMap<&str, Use> = BTreeMap::new();
        for (volume, claim) in &plan.bind {
            let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
            let used = classes.entry(class).or_default();
            used.requested = used.requested.saturating_add(requested(claim));
            used.capacity = used.capacity.saturating_add(capacity(volume));
        }
        let made = plan.provision.iter().filter(|_| plan.bind.is_empty());
        for claim in made {
            let Some(room) = self.tracked_room(claim, labels) else { continue };
            let used = classes.entry(class_of(claim)).or_default();
            // Several claims take from the same.
            used.capacity = bytes(room.capacity.as_ref()).unwrap_or(0);
            used.requested = used.requested.saturating_add(requested(claim));
        }
        mean(classes.values().map(Use::score).collect())
    }

    fn tracked_room(&self, claim: &PersistentVolumeClaim, labels: &Labels) -> Option<&CSIStorageCapacity> {
        let class = self.classes.get(class_of(claim))?;
        self.drivers.get(&class.provisioner).filter(|driver| is_tracked(driver))?;
        self.room(asked(claim)?, class_of(claim), labels)
    }
}

#[derive(Default)]
struct Use {
    requested: i64,
    capacity: i64,
}

impl Use {
    /// What is left, in percent.
    fn score(&self) -> i64 {
        if self.capacity == 0 || self.requested > self.capacity {
            return 0;
        }
        let percent = i128::from(self.requested) * i128::from(MAX_SCORE) / i128::from(self.capacity);
        MAX_SCORE - i64::try_from(percent).unwrap_or(MAX_SCORE)
    }
}

/// Rounded to the nearest.
fn mean(scores: Vec<i64>) -> i64 {
    let Ok(count @ 1..) = i64::try_from(scores.len()) else { return 0 };
    (scores.iter().sum::<i64>() * 2 + count) / (count * 2)
}

#[cfg(test)]
mod tests;
