//! Service-account tokens: JSON claims in, a signed JWT out, and back.
//!
//! What the claims mean (audience, bound objects) is the API server's business: here a token is either
//! signed by a known key and within its dates, or refused.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, files};

/// Signs tokens with one key.
pub struct TokenSigner {
    key: EncodingKey,
    algorithm: Algorithm,
    key_id: String,
    public: PublicKey,
}

/// Checks tokens against a set of keys.
#[derive(Clone)]
pub struct TokenVerifier {
    keys: Vec<PublicKey>,
}

#[derive(Clone)]
struct PublicKey {
    key_id: String,
    algorithm: Algorithm,
    key: DecodingKey,
    jwk: Jwk,
}

/// Why a token is refused. `NotOurs` says that another authenticator may know it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a JWT, or signed by no known key.
    #[error("the token is not signed by a known key")]
    NotOurs,
    /// The `exp` claim has passed.
    #[error("service account token has expired")]
    Expired,
    /// The `nbf` claim is in the future.
    #[error("service account token is not valid yet")]
    NotYetValid,
}

impl TokenSigner {
    /// Makes a new key: the signer, and the key as PEM to be kept.
    pub fn create() -> Result<(Self, String), Error> {
        let key_pem = KeyPair::generate().map_err(Error::Generate)?.serialize_pem();
        Ok((Self::from_pem(&key_pem)?, key_pem))
    }

    /// Takes an ECDSA P-256 (PKCS#8) or RSA private key.
    pub fn from_pem(key_pem: &str) -> Result<Self, Error> {
        let wrong = |e: &dyn std::fmt::Display| Error::parse("service account signing key", e);
        let (key, algorithm) = match EncodingKey::from_ec_pem(key_pem.as_bytes()) {
            Ok(key) => (key, Algorithm::ES256),
            Err(_) => {
                let key = EncodingKey::from_rsa_pem(key_pem.as_bytes()).map_err(|e| wrong(&e))?;
                (key, Algorithm::RS256)
            }
        };
        let jwk = Jwk::from_encoding_key(&key, algorithm).map_err(|e| wrong(&e))?;
        let spki = match algorithm {
            Algorithm::ES256 => KeyPair::from_pem(key_pem).map_err(|e| wrong(&e))?.subject_public_key_info(),
            _ => rsa_public_key_info(&jwk)?,
        };
        let public = PublicKey::new(jwk, algorithm, &spki)?;
        Ok(Self { key, algorithm, key_id: public.key_id.clone(), public })
    }

    /// Reads a private key file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_pem(&files::read(path)?).map_err(|e| e.in_file(path))
    }

    /// Reads a private key file, or makes it when it is missing.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            return Self::load(path);
        }
        let (signer, key_pem) = Self::create()?;
        files::write_private(path, &key_pem)?;
        Ok(signer)
    }

    /// Signs claims. The header carries `alg` and `kid` only, as upstream's.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(Error::SignToken)
    }

    /// The id of the key: base64url of SHA-256 of the public key, as upstream's.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A verifier that knows this key.
    pub fn verifier(&self) -> TokenVerifier {
        TokenVerifier { keys: vec![self.public.clone()] }
    }
}

