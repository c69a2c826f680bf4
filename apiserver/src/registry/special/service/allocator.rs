//! Which addresses and ports are in use, and drafts of changes to that.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

/// Addresses and ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) ips: Vec<Ipv4Addr>,
    pub(super) ports: Vec<u16>,
}

/// A range of numbers, one bit each.
#[derive(Clone, Debug)]
struct Bits {
    words: Vec<u64>,
    size: usize,
    /// Numbers below this are left for those who ask for one, as long as there are others.
    reserved: usize,
}

impl Bits {
    fn new(size: usize, reserved: usize) -> Self {
        Self { words: vec![0; size.div_ceil(64)], size, reserved: reserved.min(size) }
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

    fn release(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
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
}

/// What is in use.
#[derive(Clone, Debug)]
pub(super) struct Allocations {
    /// The first address that can be given out.
    first: u32,
    ips: Bits,
    range: RangeInclusive<u16>,
    ports: Bits,
}

impl Allocations {
    pub(super) fn new(network: Ipv4Net, range: RangeInclusive<u16>) -> Self {
        let first = u32::from(network.network()) + 1;
        let size = (u32::from(network.broadcast()).saturating_sub(first)) as usize;
        let ports = usize::from(range.end() - range.start()) + 1;
        Self {
            first,
            ips: Bits::new(size, (size / 16).clamp(16, 256)),
            range,
            ports: Bits::new(ports, (ports / 32).clamp(16, 128)),
        }
    }

    /// Marks what is stored as used.
    pub(super) fn keep(&mut self, set: &Set) {
        for at in set.ips.iter().filter_map(|ip| self.ip_place(*ip)).collect::<Vec<_>>() {
            self.ips.take(at);
        }
        for at in set.ports.iter().filter_map(|port| self.port_place(i64::from(*port))).collect::<Vec<_>>() {
            self.ports.take(at);
        }
    }

    /// Gives back.
    pub(super) fn release(&mut self, set: &Set) {
        for at in set.ips.iter().filter_map(|ip| self.ip_place(*ip)).collect::<Vec<_>>() {
            self.ips.release(at);
        }
        for at in set.ports.iter().filter_map(|port| self.port_place(i64::from(*port))).collect::<Vec<_>>() {
            self.ports.release(at);
        }
    }

    fn ip_place(&self, ip: Ipv4Addr) -> Option<usize> {
        let place = u32::from(ip).checked_sub(self.first)? as usize;
        (place < self.ips.size).then_some(place)
    }

    fn port_place(&self, port: i64) -> Option<usize> {
        let port = u16::try_from(port).ok().filter(|port| self.range.contains(port))?;
        Some(usize::from(port - self.range.start()))
    }
}

/// Allocations of one write.
pub(super) struct Draft<'a> {
    allocations: &'a mut Allocations,
    taken: Set,
    released: Set,
}

impl<'a> Draft<'a> {
    pub(super) fn new(allocations: &'a mut Allocations) -> Self {
        Self { allocations, taken: Set::default(), released: Set::default() }
    }

    /// What was taken, and what is to be given back once the write is stored.
    pub(super) fn finish(self) -> (Set, Set) {
        (self.taken, self.released)
    }

    /// Any free address; None when there is none.
    pub(super) fn next_ip(&mut self) -> Option<Ipv4Addr> {
        let place = u32::try_from(self.allocations.ips.next()?).ok()?;
        let ip = Ipv4Addr::from(self.allocations.first + place);
        self.taken.ips.push(ip);
        Some(ip)
    }

    /// This address; the error is upstream's text.
    pub(super) fn take_ip(&mut self, ip: Ipv4Addr) -> Result<(), String> {
        let Some(place) = self.allocations.ip_place(ip) else {
            return Err("the provided network does not match the current range".to_owned());
        };
        if !self.allocations.ips.take(place) {
            return Err("provided IP is already allocated".to_owned());
        }
        self.taken.ips.push(ip);
        Ok(())
    }

    pub(super) fn release_ip(&mut self, ip: Ipv4Addr) {
        self.released.ips.push(ip);
    }

    /// Any free port; None when there is none.
    pub(super) fn next_port(&mut self) -> Option<u16> {
        let place = u16::try_from(self.allocations.ports.next()?).ok()?;
        let port = self.allocations.range.start() + place;
        self.taken.ports.push(port);
        Some(port)
    }

    /// This port; the error is upstream's text.
    pub(super) fn take_port(&mut self, port: i64) -> Result<(), String> {
        let Some(place) = self.allocations.port_place(port) else {
            let (from, to) = (self.allocations.range.start(), self.allocations.range.end());
            return Err(format!("provided port is not in the valid range. The range of valid ports is {from}-{to}"));
        };
        if !self.allocations.ports.take(place) {
            return Err("provided port is already allocated".to_owned());
        }
        self.taken.ports.extend(u16::try_from(port));
        Ok(())
    }

    pub(super) fn release_port(&mut self, port: u16) {
        self.released.ports.push(port);
    }
}
