//! Where a node's kubelet listens.

use std::sync::Arc;

use api::{Status, Value};
use rustls::ClientConfig;

use super::dial::Place;
use super::unavailable;
use crate::config::KubeletClient;
use crate::objects::{Handle, Ref};

const DEFAULT_PORT: u16 = 10250;
const ADDRESS_TYPES: [&str; 5] = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"];

/// Finds kubelets.
pub(super) struct Kubelets {
    objects: Handle,
    address_types: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
}

impl Kubelets {
    pub(super) fn new(client: KubeletClient, objects: Handle) -> Result<Self, pki::Error> {
        let mut address_types = client.address_types;
        if address_types.is_empty() {
            address_types = ADDRESS_TYPES.map(str::to_owned).to_vec();
        }
        let tls = client.authority_pem.map(|pem| pki::tls::client(&pem, client.credential.as_ref())).transpose()?;
        let tls = tls.map(|mut config| {
            // An upgrade needs HTTP/1.1.
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        Ok(Self { objects, address_types, tls })
    }

    /// The place of a node's kubelet.
    pub(super) async fn place(&self, node: &str) -> Result<Place, Status> {
        let reference = Ref::cluster("", "nodes", node);
        let object = match self.objects.get().get(reference) {
            Some(object) => object,
            None => self.objects.get().read(reference).await?,
        };
        let Some(tls) = self.tls.clone() else {
            return Err(unavailable(
                "kubelets cannot be reached: --kubelet-certificate-authority is not set, and a kubelet is not believed \
                 without it",
            ));
        };
        let host = self.address(&object).ok_or_else(|| {
            let types = self.address_types.join(" ");
            Status::internal(format!("no preferred addresses found; known addresses: [], preferred types: [{types}]"))
        })?;
        Ok(Place { host, port: port(&object), tls: Some(tls) })
    }

    fn address(&self, node: &Value) -> Option<String> {
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array)?;
        let of_type = |kind: &String| {
            let found = addresses.iter().find(|address| address["type"] == kind.as_str())?;
            Some(found.get("address")?.as_str()?.to_owned())
        };
        self.address_types.iter().find_map(of_type)
    }
}

fn port(node: &Value) -> u16 {
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(DEFAULT_PORT)
}
