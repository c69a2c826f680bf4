//! Who may write what into a signing request.

use super::*;

fn by<'a>(user: &'a str, groups: &'a [String]) -> Request<'a> {
    Request { now: Timestamp::UNIX_EPOCH, namespace: "", version: "v1", user, groups, user_uid: "" }
}

fn request() -> Value {
    let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n";
    json!({
        "metadata": {"name": "a"},
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
            "username": "forged",
            "groups": ["system:masters"],
        },
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    })
}

fn details(errors: FieldErrors) -> Vec<String> {
    errors.0.into_iter().map(|error| error.message).collect()
}

#[test]
fn the_requester_is_who_asks_and_nothing_is_approved_yet() {
    let groups = ["system:authenticated".to_owned()];
    let mut object = request();
    SigningRequest.prepare_create(&mut object, &by("alice", &groups));
    assert_eq!(object["spec"]["username"], "alice");
    assert_eq!(object["spec"]["groups"], json!(groups));
    assert_eq!(object["status"], json!({}));
    assert_eq!(state(&object), "Pending");
}

/// A block that says it is a certificate.
const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";

#[test]
fn approval_and_certificate_have_a_subresource_each() {
    let mut old = request();
    SigningRequest.prepare_create(&mut old, &by("alice", &[]));
    let change = |subresource: &str, status: Value| {
        let mut new = old.clone();
        new["spec"]["username"] = json!("mallory");
        new["status"] = status;
        SigningRequest.prepare_subresource(subresource, &mut new, &old, &by("signer", &[]));
        let mut errors = FieldErrors::new();
        SigningRequest.validate_subresource(subresource, &new, &old, &by("signer", &[]), &mut errors);
        assert_eq!(new["spec"], old["spec"]);
        (new, details(errors))
    };
    let approved = json!([{"type": "Approved", "status": "True"}]);
    let (new, errors) = change("approval", json!({"conditions": approved, "certificate": "AA=="}));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(state(&new), "Approved");
    assert_eq!(new["status"]["conditions"][0]["lastUpdateTime"], "1970-01-01T00:00:00Z");
    let (_, errors) = change("status", json!({"conditions": approved}));
    assert!(errors[0].contains("updates may not add a condition of type \"Approved\""), "{errors:?}");
    let (new, errors) = change("status", json!({"certificate": PEM}));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(state(&new), "Pending,Issued");
}
