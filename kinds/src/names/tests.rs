//! Well-formed and malformed names, with upstream's messages.

use super::*;

#[test]
fn labels_and_subdomains() {
    for good in ["a", "a-b", "0", "a1"] {
        assert_eq!(label(good), Complaints::new(), "{good}");
    }
    for good in ["a.b", "a", "1.2.3"] {
        assert_eq!(subdomain(good), Complaints::new(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a"] {
        assert_eq!(subdomain(bad).len(), 1, "{bad}");
    }
    assert_eq!(label("a.b"), ["must not contain dots"]);
    assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert_eq!(
        label("A"),
        [
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
}

#[test]
fn label_keys() {
    for good in ["a", "A.b_c-d", "example.com/x"] {
        assert_eq!(label_key(good), Complaints::new(), "{good}");
    }
    assert_eq!(label_key("/x"), ["prefix part must be non-empty"]);
    assert_eq!(label_key("a/b/c").len(), 1);
    assert_eq!(label_key("").len(), 2);
    assert_eq!(label_key("a/").len(), 2);
}

#[test]
fn port_names() {
    assert_eq!(port_name("http-1"), Complaints::new());
    assert_eq!(
        port_name("1--"),
        [
            "must contain at least one letter (a-z)",
            "must not contain consecutive hyphens",
            "must not begin or end with a hyphen"
        ]
    );
}

#[test]
fn generate_name_may_end_in_a_dash() {
    assert_eq!(NameRule::Dns1123Subdomain.check("web-", true), Complaints::new());
    assert_eq!(NameRule::Dns1123Subdomain.check("web-", false).len(), 1);
    assert_eq!(NameRule::PathSegment.check("a/b%", false).len(), 2);
}
