//! The corpus as it is checked in.

use std::collections::BTreeSet;

use super::*;

/// Stored resources that do not go through the template: upstream's discovery, which other sequences ask about meanwhile,
/// shows the groups of both. What is compared of them stands in the bootstrap and discovery sequences.
const APART: [&str; 2] =
    ["/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/apiregistration.k8s.io/v1/apiservices"];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/differential")
}

#[test]
fn every_stored_resource_is_asked_about() {
    let kinds: Vec<Kind> = read(&folder().join("kinds.json")).unwrap();
    let asked: BTreeSet<String> = kinds.iter().map(|kind| kind.path.replace("/namespaces/${ns}", "")).collect();
    assert_eq!(asked.len(), kinds.len(), "a kind stands there twice");
    let stored = api::schema::table().resources().filter(|resource| resource.storage.is_some());
    let stored: BTreeSet<String> = stored
        .map(|resource| match resource.group {
            "" => format!("/api/{}/{}", resource.version, resource.name),
            group => format!("/apis/{group}/{}/{}", resource.version, resource.name),
        })
        .collect();
    assert!(stored.len() > 50);
    let missing: Vec<&str> = stored.difference(&asked).map(String::as_str).collect();
    assert_eq!(missing, APART);
    assert_eq!(asked.difference(&stored).next(), None, "a resource that there is not");
}

#[test]
fn every_step_is_recorded() {
    let recording = crate::recording::Recording::load(&folder().join("recorded")).unwrap();
    for sequence in load(&folder()).unwrap() {
        for step in sequence.steps.iter().filter(|step| !step.setup) {
            assert!(recording.get(&sequence.name, &step.name).is_some(), "{}: {}", sequence.name, step.name);
        }
    }
}
