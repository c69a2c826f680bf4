//! A range of ports, one bit each: pure.

use std::ops::RangeInclusive;

const WORD_BITS: usize = 64;
/// Bounds of the band at the beginning that is left for those who ask for a port, and which part of the range it is.
const RESERVED_MIN: usize = 16;
const RESERVED_MAX: usize = 128;
const RESERVED_PART: usize = 32;

/// Which ports of a range are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    words: Vec<u64>,
}

impl Ports {
    /// None is in use.
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        let words = vec![0; size(&range).div_ceil(WORD_BITS)];
        Self { range, words }
    }

    /// Out of the bytes of a number, the greatest first, whose lowest bit is the first port.
    pub(super) fn from_bytes(range: RangeInclusive<u16>, bytes: &[u8]) -> Self {
        let mut ports = Self::new(range);
        for (at, byte) in bytes.iter().rev().enumerate() {
            if let Some(word) = ports.words.get_mut(at / 8) {
                *word |= u64::from(*byte) << (at % 8 * 8);
            }
        }
        let used = size(&ports.range) % WORD_BITS;
        if let Some(last) = ports.words.last_mut().filter(|_| used > 0) {
            *last &= (1 << used) - 1;
        }
        ports
    }

    /// As [`Ports::from_bytes`] reads it, without leading zeros.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().rev().flat_map(|word| word.to_be_bytes());
        bytes.skip_while(|byte| *byte == 0).collect()
    }

    pub(crate) fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    pub(crate) fn has(&self, port: u16) -> bool {
        self.place(port).is_some_and(|at| self.words[at / WORD_BITS] & (1 << (at % WORD_BITS)) != 0)
    }

    /// False when it was taken already, or is none of the range.
    pub(crate) fn take(&mut self, port: u16) -> bool {
        let Some(at) = self.place(port) else { return false };
        let free = !self.has(port);
        self.words[at / WORD_BITS] |= 1 << (at % WORD_BITS);
        free
    }

    pub(crate) fn release(&mut self, port: u16) {
        if let Some(at) = self.place(port) {
            self.words[at / WORD_BITS] &= !(1 << (at % WORD_BITS));
        }
    }

    /// Takes any; one of the reserved band only when there is no other.
    pub(crate) fn take_any(&mut self) -> Option<u16> {
        let size = size(&self.range);
        let reserved = (size / RESERVED_PART).clamp(RESERVED_MIN, RESERVED_MAX).min(size);
        let found = self.free_in(reserved..size).or_else(|| self.free_in(0..reserved))?;
        self.take(found);
        Some(found)
    }

    /// Those in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        self.range.clone().filter(|port| self.has(*port))
    }

    /// A free port between two places, from a random one on.
    fn free_in(&self, places: std::ops::Range<usize>) -> Option<u16> {
        if places.is_empty() {
            return None;
        }
        let start = rand::random_range(places.clone());
        let mut ports = (start..places.end).chain(places.start..start).filter_map(|at| self.port(at));
        ports.find(|port| !self.has(*port))
    }

    fn port(&self, place: usize) -> Option<u16> {
        Some(self.range.start() + u16::try_from(place).ok()?)
    }

    fn place(&self, port: u16) -> Option<usize> {
        self.range.contains(&port).then(|| usize::from(port - self.range.start()))
    }
}

/// A range that ends before it begins has no port.
fn size(range: &RangeInclusive<u16>) -> usize {
    if range.is_empty() { 0 } else { usize::from(range.end() - range.start()) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_number() {
        // What Go's big.Int writes: bits 0, 9 and 70 are 2^70 + 2^9 + 1.
        let range = 30_000..=30_099;
        let mut ports = Ports::new(range.clone());
        assert_eq!(ports.to_bytes(), [0_u8; 0]);
        for (port, bytes) in [
            (30_000, vec![1]),
            (30_009, vec![2, 1]),
            (30_070, vec![0x40, 0, 0, 0, 0, 0, 0, 2, 1]),
            (30_099, vec![8, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 2, 1]),
        ] {
            assert!(ports.take(port));
            assert_eq!(ports.to_bytes(), bytes, "{port}");
            assert_eq!(Ports::from_bytes(range.clone(), &bytes), ports, "{port}");
        }
        assert_eq!(ports.iter().collect::<Vec<_>>(), [30_000, 30_009, 30_070, 30_099]);
        assert!(!ports.take(30_009) && ports.has(30_009));
        ports.release(30_009);
        assert!(!ports.has(30_009) && ports.take(30_009));
    }

    #[test]
    fn what_is_beyond_the_range_is_nobodys() {
        let ports = Ports::from_bytes(30_000..=30_001, &[0xff; 40]);
        assert_eq!(ports.to_bytes(), [3]);
        let mut ports = Ports::new(30_000..=30_001);
        assert!(!ports.take(29_999) && !ports.take(30_002) && !ports.has(30_002));
        ports.release(30_002);
        assert_eq!((ports.take_any().is_some(), ports.take_any().is_some(), ports.take_any()), (true, true, None));
        assert_eq!(Ports::new(65_535..=65_535).take_any(), Some(65_535));
    }

    #[test]
    fn the_reserved_band_is_taken_last() {
        let mut ports = Ports::new(30_000..=30_099);
        let all: Vec<u16> = std::iter::from_fn(|| ports.take_any()).collect();
        assert_eq!(all.len(), 100);
        assert!(all[..84].iter().all(|port| *port >= 30_016));
        assert!(all[84..].iter().all(|port| *port < 30_016));
    }
}
