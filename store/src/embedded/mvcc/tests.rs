//! Ranges as etcd's requests say them.

use super::*;

fn range(from: &'static [u8], end: &'static [u8]) -> KeyRange {
    KeyRange::new(Bytes::from_static(from), Bytes::from_static(end))
}

fn within(range: &KeyRange) -> Vec<&'static str> {
    let mut map = Map::new();
    for name in ["/registry/a", "/registry/b/1", "/registry/b/2", "/registry/b0", "a", "b", "\u{e9}"] {
        let key = Key::foreign(name).unwrap();
        let entry =
            Entry { key: key.clone(), value: Bytes::new(), create_revision: 2, mod_revision: 2, version: 1, lease: 0 };
        map.insert(key, Arc::new(entry));
    }
    let found: Vec<String> = entries(&map, range).map(|entry| entry.key.to_string()).collect();
    found.into_iter().map(|name| &*name.leak()).collect()
}

#[test]
fn ranges_are_etcds() {
    assert_eq!(within(&range(b"a", b"")), ["a"]);
    assert_eq!(within(&range(b"aa", b"")), Vec::<&str>::new());
    assert_eq!(within(&range(b"/registry/b/", b"/registry/b0")), ["/registry/b/1", "/registry/b/2"]);
    assert_eq!(within(&range(b"b", b"\0")), ["b", "\u{e9}"]);
    assert_eq!(within(&range(b"\0", b"\0")).len(), 7);
    assert_eq!(within(&range(b"b", b"a")), Vec::<&str>::new());
    assert_eq!(within(&range(b"\xc3", b"\xc4")), ["\u{e9}"], "bounds are bytes");
    assert_eq!(within(&range(b"\xc3\xaa", b"\0")), Vec::<&str>::new());
}

#[test]
fn a_range_below_a_separator_is_watched_by_prefix() {
    assert_eq!(range(b"/registry/b/", b"/registry/b0").prefix().as_str(), "/registry/b/");
    for whole in [range(b"/registry/b/", b"/registry/c0"), range(b"/registry/b", b"/registry/c"), range(b"a/", b"")] {
        assert_eq!(whole.prefix().as_str(), "");
    }
}
