//! Whole transactions in the tables of a network namespace of its own. Needs root, as changing tables does.

use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::*;
use crate::{
    Config,
    rules::Rules,
    track::{
        ports,
        tests::{service, slice},
    },
    transaction::Written,
};

/// Runs on a thread that has left the machine's network.
pub(crate) fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(test());
    });
    thread.join().expect("the test passes");
}

fn config() -> Config {
    Config {
        node_name: "a".to_owned(),
        cluster_cidr: Some("10.244.0.0/16".parse().expect("a range")),
        masquerade_all: false,
        healthz_bind_address: "127.0.0.1:0".parse().expect("an address"),
        localhost_nodeports: true,
        nodeport_addresses: Vec::new(),
    }
}

async fn listed(table: Table) -> String {
    let output = run(table, &["-S"], &[]).await.expect("iptables runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_kernel_takes_every_rule() {
    in_own_network(async || {
        let config = config();
        let spec = json!({
            "clusterIP": "10.96.0.7", "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
            "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.9"], "loadBalancerSourceRanges": ["198.51.100.0/24"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        });
        let mut balanced = service(spec);
        balanced.status =
            serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.50"}]}})).expect("a status");
        let endpoints = [("10.244.0.2", "a", json!({})), ("10.244.1.2", "b", json!({}))];
        let key = ("default".to_owned(), "web".to_owned());
        let rules = |endpoints: &[_]| Rules { config: &config }.of(&ports(&balanced, &[slice(endpoints)], "a"));

        let mut written = Written::default();
        written.change(&config, vec![(key.clone(), rules(&endpoints))]);
        restore(&written.all(&config).text()).await.expect("everything is taken");
        for _ in 0..2 {
            ensure_jumps().await.expect("jumps are taken");
        }
        assert!(is_intact().await.expect("the tables can be read"));
        let nat = listed(Table::Nat).await;
        assert_eq!(nat.matches("-A PREROUTING").count(), 1, "{nat}");
        let filter = listed(Table::Filter).await;
        let inputs: Vec<&str> = filter.lines().filter(|l| l.starts_with("-A INPUT")).collect();
        assert!(inputs[0].ends_with("KUBE-PROXY-FIREWALL") && inputs[3].ends_with("KUBE-FIREWALL"), "{inputs:?}");

        let fewer = written.change(&config, vec![(key.clone(), rules(&endpoints[..1]))]);
        restore(&fewer.text()).await.expect("a change is taken");
        assert!(!listed(Table::Nat).await.contains("10.244.1.2"));
        let none = written.change(&config, vec![(key, Default::default())]);
        restore(&none.text()).await.expect("a removal is taken");
        assert_eq!(present_chains().await.expect("the tables can be read"), [] as [&str; 0]);

        run(Table::Nat, &["-F"], &[]).await.expect("iptables runs");
        run(Table::Nat, &["-X"], &[]).await.expect("iptables runs");
        assert!(!is_intact().await.expect("the tables can be read"));
    });
}

#[test]
fn a_refusal_says_why() {
    in_own_network(async || {
        let error = restore("*nat\n-A NO-SUCH-CHAIN -j ACCEPT\nCOMMIT\n").await.expect_err("refused").to_string();
        assert!(error.starts_with("iptables-restore refused the change: "), "{error}");
    });
}
