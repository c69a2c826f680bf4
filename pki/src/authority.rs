//! A certificate authority: one key that vouches for others.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls_pki_types::CertificateDer;

use crate::profile::{BACKDATE, date, serial_number, subject};
use crate::{Certificate, Credential, Error, Pin, Profile, files};

/// Ten years: what kubeadm gives its authorities.
const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 3650);

/// A certificate authority with its private key.
pub struct Authority {
    certificate_pem: String,
    certificate_der: CertificateDer<'static>,
    key_pem: String,
    pin: Pin,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority, valid for ten years.
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::Generate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        params.serial_number = Some(serial_number());
        params.not_before = date(now - BACKDATE);
        params.not_after = date(now + AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(|source| Error::Sign {
            what: "an authority's certificate",
            subject: common_name.to_owned(),
            source,
        })?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Takes an authority from PEM texts, of whatever origin.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let facts = Certificate::from_pem(certificate_pem)?;
        if !facts.is_ca {
            return Err(Error::parse(
                "authority's certificate",
                format!("{:?} is not a certificate authority", facts.common_name),
            ));
        }
        let key = KeyPair::from_pem(key_pem).map_err(|e| Error::parse("authority's private key", e))?;
        if Pin::of_public_key(&key.subject_public_key_info()) != facts.pin {
            return Err(Error::parse("authority", "the private key belongs to another certificate"));
        }
        let certificate_der = crate::certificate::chain_der(certificate_pem)?.swap_remove(0);
        let issuer =
            Issuer::from_ca_cert_der(&certificate_der, key).map_err(|e| Error::parse("authority's certificate", e))?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            certificate_der,
            key_pem: key_pem.to_owned(),
            pin: facts.pin,
            issuer,
        })
    }

    /// Reads an authority from its two files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        Self::from_pem(&files::read(certificate)?, &files::read(key)?).map_err(|e| e.in_file(certificate))
    }

    /// Reads `<name>.crt` and `<name>.key` in a directory, or makes them there when neither exists.
    pub fn load_or_create(directory: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Self, Error> {
        let certificate = directory.join(format!("{name}.crt"));
        let key = directory.join(format!("{name}.key"));
        // A certificate without its key is damage to report, not a reason to make a second authority.
        if certificate.exists() {
            return Self::load(&certificate, &key);
        }
        let authority = Self::create(common_name, now)?;
        files::write_private(&key, &authority.key_pem)?;
        files::write_public(&certificate, &authority.certificate_pem)?;
        Ok(authority)
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate_der
    }

    /// The hash by which others recognize this authority.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, profile: &Profile, now: Timestamp) -> Result<Credential, Error> {
        let key = KeyPair::generate().map_err(Error::Generate)?;
        let certificate_pem = self.sign(profile.params(now)?, &key, &profile.common_name)?;
        Credential::from_pem(certificate_pem, key.serialize_pem())
    }

    /// Reads a credential from two files, or issues and writes it when it is missing, due for renewal,
    /// from another authority's key, or says something else than the profile.
    pub fn load_or_issue(
        &self,
        certificate: &Path,
        key: &Path,
        profile: &Profile,
        now: Timestamp,
    ) -> Result<Credential, Error> {
        if certificate.exists() && key.exists() {
            let found = Credential::load(certificate, key)?;
            if self.still_good(&found, profile, now)? {
                return Ok(found);
            }
        }
        let credential = self.issue(profile, now)?;
        credential.store(certificate, key)?;
        Ok(credential)
    }

    /// Whether a certificate carries a valid signature of this authority.
    pub fn signed(&self, certificate: &CertificateDer<'_>) -> bool {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let parsed = X509Certificate::from_der(certificate);
        let own = X509Certificate::from_der(&self.certificate_der);
        match (parsed, own) {
            (Ok((_, leaf)), Ok((_, own))) => leaf.verify_signature(Some(own.public_key())).is_ok(),
            _ => false,
        }
    }

    fn still_good(&self, credential: &Credential, profile: &Profile, now: Timestamp) -> Result<bool, Error> {
        let facts = credential.certificate()?;
        let chain = credential.chain_der()?;
        let names = |name: &String| match name.parse() {
            Ok(address) => facts.ip_addresses.contains(&address),
            Err(_) => facts.dns_names.contains(name),
        };
        Ok(!facts.is_due(now)
            && facts.common_name == profile.common_name
            && facts.organizations == profile.organizations
            && profile.names.iter().all(names)
            && chain.first().is_some_and(|leaf| self.signed(leaf)))
    }

    pub(crate) fn sign(
        &self,
        params: CertificateParams,
        key: &impl PublicKeyData,
        common_name: &str,
    ) -> Result<String, Error> {
        let signed = params.signed_by(key, &self.issuer).map_err(|source| Error::Sign {
            what: "a certificate",
            subject: common_name.to_owned(),
            source,
        })?;
        Ok(signed.pem())
    }
}
