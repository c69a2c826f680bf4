//! Service-account tokens: JSON claims in, a signed JWT out, and back.
//!
//! What the claims mean (audience, bound objects) is the API server's business: here a token is either
//! signed by a known key and within its dates, or refused.

mod es512;
mod key;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rcgen::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::key::{Checking, Private, Public, Signing};
use crate::{Error, files};

/// Signs tokens with one key.
pub struct TokenSigner {
    key: Signing,
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
    algorithm: String,
    key: Checking,
    /// As it is published.
    jwk: Value,
}

/// What a token says of its signature.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
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

    /// Takes the first private key: ECDSA (P-256, P-384, P-521) or RSA, in any form that upstream reads.
    pub fn from_pem(key_pem: &str) -> Result<Self, Error> {
        let Private { signing, public } = key::private(key_pem)?;
        Ok(Self { key: signing, public: PublicKey::new(public)? })
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
        self.key.sign(self.key_id(), claims)
    }

    /// The id of the key: base64url of SHA-256 of the public key, as upstream's.
    pub fn key_id(&self) -> &str {
        &self.public.key_id
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
        let read = read.map(|found| found.and_then(PublicKey::new));
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
        let head = head(token).ok_or(VerifyError::NotOurs)?;
        let candidates = self
            .keys
            .iter()
            .filter(|key| key.algorithm == head.alg && head.kid.as_ref().is_none_or(|kid| *kid == key.key_id));
        let claims = candidates.filter_map(|key| key.key.claims(token)).next().ok_or(VerifyError::NotOurs)?;
        check_dates(&claims, now)?;
        Ok(claims)
    }

    /// The JWKS document of `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let keys: Vec<&Value> = self.keys.iter().map(|key| &key.jwk).collect();
        json!({ "keys": keys })
    }

    /// The algorithms in use, for the discovery document (`ES256`, `RS256`).
    pub fn algorithms(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys.iter().map(|key| key.algorithm.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl PublicKey {
    fn new(Public { checking, jwk }: Public) -> Result<Self, Error> {
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(key::public_key_info(&jwk)?));
        let algorithm = checking.algorithm();
        let mut jwk = serde_json::to_value(&jwk).map_err(|e| Error::parse("service account public key", e))?;
        jwk["use"] = json!("sig");
        jwk["kid"] = json!(key_id);
        jwk["alg"] = json!(algorithm);
        Ok(Self { key_id, algorithm, key: checking, jwk })
    }
}

fn head(token: &str) -> Option<Head> {
    let (encoded, _) = token.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn check_dates(claims: &Value, now: Timestamp) -> Result<(), VerifyError> {
    // Seconds with fractions, as RFC 7519 has them. What is no number is no token of anybody who means well.
    let second = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(claim) => claim.as_f64().map(Some).ok_or(VerifyError::NotOurs),
    };
    let now = now.as_second() as f64;
    if second("exp")?.is_some_and(|end| now >= end) {
        return Err(VerifyError::Expired);
    }
    if second("nbf")?.is_some_and(|start| now < start) {
        return Err(VerifyError::NotYetValid);
    }
    Ok(())
}
