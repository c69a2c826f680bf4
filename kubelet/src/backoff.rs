//! Growing delays per key, as client-go's `flowcontrol.Backoff`: doubling, and forgotten after twice the limit.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

pub(crate) struct Backoffs {
    initial: Duration,
    max: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

fn since(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

impl Backoffs {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: Mutex::default() }
    }

    fn expired(&self, entry: Entry, event: Timestamp) -> bool {
        since(entry.updated, event) > self.max * 2
    }

    /// The delay that still runs at `now`, counted from `event`.
    pub(crate) fn pending(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Duration> {
        let entry = *self.entries.lock().get(key)?;
        // A clock that was put back says nothing about delays: better none than one until it is as late again.
        let runs = event <= now && !self.expired(entry, event) && since(event, now) < entry.delay;
        runs.then_some(entry.delay)
    }

    /// The delay that still runs at `now`, counted from the last [`Backoffs::next`].
    pub(crate) fn pending_since_update(&self, key: &str, now: Timestamp) -> Option<Duration> {
        let entry = *self.entries.lock().get(key)?;
        let left = entry.delay.checked_sub(since(entry.updated, now))?;
        (!left.is_zero() && entry.updated <= now && !self.expired(entry, now)).then_some(left)
    }

    /// Doubles the delay; starts anew when the last event was long ago.
    pub(crate) fn next(&self, key: &str, event: Timestamp, now: Timestamp) {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| since(entry.updated, now) <= self.max * 2);
        let delay = match entries.get(key) {
            Some(entry) if !self.expired(*entry, event) => (entry.delay * 2).min(self.max),
            _ => self.initial.min(self.max),
        };
        entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    /// Forgets every key that starts so.
    pub(crate) fn forget(&self, prefix: &str) {
        self.entries.lock().retain(|key, _| !key.starts_with(prefix));
    }
}

/// A duration as Go prints it.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let millis = duration.subsec_millis();
    if seconds == 0 {
        return if millis == 0 { "0s".into() } else { format!("{millis}ms") };
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let rest = match format!("{millis:03}").trim_end_matches('0') {
        "" => format!("{rest}s"),
        fraction => format!("{rest}.{fraction}s"),
    };
    match (hours, minutes) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (millis, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn doubles_and_forgets() {
        let at = |seconds: i64| Timestamp::from_second(1000 + seconds).unwrap();
        let seconds = Duration::from_secs;
        let backoffs = Backoffs::new(seconds(10), seconds(300));
        assert_eq!(backoffs.pending("a", at(0), at(0)), None);
        backoffs.next("a", at(0), at(0));
        assert_eq!(backoffs.pending("a", at(1), at(5)), Some(seconds(10)));
        assert_eq!(backoffs.pending("a", at(1), at(11)), None);
        backoffs.next("a", at(1), at(11));
        assert_eq!(backoffs.pending("a", at(12), at(13)), Some(seconds(20)));
        assert_eq!(backoffs.pending_since_update("a", at(21)), Some(seconds(10)));
        backoffs.next("a", at(1000), at(1000));
        assert_eq!(backoffs.pending("a", at(1000), at(1001)), Some(seconds(10)), "the old entry had expired");
        backoffs.forget("a");
        assert_eq!(backoffs.pending("a", at(1000), at(1001)), None);
    }

    #[test]
    fn a_clock_that_was_put_back_keeps_nobody_waiting() {
        let at = |seconds: i64| Timestamp::from_second(100_000 + seconds).unwrap();
        let backoffs = Backoffs::new(Duration::from_secs(10), Duration::from_secs(300));
        backoffs.next("a", at(0), at(0));
        assert!(backoffs.pending("a", at(0), at(1)).is_some() && backoffs.pending_since_update("a", at(1)).is_some());
        assert_eq!(backoffs.pending("a", at(0), at(-3600)), None);
        assert_eq!(backoffs.pending_since_update("a", at(-3600)), None);
    }
}
