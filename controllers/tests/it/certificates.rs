//! Certificates of joining nodes, roles that are put together, and the lease of the leader.

use std::time::Duration;

use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        coordination::v1::Lease,
        rbac::v1::ClusterRole,
    },
};
use kube::{Api, api::PostParams};
use pki::{Authority, Certificate, CertificateRequest, Profile};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

fn request(name: &str) -> CertificateSigningRequest {
    let (pem, _) = CertificateRequest::create(&Profile::client("system:node:new", ["system:nodes"])).unwrap();
    CertificateSigningRequest {
        metadata: serde_json::from_value(json!({"name": name})).unwrap(),
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: "kubernetes.io/kube-apiserver-client-kubelet".to_owned(),
            usages: Some(["digital signature", "client auth"].map(str::to_owned).to_vec()),
            expiration_seconds: Some(3600),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_its_certificate_from_the_leader() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(directory.path(), "ca", "test", daemon::clock::now()).unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let config = controllers::Config {
        controllers: ["csrapproving", "csrsigning", "csrcleaner", "clusterrole-aggregation"]
            .map(str::to_owned)
            .to_vec(),
        leader_election: Some(controllers::LeaderElection {
            namespace: "kube-system".to_owned(),
            name: "kube-controller-manager".to_owned(),
            identity: "tester".to_owned(),
        }),
        signing: Some(controllers::Signing {
            certificate: authority.certificate_pem().to_owned(),
            key: read("ca.key"),
            duration: Duration::from_secs(86_400),
        }),
        ..controllers::Config::default()
    };
    let Some(cluster) = Cluster::start_with(config).await else { return };
    let requests = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    requests.create(&PostParams::default(), &request("node")).await.unwrap();
    let issued = || async {
        let status = requests.get("node").await.unwrap().status.unwrap_or_default();
        status.certificate.map(|it| String::from_utf8(it.0).unwrap()).unwrap_or_default()
    };
    eventually("the certificate is there", || async { !issued().await.is_empty() }).await;
    let certificate = Certificate::from_pem(&issued().await).unwrap();
    assert_eq!(certificate.common_name, "system:node:new");
    assert!(certificate.not_after.duration_since(daemon::clock::now()) <= jiff::SignedDuration::from_secs(3600));

    let roles = Api::<ClusterRole>::all(cluster.client.clone());
    eventually("the role that reads has rules", || async {
        roles.get("view").await.unwrap().rules.is_some_and(|rules| rules.len() > 3)
    })
    .await;
    let leases = Api::<Lease>::namespaced(cluster.client.clone(), "kube-system");
    let holder = leases.get("kube-controller-manager").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some("tester"));
    let client = cluster.client.clone();
    cluster.drain().await;
    let lease = Api::<Lease>::namespaced(client, "kube-system").get("kube-controller-manager").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some(""), "it is released");
    cluster.stop().await;
}
