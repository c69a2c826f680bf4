//! Values of the downward API: fields of the pod and resources of its containers.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::pod;

/// Addresses that are known only on the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
}

/// What the node has, in place of limits that a container does not set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocatable {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
}

/// A field of the pod as text.
///
/// # Errors
/// A message for a path that the downward API does not have.
pub(crate) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    if let Some((list, key)) = subscript(path) {
        let map = match list {
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            "metadata.labels" => pod.metadata.labels.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod::spec(pod);
    Ok(match path {
        "metadata.annotations" => map(pod.metadata.annotations.as_ref()),
        "metadata.labels" => map(pod.metadata.labels.as_ref()),
        "metadata.name" => pod::name(pod).to_owned(),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => pod::uid(pod).to_owned(),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => addresses.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => addresses.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (list, key) = path.strip_suffix("']")?.split_once("['")?;
    (!list.is_empty()).then_some((list, key))
}

/// One `key="value"` a line, quoted as Go quotes.
fn map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A container's request or limit, divided and rounded up.
///
/// # Errors
/// A message for an unknown container or resource.
pub(crate) fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    node: Allocatable,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => pod::find_container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
        None => own.clone(),
    };
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.unwrap_or_default();
    let listed = match kind {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(unsupported()),
    };
    let quantity = listed.as_ref().and_then(|list| list.get(name)).and_then(|q| q.0.parse::<Quantity>().ok());
    let divisor = selector.divisor.as_ref().and_then(|q| q.0.parse::<Quantity>().ok()).filter(|q| !q.is_zero());
    let milli = |quantity: Option<Quantity>, otherwise: i64| quantity.map_or(otherwise, |q| q.milli_value());
    let whole = |quantity: Option<Quantity>, otherwise: i64| quantity.map_or(otherwise, |q| q.value());
    let unset = |default: i64| if kind == "limits" { default } else { 0 };
    let (amount, divisor) = match name {
        "cpu" => (milli(quantity, unset(node.milli_cpu)), milli(divisor, 1000)),
        "memory" => (whole(quantity, unset(node.memory_bytes)), whole(divisor, 1)),
        "ephemeral-storage" => (whole(quantity, unset(node.ephemeral_bytes)), whole(divisor, 1)),
        name if name.starts_with("hugepages-") => (whole(quantity, 0), whole(divisor, 1)),
        _ => return Err(unsupported()),
    };
    Ok(divide_up(amount, divisor.max(1)).to_string())
}

fn divide_up(amount: i64, divisor: i64) -> i64 {
    amount / divisor + i64::from(amount % divisor > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn fields_of_a_pod() {
        let mut pod = pod(json!({"nodeName": "n", "serviceAccountName": "sa", "containers": []}));
        pod.metadata.labels = Some([("a".into(), "x\"y".into()), ("b".into(), "2".into())].into());
        let addresses = Addresses { pod_ips: vec!["10.0.0.1".into()], host_ips: vec!["192.0.2.1".into()] };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("metadata.uid", "u1"),
            ("metadata.labels", "a=\"x\\\"y\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['c']", ""),
            ("spec.nodeName", "n"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.0.0.1"),
            ("status.hostIPs", "192.0.2.1"),
        ] {
            assert_eq!(field(&pod, path, &addresses).as_deref(), Ok(expected), "{path}");
        }
        assert!(field(&pod, "spec.x", &addresses).is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let node = Allocatable { milli_cpu: 2000, memory_bytes: 4096, ephemeral_bytes: 10 };
        let pod = pod(json!({"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "250m", "memory": "1500"}, "limits": {"memory": "64Mi"}}}]}));
        let own = &pod::spec(&pod).containers[0];
        for (name, divisor, expected) in [
            ("requests.cpu", "0", "1"),
            ("requests.cpu", "1m", "250"),
            ("requests.memory", "1k", "2"),
            ("limits.memory", "1Mi", "64"),
            ("limits.cpu", "1", "2"),
            ("limits.ephemeral-storage", "1", "10"),
            ("requests.ephemeral-storage", "1", "0"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&pod, own, &selector, node).as_deref(), Ok(expected), "{name} {divisor}");
        }
    }
}
