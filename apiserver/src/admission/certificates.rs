//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may let whom have a certificate.
//! ClusterTrustBundleAttest: who may say whom a signer's certificates are checked by.

use api::{Status, Value, meta};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Attributes, Operation, Plugin};
use crate::authorize::{self, Authorizer as _, MASTERS, Resource, Target, Union};

pub(super) const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Only who may `approve` for a signer approves.
pub(super) struct CertificateApproval(pub(super) Union);

/// Only who may `sign` for a signer puts a certificate in.
pub(super) struct CertificateSigning(pub(super) Union);

/// Nobody becomes a master by a request.
pub(super) struct CertificateSubjectRestriction;

/// Only who may `attest` for a signer publishes its trust bundle.
pub(super) struct ClusterTrustBundleAttest(pub(super) Union);

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_part(GROUP, RESOURCE, "approval")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        check(&self.0, attributes, "approve")
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_part(GROUP, RESOURCE, "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&attributes.object, attributes.old) else {
            return Ok(());
        };
        let same = |pointer: &str| meta::find(new, pointer) == meta::find(old, pointer);
        if same("/status/certificate") && same("/status/conditions") {
            return Ok(());
        }
        check(&self.0, attributes, "sign")
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is(GROUP, RESOURCE)
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(request) = attributes.object.as_ref().filter(|object| signer(object) == CLIENT_SIGNER) else {
            return Ok(());
        };
        let encoded = meta::find(request, "/spec/request").and_then(Value::as_str).unwrap_or_default();
        let pem = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let parsed = pki::CertificateRequest::from_pem(&pem);
        let parsed = parsed.map_err(|error| attributes.forbidden(&format!("failed to parse CSR: {error}")))?;
        if parsed.organizations.iter().any(|group| group == MASTERS) {
            let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
            return Err(attributes.forbidden(&why));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && attributes.is(GROUP, "clustertrustbundles")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(bundle) = &attributes.object else {
            return Ok(());
        };
        let name = signer(bundle);
        let is_the_same = attributes.old.is_some_and(|old| only_collection_differs(bundle, old));
        if name.is_empty() || is_the_same || may(&self.0, attributes, "attest", name) {
            return Ok(());
        }
        Err(attributes.forbidden(&format!("user not permitted to attest for signerName {name:?}")))
    }
}

/// Nothing is new but what garbage collection and storage migration write.
fn only_collection_differs(new: &Value, old: &Value) -> bool {
    let mut new = new.clone();
    for field in ["ownerReferences", "finalizers", "managedFields"] {
        let kept = meta::metadata(old).and_then(|metadata| metadata.get(field)).cloned();
        meta::set(&mut new, field, kept.unwrap_or_default());
    }
    kinds::tree::same(&new, old)
}

/// The signer is that of the stored request: it cannot be changed while approving.
fn check(authorizer: &Union, attributes: &Attributes<'_>, verb: &str) -> Result<(), Status> {
    let Some(old) = attributes.old else {
        return Ok(());
    };
    let name = signer(old);
    if may(authorizer, attributes, verb, name) {
        return Ok(());
    }
    Err(attributes.forbidden(&format!("user not permitted to {verb} requests with signerName {name:?}")))
}

/// The user has the verb on a signer, or on all of its domain.
pub(super) fn may(authorizer: &Union, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let on = |name: &str| {
        let asked = Resource { group: GROUP, version: "*", resource: "signers", name, ..Resource::default() };
        let asked = authorize::Attributes { user: &attributes.context.user, verb, target: Target::Resource(asked) };
        authorizer.authorize(&asked).is_allowed()
    };
    on(signer) || on(&format!("{domain}/*"))
}

pub(super) fn signer(request: &Value) -> &str {
    meta::find(request, "/spec/signerName").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::authorize::{AlwaysAllow, AlwaysDeny};
    use crate::registry::tests::server_with;

    async fn publish(authorizer: Union, name: &str, signer: &str) -> crate::registry::tests::Answer {
        let anchor = pki::Authority::create("test", daemon::clock::now()).unwrap();
        let bundle = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": name},
            "spec": {"signerName": signer, "trustBundle": anchor.certificate_pem()},
        });
        let server = server_with(vec![Arc::new(ClusterTrustBundleAttest(authorizer))]).await;
        server.create("/apis/certificates.k8s.io/v1/clustertrustbundles", &bundle).await
    }

    #[tokio::test]
    async fn who_may_attest_publishes_a_signers_bundle() {
        let nobody = || Union::new(vec![("no", Arc::new(AlwaysDeny))]);
        let refused = publish(nobody(), "example.com:foo:a", "example.com/foo").await;
        assert_eq!(refused.code, 403);
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.ends_with("user not permitted to attest for signerName \"example.com/foo\""), "{message}");
        assert_eq!(publish(nobody(), "plain", "").await.code, 201);
        let everybody = Union::new(vec![("all", Arc::new(AlwaysAllow))]);
        assert_eq!(publish(everybody, "example.com:foo:a", "example.com/foo").await.code, 201);
    }
}
