//! Keys of tokens, in every form that upstream reads.
//!
//! Private keys come as PKCS#8, an RSA key as PKCS#1 too and an ECDSA key as SEC 1 (RFC 5915), which `openssl ecparam`
//! writes behind a block of parameters. A public key comes alone, in a certificate, or as half of a private one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p521::ecdsa::{SigningKey, VerifyingKey};
use serde_json::Value;
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::X509Certificate;

use super::es512;
use crate::Error;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
/// `rsaEncryption` with a NULL parameter (RFC 3279, 2.3.1).
const RSA: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey`, which a curve follows.
const ECDSA: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// What signs.
pub(super) enum Signing {
    Library(EncodingKey, Algorithm),
    P521(Box<SigningKey>),
}

/// What checks a signature.
#[derive(Clone)]
pub(super) enum Checking {
    Library(DecodingKey, Algorithm),
    P521(Box<VerifyingKey>),
}

/// A private key and its public half.
pub(super) struct Private {
    pub(super) signing: Signing,
    pub(super) public: Public,
}

/// A public key, and its numbers.
pub(super) struct Public {
    pub(super) checking: Checking,
    pub(super) jwk: Jwk,
}

impl Signing {
    /// A token whose header carries `alg` and `kid` only, as upstream's.
    pub(super) fn sign(&self, key_id: &str, claims: &Value) -> Result<String, Error> {
        match self {
            Self::Library(key, algorithm) => {
                let mut header = Header::new(*algorithm);
                header.typ = None;
                header.kid = Some(key_id.to_owned());
                jsonwebtoken::encode(&header, claims, key).map_err(Error::SignToken)
            }
            Self::P521(key) => es512::sign(key, key_id, claims),
        }
    }
}

impl Checking {
    /// The name in a token's header.
    pub(super) fn algorithm(&self) -> String {
        match self {
            Self::Library(_, algorithm) => format!("{algorithm:?}"),
            Self::P521(_) => "ES512".to_owned(),
        }
    }

    /// The claims when the signature holds. Dates are checked apart, against the caller's clock.
    pub(super) fn claims(&self, token: &str) -> Option<Value> {
        match self {
            Self::Library(key, algorithm) => {
                let mut validation = Validation::new(*algorithm);
                validation.required_spec_claims.clear();
                validation.validate_exp = false;
                validation.validate_nbf = false;
                validation.validate_aud = false;
                Some(jsonwebtoken::decode::<Value>(token, key, &validation).ok()?.claims)
            }
            Self::P521(key) => es512::claims(key, token),
        }
    }
}

impl Public {
    fn of_library(jwk: Jwk, algorithm: Algorithm) -> Result<Self, Error> {
        let key = DecodingKey::from_jwk(&jwk).map_err(|e| Error::parse("service account public key", e))?;
        Ok(Self { checking: Checking::Library(key, algorithm), jwk })
    }

    fn of_p521(key: VerifyingKey) -> Self {
        Self { jwk: es512::jwk(&key), checking: Checking::P521(Box::new(key)) }
    }
}

/// The first private key of a file.
pub(super) fn private(text: &str) -> Result<Private, Error> {
    let wrong = |reason: String| Error::parse("service account signing key", reason);
    let blocks = pem::parse_many(text).map_err(|e| wrong(e.to_string()))?;
    let found = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
    of_block(found.ok_or_else(|| wrong("no PEM block holds a private key".to_owned()))?)
}

fn of_block(block: &pem::Pem) -> Result<Private, Error> {
    let wrong = |reason: String| Error::parse("service account signing key", reason);
    let wrapped = if block.tag() == "EC PRIVATE KEY" { Some(wrapped(block.contents())?) } else { None };
    if let Some(key) = es512::private(wrapped.as_deref().unwrap_or(block.contents())) {
        let public = Public::of_p521(VerifyingKey::from(&key));
        return Ok(Private { signing: Signing::P521(Box::new(key)), public });
    }
    let text = pem::encode(block);
    let ecdsa = match &wrapped {
        Some(pkcs8) => Some(EncodingKey::from_ec_der(pkcs8)),
        None => EncodingKey::from_ec_pem(text.as_bytes()).ok(),
    };
    let (key, algorithms) = match ecdsa {
        Some(key) => (key, &[Algorithm::ES256, Algorithm::ES384][..]),
        None => {
            let key = EncodingKey::from_rsa_pem(text.as_bytes());
            (key.map_err(|e| wrong(format!("neither ECDSA nor RSA: {e}")))?, &[Algorithm::RS256][..])
        }
    };
    let fits = |algorithm: &Algorithm| Some((*algorithm, Jwk::from_encoding_key(&key, *algorithm).ok()?));
    let found = algorithms.iter().find_map(fits);
    let (algorithm, jwk) =
        found.ok_or_else(|| wrong("it is damaged, or of another curve than P-256, P-384 and P-521".to_owned()))?;
    Ok(Private { signing: Signing::Library(key, algorithm), public: Public::of_library(jwk, algorithm)? })
}

/// The public key of a block; None for a block that holds no key, such as parameters.
pub(super) fn public(block: &pem::Pem) -> Result<Option<Public>, Error> {
    let block = match block.tag() {
        tag if tag.ends_with("PRIVATE KEY") => return Ok(Some(of_block(block)?.public)),
        "CERTIFICATE" => &pem::Pem::new("PUBLIC KEY", certified(block.contents())?),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => block,
        _ => return Ok(None),
    };
    if let Some(key) = es512::public(block.contents()) {
        return Ok(Some(Public::of_p521(key)));
    }
    let text = pem::encode(block);
    let wrong = |e: jsonwebtoken::errors::Error| Error::parse("service account public key", e);
    let (jwk, algorithm) = match DecodingKey::from_ec_pem(text.as_bytes()) {
        Ok(key) => {
            let jwk = Jwk::from_decoding_key(&key, None).map_err(wrong)?;
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => Algorithm::ES384,
                _ => return Err(Error::parse("service account public key", "its curve is not P-256, P-384 or P-521")),
            };
            (jwk, algorithm)
        }
        Err(_) => {
            let key = DecodingKey::from_rsa_pem(text.as_bytes()).map_err(wrong)?;
            (Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).map_err(wrong)?, Algorithm::RS256)
        }
    };
    Public::of_library(jwk, algorithm).map(Some)
}

/// The SubjectPublicKeyInfo of a certificate.
fn certified(der: &[u8]) -> Result<Vec<u8>, Error> {
    let parsed = X509Certificate::from_der(der);
    let (_, certificate) = parsed.map_err(|e| Error::parse("service account certificate", e))?;
    Ok(certificate.public_key().raw.to_vec())
}

/// The SubjectPublicKeyInfo of a key known by its numbers: the form whose hash is the key id.
pub(super) fn public_key_info(jwk: &Jwk) -> Result<Vec<u8>, Error> {
    let wrong = |e: &dyn std::fmt::Display| Error::parse("service account public key", e);
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| wrong(&e));
    let (algorithm, key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let numbers = [integer(&number(&rsa.n)?), integer(&number(&rsa.e)?)].concat();
            (RSA.to_vec(), der(SEQUENCE, &numbers))
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let curve: &[u8] = match ec.curve {
                EllipticCurve::P256 => &P256,
                EllipticCurve::P384 => &P384,
                _ => &P521,
            };
            // An uncompressed point.
            ([&ECDSA[..], curve].concat(), [vec![0x04], number(&ec.x)?, number(&ec.y)?].concat())
        }
        _ => return Err(wrong(&"neither ECDSA nor RSA")),
    };
    let bits = [vec![0], key].concat();
    Ok(der(SEQUENCE, &[der(SEQUENCE, &algorithm), der(BIT_STRING, &bits)].concat()))
}

/// A SEC 1 key as PKCS#8. The curve stands within, where only a key that is not wrapped has to name it.
fn wrapped(sec1: &[u8]) -> Result<Vec<u8>, Error> {
    let curve = curve(sec1).ok_or_else(|| Error::parse("EC PRIVATE KEY", "it is damaged, or names no curve"))?;
    let version = der(INTEGER, &[0]);
    let algorithm = der(SEQUENCE, &[&ECDSA[..], curve].concat());
    Ok(der(SEQUENCE, &[version, algorithm, der(OCTET_STRING, sec1)].concat()))
}

/// The object identifier of a SEC 1 key's curve, encoded: the content of its field 0.
fn curve(sec1: &[u8]) -> Option<&[u8]> {
    let (_, whole) = Any::from_der(sec1).ok().filter(|(_, whole)| whole.tag() == Tag::Sequence)?;
    let mut rest = whole.data;
    while !rest.is_empty() {
        let (next, field) = Any::from_der(rest).ok()?;
        if field.class() == Class::ContextSpecific && field.tag() == Tag(0) {
            return Some(field.data);
        }
        rest = next;
    }
    None
}

fn integer(big_endian: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = big_endian.iter().copied().skip_while(|b| *b == 0).collect();
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    der(INTEGER, &bytes)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        middle @ 0x80..=0xff => out.extend([0x81, middle as u8]),
        long => {
            out.push(0x82);
            out.extend((long as u16).to_be_bytes());
        }
    }
    out.extend(content);
    out
}
