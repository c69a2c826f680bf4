//! The only place where time is read.

use std::time::Instant;

use jiff::Timestamp;

/// The wall clock, for what is written into objects. It can step.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for durations, deadlines and leases. Follows tokio's clock, so that a paused test holds it still.
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}
