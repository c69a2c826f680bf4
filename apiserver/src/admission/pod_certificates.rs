//! Who may answer a pod's request for a certificate, and that what is issued answers it. No plug-in of upstream's, but
//! part of its storage, so it is always on. What needs no certificate is the kind's own validation, which comes before.

use api::field::{ErrorKind, FieldErrors, Path};
use api::{Status, Value, meta};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::certificates::{GROUP, may, signer};
use super::{Attributes, Operation, Plugin};
use crate::authorize::Union;

const LABEL: &str = "CERTIFICATE";

/// Only who may `sign` for a signer changes the status of a request to it.
pub(super) struct PodCertificateSigning(pub(super) Union);

#[async_trait]
impl Plugin for PodCertificateSigning {
    fn name(&self) -> &'static str {
        "PodCertificateSigning"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_part(GROUP, "podcertificaterequests", "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&attributes.object, attributes.old) else {
            return Ok(());
        };
        if kinds::tree::same_at(new, old, "status") {
            return Ok(());
        }
        let mut errors = FieldErrors::new();
        if let Some(wrong) = is_issued(new).then(|| check(new, old).err()).flatten() {
            errors.push(ErrorKind::Invalid, &Path::new(wrong.field), format!("Invalid value: {}", wrong.detail));
        } else if !may(&self.0, attributes, "sign", signer(old)) {
            let (user, signer) = (&attributes.context.user.name, signer(old));
            let why = format!("User {user:?} is not permitted to \"sign\" for signer {signer:?}");
            errors.forbidden(&Path::new("spec.signerName"), &why);
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(GROUP, attributes.kind, meta::name(old), &errors))
    }
}

fn is_issued(request: &Value) -> bool {
    let conditions = meta::find(request, "/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Issued" && condition["status"] == "True")
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    meta::find(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What does not hold, and of which field.
struct Wrong {
    field: &'static str,
    detail: String,
}

/// The chain is one of certificates, of which the first is for the key that asks and has the times of the status.
fn check(new: &Value, old: &Value) -> Result<(), Wrong> {
    let chain = text(new, "/status/certificateChain");
    let wrong = |detail: &str| Wrong { field: "status.certificateChain", detail: format!("{chain:?}: {detail}") };
    let mut blocks = Pem::iter_from_buffer(chain.as_bytes());
    let Some(Ok(leaf)) = blocks.next() else {
        return Err(wrong("issued certificate chain must contain at least one certificate"));
    };
    if leaf.label != LABEL {
        return Err(wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
    }
    let (_, leaf) = X509Certificate::from_der(&leaf.contents)
        .map_err(|_| wrong("leaf certificate does not parse as valid X.509"))?;
    check_names(&leaf)?;
    if !is_for_key(&leaf, old)? {
        return Err(wrong("leaf certificate was not issued to the requested public key"));
    }
    let validity = leaf.validity();
    let times = [
        ("status.notBefore", "/status/notBefore", "NotBefore", validity.not_before),
        ("status.notAfter", "/status/notAfter", "NotAfter", validity.not_after),
    ];
    for (field, pointer, name, is) in times {
        let given: Option<Timestamp> = text(new, pointer).parse().ok();
        if given.is_none_or(|given| given.as_nanosecond() != i128::from(is.timestamp()) * 1_000_000_000) {
            let shown = given.unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S +0000 UTC");
            let detail = format!("{shown}: must be set to the {name} time encoded in the leaf certificate");
            return Err(Wrong { field, detail });
        }
    }
    // What follows damage is no block to upstream's reader either.
    for block in blocks.map_while(Result::ok) {
        if block.label != LABEL {
            return Err(wrong("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        X509Certificate::from_der(&block.contents)
            .map_err(|_| wrong("intermediate certificate does not parse as valid X.509"))?;
    }
    Ok(())
}

fn check_names(leaf: &X509Certificate<'_>) -> Result<(), Wrong> {
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let GeneralName::DNSName(name) = name else { continue };
        let detail = if name.is_empty() {
            "leaf certificate should not contain empty DNSName"
        } else if name.contains("..") {
            "leaf certificate's DNSName should not contain '..'"
        } else if name.starts_with('.') || name.ends_with('.') {
            "leaf certificate's DNSName should not start or end with '.'"
        } else {
            continue;
        };
        return Err(Wrong { field: "status.certificateChain", detail: format!("{name:?}: {detail}") });
    }
    Ok(())
}

fn is_for_key(leaf: &X509Certificate<'_>, request: &Value) -> Result<bool, Wrong> {
    let decoded = |pointer: &str| STANDARD.decode(text(request, pointer)).unwrap_or_default();
    let is = |key: &SubjectPublicKeyInfo<'_>| {
        let issued = leaf.public_key();
        issued.algorithm.algorithm == key.algorithm.algorithm && issued.subject_public_key == key.subject_public_key
    };
    let stub = decoded("/spec/stubPKCS10Request");
    if stub.is_empty() {
        let key = decoded("/spec/pkixPublicKey");
        let detail = || "must be a valid PKIX-serialized public key".to_owned();
        let key = SubjectPublicKeyInfo::from_der(&key);
        return key.map(|(_, key)| is(&key)).map_err(|_| Wrong { field: "spec.pkixPublicKey", detail: detail() });
    }
    let detail = || "must be a valid PKCS#10 CSR".to_owned();
    let (_, stub) = X509CertificationRequest::from_der(&stub)
        .map_err(|_| Wrong { field: "spec.stubPKCS10Request", detail: detail() })?;
    Ok(is(&stub.certification_request_info.subject_pki))
}

#[cfg(test)]
mod tests;
