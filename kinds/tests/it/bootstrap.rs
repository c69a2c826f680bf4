//! What a server starts with passes its own rules, and comes out of them as upstream stores it.

use api::{Value, time};
use kinds::Request;
use kinds::validate;

const FILES: [&str; 2] = ["flowcontrol", "rbac"];

#[test]
fn objects_of_a_new_server_are_valid() {
    let request = Request {
        now: time::parse("2026-01-01T00:00:00Z").expect("a time"),
        namespace: "",
        version: "v1",
        user: "system:apiserver",
        groups: &[],
        user_uid: "",
    };
    for file in FILES {
        let path = format!("{}/../api/data/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("bootstrap objects");
        let objects: Vec<Value> = serde_json::from_str(&text).expect("a list");
        for object in objects {
            let (group, kind) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
            let group = group.split_once('/').map_or("", |(group, _)| group);
            let strategy = kinds::strategy(group, &format!("{}s", kind.to_lowercase()));
            let namespace = object["metadata"]["namespace"].as_str();
            let request = Request { namespace: namespace.unwrap_or(""), ..request.clone() };
            let mut new = object.clone();
            strategy.default(&mut new, &request);
            assert_eq!(new["spec"], object["spec"], "{kind} {}", object["metadata"]["name"]);
            strategy.prepare_create(&mut new, &request);
            let errors = validate::create(strategy, &new, namespace.is_some(), &request);
            assert!(errors.is_empty(), "{kind} {}: {errors:?}", object["metadata"]["name"]);
        }
    }
}
