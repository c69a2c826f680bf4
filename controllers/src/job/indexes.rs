//! Sets of completion indexes, written as `0-2,5`. Pure.

use std::collections::BTreeSet;

/// Reads a set; indexes from `limit` on, and what cannot be read, are left out.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse::<i32>().ok()?, last.trim().parse::<i32>().ok()?))
    };
    let ranges = text.split(',').filter_map(range);
    ranges.flat_map(|(first, last)| first.max(0)..=last.min(limit.saturating_sub(1))).collect()
}

pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let text = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        // Two in a row are as short written apart.
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_and_write() {
        for (text, indexes) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0,1", vec![0, 1]),
            ("0-2,5", vec![0, 1, 2, 5]),
            ("3,7-9", vec![3, 7, 8, 9]),
        ] {
            let set: BTreeSet<i32> = indexes.into_iter().collect();
            assert_eq!(parse(text, 100), set);
            assert_eq!(format(&set), text);
        }
        assert_eq!(parse("0-9,x,12", 4), [0, 1, 2, 3].into());
    }
}
