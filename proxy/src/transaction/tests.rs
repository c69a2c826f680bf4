//! A change carries what differs and nothing else.

use super::*;

fn config() -> Config {
    Config {
        node_name: "a".to_owned(),
        cluster_cidr: None,
        masquerade_all: false,
        healthz_bind_address: "127.0.0.1:0".parse().unwrap(),
        localhost_nodeports: true,
        nodeport_addresses: Vec::new(),
    }
}

fn key(name: &str) -> ServiceKey {
    ("default".to_owned(), name.to_owned())
}

fn rules(shared: &str, own: &[(&str, &str)]) -> ServiceRules {
    ServiceRules {
        shared: vec![(Shared::Services, shared.to_owned())],
        own: own.iter().map(|(chain, line)| ((*chain).to_owned(), vec![(*line).to_owned()])).collect(),
    }
}

#[test]
fn only_differences_are_written() {
    let mut written = Written::default();
    let first = written
        .change(&config(), vec![(key("a"), rules("to a", &[("A", "1"), ("B", "2")])), (key("z"), rules("to z", &[]))]);
    let last = to_node_ports(&config()).remove(0);
    let services = format!("-A KUBE-SERVICES to a\n-A KUBE-SERVICES to z\n-A KUBE-SERVICES {last}\n");
    assert_eq!(
        first.text(),
        format!("*nat\n:A - [0:0]\n:B - [0:0]\n:KUBE-SERVICES - [0:0]\n-A A 1\n-A B 2\n{services}COMMIT\n")
    );

    let second = written.change(&config(), vec![(key("a"), rules("to a", &[("A", "1"), ("C", "3")]))]);
    assert_eq!(second.text(), "*nat\n:C - [0:0]\n:B - [0:0]\n-A C 3\n-X B\nCOMMIT\n");

    assert!(written.change(&config(), vec![(key("a"), rules("to a", &[("A", "1"), ("C", "3")]))]).is_empty());

    let gone = written.change(&config(), vec![(key("a"), ServiceRules::default())]);
    assert!(gone.text().ends_with("-X A\n-X C\nCOMMIT\n"), "{}", gone.text());
    assert!(!gone.text().contains("to a"));
}

#[test]
fn chains_of_an_earlier_run_are_removed() {
    let mut written = Written::default();
    written.change(&config(), vec![(key("a"), rules("to a", &[("KUBE-SVC-A", "1")]))]);
    let mut all = written.all(&config());
    all.remove_stale(["KUBE-SVC-A".to_owned(), "KUBE-SVC-OLD".to_owned()]);
    let text = all.text();
    assert!(text.contains("-X KUBE-SVC-OLD") && !text.contains("-X KUBE-SVC-A"), "{text}");
    assert!(text.contains("*filter") && text.contains(":KUBE-POSTROUTING - [0:0]"));
}

#[test]
fn what_is_refused_is_left_out_until_it_changes() {
    let mut written = Written::default();
    let both = vec![(key("a"), rules("to a", &[("A", "1")])), (key("bad"), rules("to bad", &[("BAD", "x")]))];
    written.change(&config(), both);
    let probe = written.probe(&[key("bad")]).text();
    assert!(probe.contains("-A BAD x") && probe.contains("-A KUBE-PROXY-PROBE to bad"), "{probe}");
    assert!(!probe.contains("-A A 1") && !probe.contains(":KUBE-SERVICES"), "{probe}");

    written.set_aside([key("bad")]);
    assert_eq!(written.keys(), [key("a")]);
    let all = written.all(&config()).text();
    assert!(all.contains("to a") && !all.contains("to bad") && !all.contains("BAD"), "{all}");

    // Its next change is tried again, whole: nothing of it is in the tables.
    let again = written.change(&config(), vec![(key("bad"), rules("to better", &[("BAD", "x")]))]).text();
    assert!(again.contains("-A BAD x") && again.contains("to better"), "{again}");
}
