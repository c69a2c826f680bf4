//! Quality of service, from requests and limits of cpu and memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// The status' class when set (it never changes), else computed.
pub(crate) fn qos_class(pod: &Pod) -> Qos {
    match super::status(pod).qos_class.as_deref() {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> Qos {
    if let Some(resources) = &super::spec(pod).resources {
        let all = [Some(resources)];
        let named = COUNTED
            .iter()
            .any(|name| amount(resources.requests.as_ref(), name) + amount(resources.limits.as_ref(), name) > 0);
        if named {
            return class_of(&all);
        }
    }
    let all: Vec<_> = super::all_containers(pod).map(|c| c.resources.as_ref()).collect();
    class_of(&all)
}

fn class_of(all: &[Option<&ResourceRequirements>]) -> Qos {
    let mut any = false;
    let mut guaranteed = true;
    for resources in all {
        for name in COUNTED {
            let request = resources.map_or(0, |r| amount(r.requests.as_ref(), name));
            let limit = resources.map_or(0, |r| amount(r.limits.as_ref(), name));
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == limit || request == 0);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    let quantity = list.and_then(|list| list.get(name));
    quantity.and_then(|q| q.0.parse::<api::quantity::Quantity>().ok()).map_or(0, |q| q.milli_value())
}
