//! Who owns the number of replicas, seen from `scale` and from the object.

use std::borrow::Cow;

use super::managers::{self, Entry};
use super::set::Set;

const PATH: [&str; 2] = ["spec", "replicas"];
const SCALE_VERSION: &str = "autoscaling/v1";

/// The managed fields of an object's scale; `is_known` says whether an API version is one of the object's.
pub fn scale_of_parent(parent: &str, is_known: &dyn Fn(&str) -> bool) -> Vec<u8> {
    let entries = managers::decode(parent).unwrap_or_default();
    let owners = entries.into_iter().filter(|entry| is_known(&entry.api_version) && entry.set.has(&PATH));
    let seen = owners.map(|entry| Entry { api_version: Cow::Borrowed(SCALE_VERSION), set: Set::path(&PATH), ..entry });
    managers::encode(seen.collect())
}

/// The managed fields of an object of an API version after a change of its scale.
pub fn scale_to_parent(parent: &str, scale: &str, version: &str, is_known: &dyn Fn(&str) -> bool) -> Vec<u8> {
    let before = managers::decode(parent).unwrap_or_default();
    let mut owners = managers::decode(scale).unwrap_or_default();
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(before.len() + 1);
    for entry in &before {
        if !is_known(&entry.api_version) {
            continue;
        }
        if !entry.set.has(&PATH) {
            entries.push(entry.clone());
            continue;
        }
        if let Some(at) = owners.iter().position(|owner| owner.is_same_manager(entry)) {
            owners.remove(at);
            entries.push(entry.clone());
            continue;
        }
        let set = entry.set.difference(&Set::path(&PATH));
        if !set.is_empty() {
            entries.push(Entry { set, ..entry.clone() });
        }
    }
    for owner in owners.into_iter().filter(|owner| owner.set.has(&PATH)) {
        // Upstream looks the time up among the object's own managers, which a manager of the scale mostly is not.
        let known = before.iter().find(|entry| entry.is_same_manager(&owner));
        let time = known.and_then(|entry| entry.time.clone());
        let api_version = Cow::Owned(version.to_owned());
        entries.push(Entry { api_version, set: Set::path(&PATH), time, ..owner });
    }
    managers::encode(entries)
}
