//! What a host is: a value that travels from the caller to PID 1 as JSON.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A host to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its host name, and its name in errors.
    pub name: String,
    /// The directory that holds everything the host writes. On a disk or tmpfs, not on an overlay.
    pub directory: PathBuf,
    /// Where its cgroups lie beneath the parent that is found for them, such as `cluster/node`.
    pub cgroup: PathBuf,
    /// Mounts over its root, in this order.
    pub mounts: Vec<MountSpec>,
    /// Files written before the commands start.
    pub files: Vec<FileSpec>,
    /// What PID 1 runs.
    pub commands: Vec<CommandSpec>,
    /// Names of the handed-in sockets, in the order of the descriptors given to [`crate::Launcher::start`].
    pub sockets: Vec<String>,
    /// Kernel settings of its network namespace, as `net/ipv4/ip_forward` = `1`.
    pub settings: Vec<(String, String)>,
}

/// One mount. Targets are absolute paths inside the host and are made when missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum MountSpec {
    /// Empty memory.
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory of the host's own, empty at first, kept when the host is started again.
    Own {
        /// Where.
        target: PathBuf,
    },
    /// A file or directory of the machine.
    Bind {
        /// On the machine.
        source: PathBuf,
        /// In the host.
        target: PathBuf,
        /// Whether the host may only read it.
        read_only: bool,
    },
}

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Where, in the host.
    pub path: PathBuf,
    /// What it says.
    pub content: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A command that PID 1 starts and watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Names its log file, `<directory>/log/<name>.log`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// What to do when it ends.
    pub restart: Restart,
    /// Handed-in sockets that it gets, as descriptors from 3 on, named in `LISTEN_FDNAMES` (systemd's convention).
    pub sockets: Vec<String>,
}

/// What to do when a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// Start it again, after a growing delay.
    Always,
    /// Start it again unless it ended with 0.
    OnFailure,
    /// Leave it.
    Never,
}

/// An IPv4 address with the length of its network's prefix, `172.31.0.2/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// The length of the prefix.
    pub prefix: u8,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = |(ip, prefix): (&str, &str)| Some((ip.parse().ok()?, prefix.parse().ok()?));
        match text.split_once('/').and_then(parse) {
            Some((ip, prefix @ 0..=32)) => Ok(Self { ip, prefix }),
            _ => Err(Error::Invalid {
                what: "address",
                value: text.to_owned(),
                reason: "it must be an IPv4 address, a slash and the length of the prefix",
            }),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}
