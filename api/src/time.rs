//! The time formats of the wire: `Time` in whole seconds and `MicroTime` with six decimals, both UTC; and Go's durations,
//! which flags, files and queries speak.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

/// A longer fraction of a number says nothing more.
const FRACTION_DIGITS_MAX: usize = 18;

/// `2026-01-02T03:04:05Z`, as `metav1.Time`.
pub fn seconds(at: Timestamp) -> String {
    let civil = TimeZone::UTC.to_datetime(at);
    let (year, month, day) = (civil.year(), civil.month(), civil.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", civil.hour(), civil.minute(), civil.second())
}

/// `2026-01-02T03:04:05.000006Z`, as `metav1.MicroTime`.
pub fn micros(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// `2026-01-02`: the day, in UTC.
pub fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// Reads a day as [`day`] writes it: its start. None when it is not one.
pub fn parse_day(text: &str) -> Option<Timestamp> {
    let has_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    let date: jiff::civil::Date = text.parse().ok().filter(|_| has_form)?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Reads an RFC 3339 time. None when it is not one.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Reads a duration as Go writes it: `1m30s`, `250ms`, `1.5h`, `0`. None when it is none, when it is negative, and when it is
/// longer than Go can count.
pub fn go_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut nanoseconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        nanoseconds = nanoseconds.checked_add(amount(number, unit_nanoseconds(unit)?)?)?;
        rest = next;
    }
    let is_counted = !text.is_empty() && i64::try_from(nanoseconds).is_ok();
    is_counted.then(|| Duration::from_nanos(nanoseconds))
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// So many units, rounded down.
fn amount(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0_u64) } else { text.parse().ok() };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let part = u128::from(digits(fraction)?) * u128::from(unit) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    digits(whole)?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_ten_characters() {
        let noon = parse("2026-02-28T12:00:00Z").unwrap();
        assert_eq!(day(noon), "2026-02-28");
        assert_eq!(parse_day("2026-02-28"), parse("2026-02-28T00:00:00Z"));
        for wrong in ["", "2026-02-29", "2026-2-28", "20260228", "2026-02-28T00", "2026-02-2x", "+226-02-28"] {
            assert_eq!(parse_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("+0", Some(0)),
            ("10s", Some(10_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("8760h0m0s", Some(8760 * 3_600_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("1us2\u{b5}s3\u{3bc}s4ns", Some(6_004)),
            ("0.3333333333333333333333s", Some(333_333_333)),
            ("9223372036854775807ns", Some(i64::MAX as u64)),
            ("9223372036854775808ns", None),
            ("9999999999999999999s9999999999999999999s", None),
            ("", None),
            ("+", None),
            ("10", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("-1s", None),
            (" 1s", None),
        ] {
            assert_eq!(go_duration(text), nanoseconds.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn both_formats_round_trip() {
        let at = parse("2026-01-02T03:04:05.000006+00:00").unwrap();
        assert_eq!(seconds(at), "2026-01-02T03:04:05Z");
        assert_eq!(micros(at), "2026-01-02T03:04:05.000006Z");
        assert_eq!(parse("yesterday"), None);
    }
}
