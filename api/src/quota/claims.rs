//! Claims of volumes and of devices.

use std::collections::{BTreeMap, BTreeSet};

use super::scope::Scopes;
use super::whole;
use crate::amounts::Amounts;
use crate::quantity::{Format, Quantity};
use crate::{Value, meta};

const COUNT_VOLUMES: &str = "count/persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const OF_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const COUNT_DEVICES: &str = "count/resourceclaims.resource.k8s.io";
const OF_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// The most devices that one claim can get, for requests of all there are.
const DEVICES_MAX: i64 = 32;

pub(super) fn counts_volumes(name: &str) -> bool {
    let of_class = name.rsplit_once(OF_STORAGE_CLASS).map(|(_, what)| what);
    [COUNT_VOLUMES, VOLUMES, STORAGE].contains(&name) || of_class.is_some_and(|what| [VOLUMES, STORAGE].contains(&what))
}

pub(super) fn volume_usage(claim: &Value) -> Amounts {
    let old_class = meta::annotation(claim, OLD_CLASS);
    let class = old_class.or_else(|| meta::find(claim, "/spec/storageClassName")?.as_str()).unwrap_or("");
    let mut used = Amounts::default();
    let mut charge = |name: &str, amount: &Quantity| {
        used.set(name, amount.clone());
        if !class.is_empty() {
            used.set(format!("{class}{OF_STORAGE_CLASS}{name}"), amount.clone());
        }
    };
    charge(VOLUMES, &whole(1));
    if let Some(storage) = storage(claim) {
        charge(STORAGE, &storage);
    }
    used.set(COUNT_VOLUMES, whole(1));
    used
}

/// What is asked for, or what is being set aside if that is more; in whole bytes.
fn storage(claim: &Value) -> Option<Quantity> {
    let read = |pointer: &str| Quantity::from_value(meta::find(claim, pointer)?).ok();
    let asked = read("/spec/resources/requests/storage")?;
    let most = match read("/status/allocatedResources/storage") {
        Some(given) if given > asked => given,
        _ => asked,
    };
    match most.as_i64() {
        Some(_) => Some(most),
        None => Some(Quantity::new(most.value(), most.format())),
    }
}

pub(super) fn scopes(claim: &Value) -> Scopes {
    let fields = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    let named =
        fields.into_iter().filter_map(|field| meta::find(claim, field)?.as_str()).filter(|name| !name.is_empty());
    Scopes::VolumeClaim { classes: named.map(str::to_owned).collect::<BTreeSet<String>>() }
}

pub(super) fn counts_devices(name: &str) -> bool {
    name == COUNT_DEVICES || name.ends_with(OF_DEVICE_CLASS)
}

/// Of alternatives, the worst one counts for each class.
pub(super) fn device_usage(claim: &Value) -> Amounts {
    let mut used = Amounts::default();
    used.set(COUNT_DEVICES, whole(1));
    let requests = meta::find(claim, "/spec/devices/requests").and_then(Value::as_array);
    for request in requests.into_iter().flatten() {
        let alternatives = request["firstAvailable"].as_array().filter(|list| !list.is_empty());
        let exact = request.get("exactly").into_iter();
        let mut worst: BTreeMap<String, i64> = BTreeMap::new();
        for one in alternatives.into_iter().flatten().chain(exact.filter(|_| alternatives.is_none())) {
            let class = one["deviceClassName"].as_str().unwrap_or("");
            let most = worst.entry(format!("{class}{OF_DEVICE_CLASS}")).or_default();
            *most = (*most).max(devices(one));
        }
        let worst = worst.into_iter().map(|(name, amount)| (name, Quantity::new(amount, Format::DecimalSi)));
        used.add(&worst.collect());
    }
    used
}

fn devices(request: &Value) -> i64 {
    match request["allocationMode"].as_str() {
        Some("ExactCount") => request["count"].as_i64().unwrap_or(0),
        Some("All") => DEVICES_MAX,
        _ => 0,
    }
}
