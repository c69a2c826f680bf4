//! Service-account, bootstrap and join tokens.

use jiff::SignedDuration;
use pki::{BootstrapToken, JoinToken, TokenSigner, TokenVerifier, VerifyError};
use serde_json::json;

use crate::now;

#[test]
fn claims_come_back_as_they_went_in() {
    let (signer, key_pem) = TokenSigner::create().unwrap();
    let claims = json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:default:default",
        "aud": ["a", "b"],
        "exp": now().as_second() + 60,
        "nbf": now().as_second(),
        "kubernetes.io": { "namespace": "default" },
    });
    let token = signer.sign(&claims).unwrap();
    let verifier = TokenVerifier::from_pem(&key_pem).unwrap();
    assert_eq!(verifier.verify(&token, now()), Ok(claims));
    assert_eq!(verifier.verify(&token, now() + SignedDuration::from_secs(60)), Err(VerifyError::Expired));
    assert_eq!(verifier.verify(&token, now() - SignedDuration::from_secs(1)), Err(VerifyError::NotYetValid));
}

#[test]
fn dates_are_numbers_of_any_form() {
    let (signer, key_pem) = TokenSigner::create().unwrap();
    let verifier = TokenVerifier::from_pem(&key_pem).unwrap();
    let second = now().as_second();
    for (claims, refused) in [
        (json!({ "exp": second as f64 + 0.5, "nbf": second as f64 - 0.5 }), None),
        (json!({ "exp": second as f64 - 0.5 }), Some(VerifyError::Expired)),
        (json!({ "nbf": second as f64 + 1.5 }), Some(VerifyError::NotYetValid)),
        (json!({ "exp": (second + 60).to_string() }), Some(VerifyError::NotOurs)),
    ] {
        let token = signer.sign(&claims).unwrap();
        assert_eq!(verifier.verify(&token, now()).err(), refused, "{claims}");
    }
}

#[test]
fn a_certificate_stands_for_its_key() {
    let authority = pki::Authority::create("service accounts", now()).unwrap();
    let credential = authority.issue(&pki::Profile::server("signer", ["signer"]), now()).unwrap();
    let signer = TokenSigner::from_pem(credential.key_pem()).unwrap();
    let verifier = TokenVerifier::from_pem(credential.certificate_pem()).unwrap();
    let token = signer.sign(&json!({ "sub": "x" })).unwrap();
    assert_eq!(verifier.verify(&token, now()), Ok(json!({ "sub": "x" })));
    assert_eq!(verifier.jwks(), signer.verifier().jwks());
}

/// What `keys/make.sh` has written.
fn key_file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/it/keys/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn a_key_is_the_same_in_every_form() {
    let claims = json!({ "sub": "x" });
    for (name, forms, algorithm) in [
        ("prime256v1", &["sec1", "pkcs8", "public"][..], "ES256"),
        ("secp384r1", &["sec1", "pkcs8", "public"][..], "ES384"),
        ("secp521r1", &["sec1", "pkcs8", "public"][..], "ES512"),
        ("rsa", &["pkcs1", "pkcs8", "public", "public1"][..], "RS256"),
    ] {
        let id = key_file(&format!("{name}.id"));
        let files = forms.iter().map(|form| (form, key_file(&format!("{name}.{form}.pem"))));
        let verifiers: Vec<_> = files.clone().map(|(_, text)| TokenVerifier::from_pem(&text).unwrap()).collect();
        for (form, text) in files {
            let Ok(signer) = TokenSigner::from_pem(&text) else {
                assert!(form.starts_with("public"), "{name}.{form}");
                continue;
            };
            assert_eq!(signer.key_id(), id, "{name}.{form}");
            let token = signer.sign(&claims).unwrap();
            for verifier in &verifiers {
                assert_eq!(verifier.verify(&token, now()).as_ref(), Ok(&claims), "{name}.{form}");
                assert_eq!(verifier.jwks()["keys"][0]["kid"], id, "{name}.{form}");
                assert_eq!(verifier.algorithms(), [algorithm]);
            }
        }
    }
}

