//! What is wrong between services and address objects, and what upstream's repair says of it: pure.

use std::net::IpAddr;

use api::{Value, meta};
use jiff::{SignedDuration, Timestamp};
use kinds::tree::{at, text};

use super::super::events::Warning;
use super::super::{Parent, cluster_ips, family, has_right_labels, is_managed};

/// How long the write of a service may take: its address stands before it does.
pub(super) const WRITE_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);
/// How long a write may take to give back an address that it did not need.
pub(super) const UNDO_TIMEOUT: SignedDuration = SignedDuration::from_secs(5);

/// What is wrong with one cluster IP of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No block has it: nothing can be repaired.
    OutOfRange,
    /// It has no object.
    Missing,
    /// Its object belongs to what has not got it.
    WrongReference,
    /// Its object belongs to another service that has the same address.
    Taken,
    /// The allocator would not know its object.
    WrongLabels,
}

/// Whom the object of a cluster IP belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The service that has the cluster IP.
    Same,
    /// Another service, which has this address.
    Other,
    /// Another service, whose write may be under way: it is known after this time.
    Coming(SignedDuration),
    /// No service that has this address.
    Nobody,
}

/// Whom the object of a service's cluster IP belongs to, by the other service that it names, as that is now. `patience` is
/// how long a write may take.
pub(super) fn holder(
    address: &Value,
    service: &Parent,
    other: Option<&Value>,
    now: Timestamp,
    patience: SignedDuration,
) -> Holder {
    match Parent::of_address(address) {
        None => Holder::Nobody,
        Some(named) if named == *service => Holder::Same,
        Some(_) if other.is_some_and(|other| cluster_ips(other).contains(&meta::name(address))) => Holder::Other,
        Some(_) => {
            let left = write_timeout(address, other, patience).saturating_sub(age(address, now));
            if left.is_positive() { Holder::Coming(left) } else { Holder::Nobody }
        }
    }
}

/// How long the write of a service may take to have an address that it has not got: one that is there already and gets no
/// further address only gives back what it did not need.
fn write_timeout(address: &Value, service: Option<&Value>, patience: SignedDuration) -> SignedDuration {
    let Some(service) = service else { return patience };
    let is_v6 = |ip: &str| ip.contains(':');
    let of_other_family = match cluster_ips(service)[..] {
        [only] => is_v6(only) != is_v6(meta::name(address)),
        _ => false,
    };
    let gets_more = text(at(service, "spec"), "type") == "ExternalName" || of_other_family;
    if gets_more { patience } else { patience.min(UNDO_TIMEOUT) }
}

/// A clock that has been put back makes nothing younger than new.
fn age(address: &Value, now: Timestamp) -> SignedDuration {
    api::time::parse(meta::text(address, "creationTimestamp"))
        .map_or(SignedDuration::MAX, |made| now.duration_since(made).max(SignedDuration::ZERO))
}

/// The faults of a cluster IP that has an object, in the order in which they are told of.
pub(super) fn faults(address: &Value, ip: IpAddr, holder: Holder) -> Vec<Fault> {
    let mut faults = Vec::new();
    match holder {
        Holder::Nobody => return vec![Fault::WrongReference],
        Holder::Other => faults.push(Fault::Taken),
        Holder::Coming(_) => return faults,
        Holder::Same => {}
    }
    if !has_right_labels(address, ip) {
        faults.push(Fault::WrongLabels);
    }
    faults
}

impl Fault {
    /// The object has to be made, after the one that is there has been removed.
    pub(super) fn is_repaired(self) -> bool {
        !matches!(self, Self::OutOfRange | Self::Taken)
    }

    /// What the service's owner is told.
    pub(super) fn warning(self, ip: IpAddr, service: &Parent) -> Option<Warning> {
        let family = family(ip);
        let (reason, message) = match self {
            Self::OutOfRange => (
                "ClusterIPOutOfRange",
                format!(
                    "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
                ),
            ),
            Self::Missing => {
                ("ClusterIPNotAllocated", format!("Cluster IP [{family}]: {ip} is not allocated; repairing"))
            }
            Self::WrongReference => {
                let Parent { namespace, name } = service;
                let what = format!("the ClusterIP [{family}]: {ip} for Service {namespace}/{name}");
                ("ClusterIPNotAllocated", format!("{what} has a wrong reference; repairing"))
            }
            Self::Taken => (
                "ClusterIPAlreadyAllocated",
                format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"),
            ),
            Self::WrongLabels => return None,
        };
        Some(Warning { reason: reason.to_owned(), action: Some("ClusterIPAllocation"), message })
    }
}

