//! Services.

use super::{length, whole};
use crate::Value;
use crate::amounts::Amounts;

const NAMES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];

pub(super) fn counts(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Node ports by what is asked for: they are not allocated yet when a quota is looked at.
pub(super) fn usage(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let type_ = spec["type"].as_str().unwrap_or("");
    let balanced = type_ == "LoadBalancer";
    let ports = match type_ {
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            let ports = spec["ports"].as_array().into_iter().flatten();
            let given = ports.filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
            i64::try_from(given).unwrap_or(i64::MAX)
        }
        "LoadBalancer" | "NodePort" => length(spec.get("ports")),
        _ => 0,
    };
    let amounts = [1, 1, ports, i64::from(balanced)];
    NAMES.into_iter().zip(amounts).map(|(name, amount)| (name.to_owned(), whole(amount))).collect()
}
