//! What a certificate says: subject, names, uses, how long.

use std::net::IpAddr;

use jiff::SignedDuration;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::ServerName;

use crate::Error;

/// Certificates are valid a little before they are made, for clocks that differ. Upstream: 5 minutes.
pub(crate) const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// A year: what kubeadm gives its leaf certificates.
const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365);

/// One use of a certificate, under the name it has in `CertificateSigningRequest.spec.usages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Usage {
    /// `digital signature` (and `signing`, which upstream treats the same).
    DigitalSignature,
    /// `key encipherment`.
    KeyEncipherment,
    /// `key agreement`.
    KeyAgreement,
    /// `data encipherment`.
    DataEncipherment,
    /// `content commitment`.
    ContentCommitment,
    /// `any`.
    Any,
    /// `server auth`.
    ServerAuth,
    /// `client auth`.
    ClientAuth,
    /// `code signing`.
    CodeSigning,
    /// `email protection` and `s/mime`.
    EmailProtection,
    /// `timestamping`.
    TimeStamping,
    /// `ocsp signing`.
    OcspSigning,
}

impl Usage {
    /// The use with this name in the API, or nothing when no certificate made here may have it.
    pub fn from_api_name(name: &str) -> Option<Self> {
        Some(match name {
            "signing" | "digital signature" => Self::DigitalSignature,
            "key encipherment" => Self::KeyEncipherment,
            "key agreement" => Self::KeyAgreement,
            "data encipherment" => Self::DataEncipherment,
            "content commitment" => Self::ContentCommitment,
            "any" => Self::Any,
            "server auth" => Self::ServerAuth,
            "client auth" => Self::ClientAuth,
            "code signing" => Self::CodeSigning,
            "email protection" | "s/mime" => Self::EmailProtection,
            "timestamping" => Self::TimeStamping,
            "ocsp signing" => Self::OcspSigning,
            _ => return None,
        })
    }

    fn key_usage(self) -> Option<KeyUsagePurpose> {
        Some(match self {
            Self::DigitalSignature => KeyUsagePurpose::DigitalSignature,
            Self::KeyEncipherment => KeyUsagePurpose::KeyEncipherment,
            Self::KeyAgreement => KeyUsagePurpose::KeyAgreement,
            Self::DataEncipherment => KeyUsagePurpose::DataEncipherment,
            Self::ContentCommitment => KeyUsagePurpose::ContentCommitment,
            _ => return None,
        })
    }

    fn extended_key_usage(self) -> Option<ExtendedKeyUsagePurpose> {
        Some(match self {
            Self::Any => ExtendedKeyUsagePurpose::Any,
            Self::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
            Self::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
            Self::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
            Self::EmailProtection => ExtendedKeyUsagePurpose::EmailProtection,
            Self::TimeStamping => ExtendedKeyUsagePurpose::TimeStamping,
            Self::OcspSigning => ExtendedKeyUsagePurpose::OcspSigning,
            _ => return None,
        })
    }
}

/// What a certificate to be issued says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The common name: the user name of a client certificate.
    pub common_name: String,
    /// The organizations: the groups of a client certificate. At most two.
    pub organizations: Vec<String>,
    /// Subject alternative names: DNS names and IP addresses, told apart by their form.
    pub names: Vec<String>,
    /// What the certificate may be used for.
    pub usages: Vec<Usage>,
    /// How long it is valid.
    pub lifetime: SignedDuration,
}

impl Profile {
    /// A client certificate of one user in some groups, valid for a year.
    pub fn client<G: Into<String>>(user: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        Self {
            common_name: user.into(),
            organizations: groups.into_iter().map(Into::into).collect(),
            names: Vec::new(),
            usages: vec![Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ClientAuth],
            lifetime: LEAF_LIFETIME,
        }
    }

    /// A serving certificate for some DNS names and IP addresses, valid for a year.
    pub fn server<N: Into<String>>(common_name: impl Into<String>, names: impl IntoIterator<Item = N>) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: Vec::new(),
            names: names.into_iter().map(Into::into).collect(),
            usages: vec![Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth],
            lifetime: LEAF_LIFETIME,
        }
    }

    /// The same with other organizations.
    #[must_use]
    pub fn organizations<G: Into<String>>(mut self, groups: impl IntoIterator<Item = G>) -> Self {
        self.organizations = groups.into_iter().map(Into::into).collect();
        self
    }

    /// The same with another lifetime.
    #[must_use]
    pub fn lifetime(mut self, lifetime: SignedDuration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Subject and names as the signer wants them; without validity, uses and serial number.
    pub(crate) fn subject_params(&self) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&self.common_name, &self.organizations)?;
        params.subject_alt_names = self.names.iter().map(|n| san(n)).collect::<Result<_, _>>()?;
        Ok(params)
    }

    pub(crate) fn params(&self, now: jiff::Timestamp) -> Result<CertificateParams, Error> {
        let mut params = self.subject_params()?;
        apply_usages(&mut params, &self.usages);
        params.serial_number = Some(serial_number());
        params.not_before = date(now - BACKDATE);
        params.not_after = date(now + self.lifetime);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

pub(crate) fn apply_usages(params: &mut CertificateParams, usages: &[Usage]) {
    params.key_usages = usages.iter().filter_map(|u| u.key_usage()).collect();
    params.extended_key_usages = usages.iter().filter_map(|u| u.extended_key_usage()).collect();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
}

/// A random positive number of 127 bits: unique without a register of what was issued.
pub(crate) fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from(bytes.to_vec())
}

pub(crate) fn date(at: jiff::Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).expect("jiff's range of years lies within time's")
}

fn san(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    // rustls accepts no other DNS names, so neither may a certificate carry them; a wildcard is judged by its rest.
    let plain = name.strip_prefix("*.").unwrap_or(name);
    ServerName::try_from(plain).map_err(|e| Error::parse("DNS name", format!("{name:?}: {e}")))?;
    let text = name.try_into().map_err(|e: rcgen::Error| Error::parse("DNS name", format!("{name:?}: {e}")))?;
    Ok(SanType::DnsName(text))
}

/// rcgen keeps one value per attribute type; a second organization enters under the same OID spelled as a custom type.
pub(crate) fn subject(common_name: &str, organizations: &[String]) -> Result<DistinguishedName, Error> {
    if organizations.len() > 2 {
        return Err(Error::Organizations { subject: common_name.to_owned(), count: organizations.len() });
    }
    let types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    let mut name = DistinguishedName::new();
    for (kind, organization) in types.into_iter().zip(organizations) {
        name.push(kind, organization.as_str());
    }
    if !common_name.is_empty() {
        name.push(DnType::CommonName, common_name);
    }
    Ok(name)
}
