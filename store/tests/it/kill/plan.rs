//! What happens to one process: drawn at random from a seed, so that a failure can be run again.

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// Watchers of a process: of everything, and of two of the three prefixes.
pub(super) const WATCHED: [&str; 3] = ["/registry/", "/registry/a/", "/registry/b/"];

/// What goes wrong besides the kill at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fault {
    Nothing,
    /// The kill comes in the middle of this disk operation instead.
    KillAtOperation(u64),
    /// Syncs from this operation on fail.
    SyncFails {
        from: u64,
    },
    /// There is no space during these operations.
    Full {
        from: u64,
        until: u64,
    },
    /// The process is stopped for a while after this record.
    Stop {
        at_record: u64,
    },
    /// The clock jumps ahead after this record.
    ClockJumps {
        at_record: u64,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// The number of the first call.
    pub(super) first_call: u64,
    pub(super) sync: bool,
    /// Where each watcher goes on.
    pub(super) after: [u64; WATCHED.len()],
    pub(super) fault: Fault,
    /// The process kills itself when it has recorded so much.
    pub(super) records: u64,
    /// What the clock says at the start.
    pub(super) clock_millis: u64,
    /// How much log goes before a snapshot.
    pub(super) snapshot_after_bytes: u64,
}

/// The wall clock's reading when the first process starts, in milliseconds; any will do.
pub(super) const START_MILLIS: u64 = 1_700_000_000_000;

impl Plan {
    pub(super) fn draw(random: &mut StdRng, cycle: u64, sync: bool, after: [u64; WATCHED.len()]) -> Self {
        let records = random.random_range(1..700);
        let at_record = random.random_range(0..records);
        let from = random.random_range(0..200);
        let fault = match random.random_range(0..12) {
            0..4 => Fault::Nothing,
            4..8 => Fault::KillAtOperation(from),
            8 => Fault::SyncFails { from },
            9 => Fault::Full { from, until: from + random.random_range(1..60) },
            10 => Fault::Stop { at_record },
            _ => Fault::ClockJumps { at_record },
        };
        // Time goes on between two processes, and one in eight finds that the wall clock was set.
        let day = 24 * 3600 * 1000;
        let step = if random.random_ratio(1, 8) { random.random_range(0..2 * day) } else { day };
        Self {
            seed: random.random(),
            first_call: cycle * 1_000_000 + 1,
            sync,
            after,
            fault,
            records,
            clock_millis: START_MILLIS + cycle * 2000 + step,
            snapshot_after_bytes: if random.random() { 128 << 10 } else { 1 << 20 },
        }
    }
}
