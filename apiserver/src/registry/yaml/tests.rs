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
fn lines_are_counted_as_upstream_counts_them() {
    for (body, expected) in [
        ("a: b: c", "mapping values are not allowed in this context"),
        ("a: 1\nb: c: d", "line 2: mapping values are not allowed in this context"),
        ("a: [b", "line 1: did not find expected ',' or ']'"),
        ("a: 1\nb: [c", "line 1: did not find expected ',' or ']'"),
        ("a: 1\nb: @c", "line 2: found character that cannot start any token"),
    ] {
        assert_eq!(words(&read(body.as_bytes()).unwrap_err().to_string()), expected, "{body}");
    }
}

#[test]
fn plain_scalars_are_those_of_the_older_yaml() {
    let body =
        "{a: n, b: 'n', c: \"on\", d: on, e: !!str y, f: [Yes, OFF, nO, yeah], g: 0644, h: '0644', i: -0b11, j: 1_000,
        k: 08, l: 1e3, m: 1.50, n: 0x1F, o: 18446744073709551616, p: 2001-01-01, q: 1.2.3, r: +7, s: \"\", t: ~}";
    let expected = serde_json::json!({
        "a": false, "b": "n", "c": "on", "d": true, "e": "y", "f": [true, false, "nO", "yeah"], "g": 420, "h": "0644",
        "i": -3, "j": 1000, "k": 8, "l": 1000, "m": 1.5, "false": 31, "o": 18_446_744_073_709_551_616.0,
        "p": "2001-01-01", "q": "1.2.3", "r": 7, "s": "", "t": null,
    });
    assert_eq!(read(body.as_bytes()).unwrap(), expected);
    let block = "n: |\n  n\nyes: >-\n  on\n8080: x\n'y': z\n";
    let expected = serde_json::json!({"false": "n\n", "true": "on", "8080": "x", "y": "z"});
    assert_eq!(read(block.as_bytes()).unwrap(), expected);
    assert!(read(b"? ~\n: x\n").is_err() && read(b"a: .inf").is_err());
    let rest = "\u{feff}{a: 12e45678, b: \"\\u0031\", c: !!str &x n, d: &y n, e: 0644, f: '1'}";
    let expected = serde_json::json!({"a": "12e45678", "b": "1", "c": "n", "d": false, "e": 420, "f": "1"});
    assert_eq!(read(rest.as_bytes()).unwrap(), expected);
}

#[test]
fn a_body_without_blanks_is_read_in_linear_time() {
    // Looking for a tag back to the last blank of each would take hours.
    let body = format!("[{}n]", "n,\"1\",".repeat(300_000));
    let read = read(body.as_bytes()).unwrap();
    assert_eq!((read[0].as_bool(), read[1].as_str()), (Some(false), Some("1")));
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
