//! The records of the DNS specification.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::json;

use super::*;
use crate::index::entry;

fn service(spec: serde_json::Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "default"}, "spec": spec})).unwrap()
}

fn slice() -> Arc<EndpointSlice> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "s-1", "namespace": "default"}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.0.1"], "hostname": "zero", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.2"], "conditions": {}},
                {"addresses": ["10.1.0.3"], "conditions": {"ready": false}},
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }))
        .unwrap(),
    )
}

fn index() -> Index {
    let index = Index::default();
    let set = |name: &str, spec, slices: &[Arc<EndpointSlice>]| {
        index.set(("default".to_owned(), name.to_owned()), Some(entry(&service(spec), slices)));
    };
    set(
        "web",
        json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
               "ports": [{"name": "http", "port": 80}, {"port": 81}]}),
        &[],
    );
    set("headless", json!({"clusterIP": "None", "clusterIPs": ["None"]}), &[slice()]);
    set("empty", json!({"clusterIP": "None", "clusterIPs": ["None"]}), &[]);
    set("out", json!({"type": "ExternalName", "externalName": "example.com"}), &[]);
    set("in", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}), &[]);
    index.set_namespace("default", true);
    index
}

/// `NXDOMAIN`, `-` for another server's, or the records' data.
fn ask(name: &str, kind: RecordType) -> String {
    let (domain, index) = (Name::from_ascii("cluster.local.").unwrap(), index());
    let zone = Zone { domain: &domain, index: &index };
    match zone.answer(&Name::from_ascii(name).unwrap(), kind) {
        Answer::NoSuchName => "NXDOMAIN".to_owned(),
        Answer::NotOurs => "-".to_owned(),
        Answer::Alias(_, target) => format!("-> {target}"),
        Answer::Found(found) => {
            let texts: Vec<String> = found.answers.iter().map(|r| r.data.to_string()).collect();
            texts.join(" | ")
        }
    }
}

#[test]
fn every_record_of_the_specification_is_answered() {
    use RecordType::{A, AAAA, CNAME, PTR, SRV, TXT};
    let cases = [
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("web.default.svc.cluster.local.", A, "10.96.0.7"),
        ("WEB.Default.svc.cluster.LOCAL.", A, "10.96.0.7"),
        ("web.default.svc.cluster.local.", AAAA, ""),
        ("_http._tcp.web.default.svc.cluster.local.", SRV, "0 100 80 web.default.svc.cluster.local."),
        ("_http._tcp.web.default.svc.cluster.local.", A, ""),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "NXDOMAIN"),
        ("_tcp.web.default.svc.cluster.local.", A, ""),
        ("7.0.96.10.in-addr.arpa.", PTR, "web.default.svc.cluster.local."),
        ("headless.default.svc.cluster.local.", A, "10.1.0.1 | 10.1.0.2"),
        ("zero.headless.default.svc.cluster.local.", A, "10.1.0.1"),
        ("10-1-0-2.headless.default.svc.cluster.local.", A, "10.1.0.2"),
        ("10-1-0-3.headless.default.svc.cluster.local.", A, "NXDOMAIN"),
        (
            "_http._tcp.headless.default.svc.cluster.local.",
            SRV,
            "0 50 8080 zero.headless.default.svc.cluster.local. | \
             0 50 8080 10-1-0-2.headless.default.svc.cluster.local.",
        ),
        ("1.0.1.10.in-addr.arpa.", PTR, "zero.headless.default.svc.cluster.local."),
        ("empty.default.svc.cluster.local.", A, "NXDOMAIN"),
        ("out.default.svc.cluster.local.", A, "-> example.com."),
        ("out.default.svc.cluster.local.", CNAME, "example.com."),
        ("in.default.svc.cluster.local.", A, "web.default.svc.cluster.local. | 10.96.0.7"),
        ("10-1-2-3.default.pod.cluster.local.", A, "10.1.2.3"),
        ("10-1-2.default.pod.cluster.local.", A, "NXDOMAIN"),
        ("10-1-2-3.absent.pod.cluster.local.", A, "NXDOMAIN"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn names_without_records_differ_from_names_that_do_not_exist() {
    let cases = [
        ("default.svc.cluster.local.", ""),
        ("absent.svc.cluster.local.", "NXDOMAIN"),
        ("*.cluster.local.", "NXDOMAIN"),
        ("*.web.default.svc.cluster.local.", "NXDOMAIN"),
        ("svc.cluster.local.", ""),
        ("absent.default.svc.cluster.local.", "NXDOMAIN"),
        ("x.y.web.default.svc.cluster.local.", "NXDOMAIN"),
        ("web.default.cluster.local.", "NXDOMAIN"),
        ("example.com.", "-"),
        ("1.2.0.192.in-addr.arpa.", "-"),
    ];
    for (name, expected) in cases {
        assert_eq!(ask(name, RecordType::A), expected, "{name}");
    }
}

#[test]
fn a_removed_service_leaves_nothing() {
    let index = index();
    index.set(("default".to_owned(), "web".to_owned()), None);
    assert_eq!(index.names("10.96.0.7".parse().unwrap()), []);
    assert_eq!(index.service("default", "web"), None);
}
