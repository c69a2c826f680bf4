//! What every process of the cluster needs: draining, supervised tasks, the clock, back-off, logging, metrics.
//!
//! Constraints, in order: a task has an owner that awaits it; a failing task is restarted and counted, and does not
//! stop its process; time is read here and nowhere else, so that a test can hold it still; nothing here knows Kubernetes.
//!
//! ```text
//! main -> signals::drain() -> Drain -> Tasks -> supervised futures
//!                                  \-> components, which await Drain::cancelled
//! ```

mod backoff;
pub mod clock;
mod drain;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod signals;
mod tasks;

pub use backoff::Backoff;
pub use drain::{Drain, Trigger};
pub use tasks::{JoinError, Tasks};
