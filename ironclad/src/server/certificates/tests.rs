//! Who may have what.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use pki::Profile;

use super::*;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const SERVING: &str = "kubernetes.io/kubelet-serving";

fn verdict(user: &str, groups: &[&str], signer: &str, usages: &[&str], profile: &Profile) -> Verdict {
    let (pem, _) = CertificateRequest::create(profile).unwrap();
    let spec = CertificateSigningRequestSpec {
        username: Some(user.to_owned()),
        groups: Some(groups.iter().map(|&g| g.to_owned()).collect()),
        signer_name: signer.to_owned(),
        usages: Some(usages.iter().map(|&u| u.to_owned()).collect()),
        request: ByteString(pem.clone().into_bytes()),
        ..CertificateSigningRequestSpec::default()
    };
    judge(&spec, &CertificateRequest::from_pem(&pem).unwrap())
}

fn as_node(signer: &str, usages: &[&str], profile: &Profile) -> Verdict {
    verdict("system:node:a", &["system:nodes", "system:authenticated"], signer, usages, profile)
}

fn serving(names: &[&str]) -> Profile {
    Profile::server("system:node:a", names.iter().copied()).organizations(["system:nodes"])
}

#[test]
fn a_node_may_have_the_proxys_and_the_networks_certificate() {
    let usages = ["digital signature", "client auth"];
    let proxy = Profile::client(PROXY_USER, ["system:node-proxier"]);
    let overlay = Profile::client(OVERLAY_USER, [] as [&str; 0]);
    assert_eq!(as_node(CLIENT, &usages, &proxy), Verdict::Approve);
    assert_eq!(as_node(CLIENT, &usages, &overlay), Verdict::Approve);
}

#[test]
fn nobody_else_may_and_a_node_may_have_nothing_else() {
    let usages = ["digital signature", "client auth"];
    let proxy = Profile::client(PROXY_USER, ["system:node-proxier"]);
    assert_eq!(verdict("alice", &["system:authenticated"], CLIENT, &usages, &proxy), Verdict::Leave);
    for profile in [
        Profile::client("kubernetes-admin", ["system:masters"]),
        Profile::client(PROXY_USER, ["system:masters"]),
        Profile::client(OVERLAY_USER, ["system:masters"]),
        Profile::client("system:node:b", ["system:nodes"]),
    ] {
        assert_eq!(as_node(CLIENT, &usages, &profile), Verdict::Leave, "{profile:?}");
    }
    assert_eq!(as_node(CLIENT, &["client auth", "server auth"], &proxy), Verdict::Leave);
    assert_eq!(as_node("example.com/other", &usages, &proxy), Verdict::Leave);
}

#[test]
fn a_serving_certificate_is_for_the_node_itself() {
    let usages = ["digital signature", "server auth"];
    let address = "192.168.1.7".parse().unwrap();
    assert_eq!(as_node(SERVING, &usages, &serving(&["a", "192.168.1.7"])), Verdict::IfOwn(vec![address]));
    assert_eq!(as_node(SERVING, &usages, &serving(&["kubernetes.default.svc", "192.168.1.7"])), Verdict::Leave);
    assert_eq!(as_node(SERVING, &usages, &serving(&["a"])), Verdict::Leave, "without an address");
    assert_eq!(as_node(SERVING, &["client auth"], &serving(&["a", "192.168.1.7"])), Verdict::Leave);
    let other = verdict("system:node:b", &["system:nodes"], SERVING, &usages, &serving(&["a", "192.168.1.7"]));
    assert_eq!(other, Verdict::Leave);
}
