//! That whoever asks for a certificate has the key: an empty signing request, or a signature over the pod's UID.
//!
//! Mirrors `validateStubPKCS10Request` and `validateDeprecatedPKIXPublicKey` of upstream's `certificates/validation`.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::digest;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use sha2::Sha256;
use x509_parser::asn1_rs::{FromDer as _, Oid, oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::tree::text;

#[cfg(test)]
mod tests;

const UNKNOWN: &str = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
const ED25519_BYTES: usize = 32;
const MODULUS_BITS: [usize; 2] = [3072, 4096];
/// `secp224r1`, which upstream reads and does not take.
const P224: Oid<'_> = oid!(1.3.132.0.33);
/// A number of the curve's field.
const P521_BYTES: usize = 66;
/// Random bytes in an RSA-PSS signature: as many as the hash has, or as many as fit. No signer takes another number.
const SHA256_BYTES: usize = 32;

/// A public key that upstream can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Ed25519,
    P224,
    P256,
    P384,
    P521,
    Rsa { bits: usize },
    Other,
}

/// The request is one and is signed with its key.
pub(super) fn request(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("stubPKCS10Request");
    let der = STANDARD.decode(text(spec, "stubPKCS10Request")).unwrap_or_default();
    let parsed = X509CertificationRequest::from_der(&der).ok().filter(|(rest, _)| rest.is_empty());
    let key = parsed.as_ref().and_then(|(_, request)| Key::of(&request.certification_request_info.subject_pki));
    let (Some((_, request)), Some(key)) = (parsed, key) else {
        return errors.push(ErrorKind::Invalid, &path, "Invalid value: must be a valid PKCS#10 CSR");
    };
    if key == Key::Other {
        return errors.push(ErrorKind::Invalid, &path, format!("Invalid value: {UNKNOWN}"));
    }
    if let Some((value, detail)) = key.refusal("P256, P384, or P521") {
        return errors.invalid(&path, value, &detail);
    }
    if !is_signed(&request, key) {
        errors.push(ErrorKind::Invalid, &path, "Invalid value: invalid signature");
    }
}

/// The key is one, and the signature over the pod's UID is its.
pub(super) fn proof(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (given, at_key) = (text(spec, "pkixPublicKey"), path.child("pkixPublicKey"));
    let der = STANDARD.decode(given).unwrap_or_default();
    let parsed = SubjectPublicKeyInfo::from_der(&der).ok().filter(|(rest, _)| rest.is_empty());
    let Some((info, key)) = parsed.and_then(|(_, info)| Key::of(&info).map(|key| (info, key))) else {
        return errors.invalid(&at_key, given, "must be a valid PKIX-serialized public key");
    };
    if key == Key::Other {
        return errors.invalid(&at_key, given, UNKNOWN);
    }
    // Upstream takes a third curve, and does not say so here.
    if let Some((value, detail)) = key.refusal("P256 or P384") {
        return errors.invalid(&at_key, value, &detail);
    }
    let signature = STANDARD.decode(text(spec, "proofOfPossession")).unwrap_or_default();
    if !key.verifies(&info.subject_public_key.data, text(spec, "podUID").as_bytes(), &signature) {
        let message = "Invalid value: could not verify proof-of-possession signature";
        errors.push(ErrorKind::Invalid, &path.child("proofOfPossession"), message);
    }
}

impl Key {
    /// None for a key that upstream cannot read.
    fn of(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let (algorithm, data) = (&info.algorithm, &info.subject_public_key.data);
        if algorithm.algorithm == OID_SIG_ED25519 {
            return (data.len() == ED25519_BYTES && algorithm.parameters.is_none()).then_some(Self::Ed25519);
        }
        if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
            let key = rsa::RsaPublicKey::from_pkcs1_der(data).ok();
            return key.map(|key| Self::Rsa { bits: rsa::traits::PublicKeyParts::size(&key) * 8 });
        }
        if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Some(Self::Other);
        }
        let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
        let known = [
            (OID_EC_P256, Self::P256),
            (OID_NIST_EC_P384, Self::P384),
            (OID_NIST_EC_P521, Self::P521),
            (P224, Self::P224),
        ];
        known.into_iter().find(|(oid, _)| *oid == curve).map(|(_, key)| key)
    }

    /// What of the key is not taken, and what would be.
    fn refusal(self, curves: &str) -> Option<(String, String)> {
        match self {
            Self::P224 => Some(("curve P-224".to_owned(), format!("elliptic public keys must use curve {curves}"))),
            Self::Rsa { bits } if !MODULUS_BITS.contains(&bits) => {
                Some((format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096".to_owned()))
            }
            _ => None,
        }
    }

    /// The signature over the text is this key's, made as upstream's kubelet makes it.
    fn verifies(self, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self {
            Self::Ed25519 => &ED25519,
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA256_ASN1,
            Self::P521 => return verify_p521(key, &digest::SHA256, message, signature),
            Self::Rsa { bits } => return verify_pss(key, bits, message, signature),
            Self::P224 | Self::Other => return false,
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

fn is_signed(request: &X509CertificationRequest<'_>, key: Key) -> bool {
    if key != Key::P521 {
        return request.verify_signature().is_ok();
    }
    let algorithm = &request.signature_algorithm.algorithm;
    let hashes = [
        (OID_SIG_ECDSA_WITH_SHA256, &digest::SHA256),
        (OID_SIG_ECDSA_WITH_SHA384, &digest::SHA384),
        (OID_SIG_ECDSA_WITH_SHA512, &digest::SHA512),
    ];
    let Some((_, hash)) = hashes.iter().find(|(oid, _)| oid == algorithm) else { return false };
    let info = &request.certification_request_info;
    verify_p521(&info.subject_pki.subject_public_key.data, hash, info.raw, &request.signature_value.data)
}

/// The curve that the library of the others does not have.
fn verify_p521(key: &[u8], hash: &'static digest::Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let hash = digest::digest(hash, message);
    // A shorter hash is the same number with zeros before it, which this library wants to see.
    let mut padded = [0; P521_BYTES];
    padded[P521_BYTES - hash.as_ref().len()..].copy_from_slice(hash.as_ref());
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key);
    let signature = p521::ecdsa::Signature::from_der(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(&padded, &signature).is_ok())
}

fn verify_pss(key: &[u8], bits: usize, message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = rsa::RsaPublicKey::from_pkcs1_der(key) else { return false };
    let hash = digest::digest(&digest::SHA256, message);
    let salts = [SHA256_BYTES, bits / 8 - SHA256_BYTES - 2];
    salts.into_iter().any(|salt| key.verify(rsa::Pss::new_with_salt::<Sha256>(salt), hash.as_ref(), signature).is_ok())
}
