//! Every unit boundary.

use super::*;

#[test]
fn durations() {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    let cases = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 60, "3h1m"),
        (8 * HOUR, "8h"),
        (47 * HOUR, "47h"),
        (48 * HOUR, "2d"),
        (53 * HOUR, "2d5h"),
        (8 * DAY, "8d"),
        (400 * DAY, "400d"),
        (730 * DAY, "2y"),
        (764 * DAY, "2y34d"),
        (10 * 365 * DAY, "10y"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(human(seconds), expected, "{seconds}");
    }
}
