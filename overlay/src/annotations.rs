//! What a Node says about its part of the pod network, in flannel's annotations.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{Error, device::VNI};

const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const SUBNET_MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";
const VXLAN: &str = "vxlan";

/// A link-layer address.
pub(crate) type Mac = [u8; 6];

/// How another node's pods are reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    /// Its pods' addresses.
    pub(crate) cidr: Ipv4Net,
    /// Its VXLAN device's address.
    pub(crate) mac: Mac,
    /// Where the encapsulated packets go.
    pub(crate) public_ip: Ipv4Addr,
}

impl Peer {
    /// None until the Node has a range and its overlay has published itself.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let annotations = node.metadata.annotations.as_ref()?;
        if annotations.get(BACKEND_TYPE)? != VXLAN {
            return None;
        }
        let data: serde_json::Value = serde_json::from_str(annotations.get(BACKEND_DATA)?).ok()?;
        let mac = parse_mac(data.get("VtepMAC")?.as_str()?)?;
        let public_ip = annotations.get(PUBLIC_IP)?.parse().ok()?;
        Some(Self { cidr: pod_cidr(node)?, mac, public_ip })
    }
}

/// `spec.podCIDR`, when it is an IPv4 range.
pub(crate) fn pod_cidr(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

/// The first IPv4 InternalIP.
pub(crate) fn internal_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().filter(|a| a.type_ == "InternalIP").find_map(|a| a.address.parse().ok())
}

/// Tells the other nodes how to reach this one's pods, through the status subresource as flannel does.
pub(crate) async fn publish(client: &Client, node: &str, public_ip: Ipv4Addr, mac: Mac) -> Result<(), Error> {
    let data = json!({"VNI": VNI, "VtepMAC": format_mac(mac)}).to_string();
    let patch = json!({"metadata": {"annotations": {
        BACKEND_TYPE: VXLAN,
        BACKEND_DATA: data,
        PUBLIC_IP: public_ip.to_string(),
        SUBNET_MANAGER: "true",
    }}, "status": {"conditions": [network_available()]}});
    let nodes = Api::<Node>::all(client.clone());
    let patched = nodes.patch_status(node, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.map(drop).map_err(|source| Error::Annotate { node: node.to_owned(), source: Box::new(source) })
}

fn network_available() -> serde_json::Value {
    let now = api::time::seconds(daemon::clock::now());
    json!({
        "type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp",
        "message": "Flannel is running on this node", "lastTransitionTime": now, "lastHeartbeatTime": now,
    })
}

fn format_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn parse_mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A Node as an overlay has annotated it.
    pub(crate) fn node(cidr: &str, data: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "annotations": {BACKEND_TYPE: VXLAN, BACKEND_DATA: data, PUBLIC_IP: "192.0.2.7"}},
            "spec": {"podCIDR": cidr},
            "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.7"}]},
        }))
        .unwrap()
    }

    #[test]
    fn flannels_annotations_are_read() {
        let node = node("10.244.3.0/24", r#"{"VNI":1,"VtepMAC":"0a:00:00:00:00:ff"}"#);
        let peer = Peer::of(&node).unwrap();
        assert_eq!(peer.cidr.to_string(), "10.244.3.0/24");
        assert_eq!(peer.mac, [10, 0, 0, 0, 0, 255]);
        assert_eq!(format_mac(peer.mac), "0a:00:00:00:00:ff");
        assert_eq!(internal_ip(&node), Some(peer.public_ip));
    }

    #[test]
    fn a_node_that_is_not_ready_for_peers_is_none() {
        for (cidr, data) in
            [("", "{}"), ("10.244.3.0/24", "{}"), ("10.244.3.0/24", r#"{"VtepMAC":"0a"}"#), ("fd00::/64", "x")]
        {
            assert_eq!(Peer::of(&node(cidr, data)), None, "{cidr} {data}");
        }
    }
}
