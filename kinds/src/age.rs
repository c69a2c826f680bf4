//! Ages and durations as `kubectl get` shows them.

use api::{Value, time};
use jiff::Timestamp;

use crate::tree::{at, text};

#[cfg(test)]
mod tests;

/// `45s`, `5m30s`, `3h`, `2d5h`, `400d`, `2y34d`: two units where the larger alone would be coarse.
pub fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        return format!("{large}{large_unit}");
    }
    format!("{large}{large_unit}{small}{small_unit}")
}

/// The time since a timestamp of the wire, `<unknown>` when there is none.
pub fn since(timestamp: &str, now: Timestamp) -> String {
    match time::parse(timestamp) {
        Some(then) => between(then, now),
        None => "<unknown>".to_owned(),
    }
}

/// The time from one moment to another.
pub fn between(then: Timestamp, now: Timestamp) -> String {
    human(now.duration_since(then).as_secs())
}

/// An object's age.
pub fn of(object: &Value, now: Timestamp) -> String {
    since(text(at(object, "metadata"), "creationTimestamp"), now)
}
