//! The VXLAN device and its peers, over netlink.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::Ipv4Net;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Error,
    annotations::{Mac, Peer},
    plan::Action,
};

/// The network identifier that every node uses.
pub(crate) const VNI: u32 = 1;
const NAME: &str = "flannel.1";
const PORT: u16 = 8472;
/// What encapsulation adds to a packet.
const OVERHEAD: u32 = 50;
const DEFAULT_MTU: u32 = 1500;

/// The node's VXLAN device.
pub(crate) struct Device {
    handle: Handle,
    index: u32,
    mac: Mac,
    mtu: u32,
    _connection: AbortOnDropHandle<()>,
}

impl Device {
    /// Takes over the device that is there, or makes one.
    pub(crate) async fn ensure(public_ip: Ipv4Addr, cidr: Ipv4Net) -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        let connection = AbortOnDropHandle::new(spawn(connection));
        let parent = interface_of(&handle, public_ip).await?;
        let mtu = parent_mtu(&handle, parent).await? - OVERHEAD;
        let link = match link(&handle).await {
            Some(link) if fits(&link, parent, public_ip) => link,
            Some(old) => {
                let deleted = handle.link().del(old.header.index).execute().await;
                deleted.map_err(|e| netlink("delete the old VXLAN device", e))?;
                create(&handle, parent, public_ip, mtu).await?
            }
            None => create(&handle, parent, public_ip, mtu).await?,
        };
        let index = link.header.index;
        let device = Self { handle, index, mac: mac_of(&link), mtu, _connection: connection };
        device.set_address(cidr).await?;
        let up = LinkUnspec::new_with_index(index).up().mtu(mtu).build();
        let set = device.handle.link().set(up).execute().await;
        set.map_err(|e| netlink("bring the VXLAN device up", e))?;
        Ok(device)
    }

    /// The device's own address.
    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    /// What a packet may have inside.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The peers that the device has already, from before a restart. What is incomplete is left out, and so replaced.
    pub(crate) async fn peers(&self) -> Result<BTreeSet<Peer>, Error> {
        let forwarding = self.neighbours(AddressFamily::Bridge).await?;
        let arp = self.neighbours(AddressFamily::Inet).await?;
        let mut peers = BTreeSet::new();
        let mut routes = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        while let Some(route) = routes.try_next().await.map_err(|e| netlink("list routes", e))? {
            let Some(cidr) = route_through(&route, self.index) else { continue };
            let mac = arp.iter().find(|(ip, _)| *ip == cidr.network()).map(|(_, mac)| *mac);
            let found = mac.and_then(|mac| forwarding.iter().find(|(_, m)| *m == mac).map(|(ip, _)| (mac, *ip)));
            peers.extend(found.map(|(mac, public_ip)| Peer { cidr, mac, public_ip }));
        }
        Ok(peers)
    }

    /// Makes one change. Idempotent.
    pub(crate) async fn apply(&self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Add(peer) => self.add(peer).await,
            Action::Remove(peer) => self.remove(peer).await,
        }
    }

    /// The route comes last: a packet finds a complete way or none.
    async fn add(&self, peer: &Peer) -> Result<(), Error> {
        let arp = self.handle.neighbours().add(self.index, IpAddr::V4(peer.cidr.network()));
        let arp = arp.link_layer_address(&peer.mac).state(NeighbourState::Permanent).replace();
        arp.execute().await.map_err(|e| netlink(format!("add the neighbour of {}", peer.cidr), e))?;
        let forwarding = self.handle.neighbours().add_bridge(self.index, &peer.mac);
        let forwarding = forwarding.destination(IpAddr::V4(peer.public_ip)).flags(NeighbourFlags::Own).replace();
        forwarding.execute().await.map_err(|e| netlink(format!("add the forwarding entry of {}", peer.cidr), e))?;
        let route = self.handle.route().add(self.route(peer)).replace();
        route.execute().await.map_err(|e| netlink(format!("add the route to {}", peer.cidr), e))
    }

    async fn remove(&self, peer: &Peer) -> Result<(), Error> {
        let removed = self.handle.route().del(self.route(peer)).execute().await;
        absent_is_fine(removed).map_err(|e| netlink(format!("remove the route to {}", peer.cidr), e))?;
        let forwarding = self.neighbour(AddressFamily::Bridge, peer.mac, peer.public_ip);
        let removed = self.handle.neighbours().del(forwarding).execute().await;
        absent_is_fine(removed).map_err(|e| netlink(format!("remove the forwarding entry of {}", peer.cidr), e))?;
        let arp = self.neighbour(AddressFamily::Inet, peer.mac, peer.cidr.network());
        let removed = self.handle.neighbours().del(arp).execute().await;
        absent_is_fine(removed).map_err(|e| netlink(format!("remove the neighbour of {}", peer.cidr), e))
    }

    fn route(&self, peer: &Peer) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv4Addr>::new();
        let route = route.destination_prefix(peer.cidr.network(), peer.cidr.prefix_len());
        route.gateway(peer.cidr.network()).output_interface(self.index).onlink().build()
    }

    fn neighbour(&self, family: AddressFamily, mac: Mac, ip: Ipv4Addr) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.header.ifindex = self.index;
        if family == AddressFamily::Bridge {
            message.header.flags = NeighbourFlags::Own;
        }
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)));
        message
    }

    async fn neighbours(&self, family: AddressFamily) -> Result<Vec<(Ipv4Addr, Mac)>, Error> {
        let mut request = self.handle.neighbours().get();
        request.message_mut().header.family = family;
        let all: Vec<NeighbourMessage> =
            request.execute().try_collect().await.map_err(|e| netlink("list neighbours", e))?;
        Ok(all.iter().filter(|n| n.header.ifindex == self.index).filter_map(entry).collect())
    }

    /// The device has the first address of the node's range, alone on its own.
    async fn set_address(&self, cidr: Ipv4Net) -> Result<(), Error> {
        let wanted = cidr.network();
        let addresses = self.handle.address().get().set_link_index_filter(self.index).execute();
        let present: Vec<AddressMessage> = addresses.try_collect().await.map_err(|e| netlink("list addresses", e))?;
        for stale in present.into_iter().filter(|a| ipv4_of(a).is_some_and(|ip| ip != wanted)) {
            let deleted = self.handle.address().del(stale).execute().await;
            deleted.map_err(|e| netlink("remove an old address of the VXLAN device", e))?;
        }
        let add = self.handle.address().add(self.index, IpAddr::V4(wanted), 32).replace();
        add.execute().await.map_err(|e| netlink(format!("give the VXLAN device the address {wanted}"), e))
    }
}

