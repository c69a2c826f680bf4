//! Certificate signing requests: made by agents, judged by approvers, signed by the authority.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, SanType, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::certificate::{common_name, ip_address, organizations};
use crate::profile::{BACKDATE, apply_usages, date, serial_number, subject};
use crate::{Authority, Error, Profile, Usage};

/// A request that parsed and whose signature proves possession of its key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CertificateRequest {
    /// The common name asked for.
    pub common_name: String,
    /// The organizations asked for.
    pub organizations: Vec<String>,
    /// DNS names asked for.
    pub dns_names: Vec<String>,
    /// IP addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// Mail addresses asked for.
    pub email_addresses: Vec<String>,
    /// URIs asked for.
    pub uris: Vec<String>,
    public_key: SubjectPublicKeyInfo,
}

/// What the signer decides: the request decides the rest.
#[derive(Debug, Clone)]
pub struct SignOptions {
    /// The uses that the certificate gets.
    pub usages: Vec<Usage>,
    /// How long it is valid.
    pub lifetime: SignedDuration,
}

impl CertificateRequest {
    /// Makes a key and a request for it: `(request PEM, key PEM)`. The profile's uses and lifetime are not in it.
    pub fn create(profile: &Profile) -> Result<(String, String), Error> {
        let key = KeyPair::generate().map_err(Error::Generate)?;
        let request = Self::create_with_key(profile, &key.serialize_pem())?;
        Ok((request, key.serialize_pem()))
    }

    /// Makes a request for a key that exists, so that a repeated attempt asks for the same thing.
    pub fn create_with_key(profile: &Profile, key_pem: &str) -> Result<String, Error> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| Error::parse("private key PEM", e))?;
        let sign = |source| Error::Sign { what: "a certificate request", subject: profile.common_name.clone(), source };
        let request = profile.subject_params()?.serialize_request(&key).map_err(sign)?;
        request.pem().map_err(sign)
    }

    /// Parses a PEM request and checks its signature.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::parse("certificate request", reason);
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|e| wrong(e.to_string()))?;
        request.verify_signature().map_err(|_| wrong("its signature does not match its key".to_owned()))?;
        let info = &request.certification_request_info;
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|e| wrong(e.to_string()))?;
        let mut parsed = Self {
            common_name: common_name(&info.subject),
            organizations: organizations(&info.subject),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            email_addresses: Vec::new(),
            uris: Vec::new(),
            public_key,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(san) = extension {
                san.general_names.iter().for_each(|name| parsed.add_name(name));
            }
        }
        Ok(parsed)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.email_addresses.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.extend(ip_address(bytes)),
            _ => {}
        }
    }

    fn subject_alt_names(&self) -> Result<Vec<SanType>, Error> {
        let text = |name: &String| {
            name.as_str()
                .try_into()
                .map_err(|e: rcgen::Error| Error::parse("subject alternative name", format!("{name:?}: {e}")))
        };
        let mut names = Vec::new();
        for name in &self.dns_names {
            names.push(SanType::DnsName(text(name)?));
        }
        for name in &self.email_addresses {
            names.push(SanType::Rfc822Name(text(name)?));
        }
        for name in &self.uris {
            names.push(SanType::URI(text(name)?));
        }
        names.extend(self.ip_addresses.iter().copied().map(SanType::IpAddress));
        Ok(names)
    }
}

impl Authority {
    /// Signs a request as it stands: subject and names from the request, uses and lifetime from the signer.
    /// Whether the requester may have that subject is the caller's question. The certificate, PEM.
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        options: &SignOptions,
        now: Timestamp,
    ) -> Result<String, Error> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = subject(&request.common_name, &request.organizations)?;
        params.subject_alt_names = request.subject_alt_names()?;
        apply_usages(&mut params, &options.usages);
        params.serial_number = Some(serial_number());
        params.not_before = date(now - BACKDATE);
        params.not_after = date(now + options.lifetime);
        params.use_authority_key_identifier_extension = true;
        self.sign(params, &request.public_key, &request.common_name)
    }
}
