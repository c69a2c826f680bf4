//! Bytes at keys with revisions: one contract ([`Store`]), its backends, and the watch cache.
//!
//! Constraints, in order: nothing answered is lost, nothing is visible before it is durable, no watcher
//! is silently cut short; then latency, throughput and memory.
//!
//! ```text
//!  Cache<V> per resource ──watch──▶ dyn Store ◀──put, delete, get, range── apiserver's registry
//!     │ snapshots, event log           │
//!     ▼                                ▼
//!  lists, watchers             EmbeddedStore (a directory)   or a remote etcd
//! ```
//!
//! Architecture invariant: this crate knows no Kubernetes type. Keys are segments, values are bytes; what
//! a cache keeps of a value is decided by the decode function it is given.

pub mod cache;
mod contract;
mod counters;
mod embedded;
mod etcd;
mod key;
mod log;
mod subscription;
mod watch;

pub use cache::{Cache, CacheOptions};
pub use contract::{
    Change, Deleted, Entry, Error, Event, EventKind, Expect, Page, RangeRequest, Store, UPDATE_ATTEMPTS_MAX,
    UpdateError, Updated, update,
};
pub use counters::{CacheCounters, Counter, StoreCounters};
pub use embedded::{
    Backup, BackupError, Clock, Disk, EmbeddedStore, FileSystem, KeyRange, Lease, LeaseId, Leases, LogFile, NO_LEASE,
    OpenError, Options, Txn, View, restore,
};
pub use etcd::{EtcdOptions, EtcdOptionsError, EtcdStore, EtcdTls};
pub use key::{KEY_BYTES_MAX, Key, KeyError, KeyPrefix, ROOT};
pub use watch::{Batch, Progress, WatchSource, WatchStream};