/// What a service is told of a cluster IP that is no address.
pub(super) fn not_valid() -> Warning {
    let message = "Cluster IP <nil> is not a valid IP; please recreate Service".to_owned();
    Warning { reason: "ClusterIPNotValid".to_owned(), action: Some("ClusterIPValidation"), message }
}

/// What becomes of an address object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is right, or not ours.
    Stays,
    /// Its write may be under way: it is looked at again after this time.
    Waits(SignedDuration),
    /// Nobody has it.
    Goes(Warning),
}

/// Judges an address object by the service that it names, as that is now. `patience` is how long a write may take.
pub(super) fn fate(address: &Value, service: Option<&Value>, now: Timestamp, patience: SignedDuration) -> Fate {
    if !is_managed(address) {
        return Fate::Stays;
    }
    let name = meta::name(address);
    let Some(parent) = Parent::of_address(address) else {
        let parent = shown(at(at(address, "spec"), "parentRef"));
        let message =
            format!("IPAddress {name} appears to have been modified, not referencing a Service {parent}: cleaning up");
        return goes("IPAddressNotAllocated", message);
    };
    let age = age(address, now);
    let Parent { namespace, name: service_name } = &parent;
    let what = format!("IPAddress: {name} for Service {namespace}/{service_name}");
    let Some(service) = service else {
        if age <= patience {
            return Fate::Waits(patience - age);
        }
        return goes("IPAddressNotAllocated", format!("{what} appears to have leaked: cleaning up"));
    };
    if cluster_ips(service).contains(&name) {
        return Fate::Stays;
    }
    let patience = write_timeout(address, Some(service), patience);
    if age < patience {
        return Fate::Waits(patience - age);
    }
    goes("IPAddressWrongReference", format!("{what} has a wrong reference; cleaning up"))
}

fn goes(reason: &str, message: String) -> Fate {
    Fate::Goes(Warning { reason: reason.to_owned(), action: Some("IPAddressAllocation"), message })
}

