//! Repeated keys and damaged documents.

use super::*;

#[test]
fn repeated_keys_are_found_in_their_line() {
    let body = b"kind: ConfigMap\nmetadata:\n  name: a\n  labels: {}\n  name: b\n";
    assert_eq!(repeated_key(body).as_deref(), Some("line 5: key \"name\" already set in map"));
    assert_eq!(repeated_key(b"a: 1\nb: 2\n"), None);
    assert_eq!(repeated_key(b"a: 1\na: 2\n").as_deref(), Some("line 2: key \"a\" already set in map"));
}

#[test]
fn damage_is_told_in_upstreams_words() {
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    let refused = to_json(b"kind: [", &gvk).unwrap_err();
    assert_eq!(
        refused.message,
        "the object provided is unrecognized (must be of type ConfigMap): yaml: line 1: did not find expected node content (6b696e643a205b)"
    );
}
