//! Service addresses as objects: each cluster IP is an `IPAddress`, each block that they come from a `ServiceCIDR`.
//!
//! ```text
//!  write of a Service -> registry's pool -- creates, deletes --> IPAddress <-- repair (what a crash left behind)
//!                              \-- takes from --> ServiceCIDRs <-- default_block (the one of the flag)
//! ```
//! The creation of an address object is the lock on the address: it holds between all servers of a store.

mod blocks;
mod default_block;
mod events;
mod ranges;
mod repair;

use std::net::IpAddr;

use api::{Value, meta};
use kinds::tree::{at, text, texts};
use serde_json::json;

use crate::objects::Ref;

pub(crate) use blocks::{Block, all as all_blocks, candidates, contains, limits};
pub(crate) use default_block::keep as keep_default_block;
pub(crate) use events::{Warning, warn};
pub use ranges::ServiceRanges;
pub(crate) use repair::Repair;

pub(crate) const GROUP: &str = "networking.k8s.io";
/// All addresses.
pub(crate) const ADDRESSES: Ref<'static> = Ref::collection(GROUP, "ipaddresses", "");
/// All blocks.
pub(crate) const BLOCKS: Ref<'static> = Ref::collection(GROUP, "servicecidrs", "");
/// The block of the server's flag.
pub(crate) const DEFAULT_BLOCK: &str = "kubernetes";
/// `clusterIP` of a service without an address of its own.
pub(crate) const HEADLESS: &str = "None";

const LABEL_FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const LABEL_MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGED_BY: &str = "ipallocator.k8s.io";
const SERVICES: &str = "services";

/// The service that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Parent {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Parent {
    /// A service, as a parent.
    pub(crate) fn of_service(service: &Value) -> Self {
        Self { namespace: meta::namespace(service).to_owned(), name: meta::name(service).to_owned() }
    }

    /// The parent of an address; None when that is no service.
    pub(crate) fn of_address(address: &Value) -> Option<Self> {
        let parent = at(at(address, "spec"), "parentRef");
        let is_service = text(parent, "group").is_empty() && text(parent, "resource") == SERVICES;
        is_service
            .then(|| Self { namespace: text(parent, "namespace").to_owned(), name: text(parent, "name").to_owned() })
    }

    fn service(&self) -> Ref<'_> {
        Ref::namespaced("", SERVICES, &self.namespace, &self.name)
    }
}

/// An address by its name.
pub(crate) fn address(name: &str) -> Ref<'_> {
    Ref::cluster(GROUP, "ipaddresses", name)
}

/// The object of an address.
pub(crate) fn object(ip: IpAddr, parent: &Parent) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {LABEL_FAMILY: family(ip), LABEL_MANAGED_BY: MANAGED_BY},
        },
        "spec": {"parentRef": {"resource": SERVICES, "namespace": parent.namespace, "name": parent.name}},
    })
}

/// The cluster IPs that a service has, as it says them: none when it is headless or has none.
pub(crate) fn cluster_ips(service: &Value) -> Vec<&str> {
    let spec = at(service, "spec");
    if matches!(text(spec, "clusterIP"), "" | HEADLESS) {
        return Vec::new();
    }
    texts(spec, "clusterIPs").collect()
}

/// Of an address.
pub(crate) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Made by the allocator, as opposed to somebody who keeps an address for another purpose.
fn is_managed(address: &Value) -> bool {
    label(address, LABEL_MANAGED_BY) == Some(MANAGED_BY)
}

fn has_right_labels(address: &Value, ip: IpAddr) -> bool {
    is_managed(address) && label(address, LABEL_FAMILY) == Some(family(ip))
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    meta::metadata(object)?.get("labels")?.get(key)?.as_str()
}
