//! The wire between hosts: a bridge in a namespace of its own.
//!
//! The wire is itself a small host. Its address is the default gateway of the others, so that every address is
//! routable in them (a packet to a service must have a route before a rule can catch it); it forwards to nowhere, and
//! says so with an ICMP error, unless an uplink is attached.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::Pid;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::{Address, Error, Errors, Host, HostSpec, Launcher, Uplink, netns, uplink};

/// The bridge's name in its namespace.
const BRIDGE: &str = "wire0";
/// The name of a host's card.
const CARD: &str = "eth0";
/// Link names have at most 15 bytes.
const LINK_NAME_LIMIT: usize = 15;

/// A running wire.
#[derive(Debug)]
pub struct Wire {
    host: Host,
}

impl Wire {
    /// Makes a wire with a directory and cgroup of its own. `gateway` is its address on the bridge.
    ///
    /// # Errors
    /// [`Error::NoUplink`] when one is wanted and no program for it is installed, see [`crate::uplink_available`].
    pub fn start(
        launcher: &Launcher,
        directory: &Path,
        cgroup: &Path,
        gateway: Address,
        uplink: Uplink,
    ) -> Result<Self, Error> {
        let program = match uplink {
            Uplink::None => None,
            Uplink::Auto => Some(uplink::program().ok_or(Error::NoUplink)?),
        };
        uplink::end(directory)?;
        let (life, held) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(Error::call("make a pipe"))?;
        let (commands, sockets) = match program {
            None => (Vec::new(), Vec::new()),
            Some(_) => (vec![uplink::masquerade()], vec![uplink::SOCKET.to_owned()]),
        };
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|_| held.as_fd()).collect();
        let spec = HostSpec {
            name: "wire".to_owned(),
            directory: directory.to_owned(),
            cgroup: cgroup.to_owned(),
            mounts: Vec::new(),
            files: Vec::new(),
            commands,
            sockets,
            settings: vec![("net/ipv4/ip_forward".to_owned(), "1".to_owned())],
        };
        let starting = launcher.prepare(&spec, &descriptors)?;
        drop(descriptors);
        drop(held);
        netns::inside(starting.pid, "make a bridge", move |net| async move {
            net.add(BRIDGE, LinkBridge::new(BRIDGE).build()).await?;
            net.add_address(BRIDGE, gateway).await?;
            net.up(BRIDGE).await
        })?;
        let wire = Self { host: starting.go()? };
        if let Some(program) = program {
            uplink::attach(&wire.host, &program, life)?;
        }
        Ok(wire)
    }

    /// Ends the wire of a directory and takes away what belongs to it, see [`Host::remove`].
    pub fn remove(directory: &Path, parents: usize) -> Result<(), Errors> {
        let mut errors = Errors::default();
        errors.collect(uplink::end(directory));
        errors.absorb(Host::remove(directory, parents));
        errors.into_result()
    }

    /// The wire that runs from a directory, if one does.
    pub fn find(directory: &Path) -> Result<Option<Self>, Error> {
        Ok(Host::find(directory)?.map(|host| Self { host }))
    }

    /// The host that carries the bridge.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The host that carries the bridge, to be ended with it.
    pub fn into_host(self) -> Host {
        self.host
    }

    /// Starts a host with a card on this wire.
    pub fn start_host(
        &self,
        launcher: &Launcher,
        spec: &HostSpec,
        sockets: &[BorrowedFd<'_>],
        address: Address,
        gateway: Ipv4Addr,
    ) -> Result<Host, Error> {
        if spec.name.len() > LINK_NAME_LIMIT {
            return Err(Error::Invalid {
                what: "host name",
                value: spec.name.clone(),
                reason: "on a wire it may have at most 15 bytes",
            });
        }
        let starting = launcher.prepare(spec, sockets)?;
        self.plug(&spec.name, starting.pid)?;
        netns::inside(starting.pid, "set up eth0", move |net| async move {
            net.add_address(CARD, address).await?;
            net.up(CARD).await?;
            net.add_default_route(gateway).await
        })?;
        starting.go()
    }

    /// Cuts a host's cable, or mends it. The host sees its card lose the carrier.
    pub fn set_connected(&self, host: &str, connected: bool) -> Result<(), Error> {
        let name = host.to_owned();
        netns::inside(self.pid(), "switch a link", move |net| async move {
            if connected { net.up(&name).await } else { net.down(&name).await }
        })
    }

    fn plug(&self, name: &str, host: Pid) -> Result<(), Error> {
        let name = name.to_owned();
        let pid = u32::try_from(host.as_raw()).expect("pids are positive");
        netns::inside(self.pid(), "plug in a host", move |net| async move {
            // The end of a host's namespace is asynchronous: its old link may be there for another moment.
            net.remove(&name).await?;
            net.add(&name, LinkVeth::new(&name, CARD).build()).await?;
            net.set(CARD, "hand over", LinkMessageBuilder::<LinkUnspec>::new().setns_by_pid(pid)).await?;
            let bridge = net.index(BRIDGE).await?;
            net.set(&name, "plug in", LinkMessageBuilder::<LinkUnspec>::new().controller(bridge)).await?;
            net.up(&name).await
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.host.pid())
    }
}
