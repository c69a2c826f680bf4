//! Flows that would go on to an endpoint that is gone. UDP has no end that the kernel could see, so its entries are removed
//! when they lead from a service to what does not serve it. Entries of endpoints that serve stay, whatever else changes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    process::Output,
};

use tokio::process::Command;

use crate::{
    Error,
    track::{Endpoint, ServicePort},
};

const PROGRAM: &str = "conntrack";

/// Flows that were sent to one address and are answered by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flows {
    to: Endpoint,
    from: Endpoint,
}

impl Flows {
    /// Reads a line of the kernel's table: what was sent, then what is expected back, as `key=value`.
    fn parse(line: &str) -> Option<Self> {
        let nth = |name: &str, number: usize| {
            let words = line.split_whitespace().filter_map(|word| word.split_once('='));
            words.filter(|(key, _)| *key == name).nth(number).map(|(_, value)| value)
        };
        let to = Endpoint { ip: nth("dst", 0)?.parse().ok()?, port: nth("dport", 0)?.parse().ok()? };
        let from = Endpoint { ip: nth("src", 1)?.parse().ok()?, port: nth("sport", 1)?.parse().ok()? };
        Some(Self { to, from })
    }

    /// Arguments that name just these.
    fn arguments(&self) -> [String; 8] {
        let Self { to, from } = self;
        [
            "--orig-dst".to_owned(),
            to.ip.to_string(),
            "--orig-port-dst".to_owned(),
            to.port.to_string(),
            "--reply-src".to_owned(),
            from.ip.to_string(),
            "--reply-port-src".to_owned(),
            from.port.to_string(),
        ]
    }
}

/// Entries may be stale after these ports became those.
pub(crate) fn concerns(old: &[ServicePort], new: &[ServicePort]) -> bool {
    let is_udp = |port: &&ServicePort| port.protocol == "udp";
    !old.iter().filter(is_udp).eq(new.iter().filter(is_udp))
}

