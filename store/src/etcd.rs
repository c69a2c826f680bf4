//! The etcd backend: a store in a cluster that others share, upstream's API servers among them.
//!
//! ```text
//!  put, delete ──one transaction──▶ etcd        a lost answer is an unknown outcome, and said to be one,
//!                                               unless asking again can do no harm
//!  get, range ────────────────────▶ etcd        linearizable; asked again of another member
//!  watch ──▶ mirror's log ◀──one watch───┘      resumed on another member where it broke
//!                └── behind it: a watch of one's own, until it has caught up
//! ```
//!
//! Every revision is etcd's. A lease that ends deletes all its keys at one revision, so that here, unlike in a store
//! of our own, events may share one.

mod compactor;
mod failure;
mod feed;
mod lease;
mod members;
mod mirror;
mod options;
mod signs;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::options::{EtcdOptions, EtcdOptionsError, EtcdTls};

use self::failure::{Failure, Refusal};
use self::feed::{Feed, revision};
use self::lease::Leases;
use self::members::{Again, Member, Members};
use self::mirror::Mirror;
use self::options::{Layout, range_end};
use self::watcher::Watcher;
use crate::contract::{Deleted, Entry, Error, Expect, Page, RangeRequest, Store};
use crate::key::{Key, KeyPrefix};
use crate::watch::WatchStream;

/// The most entries asked for at one time.
const PAGE_ENTRIES: usize = 2_000;

/// The largest request that etcd takes by default; what it says when it refuses one has no number.
const REQUEST_BYTES_MAX: usize = 3 << 19;

/// A store in an etcd cluster. Its tasks end when it is dropped.
pub struct EtcdStore {
    cluster: Arc<Cluster>,
    leases: Leases,
    health_timeout: Duration,
    /// Whoever looks for signs, the watch and the compactor.
    _tasks: JoinSet<()>,
}

/// What all parts need.
pub(crate) struct Cluster {
    members: Arc<Members>,
    layout: Layout,
    mirror: Arc<Mirror>,
}

impl EtcdStore {
    /// A store whose members are connected to when they are first needed; see [`Store::health`]. Has to be called on
    /// a runtime.
    ///
    /// # Errors
    /// When an endpoint is none.
    pub async fn new(options: EtcdOptions) -> Result<Self, EtcdOptionsError> {
        let members = Arc::new(Members::new(&options).await?);
        let layout = Layout::new(&options.prefix);
        let mirror = Arc::new(Mirror::new());
        let cluster = Arc::new(Cluster { members: members.clone(), layout: layout.clone(), mirror: mirror.clone() });
        let mut tasks = JoinSet::new();
        tasks.spawn(members.clone().watch_signs());
        tasks.spawn(mirror.follow(members, layout));
        if !options.compaction_interval.is_zero() {
            tasks.spawn(compactor::run(cluster.clone(), options.compaction_interval));
        }
        let leases = Leases::new(&options);
        Ok(Self { cluster, leases, health_timeout: options.health_timeout, _tasks: tasks })
    }

    async fn put_with_lease(
        &self,
        path: &str,
        value: &Bytes,
        expect: Expect,
        lease: i64,
    ) -> Result<TxnResponse, Failure> {
        let put = move |member: Arc<Member>| {
            let options = PutOptions::new().with_lease(lease);
            let then = TxnOp::put(path, value.as_ref(), Some(options));
            let txn = conditional(path, expect, then);
            async move { member.kv().txn(txn).await }
        };
        self.cluster.members.write(again(expect), put).await
    }
}

impl Cluster {
    /// The cluster's revision now.
    async fn revision(&self, operation: &'static str) -> Result<u64, Error> {
        mirror::current(&self.members, &self.layout).await.map_err(|failure| failure.into_error(operation))
    }

