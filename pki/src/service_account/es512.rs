//! Keys on P-521: ES512 of RFC 7518, which the library of all the other tokens does not know.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
};
use p521::ecdsa::signature::{Signer as _, Verifier as _};
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use p521::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use serde_json::{Value, json};

use crate::Error;

/// A private key of PKCS#8; None for a key of another kind.
pub(super) fn private(pkcs8: &[u8]) -> Option<SigningKey> {
    let key = p521::SecretKey::from_pkcs8_der(pkcs8).ok()?;
    SigningKey::from_bytes(&key.to_bytes()).ok()
}

/// A public key of a SubjectPublicKeyInfo; None for a key of another kind.
pub(super) fn public(info: &[u8]) -> Option<VerifyingKey> {
    let key = p521::PublicKey::from_public_key_der(info).ok()?;
    VerifyingKey::from_affine(*key.as_affine()).ok()
}

/// The key's numbers, both as long as the curve's order.
pub(super) fn jwk(key: &VerifyingKey) -> Jwk {
    let point = key.to_encoded_point(false);
    let number = |bytes: Option<&p521::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.map(|b| &b[..]).unwrap_or_default());
    Jwk {
        common: CommonParameters::default(),
        algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            key_type: EllipticCurveKeyType::EC,
            curve: EllipticCurve::P521,
            x: number(point.x()),
            y: number(point.y()),
        }),
    }
}

/// A token: two encoded documents, and behind them the signature's two numbers.
pub(super) fn sign(key: &SigningKey, key_id: &str, claims: &Value) -> Result<String, Error> {
    let encoded = |document: &Value| URL_SAFE_NO_PAD.encode(document.to_string());
    let signed = format!("{}.{}", encoded(&json!({"alg": "ES512", "kid": key_id})), encoded(claims));
    let signature: Signature = key
        .try_sign(signed.as_bytes())
        .map_err(|error| Error::SignToken(ErrorKind::Signing(error.to_string()).into()))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
}

/// The claims of a token that the key has signed.
pub(super) fn claims(key: &VerifyingKey, token: &str) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    key.verify(signed.as_bytes(), &signature).ok()?;
    let (_, claims) = signed.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}
