//! Keys refuse what would let one range leak into another.

use super::*;

#[test]
fn paths_are_etcds() {
    let key = Key::new(["pods", "default", "web"]).unwrap();
    assert_eq!(key.as_str(), "/registry/pods/default/web");
    assert_eq!(key.name(), "web");
    assert_eq!(key.segments().collect::<Vec<_>>(), ["pods", "default", "web"]);
    assert_eq!(Key::parse(key.as_str()).unwrap(), key);
}

#[test]
fn prefixes_end_in_the_separator() {
    let pods = KeyPrefix::new(["pods"]).unwrap();
    assert_eq!(pods.as_str(), "/registry/pods/");
    assert_eq!(pods.child("default").unwrap().as_str(), "/registry/pods/default/");
    assert!(!pods.contains(&Key::new(["podtemplates", "a", "b"]).unwrap()));
    let key = pods.key(["default", "web"]).unwrap();
    assert!(pods.contains(&key) && KeyPrefix::root().contains(&key));
    assert_eq!(key.suffix(&pods), Some("default/web"));
    assert_eq!(key.prefixes().collect::<Vec<_>>(), ["/registry/pods/default/", "/registry/pods/", "/registry/", ""]);
}

#[test]
fn segments_are_checked() {
    for segments in [vec![], vec![""], vec!["a", ""], vec!["a/b"], vec![".."], vec!["."], vec!["a\0"]] {
        assert!(Key::new(segments.iter().copied()).is_err(), "{segments:?}");
    }
    for path in ["", "/", "/registry", "/registry/", "/registry/a/", "/registry//a", "/registryx/a", "registry/a"] {
        assert!(Key::parse(path).is_err(), "{path:?}");
    }
    assert!(KeyPrefix::root().key([]).is_err());
    assert!(KeyPrefix::root().child("a/b").is_err());
}

#[test]
fn order_is_bytewise_as_in_etcd() {
    let a = Key::new(["pods", "a", "x"]).unwrap();
    let a_b = Key::new(["pods", "a-b", "x"]).unwrap();
    assert!(a_b < a, "'-' sorts before the separator");
}
