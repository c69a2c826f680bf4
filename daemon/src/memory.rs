//! Gives memory back to the system after a burst.
//!
//! The allocator keeps what was freed for the next allocation, and gives only the end of its heap back by itself. A big
//! list or a storm of writes leaves holes of many megabytes all over it, which stay resident for ever in a process that
//! is quiet afterwards. So, when the process has grown and has become quiet, it is asked to give the holes back. That
//! takes some ten milliseconds for each hundred megabytes, during which other threads' allocations may wait.

mod sys;

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often the process is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// Less growth than this is not worth the effort.
const GROWTH_BYTES_MIN: u64 = 8 << 20;
/// More growth than this is given back even while the process is busy.
const GROWTH_BYTES_BUSY: u64 = 256 << 20;
/// A process that uses less than this share of one processor is quiet.
const QUIET_SHARE: f64 = 0.25;

/// Runs for ever. Once in a process is enough.
pub async fn give_back() {
    let Some(mut last) = Usage::read() else { return };
    let mut policy = Policy { floor: last.resident };
    let mut looked = Instant::now();
    loop {
        sleep(PERIOD).await;
        let Some(usage) = Usage::read() else { return };
        let wall = looked.elapsed().as_secs_f64();
        let share = (usage.cpu_seconds - last.cpu_seconds) / wall;
        (last, looked) = (usage, Instant::now());
        if !policy.is_due(last.resident, share) {
            continue;
        }
        // On a thread of its own: it takes a while.
        if tokio::task::spawn_blocking(sys::trim).await.is_err() {
            return;
        }
        let after = Usage::read().map_or(last.resident, |usage| usage.resident);
        tracing::debug!(before = last.resident, after, "gave memory back");
        policy.floor = after;
    }
}

struct Policy {
    /// What was resident after the last time, or less since.
    floor: u64,
}

impl Policy {
    /// Whether there may be enough to give back, now that this is resident and this share of a processor was used.
    fn is_due(&mut self, resident: u64, share: f64) -> bool {
        self.floor = self.floor.min(resident);
        let grown = resident - self.floor;
        if grown < GROWTH_BYTES_MIN.max(self.floor / 16) {
            return false;
        }
        share < QUIET_SHARE || grown >= GROWTH_BYTES_BUSY
    }
}

#[derive(Clone, Copy)]
struct Usage {
    /// In bytes.
    resident: u64,
    /// Of all threads, so far.
    cpu_seconds: f64,
}

impl Usage {
    /// None where the system does not tell.
    fn read() -> Option<Self> {
        let pages = fs::read_to_string("/proc/self/statm").ok()?;
        let resident = pages.split(' ').nth(1)?.parse::<u64>().ok()? * sys::page_bytes();
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // After the name, which may contain anything; utime and stime of `proc(5)`, in hundredths on every Linux.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(Self { resident, cpu_seconds: ticks / 100.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn memory_is_given_back_after_growth_and_in_quiet() {
        let mut policy = Policy { floor: 50 * MB };
        for (resident, share, due) in [
            (55, 0.0, false),
            (90, 1.5, false),
            (90, 0.1, true),
            (400, 1.5, true),
            // It has shrunk by itself; growth counts from there.
            (20, 0.0, false),
            (27, 0.0, false),
            (29, 0.0, true),
        ] {
            assert_eq!(policy.is_due(resident * MB, share), due, "{resident} MB, {share}");
        }
        let mut large = Policy { floor: 1000 * MB };
        assert!(!large.is_due(1050 * MB, 0.0), "little for its size");
        assert!(large.is_due(1100 * MB, 0.0));
    }

    /// Every other of many pieces stays, so that the heap's end cannot be given back.
    #[test]
    fn holes_are_given_back() {
        let usage = || Usage::read().expect("a Linux system").resident;
        let mut pieces: Vec<Option<Vec<u8>>> = (0..2_000).map(|_| Some(vec![1; 32 << 10])).collect();
        let full = usage();
        pieces.iter_mut().step_by(2).for_each(|piece| *piece = None);
        sys::trim();
        let after = usage();
        assert!(after + (20 << 20) < full, "{full} before, {after} after");
        assert!(pieces.iter().flatten().all(|piece| piece[0] == 1));
    }
}