#[test]
fn keys_on_p521_sign_as_the_standard_says() {
    let signer = TokenSigner::from_pem(&key_file("secp521r1.pkcs8.pem")).unwrap();
    let verifier = signer.verifier();
    let jwk = &verifier.jwks()["keys"][0];
    let named = ["alg", "crv", "kty", "use"].map(|name| jwk[name].as_str().unwrap());
    assert_eq!(named, ["ES512", "P-521", "EC", "sig"]);
    // 66 bytes each.
    assert_eq!(["x", "y"].map(|name| jwk[name].as_str().unwrap().len()), [88, 88]);

    // What openssl has signed with the same key.
    let foreign = key_file("secp521r1.token");
    assert_eq!(verifier.verify(foreign.trim(), now()), Ok(json!({ "sub": "x" })));
    let (signed, signature) = foreign.trim().rsplit_once('.').unwrap();
    assert_eq!(signature.len(), 176);
    let changed = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(verifier.verify(&changed, now()), Err(VerifyError::NotOurs));
    let other = TokenSigner::from_pem(&key_file("secp384r1.pkcs8.pem")).unwrap();
    assert_eq!(other.verifier().verify(foreign.trim(), now()), Err(VerifyError::NotOurs));
}

#[test]
fn blocks_that_are_no_keys_are_passed_over_as_long_as_one_is() {
    let other = key_file("ed25519.public.pem");
    assert!(TokenVerifier::from_pem(&other).is_err() && TokenSigner::from_pem(&other).is_err());
    let both = TokenVerifier::from_pem(&(other + &key_file("rsa.public.pem"))).unwrap();
    assert_eq!(both.algorithms(), ["RS256"]);
    let parameters = key_file("prime256v1.sec1.pem").split_inclusive("PARAMETERS-----").take(2).collect::<String>();
    assert_eq!(
        TokenVerifier::from_pem(&parameters).err().map(|e| e.to_string()).as_deref(),
        Some("cannot parse service account public key: no PEM block holds a key")
    );
}

#[test]
fn foreign_and_changed_tokens_are_not_ours() {
    let (ours, _) = TokenSigner::create().unwrap();
    let (foreign, _) = TokenSigner::create().unwrap();
    let token = foreign.sign(&json!({ "sub": "x" })).unwrap();
    assert_eq!(ours.verifier().verify(&token, now()), Err(VerifyError::NotOurs));
    assert!(ours.verifier().and(foreign.verifier()).verify(&token, now()).is_ok());

    let token = ours.sign(&json!({ "sub": "x" })).unwrap();
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[1] = "eyJzdWIiOiJ5In0";
    assert_eq!(ours.verifier().verify(&parts.join("."), now()), Err(VerifyError::NotOurs));
    // {"alg":"none"} and no signature.
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.";
    assert_eq!(ours.verifier().verify(unsigned, now()), Err(VerifyError::NotOurs));
    assert_eq!(ours.verifier().verify("not.a.token", now()), Err(VerifyError::NotOurs));
}

#[test]
fn jwks_names_the_key_that_the_header_names() {
    let (signer, _) = TokenSigner::create().unwrap();
    let jwks = signer.verifier().jwks();
    assert_eq!(jwks["keys"][0]["kid"], signer.key_id());
    assert_eq!(jwks["keys"][0]["use"], "sig");
    assert_eq!(jwks["keys"][0]["alg"], "ES256");
    assert_eq!(jwks["keys"][0]["crv"], "P-256");
    assert_eq!(signer.verifier().algorithms(), ["ES256"]);
}

#[test]
fn a_signer_on_disk_is_the_same_key_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sa.key");
    let first = TokenSigner::load_or_create(&path).unwrap();
    let second = TokenSigner::load_or_create(&path).unwrap();
    assert_eq!(first.key_id(), second.key_id());
    let claims = json!({ "sub": "x" });
    let token = first.sign(&claims).unwrap();
    assert_eq!(TokenVerifier::load(&path).unwrap().verify(&token, now()), Ok(claims));
}

#[test]
fn bootstrap_tokens_have_one_form() {
    let token = BootstrapToken::generate();
    assert_eq!(token.to_string().parse::<BootstrapToken>().unwrap(), token);
    assert_eq!(token.secret_name(), format!("bootstrap-token-{}", token.id()));
    assert!(!format!("{token:?}").contains(token.secret()));
    for wrong in ["", "abcdef", "abcdef.short", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdefg"] {
        assert!(wrong.parse::<BootstrapToken>().is_err(), "{wrong}");
    }
}

#[test]
fn join_tokens_carry_the_pin() {
    let authority = pki::Authority::create("kubernetes-ca", now()).unwrap();
    let join = JoinToken { token: BootstrapToken::generate(), pin: authority.pin() };
    assert_eq!(join.to_string().parse::<JoinToken>().unwrap(), join);
    assert!("abcdef.0123456789abcdef".parse::<JoinToken>().is_err());
}