impl TokenVerifier {
    /// Takes public keys (`--service-account-key-file`): `PUBLIC KEY` blocks, and certificates or private keys,
    /// whose public half counts.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = pem::parse_many(text).map_err(|e| Error::parse("service account public key", e))?;
        let keys = blocks.iter().map(PublicKey::from_block).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(Error::parse("service account public key", "no PEM block found"));
        }
        Ok(Self { keys })
    }

    /// Reads a key file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_pem(&files::read(path)?).map_err(|e| e.in_file(path))
    }

    /// The same with the keys of another verifier behind its own.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for key in other.keys {
            if !self.keys.iter().any(|known| known.key_id == key.key_id) {
                self.keys.push(key);
            }
        }
        self
    }

    /// The claims of a token whose signature and dates hold at `now`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Value, VerifyError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| VerifyError::NotOurs)?;
        let candidates = self
            .keys
            .iter()
            .filter(|key| key.algorithm == header.alg && header.kid.as_ref().is_none_or(|kid| *kid == key.key_id));
        let claims = candidates.filter_map(|key| key.claims(token)).next().ok_or(VerifyError::NotOurs)?;
        check_dates(&claims, now)?;
        Ok(claims)
    }

    /// The JWKS document of `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let keys: Vec<&Jwk> = self.keys.iter().map(|key| &key.jwk).collect();
        json!({ "keys": keys })
    }

    /// The algorithms in use, for the discovery document (`ES256`, `RS256`).
    pub fn algorithms(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl PublicKey {
    fn new(mut jwk: Jwk, algorithm: Algorithm, spki_der: &[u8]) -> Result<Self, Error> {
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(spki_der));
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(match algorithm {
            Algorithm::RS256 => jsonwebtoken::jwk::KeyAlgorithm::RS256,
            _ => jsonwebtoken::jwk::KeyAlgorithm::ES256,
        });
        let key = DecodingKey::from_jwk(&jwk).map_err(|e| Error::parse("service account public key", e))?;
        Ok(Self { key_id, algorithm, key, jwk })
    }

    fn from_block(block: &pem::Pem) -> Result<Self, Error> {
        if block.tag().ends_with("PRIVATE KEY") {
            return Ok(TokenSigner::from_pem(&pem::encode(block))?.public);
        }
        if block.tag() == "CERTIFICATE" {
            return Self::from_block(&pem::Pem::new("PUBLIC KEY", certified_key(block.contents())?));
        }
        let wrong = |e: &dyn std::fmt::Display| Error::parse("service account public key", e);
        let text = pem::encode(block);
        let (key, algorithm) = match DecodingKey::from_ec_pem(text.as_bytes()) {
            Ok(key) => (key, Algorithm::ES256),
            Err(_) => {
                let key = DecodingKey::from_rsa_pem(text.as_bytes()).map_err(|e| wrong(&e))?;
                (key, Algorithm::RS256)
            }
        };
        let jwk = Jwk::from_decoding_key(&key, Some(algorithm)).map_err(|e| wrong(&e))?;
        Self::new(jwk, algorithm, block.contents())
    }

    /// The claims when the signature holds. Dates are checked apart, against the caller's clock.
    fn claims(&self, token: &str) -> Option<Value> {
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Value>(token, &self.key, &validation).ok()?;
        Some(decoded.claims)
    }
}

/// The SubjectPublicKeyInfo of a certificate.
fn certified_key(der: &[u8]) -> Result<Vec<u8>, Error> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|e| Error::parse("service account certificate", e))?;
    Ok(certificate.public_key().raw.to_vec())
}

fn check_dates(claims: &Value, now: Timestamp) -> Result<(), VerifyError> {
    let second = |name: &str| claims.get(name).and_then(Value::as_i64);
    if second("exp").is_some_and(|end| now.as_second() >= end) {
        return Err(VerifyError::Expired);
    }
    if second("nbf").is_some_and(|start| now.as_second() < start) {
        return Err(VerifyError::NotYetValid);
    }
    Ok(())
}

/// The SubjectPublicKeyInfo of an RSA key known by its numbers: the form whose hash is the key id.
fn rsa_public_key_info(jwk: &Jwk) -> Result<Vec<u8>, Error> {
    use jsonwebtoken::jwk::AlgorithmParameters;
    let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else {
        return Err(Error::parse("service account signing key", "neither ECDSA P-256 nor RSA"));
    };
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| Error::parse("service account signing key", e));
    let mut numbers = der_integer(&number(&rsa.n)?);
    numbers.extend(der_integer(&number(&rsa.e)?));
    let mut bits = vec![0];
    bits.extend(der(0x30, &numbers));
    // rsaEncryption with a NULL parameter (RFC 3279, 2.3.1).
    let mut info = vec![0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    info.extend(der(0x03, &bits));
    Ok(der(0x30, &info))
}

fn der_integer(big_endian: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = big_endian.iter().copied().skip_while(|b| *b == 0).collect();
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    der(0x02, &bytes)
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
