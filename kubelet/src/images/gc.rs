//! Removing images that nothing uses, when the disk fills up: those unused longest go first.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use cri::v1;

/// When an image was first seen and last used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub detected: Instant,
    pub last_used: Option<Instant>,
}

/// Notes what is there and what is used now.
pub(crate) fn note(seen: &mut HashMap<String, Seen>, images: &[v1::Image], used: &HashSet<String>, now: Instant) {
    seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        let entry = seen.entry(image.id.clone()).or_insert(Seen { detected: now, last_used: None });
        if used.contains(&image.id) {
            entry.last_used = Some(now);
        }
    }
}

/// Which images to remove to free `bytes`, in order.
pub(crate) fn victims(
    seen: &HashMap<String, Seen>,
    images: &[v1::Image],
    used: &HashSet<String>,
    bytes: u64,
    min_age: Duration,
    now: Instant,
) -> Vec<String> {
    let mut candidates: Vec<(&v1::Image, Seen)> = images
        .iter()
        .filter(|image| !used.contains(&image.id) && !image.pinned)
        .filter_map(|image| seen.get(&image.id).map(|seen| (image, *seen)))
        .filter(|(_, seen)| now.duration_since(seen.detected) >= min_age)
        .collect();
    candidates.sort_by_key(|(_, seen)| (seen.last_used.unwrap_or(seen.detected), seen.detected));
    let mut freed = 0;
    let mut chosen = Vec::new();
    for (image, _) in candidates {
        if freed >= bytes {
            break;
        }
        freed += image.size;
        chosen.push(image.id.clone());
    }
    chosen
}

/// How many bytes to free to come down to `low` percent, when use is above `high`.
pub(crate) fn excess(capacity: u64, available: u64, high: u8, low: u8) -> Option<u64> {
    if capacity == 0 {
        return None;
    }
    let used = capacity.saturating_sub(available);
    let percent = used.saturating_mul(100) / capacity;
    if percent < u64::from(high) {
        return None;
    }
    Some((capacity / 100 * u64::from(100 - low)).saturating_sub(available))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_goes_first() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let image = |id: &str, pinned: bool| v1::Image { id: id.into(), size: 10, pinned, ..Default::default() };
        let images = [image("a", false), image("b", false), image("c", false), image("p", true)];
        let mut seen = HashMap::new();
        note(&mut seen, &images, &HashSet::from(["a".to_owned()]), at(0));
        note(&mut seen, &images, &HashSet::from(["b".to_owned()]), at(10));
        let used = HashSet::from(["c".to_owned()]);
        let chosen = |bytes, now| victims(&seen, &images, &used, bytes, Duration::from_secs(60), now);
        assert_eq!(chosen(5, at(100)), ["a"]);
        assert_eq!(chosen(15, at(100)), ["a", "b"]);
        assert!(chosen(15, at(20)).is_empty(), "too young");
    }

    #[test]
    fn thresholds() {
        assert_eq!(excess(1000, 500, 85, 80), None);
        assert_eq!(excess(1000, 100, 85, 80), Some(100));
    }
}
