//! Issuing, renewal, requests and files.

use std::os::unix::fs::PermissionsExt;

use jiff::SignedDuration;
use pki::{Authority, Certificate, CertificateRequest, Credential, Profile, SignOptions, Usage};

use crate::now;

#[test]
fn a_client_certificate_carries_user_and_groups() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let profile = Profile::client("system:node:a", ["system:nodes", "extra"]);
    let facts = authority.issue(&profile, now()).unwrap().certificate().unwrap();
    assert_eq!(facts.common_name, "system:node:a");
    assert_eq!(facts.organizations, ["system:nodes", "extra"]);
    assert!(!facts.is_ca);
    assert_eq!(facts.not_after, now() + SignedDuration::from_hours(24 * 365));
}

#[test]
fn a_serving_certificate_carries_its_names() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let profile = Profile::server("kube-apiserver", ["kubernetes.default.svc", "10.96.0.1", "::1"]);
    let facts = authority.issue(&profile, now()).unwrap().certificate().unwrap();
    assert_eq!(facts.dns_names, ["kubernetes.default.svc"]);
    assert_eq!(facts.ip_addresses.len(), 2);
}

#[test]
fn three_organizations_are_refused_rather_than_dropped() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let error = authority.issue(&Profile::client("u", ["a", "b", "c"]), now()).unwrap_err();
    assert!(error.to_string().contains("3 organizations"), "{error}");
}

#[test]
fn renewal_is_due_after_four_fifths() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let profile = Profile::client("u", ["g"]).lifetime(SignedDuration::from_hours(10));
    let facts = authority.issue(&profile, now()).unwrap().certificate().unwrap();
    assert!(!facts.is_due(now()));
    assert!(!facts.is_due(now() + SignedDuration::from_hours(7)));
    assert!(facts.is_due(now() + SignedDuration::from_hours(9)));
    assert!(facts.is_due(now() - SignedDuration::from_hours(1)));
}

#[test]
fn a_request_is_signed_as_it_stands() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let mut profile = Profile::client("system:node:b", ["system:nodes"]);
    profile.names = vec!["b.example".to_owned(), "192.168.7.2".to_owned()];
    let (request, key) = CertificateRequest::create(&profile).unwrap();
    let parsed = CertificateRequest::from_pem(&request).unwrap();
    assert_eq!(parsed.common_name, "system:node:b");
    assert_eq!(parsed.dns_names, ["b.example"]);
    assert_eq!(parsed.ip_addresses, ["192.168.7.2".parse::<std::net::IpAddr>().unwrap()]);
    let options = SignOptions {
        usages: vec![Usage::DigitalSignature, Usage::ClientAuth],
        lifetime: SignedDuration::from_hours(1),
    };
    let certificate = authority.sign_request(&parsed, &options, now()).unwrap();
    let credential = Credential::from_pem(certificate, key).unwrap();
    assert_eq!(credential.certificate().unwrap().organizations, ["system:nodes"]);
    assert!(authority.signed(&credential.chain_der().unwrap()[0]));
    pki::tls::client(authority.certificate_pem(), Some(&credential)).expect("key and certificate belong together");
}

#[test]
fn a_damaged_request_is_refused() {
    let (request, _) = CertificateRequest::create(&Profile::client("u", ["g"])).unwrap();
    let mut der = pem::parse(&request).unwrap().into_contents();
    let last = der.len() - 1;
    der[last] ^= 1;
    let damaged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    assert!(CertificateRequest::from_pem(&damaged).is_err());
}

#[test]
fn files_are_private_reused_and_named_in_errors() {
    let directory = tempfile::tempdir().unwrap();
    let first = Authority::load_or_create(directory.path(), "ca", "kubernetes-ca", now()).unwrap();
    let second = Authority::load_or_create(directory.path(), "ca", "kubernetes-ca", now()).unwrap();
    assert_eq!(first.pin(), second.pin());
    let key = directory.path().join("ca.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    std::fs::remove_file(&key).unwrap();
    let error = Authority::load_or_create(directory.path(), "ca", "kubernetes-ca", now()).unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
}

#[test]
fn a_credential_on_disk_is_kept_until_it_no_longer_fits() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("s.crt"), directory.path().join("s.key"));
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let small = Profile::server("s", ["a.example"]);
    let serial = |profile: &Profile, authority: &Authority, at| {
        let credential = authority.load_or_issue(&certificate, &key, profile, at).unwrap();
        credential.certificate().unwrap().serial
    };
    let first = serial(&small, &authority, now());
    assert_eq!(serial(&small, &authority, now()), first, "kept");
    let wider = serial(&Profile::server("s", ["a.example", "10.0.0.1"]), &authority, now());
    assert_ne!(wider, first, "a further name");
    let later = now() + SignedDuration::from_hours(24 * 360);
    let renewed = serial(&small, &authority, later);
    assert_ne!(renewed, wider, "due for renewal");
    let other = Authority::create("kubernetes-ca", now()).unwrap();
    assert_ne!(serial(&small, &other, later), renewed, "another authority");
}

#[test]
fn a_pin_names_one_authority() {
    let authority = Authority::create("kubernetes-ca", now()).unwrap();
    let text = authority.pin().to_string();
    assert_eq!(text.len(), "sha256:".len() + 64);
    assert_eq!(text.parse::<pki::Pin>().unwrap(), authority.pin());
    assert_eq!(Certificate::from_pem(authority.certificate_pem()).unwrap().pin, authority.pin());
    for wrong in ["", "sha256:", "sha256:zz", &text[1..], &text[..70]] {
        assert!(wrong.parse::<pki::Pin>().is_err(), "{wrong}");
    }
}
