//! Keys and proofs made by OpenSSL, and what of them is not taken.

use serde_json::json;

use super::super::key;
use super::*;

/// `[{"name", "spec", "errors"}]`, made by `testdata/possession.sh`.
const MADE: &str = include_str!("../../../../testdata/possession.json");
const BAD_PROOF: &str = "spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature";

fn cases() -> Vec<Value> {
    serde_json::from_str(MADE).unwrap()
}

fn said(spec: &Value) -> String {
    let mut errors = FieldErrors::new();
    key(spec, &Path::new("spec"), &mut errors);
    errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_openssl_makes_is_judged_as_upstream_judges_it() {
    let cases = cases();
    assert!(cases.len() >= 14);
    for case in cases {
        let spec = &case["spec"];
        let expected = case["errors"].as_str().unwrap().replace("KEY", text(spec, "pkixPublicKey"));
        assert_eq!(said(spec), expected, "{}", case["name"]);
    }
}

#[test]
fn a_proof_is_for_one_pod_and_one_key() {
    let proven = |case: &&Value| case["errors"] == "" && case["spec"].get("proofOfPossession").is_some();
    let cases = cases();
    let proven: Vec<&Value> = cases.iter().filter(proven).collect();
    assert!(proven.len() >= 6);
    for (at, case) in proven.iter().enumerate() {
        let mut spec = case["spec"].clone();
        spec["podUID"] = json!("another");
        assert_eq!(said(&spec), BAD_PROOF, "{}", case["name"]);
        let mut spec = case["spec"].clone();
        let other = proven[(at + 2) % proven.len()];
        spec["proofOfPossession"] = other["spec"]["proofOfPossession"].clone();
        assert_eq!(said(&spec), BAD_PROOF, "{} with the proof of {}", case["name"], other["name"]);
    }
}

#[test]
fn a_request_is_signed_by_its_key() {
    let signed = |case: &&Value| case["errors"] == "" && case["spec"].get("stubPKCS10Request").is_some();
    for case in cases().iter().filter(signed) {
        let mut request = STANDARD.decode(text(&case["spec"], "stubPKCS10Request")).unwrap();
        // The signature comes last.
        *request.last_mut().unwrap() ^= 1;
        let changed = json!({"stubPKCS10Request": STANDARD.encode(&request)});
        assert_eq!(said(&changed), "spec.stubPKCS10Request: Invalid value: invalid signature", "{}", case["name"]);
        request.push(0);
        let longer = json!({"stubPKCS10Request": STANDARD.encode(&request)});
        let expected = "spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR";
        assert_eq!(said(&longer), expected, "{}", case["name"]);
    }
}
