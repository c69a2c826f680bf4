//! The blocks that service addresses are taken from: pure.
//!
//! A large block has a lower band for those who ask for an address and an upper one for those who take any, as KEP-3070
//! has it: who wants any gets one of the lower band only when the upper one is full.

use std::net::IpAddr;
use std::sync::Arc;

use api::{Value, meta};
use ipnet::IpNet;
use kinds::tree::{at, list, text, texts};

/// Bounds of the lower band, and which part of the block it is.
const LOWER_MIN: u128 = 16;
const LOWER_MAX: u128 = 256;
const LOWER_PART: u128 = 16;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) net: IpNet,
    /// Addresses may be taken from it.
    pub(crate) ready: bool,
}

/// The blocks of ServiceCIDRs, each once, in their order. One is ready when one of the objects that name it is.
pub(crate) fn all(objects: &[Arc<Value>]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for object in objects {
        let ready = is_ready(object);
        for net in texts(at(object, "spec"), "cidrs").filter_map(|text| text.parse::<IpNet>().ok()) {
            match blocks.iter_mut().find(|block| block.net == net) {
                Some(known) => known.ready |= ready,
                None => blocks.push(Block { net, ready }),
            }
        }
    }
    blocks
}

/// A block that nobody has said anything of is ready: its controller may not run.
fn is_ready(object: &Value) -> bool {
    let mut conditions = list(at(object, "status"), "conditions").iter();
    let ready = conditions.find(|condition| text(condition, "type") == "Ready");
    !meta::is_terminating(object) && ready.is_none_or(|ready| text(ready, "status") == "True")
}

/// The first and the last address that can be given out.
pub(crate) fn limits(net: &IpNet) -> Option<(IpAddr, IpAddr)> {
    let hosts = Hosts::of(net);
    (hosts.count > 0).then(|| (hosts.address(hosts.first), hosts.address(hosts.first + hosts.count - 1)))
}

/// True for an address that can be given out of the block.
pub(crate) fn contains(net: &IpNet, ip: IpAddr) -> bool {
    // Numbers of the two families overlap.
    let same_family = net.addr().is_ipv4() == ip.is_ipv4();
    same_family && limits(net).is_some_and(|(first, last)| first <= ip && ip <= last)
}

/// Every address of a block in the order in which they are tried: each band from a random place on.
pub(crate) fn candidates(net: &IpNet) -> impl Iterator<Item = IpAddr> + Send + use<> {
    let hosts = Hosts::of(net);
    let lower = hosts.lower_count().min(hosts.count);
    let upper = ring(hosts.first + lower, hosts.count - lower);
    upper.chain(ring(hosts.first, lower)).map(move |number| hosts.address(number))
}

/// `count` numbers from `first` on, each once, from a random one on.
fn ring(first: u128, count: u128) -> impl Iterator<Item = u128> + Send {
    let start = if count == 0 { 0 } else { rand::random_range(0..count) };
    (0..count).map(move |step| first + (start + step) % count)
}

/// The numbers of the addresses that can be given out: without the network's own, and the last one of IPv4.
#[derive(Clone, Copy)]
struct Hosts {
    is_v4: bool,
    host_bits: u32,
    first: u128,
    count: u128,
}

impl Hosts {
    fn of(net: &IpNet) -> Self {
        let (network, is_v4) = match net.network() {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), true),
            IpAddr::V6(ip) => (u128::from(ip), false),
        };
        let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        // A step on has to stay a number; no block of that size is ever filled.
        let count = size.saturating_sub(if is_v4 { 2 } else { 1 }).min(u128::from(u64::MAX));
        Self { is_v4, host_bits, first: network + 1, count }
    }

    fn lower_count(&self) -> u128 {
        let size = 1_u128.checked_shl(self.host_bits).unwrap_or(u128::MAX);
        if size <= LOWER_MIN { 0 } else { (size / LOWER_PART).clamp(LOWER_MIN, LOWER_MAX) }
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_v4 {
            let number = u32::try_from(number).expect("numbers of an IPv4 block are addresses");
            return IpAddr::V4(number.into());
        }
        IpAddr::V6(number.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_ends_of_a_block_are_not_given_out() {
        for (block, inside, outside) in [
            ("10.96.0.0/28", ["10.96.0.1", "10.96.0.14"], ["10.96.0.0", "10.96.0.15"]),
            ("10.0.0.0/8", ["10.0.0.1", "10.255.255.254"], ["10.255.255.255", "11.0.0.1"]),
            ("2001:db8::/112", ["2001:db8::1", "2001:db8::ffff"], ["2001:db8::", "2001:db8::1:0"]),
            ("2001:db8::/64", ["2001:db8::1", "2001:db8::1:2:3:4"], ["2001:db8::", "10.0.0.1"]),
        ] {
            let holds = |address: &str| contains(&net(block), ip(address));
            assert!(inside.iter().all(|address| holds(address)), "{block}");
            assert!(!outside.iter().any(|address| holds(address)), "{block}");
        }
        for empty in ["10.0.0.0/31", "10.0.0.1/32", "2001:db8::1/128"] {
            assert!(candidates(&net(empty)).next().is_none(), "{empty}");
            assert_eq!(limits(&net(empty)), None);
        }
    }

    #[test]
    fn the_lower_band_is_tried_last_and_every_address_once() {
        for (block, upper, lower) in [
            // Upstream's table: a block of up to 16 has one band, then it is a sixteenth between 16 and 256.
            ("10.96.0.0/28", 14, 0),
            ("10.96.0.0/27", 14, 16),
            ("10.96.0.0/24", 238, 16),
            ("10.96.0.0/23", 478, 32),
            ("10.96.0.0/20", 3838, 256),
            ("10.96.0.0/16", 65278, 256),
            ("2001:db8::/112", 65279, 256),
        ] {
            let all: Vec<IpAddr> = candidates(&net(block)).collect();
            assert_eq!(all.len(), upper + lower, "{block}");
            let (first, _) = limits(&net(block)).unwrap();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!((sorted.len(), sorted[0]), (all.len(), first), "{block}");
            assert!(all[..upper].iter().all(|address| *address >= sorted[lower]), "{block}");
        }
    }

    #[test]
    fn a_large_block_is_not_walked_to_take_one() {
        assert!(candidates(&net("2001:db8::/64")).next().is_some());
        assert!(candidates(&net("10.0.0.0/8")).next().is_some());
    }

    #[test]
    fn a_block_is_ready_unless_all_its_objects_say_otherwise() {
        let cidr = |cidrs: &[&str], status: Option<&str>, deleted: bool| {
            let conditions: Vec<Value> =
                status.map(|status| json!({"type": "Ready", "status": status})).into_iter().collect();
            let deleted = deleted.then_some("2026-01-01T00:00:00Z");
            Arc::new(json!({
                "metadata": {"name": "x", "deletionTimestamp": deleted}, "spec": {"cidrs": cidrs},
                "status": {"conditions": conditions},
            }))
        };
        let found = all(&[
            cidr(&["10.0.0.0/24"], None, false),
            cidr(&["10.1.0.0/24"], Some("False"), false),
            cidr(&["10.2.0.0/24", "2001:db8::/112"], Some("True"), true),
            cidr(&["10.1.0.0/24"], Some("True"), false),
        ]);
        let shown: Vec<_> = found.iter().map(|block| (block.net.to_string(), block.ready)).collect();
        let expected =
            [("10.0.0.0/24", true), ("10.1.0.0/24", true), ("10.2.0.0/24", false), ("2001:db8::/112", false)];
        assert_eq!(shown, expected.map(|(net, ready)| (net.to_owned(), ready)));
    }
}