    async fn compact(&self, to: i64) -> Result<(), Failure> {
        let ask = |member: Arc<Member>| async move { member.kv().compact(to, None).await };
        match self.members.read(ask).await {
            Ok(_) | Err(Failure::Refused(Refusal::Compacted, _)) => {
                self.mirror.note_compacted(revision(to));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// A revision could not be read.
    async fn unreachable(&self, failure: Failure, operation: &'static str, requested: u64) -> Error {
        match failure {
            Failure::Refused(Refusal::Compacted, _) => {
                Error::Compacted { requested, oldest: self.oldest_after(requested).await }
            }
            Failure::Refused(Refusal::FutureRevision, _) => match self.revision(operation).await {
                Ok(current) => Error::Future { requested, current },
                Err(error) => error,
            },
            other => other.into_error(operation),
        }
    }

    /// The oldest revision that can be read, when `compacted` cannot. etcd tells it to watches alone.
    async fn oldest_after(&self, compacted: u64) -> u64 {
        if self.mirror.compacted() <= compacted
            && let Ok(mut feed) = Feed::open(&self.members, &self.layout, 0).await
            && let Ok(Err(Error::Compacted { oldest, .. })) = timeout(members::SILENCE_MAX, feed.next()).await
        {
            self.mirror.note_compacted(oldest);
        }
        self.mirror.compacted().max(compacted + 1)
    }

    fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let (create_revision, mod_revision) = (revision(kv.create_revision()), revision(kv.mod_revision()));
        let (version, lease) = (revision(kv.version()), kv.lease());
        let (path, value) = kv.into_key_value();
        let Some(key) = self.layout.key(&path) else {
            tracing::debug!(path = %String::from_utf8_lossy(&path), "this key in etcd is none of ours");
            return None;
        };
        Some(Entry { key, value: value.into(), create_revision, mod_revision, version, lease })
    }

    /// What the other branch of a conditional write found.
    fn found(&self, answer: &TxnResponse) -> Option<Entry> {
        let Some(TxnOpResponse::Get(mut found)) = answer.op_responses().into_iter().next() else { return None };
        found.take_kvs().into_iter().next().and_then(|kv| self.entry(kv))
    }
}

/// `then`, if the key is as expected; otherwise reads it.
fn conditional(path: &str, expect: Expect, then: TxnOp) -> Txn {
    let wanted = match expect {
        Expect::Any => None,
        Expect::Absent => Some(0),
        // To etcd 0 would be a key that does not exist.
        Expect::Revision(0) => Some(i64::MAX),
        Expect::Revision(revision) => Some(i64::try_from(revision).unwrap_or(i64::MAX)),
    };
    let compares: Vec<_> =
        wanted.into_iter().map(|revision| Compare::mod_revision(path, CompareOp::Equal, revision)).collect();
    Txn::new().when(compares).and_then([then]).or_else([TxnOp::get(path, None)])
}

fn again(expect: Expect) -> Again {
    match expect {
        Expect::Revision(_) => Again::Harmless,
        // A key may become absent again, and then be created once more by what comes late.
        Expect::Any | Expect::Absent => Again::Wrong,
    }
}

fn header(answer: &TxnResponse) -> u64 {
    answer.header().map_or(0, |header| revision(header.revision()))
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &Key) -> Result<(Option<Entry>, u64), Error> {
        let path = self.cluster.layout.path(key);
        let ask = |member: Arc<Member>| {
            let path = path.clone();
            async move { member.kv().get(path, None).await }
        };
        let mut answer = self.cluster.members.read(ask).await.map_err(|failure| failure.into_error("get"))?;
        let revision = answer.header().map_or(0, |header| revision(header.revision()));
        Ok((answer.take_kvs().into_iter().next().and_then(|kv| self.cluster.entry(kv)), revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, Error> {
        let prefix = self.cluster.layout.prefix(&request.prefix);
        let end = range_end(&prefix);
        let mut start = format!("{prefix}{}", request.start.as_deref().unwrap_or_default()).into_bytes();
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let (mut entries, mut at, mut taken) = (Vec::new(), request.revision, 0);
        loop {
            let ask = |member: Arc<Member>| {
                let limit = i64::try_from(PAGE_ENTRIES.min(limit - taken)).unwrap_or(i64::MAX);
                let of = at.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX));
                let options = GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(of);
                let start = start.clone();
                async move { member.kv().get(start, Some(options)).await }
            };
            let mut answer = match self.cluster.members.read(ask).await {
                Ok(answer) => answer,
                Err(failure) => return Err(self.cluster.unreachable(failure, "range", at.unwrap_or(0)).await),
            };
            let revision = at.unwrap_or_else(|| answer.header().map_or(0, |header| revision(header.revision())));
            at = Some(revision);
            let (more, count) = (answer.more(), usize::try_from(answer.count()).unwrap_or(0));
            let kvs = answer.take_kvs();
            if let Some(last) = kvs.last() {
                start = [last.key(), b"\0"].concat();
            }
            let found = kvs.len();
            taken += found;
            entries.extend(kvs.into_iter().filter_map(|kv| self.cluster.entry(kv)));
            if !more || taken >= limit || found == 0 {
                let remaining = if more { (count - found.min(count)) as u64 } else { 0 };
                return Ok(Page { entries, revision, more, remaining });
            }
        }
    }

    async fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Result<u64, Error> {
        let path = self.cluster.layout.path(&key);
        let mut retried = false;
        loop {
            let lease = match ttl {
                Some(ttl) => self.leases.get(&self.cluster.members, ttl).await,
                None => Ok(0),
            };
            let lease = lease.map_err(|failure| failure.into_error("grant a lease"))?;
            match self.put_with_lease(&path, &value, expect, lease).await {
                Ok(answer) if answer.succeeded() => return Ok(header(&answer)),
                Ok(answer) => {
                    return Err(Error::Conflict { key, current: self.cluster.found(&answer).map(Box::new) });
                }
                // The lease ended before it was used: nothing was written.
                Err(Failure::Refused(Refusal::LeaseGone, _)) if !retried => {
                    self.leases.forget(lease).await;
                    retried = true;
                }
                Err(Failure::Refused(Refusal::TooLarge, _)) => {
                    return Err(Error::TooLarge { bytes: value.len(), limit: REQUEST_BYTES_MAX, key });
                }
                Err(failure) => return Err(failure.into_error("put")),
            }
        }
    }

    async fn delete(&self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        let path = self.cluster.layout.path(&key);
        if expect == Expect::Absent {
            let (current, revision) = self.get(&key).await?;
            return Err(match current {
                Some(current) => Error::Conflict { key, current: Some(Box::new(current)) },
                None => Error::NotFound { key, revision },
            });
        }
        let ask = |member: Arc<Member>| {
            let options = DeleteOptions::new().with_prev_key();
            let txn = conditional(&path, expect, TxnOp::delete(path.as_str(), Some(options)));
            async move { member.kv().txn(txn).await }
        };
        let answer = self.cluster.members.write(again(expect), ask).await;
        let answer = answer.map_err(|failure| failure.into_error("delete"))?;
        let revision = header(&answer);
        if !answer.succeeded() {
            return Err(match self.cluster.found(&answer) {
                Some(current) => Error::Conflict { key, current: Some(Box::new(current)) },
                None => Error::NotFound { key, revision },
            });
        }
        let Some(TxnOpResponse::Delete(mut deleted)) = answer.op_responses().into_iter().next() else {
            return Err(Error::NotFound { key, revision });
        };
        let previous = deleted.take_prev_kvs().into_iter().next().and_then(|kv| self.cluster.entry(kv));
        match previous {
            Some(previous) => Ok(Deleted { revision, previous }),
            None => Err(Error::NotFound { key, revision }),
        }
    }

    async fn watch(&self, prefix: KeyPrefix, after: u64) -> Result<WatchStream, Error> {
        Ok(WatchStream::new(Box::new(Watcher::new(self.cluster.clone(), prefix, after))))
    }

    async fn revision(&self) -> Result<u64, Error> {
        self.cluster.revision("read the revision").await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let to = i64::try_from(revision).unwrap_or(i64::MAX);
        match self.cluster.compact(to).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.cluster.unreachable(failure, "compact", revision).await),
        }
    }

    async fn health(&self) -> Result<(), Error> {
        let asked = timeout(self.health_timeout, self.cluster.revision("error getting data from etcd")).await;
        let silent = || Error::Unavailable {
            operation: "error getting data from etcd",
            reason: "context deadline exceeded".into(),
        };
        asked.map_err(|_| silent())??;
        if self.cluster.mirror.is_following() {
            return Ok(());
        }
        Err(Error::Unavailable { operation: "watch etcd", reason: "no watch is open".into() })
    }
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("members", &self.cluster.members).finish_non_exhaustive()
    }
}
