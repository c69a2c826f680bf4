//! Tokens round-trip, and damaged ones are refused.

use super::*;

#[test]
fn tokens_round_trip() {
    let token = Token::after("default/web", Some(7));
    let read = Token::decode(&token.encode()).unwrap();
    assert_eq!((read.start.as_str(), read.revision()), ("default/web\0", Some(7)));
    assert_eq!(Token::decode(&Token::after("a", None).encode()).unwrap().revision(), None);
}

#[test]
fn damaged_tokens_are_refused() {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for token in [
        "!",
        "abc",
        &encode("{}"),
        &encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
        &encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
        &encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/../../b"}"#),
    ] {
        let refused = Token::decode(token).unwrap_err();
        assert!(
            refused.message.starts_with("invalid continue token: continue key is not valid"),
            "{token}: {}",
            refused.message
        );
    }
}
