//! Keys of pods, and the proof that this node has them: a PKCS#10 request that names nobody.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::rand_core::OsRng;

/// Both as PKCS asks for: #8 in PEM, #10 in DER.
pub(super) struct Made {
    pub private_key: String,
    pub request: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("unknown key type {0:?}")]
    Kind(String),
    #[error("make a key: {0}")]
    Make(String),
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Make(error.to_string())
}

/// `kind` is one of the API's key types.
pub(super) fn generate(kind: &str) -> Result<Made, Error> {
    match kind {
        "ECDSAP256" => prove(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?),
        "ECDSAP384" => prove(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(failed)?),
        "ECDSAP521" => p521::generate(),
        "ED25519" => prove(&ed25519()?),
        "RSA3072" => prove(&rsa(3072)?),
        "RSA4096" => prove(&rsa(4096)?),
        other => Err(Error::Kind(other.to_owned())),
    }
}

fn prove(key: &KeyPair) -> Result<Made, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key).map_err(failed)?;
    Ok(Made { private_key: key.serialize_pem(), request: request.der().to_vec() })
}

fn rsa(bits: usize) -> Result<KeyPair, Error> {
    let key = rsa::RsaPrivateKey::new(&mut OsRng, bits).map_err(failed)?;
    let der = key.to_pkcs8_der().map_err(failed)?;
    KeyPair::try_from(der.as_bytes()).map_err(failed)
}

/// In PKCS#8's first version, which every reader knows.
fn ed25519() -> Result<KeyPair, Error> {
    const HEADER: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let mut seed = [0; 32];
    rsa::rand_core::RngCore::fill_bytes(&mut OsRng, &mut seed);
    KeyPair::try_from([&HEADER[..], &seed].concat()).map_err(failed)
}

/// The curve that the library of all the others does not sign with.
mod p521 {
    use p521::SecretKey;
    use p521::ecdsa::signature::Signer as _;
    use p521::ecdsa::{Signature, SigningKey};
    use p521::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

    use super::{Error, Made, OsRng, failed};

    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    const NO_SUBJECT: [u8; 2] = [SEQUENCE, 0];
    const NO_ATTRIBUTES: [u8; 2] = [0xa0, 0];
    /// ecdsa-with-SHA512.
    const ALGORITHM: [u8; 12] = [SEQUENCE, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];

    pub(super) fn generate() -> Result<Made, Error> {
        let key = SecretKey::random(&mut OsRng);
        let public = key.public_key().to_public_key_der().map_err(failed)?;
        let info = der(SEQUENCE, &[&VERSION, &NO_SUBJECT, public.as_bytes(), &NO_ATTRIBUTES]);
        let signature: Signature = SigningKey::from_bytes(&key.to_bytes()).map_err(failed)?.sign(&info);
        let signature = der(BIT_STRING, &[&[0], signature.to_der().as_bytes()]);
        let request = der(SEQUENCE, &[&info, &ALGORITHM, &signature]);
        let private_key = key.to_pkcs8_der().map_err(failed)?;
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let private_key = pem::encode_config(&pem::Pem::new("PRIVATE KEY", private_key.as_bytes()), config);
        Ok(Made { private_key, request })
    }

    /// A value of this type; the contents are shorter than 64 KiB.
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let contents = parts.concat();
        let length = u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes();
        let header: &[u8] = match length {
            [0, short @ 0..0x80] => &[tag, short],
            [0, long] => &[tag, 0x81, long],
            [high, low] => &[tag, 0x82, high, low],
        };
        [header, &contents].concat()
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    use super::*;

    #[test]
    fn proves_keys_of_every_kind() {
        let made = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"].map(|kind| (kind, generate(kind)));
        // The API's own lengths take half a minute without optimization.
        let rsa = rsa(2048).and_then(|key| prove(&key));
        for (kind, made) in made.into_iter().chain([("RSA", rsa)]) {
            let made = made.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert!(made.private_key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
            let (rest, request) = X509CertificationRequest::from_der(&made.request).expect(kind);
            assert!(rest.is_empty());
            assert_eq!(request.certification_request_info.subject.iter().count(), 0, "{kind}");
        }
        assert_eq!(generate("DSA").err().map(|error| error.to_string()), Some("unknown key type \"DSA\"".into()));
    }
}
