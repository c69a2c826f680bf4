//! Throw-away hosts: whole machines made of namespaces, gone when their first process ends.
//!
//! Constraints, in order:
//! 1. The machine stays as it was: a host writes into its own directory and cgroup only, and its network reaches nothing.
//! 2. Everything a host is hangs on one process (PID 1 of its own PID namespace). Ending that process ends the host;
//!    only directories and cgroups are left, and [`Host::remove`] takes them away.
//! 3. Whoever starts a host may end, be killed or forget about it: what is needed to find it again lies in its directory.
//! 4. It works inside another such host.
//!
//! ```text
//! caller --start--> init (stage 1: lock, cgroup, unshare, fork) --> PID 1 (mounts, hostname, waits)
//!        --veth, addresses, routes--> network namespace of PID 1, bridge in the wire's namespace
//!        --"go"--> PID 1 supervises the commands
//! ```
//!
//! Pieces: [`HostSpec`] says what a host is; [`Host`] starts, finds, enters and ends one; [`Wire`] is the bridge
//! between hosts; [`forward`] copies connections from a socket that was handed in; [`init`] is what runs as PID 1.
//!
//! Architecture invariant: no word of what runs inside. Commands, directories and addresses are the caller's.

pub mod cgroup;
mod enter;
mod error;
pub mod forward;
mod handle;
pub mod init;
mod launch;
mod mountinfo;
mod netns;
mod spec;
mod sys;
mod uplink;
mod wire;

pub use enter::{EnterSpec, enter};
pub use error::{Error, Errors};
pub use handle::Host;
pub use launch::Launcher;
pub use spec::{Address, CommandSpec, FileSpec, HostSpec, MountSpec, Restart};
pub use sys::inherited_sockets;
pub use uplink::{NAME_SERVER, Uplink, uplink_available};
pub use wire::Wire;
