//! Answers as bytes: the order of their records, and what is left of those that are too long.

use hickory_proto::rr::RecordType;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::*;
use crate::index::{Endpoint, Entry, Index, Target, entry};

fn named(name: &str) -> (String, String) {
    ("default".to_owned(), name.to_owned())
}

fn index(endpoints: u8) -> Index {
    let index = Index::default();
    let service = |spec| -> Service { serde_json::from_value(json!({"spec": spec})).unwrap() };
    let alias = service(json!({"type": "ExternalName", "externalName": "many.default.svc.cluster.local"}));
    index.set(named("alias"), Some(entry(&alias, &[])));
    let endpoint = |last: u8| {
        let ip = std::net::IpAddr::from([10, 1, 0, last]);
        Endpoint { ip, label: format!("pod-{last}"), ports: Vec::new() }
    };
    let target = Target::Endpoints((1..=endpoints).map(endpoint).collect());
    index.set(named("many"), Some(Entry { target, ports: Vec::new() }));
    index.set_namespace("default", true);
    index
}

/// The answer to a question without EDNS.
fn ask(endpoints: u8, name: &str, over_udp: bool, turn: usize) -> Message {
    let (domain, index) = (Name::from_ascii("cluster.local.").unwrap(), index(endpoints));
    let zone = Zone { domain: &domain, index: &index };
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    match reply(&zone, &question.to_vec().unwrap(), over_udp, turn) {
        Reply::Send(bytes) => {
            assert!(!over_udp || bytes.len() <= usize::from(MIN_UDP_BYTES), "{} bytes", bytes.len());
            Message::from_vec(&bytes).unwrap()
        }
        _ => panic!("no answer about {name}"),
    }
}

#[test]
fn an_alias_comes_before_what_it_leads_to() {
    let mut firsts = Vec::new();
    for turn in 0..6 {
        let answer = ask(3, "alias.default.svc.cluster.local.", true, turn);
        let kinds: Vec<RecordType> = answer.answers.iter().map(Record::record_type).collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::A, RecordType::A, RecordType::A], "turn {turn}");
        firsts.push(answer.answers[1].data.to_string());
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 3, "every address comes first at times");
}

#[test]
fn an_answer_that_is_too_long_has_what_fits() {
    let name = "many.default.svc.cluster.local.";
    let whole = ask(20, name, true, 0);
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (20, false));
    let cut = ask(200, name, true, 0);
    assert!((25..200).contains(&cut.answers.len()), "{} records", cut.answers.len());
    assert!(cut.metadata.truncation);
    let over_tcp = ask(200, name, false, 0);
    assert_eq!((over_tcp.answers.len(), over_tcp.metadata.truncation), (200, false));
}
