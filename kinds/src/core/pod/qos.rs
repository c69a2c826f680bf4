//! A pod's quality-of-service class.

use api::Value;
use api::quantity::Quantity;

use crate::resource_name::{is_pod_level, quantity};
use crate::tree::{at, entries, entry_count, list};

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Value) -> &'static str {
    let spec = at(pod, "spec");
    let own = at(spec, "resources");
    if ["requests", "limits"].iter().any(|f| entries(own, f).any(|(name, _)| is_pod_level(name))) {
        return of_requirements(own);
    }
    let containers = ["initContainers", "containers"].into_iter().flat_map(|f| list(spec, f));
    combine(containers.map(|c| of_requirements(at(c, "resources"))))
}

/// One class if all agree, otherwise burstable.
fn combine(mut classes: impl Iterator<Item = &'static str>) -> &'static str {
    let Some(first) = classes.next() else {
        return "BestEffort";
    };
    if classes.all(|class| class == first) { first } else { "Burstable" }
}

fn of_requirements(resources: &Value) -> &'static str {
    if entry_count(resources, "requests") + entry_count(resources, "limits") == 0 {
        return "BestEffort";
    }
    combine(["cpu", "memory"].into_iter().map(|name| of_resource(resources, name)))
}

fn of_resource(resources: &Value, name: &str) -> &'static str {
    let amount = |field| quantity(at(resources, field), name).unwrap_or_else(Quantity::zero);
    let (request, limit) = (amount("requests"), amount("limits"));
    match request == limit {
        false => "Burstable",
        true if request.is_zero() => "BestEffort",
        true => "Guaranteed",
    }
}
