//! Schedules in cron's notation. Pure.

use jiff::{
    SignedDuration, Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone},
};

/// How far ahead a time is looked for.
const MAX_YEARS: i16 = 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something has to happen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Schedule {
    Fields(Box<Fields>),
    Every(SignedDuration),
}

/// Bit sets of values, and whether a day was left open.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

impl Schedule {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(duration) = text.strip_prefix("@every ") {
            let parsed: SignedDuration =
                duration.trim().parse().map_err(|_| format!("failed to parse duration {text}"))?;
            return Ok(Self::Every(SignedDuration::from_secs(parsed.as_secs().max(1))));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ if text.starts_with('@') => return Err(format!("unrecognized descriptor: {text}")),
            fields => fields,
        };
        let list: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = list[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", list.len(), list.join(" ")));
        };
        let weekdays_set = parse_field(weekdays, 0, 7, &DAYS)?;
        Ok(Self::Fields(Box::new(Fields {
            minutes: parse_field(minutes, 0, 59, &[])?,
            hours: parse_field(hours, 0, 23, &[])?,
            days: parse_field(days, 1, 31, &[])?,
            months: parse_field(months, 1, 12, &MONTHS)?,
            // Both 0 and 7 are Sunday.
            weekdays: (weekdays_set | weekdays_set >> 7) & 0x7f,
            any_day: is_open(days),
            any_weekday: is_open(weekdays),
        })))
    }

    /// The first time after another; nothing when there is none for years.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*period).ok(),
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        let last = date.year().checked_add(MAX_YEARS)?;
        while date.year() <= last {
            if self.has_date(date)
                && let Some(time) = self.times(date, zone).filter(|time| *time > after).min()
            {
                return Some(time);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_date(&self, date: civil::Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        // Of two restrictions one is enough.
        let fits = if self.any_day || self.any_weekday { day && weekday } else { day || weekday };
        has(self.months, date.month()) && fits
    }

    /// Times that a change of the clock leaves out do not come, and those that it repeats come twice. In the order of
    /// what the clock shows.
    fn times(&self, date: civil::Date, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        let times = hours.flat_map(|hour| (0..60).map(move |minute| (hour, minute)));
        let times = times.filter(|(_, minute)| has(self.minutes, *minute));
        times.flat_map(move |(hour, minute)| {
            let time = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
            let (first, second) = match time.offset() {
                AmbiguousOffset::Gap { .. } => (None, None),
                AmbiguousOffset::Fold { .. } => (time.earlier().ok(), time.later().ok()),
                AmbiguousOffset::Unambiguous { .. } => (time.compatible().ok(), None),
            };
            first.into_iter().chain(second)
        })
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

/// All values, and not every other of them.
fn is_open(field: &str) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        matches!(range, "*" | "?") && step.parse() == Ok(1)
    })
}

fn parse_field(field: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let mut set = 0;
    for part in field.split(',') {
        set |= parse_part(part, min, max, names)?;
    }
    Ok(set)
}

fn parse_part(part: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let value = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + min);
        named.or_else(|| text.parse().ok()).ok_or_else(|| format!("failed to parse int from {text}"))
    };
    // Names of days count from 0 although 7 is a day too.
    let top = if max == 7 { 6 } else { max };
    let (first, last) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (min, top),
        Some((first, last)) => (value(first)?, value(last)?),
        None if step.is_some() => (value(range)?, top),
        None => (value(range)?, value(range)?),
    };
    let step: u32 = match step {
        Some(text) => text
            .parse()
            .ok()
            .filter(|it| *it > 0)
            .ok_or_else(|| format!("step of range should be a positive number: {part}"))?,
        None => 1,
    };
    if first < min {
        return Err(format!("beginning of range ({first}) below minimum ({min}): {part}"));
    }
    if last > max {
        return Err(format!("end of range ({last}) above maximum ({max}): {part}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    let values = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    Ok(values.fold(0, |set, value| set | 1 << value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        let utc = TimeZone::UTC;
        for (text, after, expected) in [
            ("* * * * *", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
            ("*/15 * * * *", "2024-01-01T00:14:59Z", "2024-01-01T00:15:00Z"),
            ("5,10-12 3 * * *", "2024-01-01T03:10:00Z", "2024-01-01T03:11:00Z"),
            ("0 0 1 * *", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
            ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 9 * * MON-FRI", "2024-01-05T10:00:00Z", "2024-01-08T09:30:00Z"),
            ("0 0 13 * 5", "2024-01-01T00:00:00Z", "2024-01-05T00:00:00Z"),
            ("0 0 */2 * 2", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
            ("0 0 */1 * 2", "2024-01-02T00:00:00Z", "2024-01-09T00:00:00Z"),
            ("0 0 * * 7", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
            ("0 12 ? jan,mar *", "2024-01-31T13:00:00Z", "2024-03-01T12:00:00Z"),
            ("@hourly", "2024-01-01T00:30:00Z", "2024-01-01T01:00:00Z"),
            ("@every 1m30s", "2024-01-01T00:00:00Z", "2024-01-01T00:01:30Z"),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            let next = schedule.next(after.parse().unwrap(), &utc).unwrap();
            assert_eq!(next, expected.parse().unwrap(), "{text}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &utc), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@never",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_does_not_come() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let next =
            |text: &str, after: &str| Schedule::parse(text).unwrap().next(after.parse().unwrap(), &zone).unwrap();
        assert_eq!(next("30 2 * * *", "2024-03-30T12:00:00Z"), "2024-04-01T00:30:00Z".parse().unwrap());
        assert_eq!(next("0 9 * * *", "2024-01-01T00:00:00Z"), "2024-01-01T08:00:00Z".parse().unwrap());
    }

    #[test]
    fn an_hour_that_the_clock_repeats_comes_twice() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // At 01:00 UTC on 2024-10-27 three o'clock is two o'clock again.
        for (text, after, expected) in [
            ("*/20 * * * *", "2024-10-27T00:40:00Z", "2024-10-27T01:00:00Z"),
            ("*/20 * * * *", "2024-10-27T01:00:00Z", "2024-10-27T01:20:00Z"),
            ("*/20 * * * *", "2024-10-27T01:40:00Z", "2024-10-27T02:00:00Z"),
            ("30 2 * * *", "2024-10-26T12:00:00Z", "2024-10-27T00:30:00Z"),
            ("30 2 * * *", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"),
            ("30 2 * * *", "2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"),
        ] {
            let next = Schedule::parse(text).unwrap().next(after.parse().unwrap(), &zone).unwrap();
            assert_eq!(next, expected.parse().unwrap(), "{text} after {after}");
        }
    }
}
