//! What `up` and `down` say while they work: each phase, with its time.

use std::time::Instant;

/// Prints one line a phase to standard error.
pub(super) struct Phases {
    started: Instant,
    last: Instant,
}

impl Phases {
    pub(super) fn start() -> Self {
        let now = daemon::clock::monotonic();
        Self { started: now, last: now }
    }

    /// A phase has ended.
    pub(super) fn done(&mut self, what: &str) {
        let now = daemon::clock::monotonic();
        eprintln!("  {:>7.2} s  {what}", (now - self.last).as_secs_f64());
        self.last = now;
    }

    /// Something that is worth knowing, and no failure.
    pub(super) fn note(&self, what: &str) {
        eprintln!("             note: {what}");
    }

    /// Everything has ended.
    pub(super) fn total(&self, what: &str) {
        eprintln!("  {:>7.2} s  {what}", (daemon::clock::monotonic() - self.started).as_secs_f64());
    }
}
