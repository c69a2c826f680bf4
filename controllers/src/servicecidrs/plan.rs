//! What has to be done about a block of service addresses. Pure.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::ResourceExt as _;
use serde_json::{Value, json};

pub(super) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long servers may take to see that a block is being deleted.
const SEEN_AFTER: Duration = Duration::from_secs(10);
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    GiveFinalizer,
    TakeFinalizer,
    Say(Condition),
    /// The block is looked at again after this time.
    Wait(Duration),
}

/// The `Ready` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Ready,
    /// Addresses would be left without a block.
    Terminating,
}

impl Condition {
    /// Status, reason and message.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ready => ("True", "", "Kubernetes Service CIDR is ready"),
            Self::Terminating => (
                "False",
                "Terminating",
                "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
            ),
        }
    }

    pub(super) fn at(self, now: Timestamp) -> Value {
        let (status, reason, message) = self.words();
        json!({
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": api::time::seconds(now),
        })
    }

    fn is_said(self, block: &ServiceCIDR) -> bool {
        let conditions = block.status.as_ref().and_then(|status| status.conditions.as_ref());
        let found = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
        found.is_some_and(|found| (&*found.status, &*found.reason, &*found.message) == self.words())
    }
}

pub(super) fn is_going(block: &ServiceCIDR) -> bool {
    block.metadata.deletion_timestamp.is_some()
}

/// The block has an address of the allocator.
pub(super) fn holds(block: &ServiceCIDR, address: &IPAddress) -> bool {
    ip_of(address).is_some_and(|ip| nets(block).any(|net| contains(&net, ip)))
}

pub(super) fn plan(
    block: &ServiceCIDR,
    blocks: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Vec<Step> {
    let say = |condition: Condition| (!condition.is_said(block)).then_some(Step::Say(condition));
    let has_finalizer = block.finalizers().iter().any(|one| one == FINALIZER);
    let Some(deleted) = &block.metadata.deletion_timestamp else {
        let give = (!has_finalizer).then_some(Step::GiveFinalizer);
        return give.into_iter().chain(say(Condition::Ready)).collect();
    };
    if !may_go(block, blocks, addresses) {
        return say(Condition::Terminating).into_iter().collect();
    }
    let since = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match SEEN_AFTER.checked_sub(since).filter(|left| !left.is_zero()) {
        Some(left) => vec![Step::Wait(left)],
        None if has_finalizer => vec![Step::TakeFinalizer],
        None => Vec::new(),
    }
}

/// No address is left without a block when this one goes. Blocks that are going too do not count: each would go
/// because of the other.
fn may_go(block: &ServiceCIDR, blocks: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let stays = |other: &&Arc<ServiceCIDR>| other.name_any() != block.name_any() && !is_going(other);
    let others: Vec<IpNet> = blocks.iter().filter(stays).flat_map(|other| nets(other)).collect();
    if nets(block).all(|net| others.iter().any(|other| other.contains(&net))) {
        return true;
    }
    let is_left = |address: &Arc<IPAddress>| {
        holds(block, address) && ip_of(address).is_some_and(|ip| !others.iter().any(|other| contains(other, ip)))
    };
    !addresses.iter().any(is_left)
}

fn nets(block: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    let cidrs = block.spec.iter().filter_map(|spec| spec.cidrs.as_ref()).flatten();
    cidrs.filter_map(|text| text.parse().ok())
}

/// The address, when the allocator has made the object.
fn ip_of(address: &IPAddress) -> Option<IpAddr> {
    let (label, allocator) = MANAGED_BY;
    let is_managed = address.labels().get(label).is_some_and(|by| by == allocator);
    is_managed.then(|| address.name_any().parse().ok())?
}

/// A block's own address is never given out, nor the last one of IPv4.
fn contains(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip) && ip != net.network() && !(ip.is_ipv4() && ip == net.broadcast())
}
