//! Headers and files.

use super::*;

#[test]
fn bearer_tokens_are_read() {
    for (value, expected) in [
        ("Bearer abc", Some("abc")),
        ("bearer  abc ", Some("abc")),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
    ] {
        let headers = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
        assert_eq!(bearer(&headers).as_deref(), expected, "{value}");
    }
}

#[test]
fn a_websocket_token_is_taken_out_of_the_protocols() {
    let offered = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
    let mut headers: HeaderMap = [(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap())].into_iter().collect();
    assert_eq!(websocket_token(&mut headers).as_deref(), Some("abc"));
    assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
}

#[test]
fn token_files_hold_groups_in_quotes() {
    let file = TokenFile::parse("t1,ann,1,\"a,b\"\n\nt2,joe,2\n").unwrap();
    assert_eq!(file.get("t1").unwrap().groups, ["a", "b"]);
    assert_eq!(file.get("t2").unwrap().name, "joe");
    assert!(file.get("t3").is_none());
    assert!(TokenFile::parse("t1,ann").is_err());
}

#[test]
fn account_names_split() {
    assert_eq!(service_account::split_user_name("system:serviceaccount:a:b"), Some(("a", "b")));
    assert_eq!(service_account::split_user_name("system:serviceaccount:a:"), None);
    assert_eq!(service_account::split_user_name("ann"), None);
}
