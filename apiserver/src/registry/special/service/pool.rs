//! Cluster IPs: given out of the ready blocks, each held by an address object, see [`crate::addresses`].

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

use api::{Reason, Status, meta};
use ipnet::IpNet;

use crate::addresses::{self, ADDRESSES, BLOCKS, Block, Parent, ServiceRanges};
use crate::objects::{Manager, Objects};

/// Where cluster IPs come from.
pub(super) struct Pool {
    objects: OnceLock<Weak<dyn Objects>>,
    /// The ranges of the server's flag: they count as long as no block is stored at all.
    ranges: ServiceRanges,
}

/// Why an address cannot be had. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("range is full")]
    Full,
    #[error("provided IP is already allocated")]
    Allocated,
    #[error("the provided network does not match the current range")]
    OutOfRange,
    #[error("allocator not ready")]
    NotReady,
    #[error("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {net}")]
    NotInRange { ip: IpAddr, net: IpNet },
    #[error("{}", .0.message)]
    Failed(Box<Status>),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Failed(Box::new(status))
    }
}

impl Pool {
    pub(super) fn new(ranges: ServiceRanges) -> Self {
        Self { objects: OnceLock::new(), ranges }
    }

    /// Tells where objects are kept; the first one counts.
    pub(super) fn bind(&self, objects: Weak<dyn Objects>) {
        let _ = self.objects.set(objects);
    }

    fn objects(&self) -> Result<Arc<dyn Objects>, Status> {
        let bound = self.objects.get().and_then(Weak::upgrade);
        bound.ok_or_else(|| Status::internal("service addresses are asked for outside of the registry's life"))
    }

    /// The blocks of a family.
    fn blocks(&self, objects: &dyn Objects, family: &str) -> Vec<Block> {
        let stored = objects.list(BLOCKS);
        let mut blocks = if stored.is_empty() {
            self.ranges.iter().map(|net| Block { net, ready: true }).collect()
        } else {
            addresses::all_blocks(&stored)
        };
        blocks.retain(|block| addresses::family(block.net.addr()) == family);
        blocks
    }

    /// Takes any address of a family for a service.
    pub(super) async fn take_any(&self, family: &str, parent: &Parent) -> Result<IpAddr, Refused> {
        let objects = self.objects()?;
        if let Some(ip) = self.take_unseen(&*objects, family, parent).await? {
            return Ok(ip);
        }
        // The cache may not know yet what has been given back.
        objects.newest(ADDRESSES).await?;
        self.take_unseen(&*objects, family, parent).await?.ok_or(Refused::Full)
    }

    /// Takes an address of which the cache knows no object.
    async fn take_unseen(
        &self,
        objects: &dyn Objects,
        family: &str,
        parent: &Parent,
    ) -> Result<Option<IpAddr>, Refused> {
        for block in self.blocks(objects, family).iter().filter(|block| block.ready) {
            for ip in addresses::candidates(&block.net) {
                if objects.has(addresses::address(&ip.to_string())) {
                    continue;
                }
                match create(objects, ip, parent).await {
                    Ok(()) => return Ok(Some(ip)),
                    // Another server was first.
                    Err(Refused::Allocated) => {}
                    Err(refused) => return Err(refused),
                }
            }
        }
        Ok(None)
    }

    /// Takes this address for a service.
    pub(super) async fn take(&self, ip: IpAddr, parent: &Parent) -> Result<(), Refused> {
        let objects = self.objects()?;
        let has_it = |block: &Block| block.ready && addresses::contains(&block.net, ip);
        if !self.blocks(&*objects, addresses::family(ip)).iter().any(has_it) {
            return Err(Refused::OutOfRange);
        }
        create(&*objects, ip, parent).await
    }

    /// What a dry run is told: nothing is looked for, as upstream does not either.
    pub(super) fn pretend(&self, family: &str, asked: Option<IpAddr>) -> Result<IpAddr, Refused> {
        let objects = self.objects()?;
        let blocks = self.blocks(&*objects, family);
        let fits = |block: &&Block| asked.is_none_or(|ip| addresses::contains(&block.net, ip));
        let block = blocks.iter().find(fits).or(blocks.first()).filter(|block| block.ready);
        let block = block.ok_or(Refused::NotReady)?;
        match asked {
            None => Ok(block.net.network()),
            Some(ip) if addresses::limits(&block.net).is_some_and(|(first, last)| first <= ip && ip <= last) => Ok(ip),
            Some(ip) => Err(Refused::NotInRange { ip, net: block.net }),
        }
    }

    /// Gives a service's addresses back. What fails is found by the repair.
    pub(super) async fn give_back(&self, ips: &[IpAddr], parent: &Parent) {
        for ip in ips {
            if let Err(error) = self.delete(*ip, parent).await {
                tracing::warn!(%ip, %error, "cannot give a service address back yet");
            }
        }
    }

    async fn delete(&self, ip: IpAddr, parent: &Parent) -> Result<(), Status> {
        let objects = self.objects()?;
        let name = ip.to_string();
        let object = addresses::address(&name);
        // The store and not the cache: the address may just have gone from this service to another.
        let found = match objects.read(object).await {
            Err(error) if error.reason == Reason::NotFound => return Ok(()),
            found => found?,
        };
        // Of two services with one address, only one has the object.
        if Parent::of_address(&found).as_ref() != Some(parent) {
            return Ok(());
        }
        match objects.delete(object, Some(meta::uid(&found))).await {
            Err(error) if !matches!(error.reason, Reason::NotFound | Reason::Conflict) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The lock on an address.
async fn create(objects: &dyn Objects, ip: IpAddr, parent: &Parent) -> Result<(), Refused> {
    match objects.create(ADDRESSES, addresses::object(ip, parent), Manager::SERVER).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason == Reason::AlreadyExists => Err(Refused::Allocated),
        Err(error) => Err(error.into()),
    }
}
