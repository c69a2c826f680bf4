//! Which node ports are in use, and drafts of changes to that.

use std::ops::RangeInclusive;

/// What a dry run is told for a port that nobody asks for, as upstream guesses it.
const PRETENDED: i64 = 32_768;

/// A range of ports, one bit each.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    words: Vec<u64>,
    size: usize,
    /// Ports below this one are left for those who ask for one, as long as there are others.
    reserved: usize,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let size = usize::from(range.end() - range.start()) + 1;
        let reserved = (size / 32).clamp(16, 128).min(size);
        Self { range, words: vec![0; size.div_ceil(64)], size, reserved }
    }

    /// Marks what is stored as used.
    pub(super) fn keep(&mut self, ports: &[u16]) {
        for at in ports.iter().filter_map(|port| self.place(i64::from(*port))).collect::<Vec<_>>() {
            self.take(at);
        }
    }

    /// Gives back.
    pub(super) fn release(&mut self, ports: &[u16]) {
        for at in ports.iter().filter_map(|port| self.place(i64::from(*port))).collect::<Vec<_>>() {
            self.words[at / 64] &= !(1 << (at % 64));
        }
    }

    fn has(&self, at: usize) -> bool {
        self.words[at / 64] & (1 << (at % 64)) != 0
    }

    /// False when it was taken already.
    fn take(&mut self, at: usize) -> bool {
        let free = !self.has(at);
        self.words[at / 64] |= 1 << (at % 64);
        free
    }

    fn next(&mut self) -> Option<usize> {
        let found = self.free_in(self.reserved..self.size).or_else(|| self.free_in(0..self.reserved))?;
        self.take(found);
        Some(found)
    }

    /// A free number of a range, from a random place on.
    fn free_in(&self, range: std::ops::Range<usize>) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        let start = rand::random_range(range.clone());
        (start..range.end).chain(range.start..start).find(|at| !self.has(*at))
    }

    fn place(&self, port: i64) -> Option<usize> {
        let port = u16::try_from(port).ok().filter(|port| self.range.contains(port))?;
        Some(usize::from(port - self.range.start()))
    }
}

/// The ports of one write.
pub(super) struct Draft<'a> {
    ports: &'a mut Ports,
    dry_run: bool,
    taken: Vec<u16>,
    released: Vec<u16>,
}

impl<'a> Draft<'a> {
    /// A draft; a dry run changes nothing.
    pub(super) fn new(ports: &'a mut Ports, dry_run: bool) -> Self {
        Self { ports, dry_run, taken: Vec::new(), released: Vec::new() }
    }

    /// What was taken, and what is to be given back once the write is stored.
    pub(super) fn finish(self) -> (Vec<u16>, Vec<u16>) {
        if self.dry_run { (Vec::new(), Vec::new()) } else { (self.taken, self.released) }
    }

    /// Any free port; None when there is none.
    pub(super) fn next(&mut self) -> Option<i64> {
        if self.dry_run {
            let last = self.taken.iter().max().map_or(PRETENDED, |port| i64::from(*port));
            self.taken.extend(u16::try_from(last + 1));
            return Some(last + 1);
        }
        let place = u16::try_from(self.ports.next()?).ok()?;
        let port = self.ports.range.start() + place;
        self.taken.push(port);
        Some(i64::from(port))
    }

    /// This port; the error is upstream's text.
    pub(super) fn take(&mut self, port: i64) -> Result<(), String> {
        const TAKEN: &str = "provided port is already allocated";
        let place = self.ports.place(port);
        if self.dry_run {
            let own = u16::try_from(port).is_ok_and(|port| self.taken.contains(&port));
            if own || place.is_some_and(|place| self.ports.has(place)) {
                return Err(TAKEN.to_owned());
            }
            self.taken.extend(u16::try_from(port));
            return Ok(());
        }
        let Some(place) = place else {
            let (from, to) = (self.ports.range.start(), self.ports.range.end());
            return Err(format!("provided port is not in the valid range. The range of valid ports is {from}-{to}"));
        };
        if !self.ports.take(place) {
            return Err(TAKEN.to_owned());
        }
        self.taken.extend(u16::try_from(port));
        Ok(())
    }

    pub(super) fn release(&mut self, port: u16) {
        self.released.push(port);
    }
}
