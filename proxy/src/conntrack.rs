//! Connections that would go on to an endpoint that is gone. UDP has no end that the kernel could see, so its entries
//! are removed when what they point to is.

use std::collections::BTreeSet;

use tokio::process::Command;

use crate::{
    Error,
    track::{Endpoint, ServicePort},
};

/// One removal: arguments for `conntrack -D`.
pub(crate) type Removal = Vec<String>;

/// What to remove after a Service's ports changed. Pure.
pub(crate) fn stale(old: &[ServicePort], new: &[ServicePort]) -> Vec<Removal> {
    let mut removals = Vec::new();
    for before in old.iter().filter(|p| p.protocol == "udp") {
        let after = new.iter().find(|p| p.name == before.name && p.protocol == before.protocol);
        let kept: BTreeSet<&Endpoint> = after.into_iter().flat_map(all).collect();
        for gone in all(before).into_iter().filter(|e| !kept.contains(e)) {
            removals.extend(to_endpoint(before, gone));
        }
    }
    for after in new.iter().filter(|p| p.protocol == "udp") {
        let before = old.iter().find(|p| p.name == after.name && p.protocol == after.protocol);
        let had_none = before.is_none_or(|p| p.cluster_endpoints.is_empty());
        if had_none && !after.cluster_endpoints.is_empty() {
            removals.extend(to_service(after));
        }
    }
    removals
}

/// Removes them. Nothing to remove is fine. Goes on after a failure and tells the last one.
pub(crate) async fn remove(removals: &[Removal]) -> Result<(), Error> {
    const PROGRAM: &str = "conntrack";
    let mut failed = None;
    for removal in removals {
        let mut command = Command::new(PROGRAM);
        command.arg("-D").args(removal).kill_on_drop(true);
        let output = command.output().await;
        let output = output.map_err(|source| Error::Start { program: PROGRAM, package: PROGRAM, source })?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && !said.contains("0 flow entries have been deleted") {
            failed = Some(Error::Refused { program: PROGRAM, message: said.trim().to_owned() });
        }
    }
    failed.map_or(Ok(()), Err)
}

fn all(port: &ServicePort) -> BTreeSet<&Endpoint> {
    port.cluster_endpoints.iter().chain(&port.local_endpoints).collect()
}

/// Entries that point from the port to one endpoint.
fn to_endpoint(port: &ServicePort, endpoint: &Endpoint) -> Vec<Removal> {
    let nat = ["--dst-nat".to_owned(), endpoint.ip.to_string()];
    destinations(port).into_iter().map(|d| [d, nat.to_vec()].concat()).collect()
}

/// Entries made while the port had no endpoints.
fn to_service(port: &ServicePort) -> Vec<Removal> {
    destinations(port)
}

fn destinations(port: &ServicePort) -> Vec<Removal> {
    let addresses = [port.cluster_ip].into_iter().chain(port.external_ips.iter().copied());
    let addresses = addresses.chain(port.load_balancer_ips.iter().copied());
    let udp = |flag: &str, value: String| vec!["-p".to_owned(), "udp".to_owned(), flag.to_owned(), value];
    let mut all: Vec<Removal> = addresses.map(|ip| udp("--orig-dst", ip.to_string())).collect();
    all.extend(port.node_port.map(|number| udp("--dport", number.to_string())));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::track::{
        ports,
        tests::{service, slice},
    };

    #[test]
    fn entries_of_endpoints_that_are_gone_are_removed() {
        let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
        let at = |endpoints: &[&str]| {
            let endpoints: Vec<_> = endpoints.iter().map(|ip| (*ip, "a", json!({}))).collect();
            let mut slice = (*slice(&endpoints)).clone();
            slice.ports.iter_mut().flatten().for_each(|port| port.protocol = Some("UDP".to_owned()));
            ports(&service(spec.clone()), &[slice.into()], "a")
        };
        let texts = |old: &[&str], new: &[&str]| -> Vec<String> {
            stale(&at(old), &at(new)).iter().map(|r| r.join(" ")).collect()
        };
        assert_eq!(
            texts(&["10.1.0.1", "10.1.0.2"], &["10.1.0.2"]),
            ["-p udp --orig-dst 10.96.0.7 --dst-nat 10.1.0.1", "-p udp --dport 30053 --dst-nat 10.1.0.1"]
        );
        assert_eq!(texts(&[], &["10.1.0.2"]), ["-p udp --orig-dst 10.96.0.7", "-p udp --dport 30053"]);
        assert_eq!(texts(&["10.1.0.2"], &["10.1.0.2"]), [] as [&str; 0]);
    }
}
