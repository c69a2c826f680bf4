//! Leases for keys with a time to live.
//!
//! Leases are dear in etcd, so that keys whose times end close to each other share one, as upstream's do: a lease is
//! granted for a little longer and given to further keys for that long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::failure::Failure;
use super::members::{Member, Members};
use super::options::EtcdOptions;

/// A lease is reused for at most this part of the time to live.
const REUSE_PART: u32 = 20;

/// Grants leases.
#[derive(Debug)]
pub(super) struct Leases {
    reuse_max: Duration,
    keys_max: u64,
    /// Held while a lease is granted, so that keys that come together get one.
    last: Mutex<Option<Lease>>,
}

#[derive(Debug)]
struct Lease {
    id: i64,
    ends: Instant,
    keys: u64,
}

impl Leases {
    pub(super) fn new(options: &EtcdOptions) -> Self {
        Self { reuse_max: options.lease_reuse, keys_max: options.lease_keys_max, last: Mutex::default() }
    }

    /// A lease that ends after `ttl`, and not much later.
    pub(super) async fn get(&self, members: &Members, ttl: Duration) -> Result<i64, Failure> {
        let now = Instant::now();
        let extra = Duration::from_secs((ttl / REUSE_PART).min(self.reuse_max).as_secs());
        let mut last = self.last.lock().await;
        if let Some(lease) = last.as_mut()
            && now + ttl < lease.ends
            && now + ttl + extra >= lease.ends
            && lease.keys < self.keys_max
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let granted = ttl + extra;
        let seconds = i64::try_from(granted.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        // A lease too many is harmless: it ends by itself.
        let grant = |member: Arc<Member>| async move { member.lease().grant(seconds, None).await };
        let id = members.read(grant).await?.id();
        *last = Some(Lease { id, ends: now + granted, keys: 1 });
        Ok(id)
    }

    /// Forgets a lease that etcd does not know any more.
    pub(super) async fn forget(&self, id: i64) {
        let mut last = self.last.lock().await;
        if last.as_ref().is_some_and(|lease| lease.id == id) {
            *last = None;
        }
    }
}
