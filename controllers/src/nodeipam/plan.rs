//! The ranges of one address family: which are free. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::Error;

/// Ranges that one allocator may manage, in bits.
const MAX_BITS: u8 = 16;

/// Equal parts of a range, numbered from zero.
#[derive(Debug)]
pub(super) struct Ranges {
    whole: IpNet,
    mask: u8,
    count: u128,
    used: BTreeSet<u128>,
    /// Where the search goes on: a released range rests for as long as possible.
    next: u128,
}

impl Ranges {
    pub(super) fn new(whole: IpNet, mask: u8) -> Result<Self, Error> {
        let whole = whole.trunc();
        let invalid =
            |reason: &str| Error::Flag { flag: "cluster-cidr", value: whole.to_string(), reason: reason.to_owned() };
        let bits = mask.checked_sub(whole.prefix_len()).ok_or_else(|| invalid("a node's range would be larger"))?;
        if mask > whole.max_prefix_len() || bits > MAX_BITS {
            return Err(invalid("nodes' ranges would be too many or too small"));
        }
        Ok(Self { whole, mask, count: 1 << bits, used: BTreeSet::new(), next: 0 })
    }

    /// The next free range.
    pub(super) fn take(&mut self) -> Option<IpNet> {
        let number = (0..self.count).map(|step| (self.next + step) % self.count).find(|it| !self.used.contains(it))?;
        self.used.insert(number);
        self.next = (number + 1) % self.count;
        Some(self.range(number))
    }

    /// Whatever overlaps a range is not free.
    pub(super) fn occupy(&mut self, range: &IpNet) {
        if let Some((first, last)) = self.numbers(range) {
            self.used.extend(first..=last);
        }
    }

    pub(super) fn release(&mut self, range: &IpNet) {
        if let Some((first, last)) = self.numbers(range).filter(|(first, last)| first == last) {
            self.used.retain(|number| *number < first || *number > last);
        }
    }

    fn range(&self, number: u128) -> IpNet {
        let start = value(self.whole.network()) + (number << self.shift());
        let address = match self.whole {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(start).expect("it lies inside an IPv4 range"))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(start)),
        };
        IpNet::new(address, self.mask).expect("the mask was checked")
    }

    /// The first and last part that a range overlaps.
    fn numbers(&self, range: &IpNet) -> Option<(u128, u128)> {
        let same_family = range.addr().is_ipv4() == self.whole.addr().is_ipv4();
        if !same_family || !(self.whole.contains(range) || range.contains(&self.whole)) {
            return None;
        }
        let start = value(self.whole.network());
        let first = value(range.network()).saturating_sub(start) >> self.shift();
        let last = value(range.broadcast()).saturating_sub(start) >> self.shift();
        Some((first, last.min(self.count - 1)))
    }

    fn shift(&self) -> u8 {
        self.whole.max_prefix_len() - self.mask
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_given_in_turn() {
        let mut ranges = Ranges::new(net("10.244.0.0/22"), 24).unwrap();
        ranges.occupy(&net("10.244.1.0/24"));
        let mut take = || ranges.take().map(|it| it.to_string());
        assert_eq!(take().as_deref(), Some("10.244.0.0/24"));
        assert_eq!(take().as_deref(), Some("10.244.2.0/24"));
        assert_eq!(take().as_deref(), Some("10.244.3.0/24"));
        assert_eq!(take(), None);
        ranges.release(&net("10.244.2.0/24"));
        assert_eq!(ranges.take(), Some(net("10.244.2.0/24")));
    }

    #[test]
    fn services_and_other_families() {
        let mut ranges = Ranges::new(net("10.0.0.0/8"), 16).unwrap();
        ranges.occupy(&net("10.0.0.0/15"));
        ranges.occupy(&net("fd00::/64"));
        ranges.occupy(&net("192.168.0.0/16"));
        assert_eq!(ranges.take(), Some(net("10.2.0.0/16")));
        let mut ranges = Ranges::new(net("fd00:1::/48"), 64).unwrap();
        assert_eq!(ranges.take(), Some(net("fd00:1::/64")));
        assert_eq!(ranges.take(), Some(net("fd00:1:0:1::/64")));
        ranges.occupy(&net("fd00::/16"));
        assert_eq!(ranges.take(), None, "the whole is inside what is occupied");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Ranges::new(net("10.244.0.0/24"), 16).is_err());
        assert!(Ranges::new(net("10.0.0.0/8"), 30).is_err());
        assert!(Ranges::new(net("10.0.0.0/30"), 33).is_err());
    }
}
