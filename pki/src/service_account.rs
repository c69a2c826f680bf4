//! Service-account tokens: JSON claims in, a signed JWT out, and back.
//!
//! What the claims mean (audience, bound objects) is the API server's business: here a token is either
//! signed by a known key and within its dates, or refused.

mod key;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::key::Private;
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

    /// Takes the first private key: ECDSA (P-256, P-384) or RSA, in any form that upstream reads.
    pub fn from_pem(key_pem: &str) -> Result<Self, Error> {
        let Private { key, algorithm, jwk } = key::private(key_pem)?;
        let public = PublicKey::new(jwk, algorithm)?;
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
    /// Takes public keys (`--service-account-key-file`): alone, in certificates, or as halves of private keys. As
    /// upstream, blocks that cannot be used are passed over as long as one can.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let blocks = pem::parse_many(text).map_err(|e| Error::parse("service account public key", e))?;
        let read = blocks.iter().filter_map(|block| key::public(block).transpose());
        let read = read.map(|found| found.and_then(|(jwk, algorithm)| PublicKey::new(jwk, algorithm)));
        let (keys, failures): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        let keys: Vec<PublicKey> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            let none = Error::parse("service account public key", "no PEM block holds a key");
            return Err(failures.into_iter().find_map(Result::err).unwrap_or(none));
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
    fn new(mut jwk: Jwk, algorithm: Algorithm) -> Result<Self, Error> {
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(key::public_key_info(&jwk)?));
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(algorithm.into());
        let key = DecodingKey::from_jwk(&jwk).map_err(|e| Error::parse("service account public key", e))?;
        Ok(Self { key_id, algorithm, key, jwk })
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