/// The netlink connection's own task; it ends with the device.
#[expect(clippy::disallowed_methods, reason = "owned by the returned handle, which the device holds")]
fn spawn(connection: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(connection)
}

fn netlink(operation: impl Into<String>, source: rtnetlink::Error) -> Error {
    Error::Netlink { operation: operation.into(), source }
}

const ESRCH: i32 = 3;
const ENOENT: i32 = 2;

fn absent_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match outcome {
        Err(rtnetlink::Error::NetlinkError(e)) if matches!(-e.raw_code(), ESRCH | ENOENT) => Ok(()),
        other => other,
    }
}

async fn link(handle: &Handle) -> Option<LinkMessage> {
    let mut links = handle.link().get().match_name(NAME.to_owned()).execute();
    links.next().await?.ok()
}

async fn create(handle: &Handle, parent: u32, public_ip: Ipv4Addr, mtu: u32) -> Result<LinkMessage, Error> {
    let new = LinkVxlan::new(NAME, VNI).dev(parent).local(public_ip).port(PORT).learning(false).mtu(mtu).build();
    handle.link().add(new).execute().await.map_err(|e| netlink("make the VXLAN device", e))?;
    let made = link(handle).await;
    made.ok_or_else(|| netlink("find the VXLAN device that was made", rtnetlink::Error::RequestFailed))
}

fn fits(link: &LinkMessage, parent: u32, public_ip: Ipv4Addr) -> bool {
    let data = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    });
    let wanted = [InfoVxlan::Id(VNI), InfoVxlan::Link(parent), InfoVxlan::Local(public_ip), InfoVxlan::Port(PORT)];
    data.is_some_and(|data| wanted.iter().all(|w| data.contains(w)))
}

fn mac_of(link: &LinkMessage) -> Mac {
    let address = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    address.unwrap_or_default()
}

async fn interface_of(handle: &Handle, ip: Ipv4Addr) -> Result<u32, Error> {
    let addresses = handle.address().get().execute();
    let all: Vec<AddressMessage> = addresses.try_collect().await.map_err(|e| netlink("list addresses", e))?;
    let owner = all.iter().find(|a| ipv4_of(a) == Some(ip)).map(|a| a.header.index);
    owner.ok_or(Error::NoInterface(ip))
}

async fn parent_mtu(handle: &Handle, index: u32) -> Result<u32, Error> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.map_err(|e| netlink("look at the node's interface", e))?;
    let mtu = link.and_then(|link| {
        link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None })
    });
    Ok(mtu.unwrap_or(DEFAULT_MTU).max(2 * OVERHEAD))
}

fn ipv4_of(address: &AddressMessage) -> Option<Ipv4Addr> {
    address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    })
}

fn entry(neighbour: &NeighbourMessage) -> Option<(Ipv4Addr, Mac)> {
    let ip = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
        // A forwarding entry is of the bridge family, which says nothing of its address's.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from)
        }
        _ => None,
    });
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    ip.zip(mac)
}

fn route_through(route: &RouteMessage, index: u32) -> Option<Ipv4Net> {
    let through = route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(oif) if *oif == index));
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })?;
    through.then(|| Ipv4Net::new(destination, route.header.destination_prefix_length).ok()).flatten()
}

#[cfg(test)]
pub(crate) mod tests;
