//! What a request has to have, and what may become of it.

use super::*;

const NOW: &str = "2030-01-01T00:00:00Z";

fn by_signer() -> Request<'static> {
    let now = NOW.parse().unwrap();
    Request { now, namespace: "n", version: "v1", user: "signer", groups: &[], user_uid: "" }
}

fn request() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {
            "signerName": "example.com/signer", "podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 7200,
            "stubPKCS10Request": "AAAA",
        },
    })
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": NOW})
}

fn said(errors: &FieldErrors) -> String {
    errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn update(old: &Value, status: Value) -> String {
    let mut new = old.clone();
    new["status"] = status;
    let mut errors = FieldErrors::new();
    PodCertificateRequest.validate_subresource("status", &new, old, &by_signer(), &mut errors);
    said(&errors)
}

#[test]
fn a_key_comes_in_one_form() {
    let one_of =
        "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
    let long = STANDARD.encode(vec![0; KEY_MAX + 1]);
    for (stub, key, proof, expected) in [
        ("AAAA", "", "", "spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"),
        ("", "AAAA", "AAAA", "spec.pkixPublicKey: Invalid value: \"AAAA\": must be a valid PKIX-serialized public key"),
        ("", "", "", one_of),
        ("", "AAAA", "", one_of),
        ("", "", "AAAA", one_of),
        ("AAAA", "AAAA", "AAAA", one_of),
        (&long, "", "", "spec.stubPKCS10Request: Too long: may not be more than 10240 bytes"),
        ("", "AAAA", &long, "spec.proofOfPossession: Too long: may not be more than 10240 bytes"),
    ] {
        let mut object = request();
        for (field, value) in [("stubPKCS10Request", stub), ("pkixPublicKey", key), ("proofOfPossession", proof)] {
            object["spec"][field] = json!(value);
        }
        let mut errors = FieldErrors::new();
        PodCertificateRequest.validate_create(&object, &by_signer(), &mut errors);
        assert_eq!(said(&errors), expected);
    }
}

#[test]
fn what_a_user_asks_of_the_signer_stands_under_the_signers_name() {
    let mut object = request();
    object["spec"]["unverifiedUserAnnotations"] = json!({"example.com/A": "x", "plain": "y", "": "z", "a b/c": "w"});
    let mut errors = FieldErrors::new();
    user_annotations(&object["spec"], &Path::new("spec"), &mut errors);
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], "spec.unverifiedUserAnnotations: Required value");
    assert!(texts[1].starts_with("spec.unverifiedUserAnnotations: Invalid value: \"a b/c\": prefix part a lowercase"));
    let plain = "Invalid value: \"plain\": must be a domain-prefixed key (such as \"acme.io/foo\")";
    assert_eq!(texts[2..], [format!("spec.unverifiedUserAnnotations: {plain}")]);
}

#[test]
fn a_request_ends_once_and_one_way() {
    let new = request();
    assert_eq!(update(&new, json!({})), "");
    assert_eq!(update(&new, json!({"conditions": [condition("Denied")]})), "");
    let both = update(&new, json!({"conditions": [condition("Denied"), condition("Failed")]}));
    assert!(
        both.starts_with("status.conditions.[1].type: Invalid value: \"Failed\": There may be at most one"),
        "{both}"
    );
    let unknown = update(&new, json!({"conditions": [condition("Ready")]}));
    assert!(unknown.starts_with("status.conditions.[0].type: Unsupported value: \"Ready\""), "{unknown}");
    let mut no = condition("Issued");
    no["status"] = json!("False");
    let no = update(&new, json!({"conditions": [no]}));
    assert!(no.starts_with("status.conditions.[0].status: Unsupported value: \"False\""), "{no}");
    let extra = update(&new, json!({"conditions": [condition("Failed")], "notBefore": NOW}));
    assert!(extra.ends_with("must be empty when denying or failing the PodCertificateRequest"), "{extra}");
    let nothing = update(&new, json!({"certificateChain": "x"}));
    assert!(nothing.starts_with("status: Invalid value: status is immutable unless transitioning to"), "{nothing}");

    for outcome in ["Issued", "Denied", "Failed"] {
        let mut old = new.clone();
        old["status"] = json!({"conditions": [condition(outcome)]});
        assert_eq!(update(&old, old["status"].clone()), "");
        let expected = "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed";
        let other = if outcome == "Denied" { "Failed" } else { "Denied" };
        for status in [json!({}), json!({"conditions": [condition(other)]})] {
            assert_eq!(update(&old, status), expected, "{outcome}");
        }
    }
}

#[test]
fn times_of_an_issued_certificate_fit() {
    let issued = |start: &str, end: &str, refresh: &str| {
        let status = json!({"conditions": [condition("Issued")], "certificateChain": "x", "notBefore": start,
                            "notAfter": end, "beginRefreshAt": refresh});
        update(&request(), status)
    };
    let (start, end) = ("2030-01-01T00:00:00Z", "2030-01-01T02:00:00Z");
    assert_eq!(issued(start, end, "2030-01-01T01:00:00Z"), "");
    let none = update(&request(), json!({"conditions": [condition("Issued")], "certificateChain": "x"}));
    assert_eq!(none.matches("Required value: must be present").count(), 3, "{none}");
    for (start, end, refresh, expected) in [
        (
            "2029-12-31T23:55:00Z",
            end,
            start,
            "status.notBefore: Invalid value: 2029-12-31 23:55:00 +0000 UTC: must be set to within",
        ),
        (
            start,
            "2030-01-01T00:59:59Z",
            start,
            "status.certificateChain: Invalid value: 59m59s: leaf certificate lifetime must be >= 1 hour",
        ),
        (
            start,
            "2030-01-01T02:00:01Z",
            start,
            "status.certificateChain: Invalid value: 2h0m1s: leaf certificate lifetime must be <= spec.maxExpirationSeconds (7200)",
        ),
        (
            start,
            end,
            "2030-01-01T00:09:59Z",
            "status.beginRefreshAt: Invalid value: 2030-01-01 00:09:59 +0000 UTC: must be at least 10 minutes after",
        ),
        (
            start,
            end,
            "2030-01-01T01:50:01Z",
            "status.beginRefreshAt: Invalid value: 2030-01-01 01:50:01 +0000 UTC: must be at least 10 minutes before",
        ),
    ] {
        let found = issued(start, end, refresh);
        assert!(found.starts_with(expected), "{found}");
    }
    let long = json!({"conditions": [condition("Issued")], "certificateChain": "x".repeat((100 << 10) + 1)});
    assert_eq!(update(&request(), long), "status.certificateChain: Too long: may not be more than 102400 bytes");
}
