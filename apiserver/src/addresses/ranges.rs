//! The ranges of the server's flag, one for each family that the cluster has.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{blocks, family};

/// Where cluster IPs come from: the first range is of the cluster's default family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRanges {
    first: IpNet,
    second: Option<IpNet>,
}

impl From<IpNet> for ServiceRanges {
    fn from(range: IpNet) -> Self {
        Self { first: range.trunc(), second: None }
    }
}

impl ServiceRanges {
    /// Ranges of both families; None when they are of one.
    pub fn dual(first: IpNet, second: IpNet) -> Option<Self> {
        let differ = first.addr().is_ipv4() != second.addr().is_ipv4();
        differ.then(|| Self { first: first.trunc(), second: Some(second.trunc()) })
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + use<> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The first address that can be given out, which the `kubernetes` service has.
    pub fn first_address(&self) -> IpAddr {
        blocks::limits(&self.first).map_or_else(|| self.first.addr(), |(first, _)| first)
    }

    /// The families that the cluster has, the default one first.
    pub(crate) fn families(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.iter().map(|range| family(range.addr()))
    }

    pub(crate) fn has(&self, family: &str) -> bool {
        self.families().any(|own| own == family)
    }

    pub(crate) fn is_dual(&self) -> bool {
        self.second.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_each_family_at_most() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let dual = ServiceRanges::dual(net("10.96.0.7/16"), net("fd00::9/112")).unwrap();
        assert_eq!(dual.iter().map(|range| range.to_string()).collect::<Vec<_>>(), ["10.96.0.0/16", "fd00::/112"]);
        assert_eq!(dual.families().collect::<Vec<_>>(), ["IPv4", "IPv6"]);
        assert_eq!(dual.first_address().to_string(), "10.96.0.1");
        assert!(ServiceRanges::dual(net("10.96.0.0/16"), net("10.97.0.0/16")).is_none());
        let six = ServiceRanges::from(net("fd00::/112"));
        assert_eq!(
            (six.first_address().to_string().as_str(), six.has("IPv4"), six.is_dual()),
            ("fd00::1", false, false)
        );
    }
}
