//! Signal handlers: the only ones of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::Drain;

/// How long a drain may take before the second signal's effect is had anyway is the caller's to say; this exit code
/// is what a forced end reports.
const FORCED: i32 = 130;

/// Drains on the first SIGTERM or SIGINT and ends the process on the second. Call once, inside a runtime.
///
/// # Errors
/// When a handler cannot be installed.
pub fn drain() -> std::io::Result<Drain> {
    let mut signals = Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
    let (trigger, drain) = Drain::new();
    // The one task without an owner: it lives as long as the process.
    #[expect(clippy::disallowed_methods, reason = "this task ends with the process")]
    tokio::spawn(async move {
        let name = signals.next().await;
        info!(signal = name, "draining");
        trigger.start();
        let name = signals.next().await;
        warn!(signal = name, "ending without draining");
        std::process::exit(FORCED);
    });
    Ok(drain)
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
