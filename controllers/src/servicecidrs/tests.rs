//! What is planned for blocks.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};

use super::plan::{Condition, FINALIZER, Step, holds, plan};

const NOW: &str = "2026-01-01T00:01:00Z";

fn block(name: &str, cidrs: &[&str], more: Value) -> Arc<ServiceCIDR> {
    let mut object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
    json_patch::merge(&mut object, &more);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn going(at: &str) -> Value {
    json!({"metadata": {"deletionTimestamp": at, "finalizers": [FINALIZER]}})
}

fn address(name: &str) -> Arc<IPAddress> {
    let labels = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
}

#[test]
fn a_block_gets_its_finalizer_and_condition_once() {
    let fresh = block("a", &["10.0.0.0/24"], json!({}));
    let now = NOW.parse().unwrap();
    assert_eq!(plan(&fresh, &[], &[], now), [Step::GiveFinalizer, Step::Say(Condition::Ready)]);
    let ready = json!({
        "metadata": {"finalizers": [FINALIZER]}, "status": {"conditions": [Condition::Ready.at(now)]},
    });
    assert_eq!(plan(&block("a", &["10.0.0.0/24"], ready), &[], &[], now), []);
    // What the API server says of the default one is said again in this controller's words.
    let other = json!({
        "metadata": {"finalizers": [FINALIZER]},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": NOW,
        }]},
    });
    assert_eq!(plan(&block("a", &["10.0.0.0/24"], other), &[], &[], now), [Step::Say(Condition::Ready)]);
}

#[test]
fn a_block_goes_once_no_address_needs_it() {
    let old = block("a", &["10.0.0.0/24"], going("2026-01-01T00:00:00Z"));
    let young = block("a", &["10.0.0.0/24"], going("2026-01-01T00:00:57Z"));
    let (larger, same) = (block("b", &["10.0.0.0/16"], json!({})), block("b", &["10.0.0.0/24"], json!({})));
    let (half, other) = (block("b", &["10.0.0.0/25"], json!({})), block("b", &["10.1.0.0/24"], json!({})));
    let going_too = block("b", &["10.0.0.0/16"], going("2026-01-01T00:00:00Z"));
    let two = block("a", &["10.0.0.0/24", "2001:db8::/112"], going("2026-01-01T00:00:00Z"));
    let (inside, low) = (address("10.0.0.200"), address("10.0.0.7"));
    let edge = address("10.0.0.255");
    let foreign = Arc::new(serde_json::from_value(json!({"metadata": {"name": "10.0.0.9"}})).unwrap());
    let held = Step::Say(Condition::Terminating);
    for (case, block, others, addresses, expected) in [
        ("free", &old, vec![], vec![], Step::TakeFinalizer),
        ("free, not seen by all", &young, vec![], vec![], Step::Wait(Duration::from_secs(7))),
        ("in use", &old, vec![], vec![&inside], held),
        ("used by others", &old, vec![], vec![&foreign], Step::TakeFinalizer),
        ("an address that is nobody's to give", &old, vec![], vec![&edge], Step::TakeFinalizer),
        ("in a larger one", &old, vec![&larger], vec![&inside], Step::TakeFinalizer),
        ("in a larger one that goes too", &old, vec![&going_too], vec![&inside], held),
        ("with one that goes too, free", &old, vec![&going_too], vec![], Step::TakeFinalizer),
        ("twice", &old, vec![&same], vec![&inside], Step::TakeFinalizer),
        ("addresses in a smaller one", &old, vec![&half], vec![&low], Step::TakeFinalizer),
        ("addresses beside a smaller one", &old, vec![&half], vec![&inside, &low], held),
        ("another", &old, vec![&other], vec![&inside], held),
        ("two families, one in another", &two, vec![&larger], vec![&inside], Step::TakeFinalizer),
        ("two families, one in use", &two, vec![&larger], vec![&address("2001:db8::7")], held),
    ] {
        let all: Vec<_> = others.into_iter().chain([block]).cloned().collect();
        let addresses: Vec<_> = addresses.into_iter().cloned().collect();
        assert_eq!(plan(block, &all, &addresses, NOW.parse().unwrap()), [expected], "{case}");
    }
}

#[test]
fn only_addresses_of_the_allocator_hold_a_block() {
    let block = block("a", &["10.0.0.0/24"], json!({}));
    let foreign = serde_json::from_value(json!({"metadata": {"name": "10.0.0.9"}})).unwrap();
    assert!(holds(&block, &address("10.0.0.9")));
    assert!(!holds(&block, &foreign));
    assert!(!holds(&block, &address("10.0.1.9")));
}
