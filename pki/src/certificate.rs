//! Certificates looked into, and certificates with their keys.

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::{Error, Pin, files};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The common name: upstream's user name.
    pub common_name: String,
    /// The organizations: upstream's groups.
    pub organizations: Vec<String>,
    /// DNS subject alternative names.
    pub dns_names: Vec<String>,
    /// IP subject alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// When it starts to be valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Serial number, big endian.
    pub serial: Vec<u8>,
    /// The hash of its public key.
    pub pin: Pin,
    /// SHA-256 of the whole certificate, hexadecimal: upstream's `X509SHA256` credential id.
    pub fingerprint: String,
}

impl Certificate {
    /// Looks into one DER certificate, without judging it.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| Error::parse("certificate", e))?;
        let (dns_names, ip_addresses) = alternative_names(&parsed);
        Ok(Self {
            common_name: common_name(parsed.subject()),
            organizations: organizations(parsed.subject()),
            dns_names,
            ip_addresses,
            not_before: timestamp(parsed.validity().not_before.timestamp())?,
            not_after: timestamp(parsed.validity().not_after.timestamp())?,
            is_ca: parsed.is_ca(),
            serial: parsed.raw_serial().to_vec(),
            pin: Pin::of_public_key(parsed.public_key().raw),
            fingerprint: hex_sha256(der),
        })
    }

    /// Looks into the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| Error::parse("certificate PEM", e))?;
        Self::from_der(&der)
    }

    /// Whether less than a fifth of its life is left (or none, or it has not begun).
    pub fn is_due(&self, now: Timestamp) -> bool {
        now < self.not_before || now >= self.renew_at()
    }

    /// The moment after which it should be replaced: four fifths of its life.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_before.duration_until(self.not_after);
        self.not_before + life / 5 * 4
    }
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Credential {
    certificate_pem: String,
    key_pem: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("certificate", &self.certificate().map(|c| c.common_name))
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Checks that both texts parse. That they belong together is seen by whoever uses them for TLS.
    pub fn from_pem(certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Result<Self, Error> {
        let credential = Self { certificate_pem: certificate_pem.into(), key_pem: key_pem.into() };
        credential.certificate()?;
        credential.key_der()?;
        Ok(credential)
    }

    /// Reads a certificate and a key file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let certificate_pem = files::read(certificate)?;
        Certificate::from_pem(&certificate_pem).map_err(|e| e.in_file(certificate))?;
        let credential = Self { certificate_pem, key_pem: files::read(key)? };
        credential.key_der().map_err(|e| e.in_file(key))?;
        Ok(credential)
    }

    /// Writes both files, the key first, so that a certificate on disk always has its key.
    pub fn store(&self, certificate: &Path, key: &Path) -> Result<(), Error> {
        files::write_private(key, &self.key_pem)?;
        files::write_private(certificate, &self.certificate_pem)
    }

    /// The certificate chain, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, PKCS#8 PEM when made here.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What the certificate says.
    pub fn certificate(&self) -> Result<Certificate, Error> {
        Certificate::from_pem(&self.certificate_pem)
    }

    /// The chain as rustls wants it.
    pub fn chain_der(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        chain_der(&self.certificate_pem)
    }

    /// The key as rustls wants it.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| Error::parse("private key PEM", e))
    }
}

/// Every certificate of a PEM text; at least one.
pub(crate) fn chain_der(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::parse("certificate PEM", e))?;
    if chain.is_empty() {
        return Err(Error::parse("certificate PEM", "it holds no certificate"));
    }
    Ok(chain)
}

pub(crate) fn common_name(name: &X509Name<'_>) -> String {
    let text = name.iter_common_name().next().and_then(|a| a.as_str().ok());
    text.unwrap_or_default().to_owned()
}

pub(crate) fn organizations(name: &X509Name<'_>) -> Vec<String> {
    let texts = name.iter_organization().filter_map(|a| a.as_str().ok());
    texts.map(str::to_owned).collect()
}

pub(crate) fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

fn alternative_names(parsed: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let mut dns = Vec::new();
    let mut ip = Vec::new();
    let Ok(Some(san)) = parsed.subject_alternative_name() else {
        return (dns, ip);
    };
    for name in &san.value.general_names {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => ip.extend(ip_address(bytes)),
            _ => {}
        }
    }
    (dns, ip)
}

fn timestamp(second: i64) -> Result<Timestamp, Error> {
    Timestamp::from_second(second).map_err(|e| Error::parse("certificate date", e))
}

fn hex_sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
