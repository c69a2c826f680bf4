//! Keys of tokens, in every form that upstream reads.
//!
//! Private keys come as PKCS#8, an RSA key as PKCS#1 too and an ECDSA key as SEC 1 (RFC 5915), which `openssl ecparam`
//! writes behind a block of parameters. A public key comes alone, in a certificate, or as half of a private one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::X509Certificate;

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

/// A private key and its public half.
pub(super) struct Private {
    pub(super) key: EncodingKey,
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Jwk,
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
    let text = pem::encode(block);
    let ecdsa = match block.tag() {
        "EC PRIVATE KEY" => Some(EncodingKey::from_ec_der(&wrapped(block.contents())?)),
        _ => EncodingKey::from_ec_pem(text.as_bytes()).ok(),
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
        found.ok_or_else(|| wrong("it is damaged, or of another curve than P-256 and P-384".to_owned()))?;
    Ok(Private { key, algorithm, jwk })
}

/// The public key of a block; None for a block that holds no key, such as parameters.
pub(super) fn public(block: &pem::Pem) -> Result<Option<(Jwk, Algorithm)>, Error> {
    let text = match block.tag() {
        tag if tag.ends_with("PRIVATE KEY") => {
            let Private { jwk, algorithm, .. } = of_block(block)?;
            return Ok(Some((jwk, algorithm)));
        }
        "CERTIFICATE" => pem::encode(&pem::Pem::new("PUBLIC KEY", certified(block.contents())?)),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => pem::encode(block),
        _ => return Ok(None),
    };
    let wrong = |e: jsonwebtoken::errors::Error| Error::parse("service account public key", e);
    if let Ok(key) = DecodingKey::from_ec_pem(text.as_bytes()) {
        let jwk = Jwk::from_decoding_key(&key, None).map_err(wrong)?;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => Algorithm::ES384,
            _ => return Err(Error::parse("service account public key", "its curve is neither P-256 nor P-384")),
        };
        return Ok(Some((jwk, algorithm)));
    }
    let key = DecodingKey::from_rsa_pem(text.as_bytes()).map_err(wrong)?;
    Ok(Some((Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).map_err(wrong)?, Algorithm::RS256)))
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
            let curve: &[u8] = if ec.curve == EllipticCurve::P256 { &P256 } else { &P384 };
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
