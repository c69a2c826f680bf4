//! The time formats of the wire: `Time` in whole seconds and `MicroTime` with six decimals, both UTC.

use jiff::{Timestamp, tz::TimeZone};

/// `2026-01-02T03:04:05Z`, as `metav1.Time`.
pub fn seconds(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000006Z`, as `metav1.MicroTime`.
pub fn micros(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads an RFC 3339 time. None when it is not one.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_round_trip() {
        let at = parse("2026-01-02T03:04:05.000006+00:00").unwrap();
        assert_eq!(seconds(at), "2026-01-02T03:04:05Z");
        assert_eq!(micros(at), "2026-01-02T03:04:05.000006Z");
        assert_eq!(parse("yesterday"), None);
    }
}