/// Removes what leads to nobody who serves. Goes on after a failure and tells the last one.
pub(crate) async fn clean<'a>(ports: impl Iterator<Item = &'a ServicePort>) -> Result<(), Error> {
    let ways = Ways::new(ports);
    if ways.is_empty() {
        return Ok(());
    }
    let listed = run("-L", ["-f", "ipv4"].map(str::to_owned)).await?;
    if !listed.status.success() {
        return Err(refused(&listed));
    }
    let mut failed = None;
    for flows in ways.stale(&String::from_utf8_lossy(&listed.stdout)) {
        let removed = run("-D", flows.arguments()).await?;
        let said = String::from_utf8_lossy(&removed.stderr);
        if !removed.status.success() && !said.contains("0 flow entries have been deleted") {
            failed = Some(refused(&removed));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The protocol comes first: it is what makes ports known.
async fn run(what: &str, arguments: impl IntoIterator<Item = String>) -> Result<Output, Error> {
    let mut command = Command::new(PROGRAM);
    command.args([what, "-p", "udp"]).args(arguments).kill_on_drop(true);
    command.output().await.map_err(|source| Error::Start { program: PROGRAM, package: PROGRAM, source })
}

fn refused(output: &Output) -> Error {
    Error::Refused { program: PROGRAM, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() }
}

/// The ways into UDP services, each with who serves behind it.
struct Ways<'a> {
    addresses: HashMap<(Ipv4Addr, u16), HashSet<&'a Endpoint>>,
    node_ports: HashMap<u16, HashSet<&'a Endpoint>>,
}

impl<'a> Ways<'a> {
    fn new(ports: impl Iterator<Item = &'a ServicePort>) -> Self {
        let mut ways = Self { addresses: HashMap::new(), node_ports: HashMap::new() };
        for port in ports.filter(|port| port.protocol == "udp") {
            let serving: HashSet<&Endpoint> = port.serving.iter().collect();
            let all = [port.cluster_ip].into_iter().chain(port.external_ips.iter().copied());
            for ip in all.chain(port.load_balancer_ips.iter().copied()) {
                ways.addresses.insert((ip, port.port), serving.clone());
            }
            // Only its number tells traffic to a node port: without endpoints, others may use that number.
            if let Some(number) = port.node_port.filter(|_| !serving.is_empty()) {
                ways.node_ports.insert(number, serving);
            }
        }
        ways
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    fn stale(&self, table: &str) -> BTreeSet<Flows> {
        let is_stale = |flows: &Flows| {
            let Flows { to, from } = flows;
            let leads_away = |serving: Option<&HashSet<&Endpoint>>| serving.is_some_and(|all| !all.contains(from));
            leads_away(self.addresses.get(&(to.ip, to.port))) || leads_away(self.node_ports.get(&to.port))
        };
        table.lines().filter_map(Flows::parse).filter(is_stale).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::track::{
        ports,
        tests::{service, slice},
    };

    fn port(endpoints: &[(&str, serde_json::Value)]) -> Vec<ServicePort> {
        let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
        let endpoints: Vec<_> = endpoints.iter().map(|(ip, conditions)| (*ip, "a", conditions.clone())).collect();
        let mut slice = (*slice(&endpoints)).clone();
        slice.ports.iter_mut().flatten().for_each(|port| port.protocol = Some("UDP".to_owned()));
        ports(&service(spec), &[slice.into()], "a")
    }

    fn line(to: &str, port: u16, from: &str, from_port: u16) -> String {
        format!(
            "udp 17 29 src=10.244.0.5 dst={to} sport=4000 dport={port} src={from} dst=10.244.0.5 sport={from_port} dport=4000 [ASSURED] mark=0 use=1\n"
        )
    }

    #[test]
    fn only_what_leads_to_nobody_who_serves_is_removed() {
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        let gone = json!({"ready": false, "serving": false, "terminating": true});
        let table = [
            line("10.96.0.7", 53, "10.1.0.1", 8080),
            line("10.96.0.7", 53, "10.1.0.2", 8080),
            line("10.96.0.7", 53, "10.1.0.3", 8080),
            line("10.96.0.7", 54, "10.1.0.3", 8080),
            line("192.0.2.1", 30053, "10.1.0.3", 8080),
            line("192.0.2.1", 30054, "10.1.0.3", 8080),
            "udp 17 29 src=10.244.0.5 dst=10.96.0.7 sport=4000 dport=53 [UNREPLIED] src=10.96.0.7 dst=10.244.0.5 sport=53 dport=4000 mark=0 use=1\n".to_owned(),
            "conntrack v1.4.7 (conntrack-tools): 7 flow entries have been shown.\n".to_owned(),
        ]
        .concat();
        let stale = |ports: &[ServicePort]| -> Vec<String> {
            let texts = Ways::new(ports.iter()).stale(&table).into_iter();
            texts.map(|flows| format!("{}:{} {}", flows.to.ip, flows.to.port, flows.from.ip)).collect()
        };
        let serving = [("10.1.0.1", json!({"ready": true})), ("10.1.0.2", ending), ("10.1.0.3", gone.clone())];
        assert_eq!(
            stale(&port(&serving)),
            ["10.96.0.7:53 10.1.0.3", "10.96.0.7:53 10.96.0.7", "192.0.2.1:30053 10.1.0.3"]
        );
        assert_eq!(
            stale(&port(&[("10.1.0.3", gone)])).len(),
            4,
            "nobody serves: of its address all, of its node port none"
        );
        assert_eq!(stale(&[]), [""; 0]);
    }

    #[test]
    fn the_kernel_forgets_what_is_stale() {
        crate::iptables::tests::in_own_network(async || {
            for from in ["10.1.0.1", "10.1.0.3"] {
                let sent = "-t 60 -s 10.244.0.5 -d 10.96.0.7 --sport 4000 --dport 53 -q 10.244.0.5";
                let source = if from == "10.1.0.1" { "4000" } else { "4001" };
                let sent = sent.replace("4000", source);
                let answered = format!("-r {from} --reply-port-src 8080 --reply-port-dst {source}");
                let arguments = format!("{sent} {answered}");
                let made = run("-I", arguments.split(' ').map(str::to_owned)).await.expect("conntrack runs");
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
            clean(port(&[("10.1.0.1", json!({"ready": true}))]).iter()).await.expect("the table is cleaned");
            let left = run("-L", []).await.expect("conntrack runs").stdout;
            let left = String::from_utf8_lossy(&left).into_owned();
            assert!(left.contains("src=10.1.0.1") && !left.contains("src=10.1.0.3"), "{left}");
        });
    }

    #[test]
    fn only_changes_of_udp_concern_the_table() {
        let ready = |ip| port(&[(ip, json!({"ready": true}))]);
        assert!(concerns(&[], &ready("10.1.0.1")) && concerns(&ready("10.1.0.1"), &ready("10.1.0.2")));
        assert!(!concerns(&ready("10.1.0.1"), &ready("10.1.0.1")));
        let tcp = ports(&service(json!({"clusterIP": "10.96.0.8", "ports": [{"port": 80}]})), &[], "a");
        assert!(!concerns(&[], &tcp));
    }
}
