//! Netlink inside a host's network namespace, from outside.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use futures::TryStreamExt;
use netlink_packet_route::link::LinkMessage;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::{Address, Error};

/// Runs netlink work in the network namespace of a process, on a thread of its own that ends afterwards:
/// a thread that has changed namespaces is of no further use.
pub(crate) fn inside<F, Fut, T>(pid: Pid, action: &str, work: F) -> Result<T, Error>
where
    F: FnOnce(Net) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, Error>>,
    T: Send + 'static,
{
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let namespace = File::open(&path).map_err(Error::file("open", &path))?;
    let thread = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(Error::call(format!("enter {}", path.display())))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::file("start a runtime in", &path))?;
        runtime.block_on(async {
            let connected = rtnetlink::new_connection().map_err(Error::file("open netlink in", &path));
            let (connection, handle, _) = connected?;
            tokio::select! {
                result = work(Net { handle }) => result,
                () = connection => Err(Error::Netlink {
                    action: "talk to the kernel".to_owned(),
                    source: rtnetlink::Error::RequestFailed,
                }),
            }
        })
    });
    thread.join().unwrap_or_else(|_| Err(Error::Thread { action: action.to_owned() }))
}

/// The links of one namespace.
pub(crate) struct Net {
    pub(crate) handle: Handle,
}

impl Net {
    /// The index of a link.
    pub(crate) async fn index(&self, name: &str) -> Result<u32, Error> {
        self.find(name).await?.ok_or_else(|| Error::NoLink { name: name.to_owned() })
    }

    /// The index of a link that may not be there.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|l| l.header.index)),
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::ENODEV => Ok(None),
            Err(e) => Err(Error::netlink(format!("find link {name}"))(e)),
        }
    }

    pub(crate) async fn add(&self, name: &str, link: LinkMessage) -> Result<(), Error> {
        let added = self.handle.link().add(link).execute().await;
        added.map_err(Error::netlink(format!("make link {name}")))
    }

    /// Removes a link. Fine when there is none.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(index) = self.find(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::ENODEV => Ok(()),
            removed => removed.map_err(Error::netlink(format!("remove link {name}"))),
        }
    }

    pub(crate) async fn up(&self, name: &str) -> Result<(), Error> {
        self.set(name, "bring up", LinkMessageBuilder::<LinkUnspec>::new().up()).await
    }

    pub(crate) async fn down(&self, name: &str) -> Result<(), Error> {
        self.set(name, "bring down", LinkMessageBuilder::<LinkUnspec>::new().down()).await
    }

    pub(crate) async fn set(
        &self,
        name: &str,
        action: &str,
        change: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), Error> {
        let index = self.index(name).await?;
        let done = self.handle.link().set(change.index(index).build()).execute().await;
        done.map_err(Error::netlink(format!("{action} link {name}")))
    }

    pub(crate) async fn add_address(&self, name: &str, address: Address) -> Result<(), Error> {
        let index = self.index(name).await?;
        let added = self.handle.address().add(index, IpAddr::V4(address.ip), address.prefix).execute().await;
        added.map_err(Error::netlink(format!("give {address} to link {name}")))
    }

    pub(crate) async fn add_default_route(&self, gateway: Ipv4Addr) -> Result<(), Error> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        let added = self.handle.route().add(route).execute().await;
        added.map_err(Error::netlink(format!("add a default route by {gateway}")))
    }
}
