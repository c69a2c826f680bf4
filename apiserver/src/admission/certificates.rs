//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may let whom have a certificate.

use api::{Status, Value};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Attributes, Operation, Plugin};
use crate::authorize::{self, Authorizer as _, MASTERS, Resource, Target, Union};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Only who may `approve` for a signer approves.
pub(super) struct CertificateApproval(pub(super) Union);

/// Only who may `sign` for a signer puts a certificate in.
pub(super) struct CertificateSigning(pub(super) Union);

/// Nobody becomes a master by a request.
pub(super) struct CertificateSubjectRestriction;

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
        let same = |pointer: &str| new.pointer(pointer) == old.pointer(pointer);
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
        let encoded = request.pointer("/spec/request").and_then(Value::as_str).unwrap_or_default();
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

/// The signer is that of the stored request: it cannot be changed while approving.
fn check(authorizer: &Union, attributes: &Attributes<'_>, verb: &str) -> Result<(), Status> {
    let Some(old) = attributes.old else {
        return Ok(());
    };
    let name = signer(old);
    let domain = name.split('/').next().unwrap_or_default();
    let may = |name: &str| {
        let asked = Resource { group: GROUP, version: "*", resource: "signers", name, ..Resource::default() };
        let asked = authorize::Attributes { user: &attributes.context.user, verb, target: Target::Resource(asked) };
        authorizer.authorize(&asked).is_allowed()
    };
    if may(name) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    Err(attributes.forbidden(&format!("user not permitted to {verb} requests with signerName {name:?}")))
}

fn signer(request: &Value) -> &str {
    request.pointer("/spec/signerName").and_then(Value::as_str).unwrap_or_default()
}
