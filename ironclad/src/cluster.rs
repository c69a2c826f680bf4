//! Clusters of throw-away hosts on one machine: what `up` makes and `down` takes away.
//!
//! ```text
//! <root>/<name>/cluster.json    what was asked for; kept until `down`
//! <root>/<name>/kubeconfig      the first user
//! <root>/<name>/wire/           the host that carries the bridge
//! <root>/<name>/hosts/<node>/   one host each, with its state beneath own/
//! ```
//!
//! Everything that runs hangs on the hosts' first processes; everything that stays lies in this directory and in the
//! hosts' cgroups. A kubeconfig entry is the only thing outside.

mod directory;
mod kubeconfig;
mod nodes;
mod phases;
mod preflight;
mod ready;
mod record;
mod start;
mod stop;

use std::net::SocketAddr;

use anyhow::Result;
use host::{Host, Wire};

pub(crate) use self::directory::{Directory, list};
pub(crate) use self::nodes::EXECUTABLE;
pub(crate) use self::ready::is_ready;
pub(crate) use self::record::{Publish, Record};
pub(crate) use self::start::{Wanted, up};
pub(crate) use self::stop::down;

/// A cluster that was made and not taken down.
pub(crate) struct Cluster {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
}

impl Cluster {
    /// Reads what was asked for.
    pub(crate) fn load(directory: &Directory) -> Result<Self> {
        Ok(Self { directory: directory.clone(), record: Record::load(directory)? })
    }

    pub(crate) fn name(&self) -> &str {
        self.directory.name()
    }

    /// Where the API server is reached on this machine.
    pub(crate) fn api(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.record.api_port))
    }

    /// Whether the hosts have a way out: wanted, and possible here.
    pub(crate) fn has_uplink(&self) -> bool {
        self.record.uplink && host::uplink_available()
    }

    /// The wire, when it runs.
    pub(crate) fn wire(&self) -> Result<Option<Wire>> {
        Ok(Wire::find(&self.directory.wire())?)
    }

    /// The host of a node, when it runs.
    pub(crate) fn node(&self, name: &str) -> Result<Option<Host>> {
        Ok(Host::find(&self.directory.host(name))?)
    }

    /// The hosts that run.
    pub(crate) fn running_nodes(&self) -> Result<Vec<Host>> {
        let found = self.record.nodes.iter().map(|node| self.node(&node.name));
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}
