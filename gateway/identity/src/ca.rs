//! The space's small certificate authority: one self-signed P-256 certificate that issues for boxes
//! and for the space's own servers.
//!
//! Box certificates serve only as client and server certificates only as server (extended key usage),
//! so neither can pose as the other although one authority issues both. Serial numbers are random:
//! a certificate can be revoked by its number alone, also after a renewal for the same key.

use crate::certificate::{self, BOX_URN, CertFault, TIER_URN};
use crate::key_file::random;
use crate::pem;
use crate::request::{CertificateKey, Request, RequestFault, SubjectKey, common_name};
use crate::tier::Tier;
use guan_model::time::EARLIEST;
use guan_model::{BoxId, PublicKey, SignFault, Signer, WallTime};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData as _, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Longest life of an authority; a fleet is re-rooted well before.
pub const CA_DAYS_MAX: u32 = 7320;
/// Longest life of a box's or server's certificate.
pub const LEAF_DAYS_MAX: u32 = 398;
/// Most names of one server.
pub const SERVER_NAMES_MAX: usize = 16;
/// Longest name of an authority (X.520, ub-common-name).
pub const CA_NAME_CHARS_MAX: usize = 64;
/// What stands before the name of the space in its authority's name.
const AUTHORITY_PREFIX: &str = "Guankou ";
/// How far the clocks of a box and of the space may differ.
const SKEW: Duration = Duration::from_secs(3600);

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum CaFault {
    #[error("a life of {days} days was asked for; give 1 to {limit}")]
    Days { days: u32, limit: u32 },
    #[error(
        "the authority's own certificate ends before the new one would; ask for fewer days or make \
         a new authority"
    )]
    OutlivesCa,
    #[error("the name of an authority has {chars} characters; give 1 to {CA_NAME_CHARS_MAX}")]
    Name { chars: usize },
    #[error("the server has {count} names; give 1 to {SERVER_NAMES_MAX}")]
    NameCount { count: usize },
    #[error("no DNS names or IP addresses: {}", names.join(", "))]
    ServerNames { names: Vec<String> },
    #[error("the key is of another kind than P-256; make a P-256 key")]
    KeyKind,
    #[error("the key does not belong to the authority's certificate; name the two that do")]
    KeyMismatch,
    #[error("the certificate is no authority's; name the one that was made with the authority")]
    NotCa,
    #[error("the authority's certificate cannot be used")]
    Certificate(#[source] CertFault),
    #[error("the request cannot be answered")]
    Request(#[source] RequestFault),
    #[error("the request is for {found:?}, but {expected} was expected")]
    OtherBox { found: String, expected: BoxId },
    #[error("the system gave no random bytes for a serial number")]
    Random,
    #[error("the authority's key could not sign")]
    Sign(#[source] SignFault),
    #[error("the certificate library failed: {0}")]
    Library(#[source] rcgen::Error),
}

/// The name of the authority that a space makes for itself.
pub fn authority_name(space: &BoxId) -> String {
    format!("{AUTHORITY_PREFIX}{space}")
}

/// The space whose authority a certificate is of; `None` for one that is named in another way.
pub fn space_of_authority(certificate: &[u8]) -> Option<String> {
    let name = certificate::common_name(certificate)?;
    let space = BoxId::parse(name.strip_prefix(AUTHORITY_PREFIX)?).ok()?;
    Some(space.to_string())
}

/// An authority, ready to issue.
pub struct SmallCa {
    certificate: CertificateDer<'static>,
    not_after: WallTime,
    issuer: Issuer<'static, CertificateKey>,
}

impl SmallCa {
    /// Makes an authority for a key. Store `certificate_pem`; `load` makes the same from it.
    pub fn create(
        name: &str,
        signer: Arc<dyn Signer>,
        now: WallTime,
        days: u32,
    ) -> Result<Self, CaFault> {
        let chars = name.chars().count();
        if !(1..=CA_NAME_CHARS_MAX).contains(&chars) {
            return Err(CaFault::Name { chars });
        }
        let key = CertificateKey::new(signer.clone()).ok_or(CaFault::KeyKind)?;
        let mut params = new_params(name, first_moment(now), end(now, days, CA_DAYS_MAX)?)?;
        // It issues for boxes and servers directly: no authority below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|fault| blame(&key, fault))?;
        Self::from_der(certificate.der().clone(), signer)
    }

    /// Takes up an authority; the key must be the one of the certificate.
    pub fn load(certificate_pem: &str, signer: Arc<dyn Signer>) -> Result<Self, CaFault> {
        let certificates =
            certificate::read_certificates(certificate_pem).map_err(CaFault::Certificate)?;
        let [certificate] = certificates.as_slice() else { return Err(CaFault::NotCa) };
        Self::from_der(certificate.clone(), signer)
    }

    fn from_der(
        certificate: CertificateDer<'static>,
        signer: Arc<dyn Signer>,
    ) -> Result<Self, CaFault> {
        let key = CertificateKey::new(signer).ok_or(CaFault::KeyKind)?;
        let parsed = certificate::parse(&certificate).map_err(CaFault::Certificate)?;
        let usage = parsed.key_usage().map_err(|_| CaFault::Certificate(CertFault::Encoding))?;
        if !parsed.is_ca() || !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
            return Err(CaFault::NotCa);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaFault::KeyMismatch);
        }
        let not_after = WallTime::from_seconds(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(CaFault::Library)?;
        Ok(Self { certificate, not_after, issuer })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.certificate).to_string()
    }

    /// A server certificate in PEM. `names` are the DNS names and IP addresses that boxes connect to.
    ///
    /// The key is taken as it is: the space itself holds it and the authority.
    pub fn issue_server(
        &self,
        names: &[&str],
        key: &PublicKey,
        now: WallTime,
        days: u32,
    ) -> Result<String, CaFault> {
        let PublicKey::EcdsaP256(point) = key else { return Err(CaFault::KeyKind) };
        let key = SubjectKey::new(point).ok_or(CaFault::KeyKind)?;
        let alternatives = server_names(names)?;
        let not_after = self.leaf_end(now, days)?;
        // Valid from the beginning, because a box whose clock battery is flat starts there: a server
        // that is "not yet valid" would shut it out until a person sets the clock.
        let mut params = new_params("guan-space", first_moment(now), not_after)?;
        params.subject_alt_names = alternatives;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue_leaf(params, &key)
    }

    /// A box certificate in PEM for a request that `expected`'s key signed.
    pub fn issue_box(
        &self,
        request_pem: &str,
        expected: &BoxId,
        tier: Tier,
        now: WallTime,
        days: u32,
    ) -> Result<String, CaFault> {
        let request = Request::parse(request_pem).map_err(CaFault::Request)?;
        if request.common_name != expected.as_str() {
            // A peer wrote the name: only its beginning is repeated.
            let found = request.common_name.chars().take(CA_NAME_CHARS_MAX).collect();
            return Err(CaFault::OtherBox { found, expected: expected.clone() });
        }
        let not_after = self.leaf_end(now, days)?;
        let not_before = WallTime(now.0.saturating_sub_unsigned(nanos(SKEW)));
        let mut params = new_params(expected.as_str(), not_before, not_after)?;
        params.subject_alt_names =
            vec![uri(format!("{BOX_URN}{expected}")), uri(format!("{TIER_URN}{tier}"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue_leaf(params, &request.key)
    }

    fn leaf_end(&self, now: WallTime, days: u32) -> Result<WallTime, CaFault> {
        let not_after = end(now, days, LEAF_DAYS_MAX)?;
        // A certificate that outlives its issuer fails on a day that nobody has in the calendar.
        if not_after > self.not_after { Err(CaFault::OutlivesCa) } else { Ok(not_after) }
    }

    fn issue_leaf(
        &self,
        mut params: CertificateParams,
        key: &SubjectKey,
    ) -> Result<String, CaFault> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let issued = params.signed_by(key, &self.issuer);
        let certificate = issued.map_err(|fault| blame(self.issuer.key(), fault))?;
        Ok(pem::encode(pem::CERTIFICATE, certificate.der()).to_string())
    }
}

impl std::fmt::Debug for SmallCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallCa").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn blame(key: &CertificateKey, fault: rcgen::Error) -> CaFault {
    key.take_fault().map_or(CaFault::Library(fault), CaFault::Sign)
}

fn new_params(
    name: &str,
    not_before: WallTime,
    not_after: WallTime,
) -> Result<CertificateParams, CaFault> {
    let mut serial = random::<16>().map_err(|_| CaFault::Random)?;
    // Positive and never zero, whatever was drawn (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7F | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_ref()));
    params.distinguished_name = common_name(name);
    params.not_before = moment(not_before);
    params.not_after = moment(not_after);
    Ok(params)
}

fn first_moment(now: WallTime) -> WallTime {
    EARLIEST.min(now)
}

fn end(now: WallTime, days: u32, limit: u32) -> Result<WallTime, CaFault> {
    if !(1..=limit).contains(&days) {
        return Err(CaFault::Days { days, limit });
    }
    Ok(now.saturating_add(Duration::from_secs(u64::from(days) * 24 * 3600)))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("an hour has fewer than 2^64 nanoseconds")
}

/// Certificates count in seconds.
fn moment(time: WallTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000_000))
        .expect("a wall time lies between the years 1677 and 2262")
}

fn uri(text: String) -> SanType {
    SanType::URI(Ia5String::try_from(text).expect("box ids and tiers are ASCII"))
}

fn server_names(names: &[&str]) -> Result<Vec<SanType>, CaFault> {
    if !(1..=SERVER_NAMES_MAX).contains(&names.len()) {
        return Err(CaFault::NameCount { count: names.len() });
    }
    let mut alternatives = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        match ServerName::try_from(*name) {
            Ok(ServerName::IpAddress(address)) => {
                alternatives.push(SanType::IpAddress(std::net::IpAddr::from(address)));
            }
            Ok(ServerName::DnsName(dns)) => {
                let dns = Ia5String::try_from(dns.as_ref()).expect("DNS names are ASCII");
                alternatives.push(SanType::DnsName(dns));
            }
            _ => refused.push(format!("{name:?}")),
        }
    }
    if refused.is_empty() { Ok(alternatives) } else { Err(CaFault::ServerNames { names: refused }) }
}

#[cfg(test)]
mod tests;
