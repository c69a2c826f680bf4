//! What a token says of itself; what its secret says is tested over HTTP.

use super::*;

#[test]
fn a_token_names_everything_and_itself() {
    let whole = json!({
        "iss": ISSUER, "sub": "system:serviceaccount:ns:robot",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "s",
        "kubernetes.io/serviceaccount/service-account.name": "robot",
        "kubernetes.io/serviceaccount/service-account.uid": "u1",
    });
    let read = Claims::read(&whole).ok().unwrap();
    assert_eq!([read.namespace, read.secret, read.account, read.uid], ["ns", "s", "robot", "u1"]);
    for (claim, value, expected) in [
        ("sub", "", "sub claim is missing"),
        ("sub", "system:serviceaccount:ns:other", "sub claim is invalid"),
        ("sub", "system:serviceaccount:other:robot", "sub claim is invalid"),
        ("sub", "robot", "sub claim is invalid"),
        ("kubernetes.io/serviceaccount/namespace", "", "namespace claim is missing"),
        ("kubernetes.io/serviceaccount/secret.name", "", "secretName claim is missing"),
        ("kubernetes.io/serviceaccount/service-account.name", "", "serviceAccountName claim is missing"),
        ("kubernetes.io/serviceaccount/service-account.uid", "", "serviceAccountUID claim is missing"),
    ] {
        let mut changed = whole.clone();
        changed[claim] = json!(value);
        assert_eq!(Claims::read(&changed).err().as_deref(), Some(expected), "{claim} {value}");
    }
}

#[test]
fn a_secret_holds_one_token() {
    let secret = json!({"data": {"token": STANDARD.encode("a.b.c")}});
    assert!(holds(&secret, "a.b.c"));
    assert!(!holds(&secret, "a.b.d") && !holds(&json!({}), "a.b.c"));
}
