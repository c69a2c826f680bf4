//! Rules that do not depend on any Service: the jumps from built-in chains and the chains that mark and masquerade.

use super::Table;
use crate::Config;

/// A jump from a built-in chain, put in front once.
pub(crate) struct Jump {
    pub(crate) table: Table,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) comment: &'static str,
    /// Only the first packet of a connection.
    pub(crate) new_only: bool,
}

const fn jump(table: Table, from: &'static str, to: &'static str, comment: &'static str, new_only: bool) -> Jump {
    Jump { table, from, to, comment, new_only }
}

const FIREWALL: &str = "kubernetes load balancer firewall";
const PORTALS: &str = "kubernetes service portals";
const EXTERNAL: &str = "kubernetes externally-visible service portals";

/// In the order in which they stand in each chain.
pub(crate) const JUMPS: &[Jump] = &[
    jump(Table::Filter, "INPUT", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    jump(Table::Filter, "INPUT", "KUBE-NODEPORTS", "kubernetes health check service ports", false),
    jump(Table::Filter, "INPUT", "KUBE-EXTERNAL-SERVICES", EXTERNAL, true),
    jump(Table::Filter, "INPUT", "KUBE-FIREWALL", "", false),
    jump(Table::Filter, "FORWARD", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    jump(Table::Filter, "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", false),
    jump(Table::Filter, "FORWARD", "KUBE-SERVICES", PORTALS, true),
    jump(Table::Filter, "FORWARD", "KUBE-EXTERNAL-SERVICES", EXTERNAL, true),
    jump(Table::Filter, "OUTPUT", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    jump(Table::Filter, "OUTPUT", "KUBE-SERVICES", PORTALS, true),
    jump(Table::Filter, "OUTPUT", "KUBE-FIREWALL", "", false),
    jump(Table::Nat, "PREROUTING", "KUBE-SERVICES", PORTALS, false),
    jump(Table::Nat, "OUTPUT", "KUBE-SERVICES", PORTALS, false),
    jump(Table::Nat, "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules", false),
];

/// The chain whose absence says that somebody emptied the tables.
pub(crate) const CANARY: &str = "KUBE-PROXY-CANARY";

/// Chains whose rules are always the same, and the last lines of shared chains.
pub(crate) fn fixed_chains(config: &Config) -> Vec<(Table, &'static str, Vec<String>)> {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let localnet = "-m comment --comment \"block incoming localnet connections\" ! -s 127.0.0.0/8 -d 127.0.0.0/8 \
                    -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
    vec![
        (Table::Filter, CANARY, Vec::new()),
        (Table::Nat, CANARY, Vec::new()),
        (Table::Filter, "KUBE-FIREWALL", if config.localhost_nodeports { lines(&[localnet]) } else { Vec::new() }),
        (
            Table::Filter,
            "KUBE-FORWARD",
            lines(&[
                "-m conntrack --ctstate INVALID -j DROP",
                "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT",
                "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            ]),
        ),
        (Table::Nat, "KUBE-MARK-MASQ", lines(&["-j MARK --or-mark 0x4000"])),
        (
            Table::Nat,
            "KUBE-POSTROUTING",
            lines(&[
                "-m mark ! --mark 0x4000/0x4000 -j RETURN",
                "-j MARK --xor-mark 0x4000",
                "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully",
            ]),
        ),
    ]
}

/// The lines that end `nat/KUBE-SERVICES`: what is sent to this node's own addresses may be for a node port.
pub(crate) fn to_node_ports(config: &Config) -> Vec<String> {
    let what = "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" ";
    let local = "-m addrtype --dst-type LOCAL";
    if config.nodeport_addresses.is_empty() {
        let except = if config.localhost_nodeports { "" } else { "! -d 127.0.0.0/8 " };
        return vec![format!("{what}{except}{local} -j KUBE-NODEPORTS")];
    }
    config.nodeport_addresses.iter().map(|range| format!("{what}-d {range} {local} -j KUBE-NODEPORTS")).collect()
}
