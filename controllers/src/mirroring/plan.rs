//! The slices that copy an `Endpoints` object. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use reconcile::controller_ref;

use crate::backends::TRIGGER_TIME;

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Endpoints in one slice, and copied of one subset.
const MAX: usize = 100;
const MAX_SUBSET: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
    /// Addresses that are none.
    pub(super) invalid: usize,
}

pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let label = |name: &str| endpoints.metadata.labels.as_ref().and_then(|it| it.get(name));
    let annotations = endpoints.metadata.annotations.as_ref();
    label(SKIP).is_none_or(|it| it != "true") && annotations.is_none_or(|it| !it.contains_key(LEADER))
}

type Ports = Vec<(Option<String>, Option<i32>, Option<String>, Option<String>)>;
/// Address family and ports: what the endpoints of one slice have in common.
type Group = (&'static str, Ports);

fn key(type_: &str, ports: &[EndpointPort]) -> Group {
    let part = |it: &EndpointPort| (it.name.clone(), it.port, it.protocol.clone(), it.app_protocol.clone());
    let mut key: Ports = ports.iter().map(part).collect();
    key.sort_unstable();
    (if type_ == "IPv6" { "IPv6" } else { "IPv4" }, key)
}

pub(super) fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Changes {
    let mut changes = Changes::default();
    let mut wanted: BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let all = ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)));
        for (address, ready) in all.take(MAX_SUBSET) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                changes.invalid += 1;
                continue;
            };
            let group = key(if ip.is_ipv6() { "IPv6" } else { "IPv4" }, &ports);
            let entry = wanted.entry(group).or_insert_with(|| (ports.clone(), Vec::new()));
            entry.1.push(endpoint(address, ip, ready));
        }
    }
    let mut present: BTreeMap<Group, VecDeque<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let group = key(&slice.address_type, slice.ports.as_deref().unwrap_or_default());
        present.entry(group).or_default().push_back(slice.clone());
    }
    for (group, (ports, list)) in wanted {
        let mut slices = present.remove(&group).unwrap_or_default();
        for chunk in list.chunks(MAX) {
            let slice = slice(endpoints, group.0, ports.clone(), chunk.to_vec());
            match slices.pop_front() {
                Some(old) => changes.update.extend(changed(&old, slice)),
                None => changes.create.push(slice),
            }
        }
        changes.delete.extend(slices);
    }
    changes.delete.extend(present.into_values().flatten());
    changes
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|it| !it.is_empty()),
        ..Endpoint::default()
    }
}

fn slice(endpoints: &Endpoints, type_: &str, ports: Vec<EndpointPort>, list: Vec<Endpoint>) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|it| !it.is_empty()),
            owner_references: Some(vec![controller_ref(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: type_.to_owned(),
        ports: Some(ports),
        endpoints: Some(list),
    }
}

/// The slice that is there with what it should say, if it does not.
fn changed(old: &EndpointSlice, wanted: EndpointSlice) -> Option<EndpointSlice> {
    let same = old.endpoints == wanted.endpoints
        && old.metadata.labels == wanted.metadata.labels
        && old.metadata.annotations.clone().filter(|it| !it.is_empty()) == wanted.metadata.annotations;
    (!same).then(|| EndpointSlice {
        metadata: ObjectMeta {
            labels: wanted.metadata.labels,
            annotations: wanted.metadata.annotations,
            ..old.metadata.clone()
        },
        ..wanted
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints(count: usize) -> Endpoints {
        let addresses: Vec<_> =
            (0..count).map(|at| json!({"ip": format!("10.0.{}.{}", at / 200, at % 200 + 1)})).collect();
        let value = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e", "labels": {"a": "b"}}, "subsets": [
            {"addresses": addresses, "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
            {"notReadyAddresses": [{"ip": "fd00::1"}, {"ip": "nonsense"}], "ports": [{"port": 80}]}]});
        serde_json::from_value(value).unwrap()
    }

    fn stored(changes: Changes) -> Vec<Arc<EndpointSlice>> {
        let named = changes.create.into_iter().enumerate().map(|(at, mut slice)| {
            slice.metadata.name = Some(at.to_string());
            Arc::new(slice)
        });
        named.collect()
    }

    #[test]
    fn addresses_are_copied_in_chunks() {
        let changes = plan(&endpoints(150), &[]);
        let told: Vec<_> =
            changes.create.iter().map(|it| (it.address_type.as_str(), it.endpoints.as_ref().unwrap().len())).collect();
        assert_eq!(told, [("IPv4", 100), ("IPv4", 50), ("IPv6", 1)]);
        assert_eq!(changes.invalid, 1);
        let first = &changes.create[0];
        assert_eq!(first.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
        let slices = stored(changes);
        let again = plan(&endpoints(150), &slices);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
        let fewer = plan(&endpoints(99), &slices);
        assert_eq!((fewer.update.len(), fewer.delete.len(), fewer.create.len()), (1, 1, 0));
    }

    #[test]
    fn some_are_not_copied() {
        let mut it = endpoints(1);
        assert!(is_mirrored(&it));
        it.metadata.labels = Some([(SKIP.to_owned(), "true".to_owned())].into());
        assert!(!is_mirrored(&it));
        let mut it = endpoints(1);
        it.metadata.annotations = Some([(LEADER.to_owned(), String::new())].into());
        assert!(!is_mirrored(&it));
    }
}
