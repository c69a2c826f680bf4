//! Repeated keys, damaged documents, and what comes of aliases.

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

#[test]
fn aliases_are_followed_until_too_much_comes_of_them() {
    let harmless = br#"{"a": &x {"k": "v"}, "b": *x, "c": [*x, "*x", '*x'], "d": "**"}"#;
    let expected = serde_json::json!({"a": {"k": "v"}, "b": {"k": "v"}, "c": [{"k": "v"}, "*x", "*x"], "d": "**"});
    assert_eq!(configuration(harmless).unwrap().tree, expected);
    let stars = format!("a: |\n  {}\nb: \"{0}\"\n", "*a ".repeat(100_000));
    assert!(read(stars.as_bytes()).is_ok(), "text is no alias");

    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 18), "*a,".repeat(64));
    let keys = format!("a: &a \"{}\"\nb:\n{}", "x".repeat(1 << 18), "- {? *a : 1}\n".repeat(64));
    let mut nested = format!("a0: &a0 [{}]\n", "x,".repeat(4096));
    for at in 1..10 {
        let below = at - 1;
        nested += &format!("a{at}: &a{at} [*a{below}, *a{below}, *a{below}]\n");
    }
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    for bomb in [long, keys, nested] {
        let bomb = bomb.as_bytes();
        let refused = configuration(bomb).map(drop).unwrap_err();
        assert_eq!(refused.reason.code(), 400);
        assert_eq!(refused.message, "error encoding patch: yaml: document contains excessive aliasing");
        let refused = to_json(bomb, &gvk).unwrap_err();
        assert!(refused.message.contains("yaml: document contains excessive aliasing ("), "{}", refused.message);
        assert_eq!(repeated_key(bomb), None);
    }
}

#[test]
fn a_document_without_aliases_is_never_too_heavy() {
    for dense in ["a: ,", "[],{},0,'',", "{? a},", "{a,b},", "\"\\L\","] {
        let body = format!("[{}'*']", dense.repeat(1000));
        let mut left = body.len() * 2;
        let weigh = weight::weigh(body.as_bytes(), &mut left);
        weigh.unwrap_or_else(|error| panic!("{dense}: {error}"));
    }
}
