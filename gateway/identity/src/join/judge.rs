//! The space's judgement on a box that wants to join. Pure; the first fault refuses.

use super::message::{JoinChallenge, JoinRequest};
use crate::attest::{
    Attestation, Attested, CredentialFault, EndorsementFault, SECRET_BYTES, TpmBytesFault, TpmKey,
    TpmPublic, TpmSignature, check_endorsement, endorsement_digest, make_credential,
};
use crate::request::{Request, RequestFault};
use crate::tier::Tier;
use guan_model::{BoxId, Digest, PublicKey, WallTime};
use rustls_pki_types::CertificateDer;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A maker of TPMs that the space pins.
#[derive(Debug, Clone)]
pub struct Maker {
    pub name: String,
    /// What its TPMs are worth: `hardware`, or `emulated` for a test CA.
    pub tier: Tier,
    pub roots: Vec<CertificateDer<'static>>,
    pub intermediates: Vec<Vec<u8>>,
}

/// What a one-time token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub box_id: BoxId,
    pub expires_at: WallTime,
    /// The only endorsement key that may use it; where set, no maker needs to vouch, and the tier counts.
    pub endorsement: Option<(Digest, Tier)>,
}

/// Why a box may not join; the text goes to the box.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    #[error("the token is for box {granted}, the request for {asked}: use the token of this box")]
    OtherBox { granted: BoxId, asked: BoxId },
    #[error("the token has expired; ask the space's operator for a new one")]
    Expired,
    #[error("the {what} cannot be read")]
    Public { what: &'static str, source: TpmBytesFault },
    #[error("the token is for another endorsement key (this one is {found})")]
    OtherEndorsement { found: Digest },
    #[error("the TPM has no endorsement certificate; enrol it by the digest of its key, {found}")]
    NoCertificate { found: Digest },
    #[error("no maker is pinned: name one under [[boxes.maker]] in the space's configuration")]
    NoMakers,
    #[error("no pinned maker vouches for the TPM (its endorsement key is {found})")]
    Endorsement { found: Digest, source: EndorsementFault },
    #[error("tier {tier} is not in boxes.accept_tiers of this space")]
    TierNotAccepted { tier: Tier },
    #[error("the attestation key is not restricted, or can leave its TPM")]
    AkAttributes,
    #[error("the TLS key can do more than sign, or can leave its TPM")]
    TlsAttributes,
    #[error("the attestation key did not certify the TLS key for this connection")]
    Certified,
    #[error("the certificate request cannot be used")]
    Request(#[source] RequestFault),
    #[error("the certificate request is for another key than the certified one")]
    OtherRequestKey,
    #[error(transparent)]
    Credential(#[from] CredentialFault),
    #[error("the TPM could not open the space's credential: the attestation key is not in it")]
    Secret,
}

/// What the space keeps about a box that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub tier: Tier,
    pub endorsement: Digest,
    pub ak: PublicKey,
    pub tls_key: PublicKey,
}

/// A box that has yet to open the credential.
pub struct Pending {
    pub challenge: JoinChallenge,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    enrolled: Enrolled,
}

impl Pending {
    /// The box's secret is the one that was sealed for its TPM.
    pub fn confirm(self, secret: &[u8; SECRET_BYTES]) -> Result<Enrolled, JoinRefusal> {
        match bool::from(self.secret[..].ct_eq(&secret[..])) {
            true => Ok(self.enrolled),
            false => Err(JoinRefusal::Secret),
        }
    }
}

/// Judges a request whose token was found; `binding` is that of this connection.
pub fn judge(
    request: &JoinRequest,
    grant: &Grant,
    makers: &[Maker],
    accepted: &[Tier],
    binding: &Digest,
    now: WallTime,
) -> Result<Pending, JoinRefusal> {
    if request.box_id != grant.box_id {
        let (granted, asked) = (grant.box_id.clone(), request.box_id.clone());
        return Err(JoinRefusal::OtherBox { granted, asked });
    }
    if now > grant.expires_at {
        return Err(JoinRefusal::Expired);
    }
    let parse = |what, bytes: &[u8]| {
        TpmPublic::parse(bytes).map_err(|source| JoinRefusal::Public { what, source })
    };
    let ek = parse("endorsement key", &request.ek_public)?;
    let ak = parse("attestation key", &request.ak_public)?;
    let tls = parse("TLS key", &request.tls_public)?;
    let tier = tier_of(request, &ek, grant, makers, now)?;
    if !accepted.contains(&tier) {
        return Err(JoinRefusal::TierNotAccepted { tier });
    }
    let (ak_key, tls_key) = check_keys(&ak, &tls)?;
    let certified = (&request.certified[..], &request.certified_signature[..]);
    check_certified(certified, &ak_key, &tls, binding)?;
    let asked = Request::parse(&request.request).map_err(JoinRefusal::Request)?;
    if asked.public_key() != tls_key {
        return Err(JoinRefusal::OtherRequestKey);
    }
    let TpmKey::Rsa { modulus, exponent } = &ek.key else {
        return Err(CredentialFault::EkKind.into());
    };
    let (challenge, secret) = make_credential(modulus, *exponent, &ak.name())?;
    let (blob, encrypted_seed) = (challenge.blob, challenge.encrypted_seed);
    let endorsement = endorsement_digest(&ek);
    Ok(Pending {
        challenge: JoinChallenge { blob, encrypted_seed },
        secret,
        enrolled: Enrolled { tier, endorsement, ak: ak_key, tls_key },
    })
}

/// Who vouches for the TPM, and what that is worth.
fn tier_of(
    request: &JoinRequest,
    ek: &TpmPublic,
    grant: &Grant,
    makers: &[Maker],
    now: WallTime,
) -> Result<Tier, JoinRefusal> {
    let found = endorsement_digest(ek);
    if let Some((listed, tier)) = grant.endorsement {
        return match listed == found {
            true => Ok(tier),
            false => Err(JoinRefusal::OtherEndorsement { found }),
        };
    }
    if request.ek_certificate.is_empty() {
        return Err(JoinRefusal::NoCertificate { found });
    }
    let mut last = None;
    for maker in makers {
        let chain: Vec<_> =
            request.intermediates.iter().chain(&maker.intermediates).cloned().collect();
        match check_endorsement(ek, &request.ek_certificate, &chain, &maker.roots, now) {
            Ok(()) => return Ok(maker.tier),
            Err(fault) => last = Some(fault),
        }
    }
    Err(match last {
        Some(source) => JoinRefusal::Endorsement { found, source },
        None => JoinRefusal::NoMakers,
    })
}

fn check_keys(ak: &TpmPublic, tls: &TpmPublic) -> Result<(PublicKey, PublicKey), JoinRefusal> {
    let is_ak = ak.attributes.is_bound_to_tpm() && ak.attributes.is_attestation_key();
    let ak = ak.p256().filter(|_| is_ak).ok_or(JoinRefusal::AkAttributes)?;
    Ok((ak.clone(), check_tls(tls)?))
}

/// The TLS key signs, does nothing else, and stays where it is.
pub(super) fn check_tls(tls: &TpmPublic) -> Result<PublicKey, JoinRefusal> {
    let is_tls = tls.attributes.is_bound_to_tpm() && tls.attributes.is_signing_key();
    tls.p256().filter(|_| is_tls).cloned().ok_or(JoinRefusal::TlsAttributes)
}

pub(super) fn check_certified(
    (certified, signature): (&[u8], &[u8]),
    ak: &PublicKey,
    tls: &TpmPublic,
    binding: &Digest,
) -> Result<(), JoinRefusal> {
    let signature = TpmSignature::parse(signature);
    let is_signed = signature.is_ok_and(|signature| signature.is_by(ak, certified));
    let statement = Attestation::parse(certified).ok().filter(|_| is_signed);
    let holds = statement.is_some_and(|statement| {
        let is_tls =
            matches!(&statement.attested, Attested::Certify { name } if *name == tls.name());
        is_tls && statement.extra == binding.0
    });
    if holds { Ok(()) } else { Err(JoinRefusal::Certified) }
}
