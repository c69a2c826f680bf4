//! How an embedded store is opened.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::disk::{Disk, FileSystem};
use super::frame::RECORD_OVERHEAD_MAX;

/// Milliseconds since the Unix epoch; must not go backwards while a store is open.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock that goes on from `now` with monotonic time, so that a step of the wall clock neither
    /// expires keys early nor keeps them.
    #[must_use]
    pub fn starting_at(now: SystemTime) -> Self {
        let start = millis(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let anchor = Instant::now();
        Self::custom(move || start + millis(anchor.elapsed()))
    }

    /// A clock of the caller's own, for tests.
    pub fn custom(now_millis: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_millis))
    }

    pub(crate) fn now_millis(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_millis())
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Limits of an embedded store. [`Options::new`] has the values a cluster needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// What time it is.
    pub clock: Clock,
    /// How long old revisions stay readable.
    pub history: Duration,
    /// The most bytes of replaced and deleted values kept for that; older history goes earlier.
    pub history_bytes_max: usize,
    /// The largest value accepted. The default is etcd's largest request.
    pub value_bytes_max: usize,
    /// The most bytes that one transaction of a foreign client may add to the log, and that the keys of one lease do
    /// when it ends. It may delete everything, and write large values again that it does not send.
    pub transaction_bytes_max: usize,
    /// The most writes that wait for the disk at one time; further callers wait in line.
    pub pending_max: usize,
    /// Whether a write waits for the disk. Only for measuring what that costs, and for tests that prove
    /// that the crash checker notices its absence.
    pub sync: bool,
    /// The size of a log segment, made ahead of time.
    pub segment_bytes: u64,
    /// A snapshot is taken, and the log before it dropped, when the log since the last one is longer
    /// than this and than that snapshot.
    pub snapshot_after_bytes: u64,
    /// Where the log is written.
    pub disk: Arc<dyn Disk>,
}

/// What [`Options::transaction_bytes_max`] can be.
const TRANSACTION_BYTES: RangeInclusive<usize> = 64 << 10..=TRANSACTION_BYTES_LIMIT;

/// The most bytes that a transaction can add to the log, whatever the options are.
pub(super) const TRANSACTION_BYTES_LIMIT: usize = 1 << 30;

impl Options {
    /// The defaults, at the wall clock's present reading.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self {
            clock: Clock::starting_at(now),
            history: Duration::from_secs(5 * 60),
            history_bytes_max: 256 << 20,
            value_bytes_max: 3 << 19,
            transaction_bytes_max: 256 << 20,
            pending_max: 4096,
            sync: true,
            segment_bytes: 16 << 20,
            snapshot_after_bytes: 64 << 20,
            disk: Arc::new(FileSystem),
        }
    }

    /// With limits of what is written that a frame of the log holds.
    pub(super) fn bounded(self) -> Self {
        let transaction = self.transaction_bytes_max.clamp(*TRANSACTION_BYTES.start(), *TRANSACTION_BYTES.end());
        let value = self.value_bytes_max.min(transaction - RECORD_OVERHEAD_MAX);
        Self { transaction_bytes_max: transaction, value_bytes_max: value, ..self }
    }
}
