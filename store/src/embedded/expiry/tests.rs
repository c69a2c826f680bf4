//! Deadlines are kept once per key.

use super::*;

#[test]
fn a_later_write_replaces_or_removes_the_deadline() {
    let (a, b) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
    let mut expiry = Expiry::default();
    expiry.set(&a, Some(10));
    expiry.set(&b, Some(20));
    assert_eq!(expiry.next_millis(), Some(10));
    expiry.set(&a, Some(30));
    assert_eq!(expiry.due(25, 10), std::slice::from_ref(&b));
    assert_eq!(expiry.due(30, 10), [b.clone(), a.clone()]);
    assert_eq!(expiry.due(30, 1), std::slice::from_ref(&b));
    expiry.set(&b, None);
    expiry.set(&a, None);
    assert_eq!((expiry.next_millis(), expiry.due(u64::MAX, 10).len()), (None, 0));
}