/// A reference as Go prints it.
fn shown(parent: &Value) -> String {
    let field = |name| text(parent, name);
    format!(
        "&ParentReference{{Group:{},Resource:{},Namespace:{},Name:{},}}",
        field("group"),
        field("resource"),
        field("namespace"),
        field("name")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::object;
    use super::*;

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn parent() -> Parent {
        Parent { namespace: "n".to_owned(), name: "s".to_owned() }
    }

    fn ip() -> IpAddr {
        "10.96.0.9".parse().unwrap()
    }

    fn address(made: &str) -> Value {
        let mut address = object(ip(), &parent());
        address["metadata"]["creationTimestamp"] = json!(made);
        address
    }

    fn service(kind: &str, ip: &str) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": kind, "clusterIP": ip, "clusterIPs": [ip]}})
    }

    fn reason(address: &Value, service: Option<&Value>) -> String {
        match fate(address, service, NOW.parse().unwrap(), WRITE_TIMEOUT) {
            Fate::Stays => "stays".to_owned(),
            Fate::Waits(time) => format!("waits {}", time.as_secs()),
            Fate::Goes(warning) => warning.reason,
        }
    }

    #[test]
    fn an_address_goes_when_its_service_does_not_come() {
        let (old, young) = (address("2026-01-01T00:00:00Z"), address("2026-01-01T00:09:58Z"));
        let (right, wrong) = (service("ClusterIP", "10.96.0.9"), service("ClusterIP", "10.96.0.8"));
        let named = json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName"}});
        let mut foreign = old.clone();
        foreign["metadata"]["labels"] = json!({});
        let mut changed = old.clone();
        changed["spec"]["parentRef"] = json!({"group": "g.example.com", "resource": "gateways", "name": "x"});
        for (address, service, expected) in [
            (&old, Some(&right), "stays"),
            (&young, Some(&right), "stays"),
            (&young, None, "waits 58"),
            (&address("2036-01-01T00:00:00Z"), None, "waits 60"),
            (&old, None, "IPAddressNotAllocated"),
            (&young, Some(&wrong), "waits 3"),
            (&old, Some(&wrong), "IPAddressWrongReference"),
            (&young, Some(&named), "waits 58"),
            (&old, Some(&named), "IPAddressWrongReference"),
            (&foreign, None, "stays"),
            (&changed, None, "IPAddressNotAllocated"),
        ] {
            assert_eq!(reason(address, service), expected, "{address} {service:?}");
        }
    }

    #[test]
    fn messages_are_upstreams() {
        let Fate::Goes(leaked) = fate(&address(""), None, NOW.parse().unwrap(), WRITE_TIMEOUT) else { panic!() };
        assert_eq!(leaked.message, "IPAddress: 10.96.0.9 for Service n/s appears to have leaked: cleaning up");
        let mut changed = address("");
        changed["spec"]["parentRef"] = json!({"resource": "gateways", "name": "x"});
        let Fate::Goes(changed) = fate(&changed, None, NOW.parse().unwrap(), WRITE_TIMEOUT) else { panic!() };
        assert_eq!(
            changed.message,
            "IPAddress 10.96.0.9 appears to have been modified, not referencing a Service &ParentReference{Group:,Resource:gateways,Namespace:,Name:x,}: cleaning up"
        );
        let message = |fault: Fault| fault.warning(ip(), &parent()).map(|warning| warning.message);
        assert_eq!(message(Fault::Missing).unwrap(), "Cluster IP [IPv4]: 10.96.0.9 is not allocated; repairing");
        assert_eq!(
            message(Fault::WrongReference).unwrap(),
            "the ClusterIP [IPv4]: 10.96.0.9 for Service n/s has a wrong reference; repairing"
        );
        assert_eq!(message(Fault::WrongLabels), None);
    }

    #[test]
    fn an_object_is_nobodys_only_once_no_write_can_be_under_way() {
        let (old, young) = (address("2026-01-01T00:00:00Z"), address("2026-01-01T00:09:58Z"));
        let other = Parent { namespace: "n".to_owned(), name: "other".to_owned() };
        let (has_it, has_another) = (service("ClusterIP", "10.96.0.9"), service("ClusterIP", "10.96.0.8"));
        let has_six = service("ClusterIP", "2001:db8::8");
        let mut gateway = young.clone();
        gateway["spec"]["parentRef"]["resource"] = json!("gateways");
        let coming = |seconds| Holder::Coming(SignedDuration::from_secs(seconds));
        for (address, wanted, named, expected) in [
            (&young, parent(), None, Holder::Same),
            (&old, other.clone(), Some(&has_it), Holder::Other),
            (&young, other.clone(), None, coming(58)),
            (&young, other.clone(), Some(&has_another), coming(3)),
            (&young, other.clone(), Some(&has_six), coming(58)),
            (&old, other.clone(), None, Holder::Nobody),
            (&old, other.clone(), Some(&has_six), Holder::Nobody),
            (&gateway, parent(), None, Holder::Nobody),
        ] {
            let found = holder(address, &wanted, named, NOW.parse().unwrap(), WRITE_TIMEOUT);
            assert_eq!(found, expected, "{address} {named:?}");
        }
        let alone = holder(&young, &other, None, NOW.parse().unwrap(), SignedDuration::ZERO);
        assert_eq!(alone, Holder::Nobody);
    }

    #[test]
    fn an_object_of_another_is_left_to_it() {
        let (right, mut bare) = (address(NOW), address(NOW));
        bare["metadata"]["labels"] = json!({});
        for (address, holder, expected) in [
            (&right, Holder::Same, vec![]),
            (&bare, Holder::Same, vec![Fault::WrongLabels]),
            (&right, Holder::Other, vec![Fault::Taken]),
            (&right, Holder::Nobody, vec![Fault::WrongReference]),
        ] {
            assert_eq!(faults(address, ip(), holder), expected, "{holder:?}");
        }
    }
}
