//! What was asked for: written before anything is made, so that it can be made again, or taken down half made.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use host::Address;
use serde::{Deserialize, Serialize};

use super::Directory;

/// The network of the wire. It exists in the clusters' own namespaces only, so all of them can use the same.
const WIRE: [u8; 3] = [172, 31, 0];
const PREFIX: u8 = 24;

/// Host numbers on the wire: the gateway is 1.
const NODE_LIMIT: usize = 200;

/// A cluster's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) nodes: Vec<NodeRecord>,
    /// On 127.0.0.1 of the machine.
    pub(crate) api_port: u16,
    pub(crate) publish: Vec<Publish>,
    /// Whether the hosts get a way out.
    pub(crate) uplink: bool,
    /// The file that the context was merged into.
    pub(crate) kubeconfig: PathBuf,
}

/// A node of the cluster. The first one runs the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) name: String,
    pub(crate) address: Address,
}

/// A port of the machine's loopback that leads to a node port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) port: u16,
    pub(crate) node_port: u16,
}

impl Record {
    pub(crate) fn load(directory: &Directory) -> Result<Self> {
        let path = directory.record();
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let name = directory.name();
                bail!("there is no cluster {name}; make it with: ironclad up --name {name}")
            }
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        serde_json::from_str(&text).with_context(|| format!("{} is not a cluster's record", path.display()))
    }

    pub(crate) fn store(&self, directory: &Directory) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the cluster's record")?;
        Ok(pki::write_private(&directory.record(), &text)?)
    }

    /// The node that runs the control plane.
    pub(crate) fn first(&self) -> &NodeRecord {
        self.nodes.first().expect("a record has at least one node")
    }

    /// The wire's own address.
    pub(crate) fn gateway() -> Address {
        address(1)
    }

    /// Adds nodes until there are as many as wanted.
    pub(crate) fn grow(&mut self, count: usize) -> Result<()> {
        if count == 0 || count > NODE_LIMIT {
            bail!("a cluster has 1 to {NODE_LIMIT} nodes, not {count}");
        }
        for index in self.nodes.len()..count {
            let number = index + 1;
            let host = u8::try_from(number + 1).expect("limited above");
            self.nodes.push(NodeRecord { name: format!("node{number}"), address: address(host) });
        }
        Ok(())
    }
}

fn address(host: u8) -> Address {
    let [a, b, c] = WIRE;
    Address { ip: Ipv4Addr::new(a, b, c, host), prefix: PREFIX }
}

impl FromStr for Publish {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, node_port) = text.split_once(':').with_context(|| format!("{text:?} is not HOSTPORT:NODEPORT"))?;
        let parse = |part: &str| part.parse().with_context(|| format!("{part:?} is not a port"));
        Ok(Self { port: parse(port)?, node_port: parse(node_port)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Record {
        Record { nodes: Vec::new(), api_port: 1, publish: Vec::new(), uplink: false, kubeconfig: "k".into() }
    }

    #[test]
    fn nodes_keep_their_names_and_addresses_when_more_come() {
        let mut record = empty();
        record.grow(1).unwrap();
        let first = record.first().clone();
        record.grow(3).unwrap();
        assert_eq!(record.first(), &first);
        assert_eq!(record.nodes[2].name, "node3");
        assert_eq!(record.nodes[2].address.to_string(), "172.31.0.4/24");
        assert!(record.grow(0).is_err() && record.grow(1000).is_err());
    }

    #[test]
    fn publishing_reads_two_ports() {
        assert_eq!("8080:30080".parse::<Publish>().unwrap(), Publish { port: 8080, node_port: 30080 });
        for wrong in ["8080", "a:1", "1:b", "70000:1"] {
            assert!(wrong.parse::<Publish>().is_err(), "{wrong}");
        }
    }
}
