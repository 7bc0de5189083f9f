//! Time stamps of an authority (RFC 3161) over heads of a log: the request, and the token checked offline.
//!
//! The authority sees SHA-256 of a head's text and nothing else. Its certificate is pinned by whoever checks: no
//! chain is built and nobody is asked, so a token says what it says as long as somebody vouches for that certificate.
//!
//! Never here: the way to the authority and back. A time stamp is an addition: nothing waits for one.

mod der;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::{Der, SEQUENCE, SET, Value, context, put, seconds};
use guan_model::Digest;
use ring::digest::{Algorithm, SHA256, SHA384, SHA512};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// Longest answer of an authority that is read; with three certificates it has about 6 kB.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Longest certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA_384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA_512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x10, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x04];
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const P_256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P_384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const KEY_USAGES: &[u8] = &[0x55, 0x1D, 0x25];
const TIME_STAMPING: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Why a token or a certificate does not hold. The authority, or whoever carried its answer, is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampFault {
    #[error("it has {length} bytes; the limit is {max}")]
    TooLong { length: usize, max: usize },
    #[error("the authority refused: status {status}")]
    Refused { status: u8 },
    #[error("it is no answer of a time stamp authority (RFC 3161) in DER: {what}")]
    Form { what: &'static str },
    #[error("it is about another digest than that of the head")]
    OtherDigest,
    #[error("it answers another request")]
    OtherNonce,
    #[error("it was signed by another certificate than the one that is believed")]
    Signature,
    #[error(
        "it uses an algorithm that is not taken here; SHA-256 to SHA-512 with RSA, P-256 or P-384 are"
    )]
    Algorithm,
    #[error("its time is outside the time for which the certificate holds")]
    Expired,
    #[error("the certificate is no X.509 certificate")]
    Certificate,
    #[error("the certificate is not for time stamps")]
    Usage,
}

const fn form(what: &'static str) -> TimestampFault {
    TimestampFault::Form { what }
}

/// The request for a time stamp over a digest, for `application/timestamp-query`; `nonce` makes it another one.
pub fn request(digest: &Digest, nonce: [u8; 8]) -> Vec<u8> {
    let algorithm = put(SEQUENCE, &[&put(der::OID, &[SHA_256]), &put(der::NULL, &[])]);
    let imprint = put(SEQUENCE, &[&algorithm, &put(der::OCTETS, &[&digest.0])]);
    let nonce = positive(nonce);
    let with_certificate = put(der::BOOLEAN, &[&[0xFF]]);
    let version = put(der::INTEGER, &[&[1]]);
    put(SEQUENCE, &[&version, &imprint, &put(der::INTEGER, &[&nonce]), &with_certificate])
}

/// As an integer in DER: positive, and with no byte too many.
fn positive(mut nonce: [u8; 8]) -> [u8; 8] {
    nonce[0] = (nonce[0] & 0x7F) | 0x40;
    nonce
}

/// The certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    key: Key,
    bits: Vec<u8>,
    not_before_s: i64,
    not_after_s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rsa,
    P256,
    P384,
}

impl Authority {
    /// From DER.
    pub fn parse(bytes: &[u8]) -> Result<Self, TimestampFault> {
        let (length, max) = (bytes.len(), CERTIFICATE_BYTES_MAX);
        if length > max {
            return Err(TimestampFault::TooLong { length, max });
        }
        let (authority, is_for_stamps) =
            parse_certificate(bytes).ok_or(TimestampFault::Certificate)?;
        is_for_stamps.then_some(authority).ok_or(TimestampFault::Usage)
    }

    /// From PEM: the first certificate in it.
    pub fn from_pem(text: &str) -> Result<Self, TimestampFault> {
        let (_, after) =
            text.split_once("-----BEGIN CERTIFICATE-----").ok_or(TimestampFault::Certificate)?;
        let (body, _) =
            after.split_once("-----END CERTIFICATE-----").ok_or(TimestampFault::Certificate)?;
        let body: String = body.split_ascii_whitespace().collect();
        Self::parse(&STANDARD.decode(body).map_err(|_| TimestampFault::Certificate)?)
    }

    fn verify(
        &self,
        hash: &Algorithm,
        message: &[u8],
        signed: &[u8],
    ) -> Result<(), TimestampFault> {
        let is = |one: &'static Algorithm| hash == one;
        let algorithm: &dyn VerificationAlgorithm = match self.key {
            Key::Rsa if is(&SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            Key::Rsa if is(&SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            Key::Rsa => &signature::RSA_PKCS1_2048_8192_SHA512,
            Key::P256 if is(&SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            Key::P256 if is(&SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            Key::P384 if is(&SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            Key::P384 if is(&SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            Key::P256 | Key::P384 => return Err(TimestampFault::Algorithm),
        };
        let key = UnparsedPublicKey::new(algorithm, &self.bits);
        key.verify(message, signed).map_err(|_| TimestampFault::Signature)
    }
}

fn parse_certificate(bytes: &[u8]) -> Option<(Authority, bool)> {
    let mut outer = Der::new(bytes);
    let certificate = outer.take(SEQUENCE)?;
    if !outer.is_empty() {
        return None;
    }
    let mut body = certificate.inside().take(SEQUENCE)?.inside();
    body.optional(context(0));
    body.take(der::INTEGER)?;
    body.take(SEQUENCE)?;
    body.take(SEQUENCE)?;
    let mut validity = body.take(SEQUENCE)?.inside();
    let (not_before_s, not_after_s) = (seconds(&validity.any()?)?, seconds(&validity.any()?)?);
    body.take(SEQUENCE)?;
    let mut info = body.take(SEQUENCE)?.inside();
    let mut algorithm = info.take(SEQUENCE)?.inside();
    let kind = algorithm.take(der::OID)?.contents;
    let key = match kind {
        RSA => Key::Rsa,
        EC => match algorithm.take(der::OID)?.contents {
            P_256 => Key::P256,
            P_384 => Key::P384,
            _ => return None,
        },
        _ => return None,
    };
    let bits = info.take(der::BIT_STRING)?.contents.strip_prefix(&[0])?.to_vec();
    let mut is_for_stamps = false;
    while !body.is_empty() {
        let part = body.any()?;
        if part.tag == context(3) {
            is_for_stamps |= says_time_stamping(&part)?;
        }
    }
    Some((Authority { key, bits, not_before_s, not_after_s }, is_for_stamps))
}

/// Whether the extensions have time stamping among the key's uses.
fn says_time_stamping(extensions: &Value<'_>) -> Option<bool> {
    let mut all = extensions.inside().take(SEQUENCE)?.inside();
    let mut is_said = false;
    while !all.is_empty() {
        let mut one = all.take(SEQUENCE)?.inside();
        let kind = one.take(der::OID)?.contents;
        one.optional(der::BOOLEAN);
        let value = one.take(der::OCTETS)?;
        if kind == KEY_USAGES {
            let mut uses = value.inside().take(SEQUENCE)?.inside();
            while !uses.is_empty() {
                is_said |= uses.take(der::OID)?.contents == TIME_STAMPING;
            }
        }
    }
    Some(is_said)
}

/// What an authority said: this digest was there at this time.
#[derive(Debug, Clone, Copy)]
pub struct Token<'t> {
    /// SHA-256 of what was stamped.
    pub digest: Digest,
    /// Seconds since 1970 by the authority's clock.
    pub seconds: i64,
    nonce: Option<&'t [u8]>,
    contents: &'t [u8],
    /// Of one signer: the attributes that are signed, the algorithm of their digest, the signature.
    attributes: Value<'t>,
    hash: &'static Algorithm,
    signed: &'t [u8],
}

impl<'t> Token<'t> {
    /// Reads the answer of an authority (`application/timestamp-reply`). Whether it holds, [`Token::verify`] says.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, TimestampFault> {
        let (length, max) = (bytes.len(), TOKEN_BYTES_MAX);
        if length > max {
            return Err(TimestampFault::TooLong { length, max });
        }
        let mut outer = Der::new(bytes);
        let mut answer = outer.take(SEQUENCE).ok_or(form("no sequence"))?.inside();
        if !outer.is_empty() {
            return Err(form("something follows it"));
        }
        let status = answer.take(SEQUENCE).and_then(|status| status.inside().take(der::INTEGER));
        match status.ok_or(form("no status"))?.contents {
            // Granted, or granted with changes.
            [0 | 1] => {}
            [status] => return Err(TimestampFault::Refused { status: *status }),
            _ => return Err(form("its status")),
        }
        Self::parse_token(&mut answer).ok_or(form("its token"))?
    }

    /// The inner error names an algorithm, the outer `None` is about the form.
    fn parse_token(answer: &mut Der<'t>) -> Option<Result<Self, TimestampFault>> {
        let mut info = answer.take(SEQUENCE)?.inside();
        let mut signed = match info.take(der::OID)?.contents {
            SIGNED_DATA => info.take(context(0))?.inside().take(SEQUENCE)?.inside(),
            _ => return None,
        };
        signed.take(der::INTEGER)?;
        signed.take(SET)?;
        let mut content = signed.take(SEQUENCE)?.inside();
        if content.take(der::OID)?.contents != TST_INFO {
            return None;
        }
        let contents = content.take(context(0))?.inside().take(der::OCTETS)?.contents;
        signed.optional(context(0));
        signed.optional(context(1));
        let mut signer = signed.take(SET)?.inside().take(SEQUENCE)?.inside();
        signer.take(der::INTEGER)?;
        signer.any()?;
        let hash = signer.take(SEQUENCE)?.inside().take(der::OID)?.contents;
        let attributes = signer.take(context(0))?;
        signer.take(SEQUENCE)?;
        let signature = signer.take(der::OCTETS)?.contents;
        let hash: &'static Algorithm = match hash {
            SHA_256 => &SHA256,
            SHA_384 => &SHA384,
            SHA_512 => &SHA512,
            _ => return Some(Err(TimestampFault::Algorithm)),
        };
        let Info { digest, seconds, nonce } = match parse_info(contents)? {
            Ok(said) => said,
            Err(fault) => return Some(Err(fault)),
        };
        Some(Ok(Self { digest, seconds, nonce, contents, attributes, hash, signed: signature }))
    }

    /// Whether it is about this digest and answers [`request`] with this nonce, not one from before.
    pub fn check_request(&self, digest: &Digest, nonce: [u8; 8]) -> Result<(), TimestampFault> {
        if self.digest != *digest {
            return Err(TimestampFault::OtherDigest);
        }
        let is_asked = self.nonce == Some(&positive(nonce));
        is_asked.then_some(()).ok_or(TimestampFault::OtherNonce)
    }

    /// Whether this authority said it, about this digest. Gives the time.
    pub fn verify(&self, digest: &Digest, authority: &Authority) -> Result<i64, TimestampFault> {
        if self.digest != *digest {
            return Err(TimestampFault::OtherDigest);
        }
        let found = signed_attributes(&self.attributes).ok_or(form("its signed attributes"))?;
        let (kind, message_digest) = found;
        let expected = ring::digest::digest(self.hash, self.contents);
        if kind != TST_INFO || message_digest != expected.as_ref() {
            return Err(form("its signed attributes"));
        }
        // What is signed is the set of them, under its own tag.
        let mut message = self.attributes.whole.to_vec();
        message[0] = SET;
        authority.verify(self.hash, &message, self.signed)?;
        let holds = (authority.not_before_s..=authority.not_after_s).contains(&self.seconds);
        holds.then_some(self.seconds).ok_or(TimestampFault::Expired)
    }
}

/// The digest that was stamped, when, and the nonce of the request, if it had one.
struct Info<'t> {
    digest: Digest,
    seconds: i64,
    nonce: Option<&'t [u8]>,
}

fn parse_info(contents: &[u8]) -> Option<Result<Info<'_>, TimestampFault>> {
    let mut outer = Der::new(contents);
    let mut info = outer.take(SEQUENCE)?.inside();
    info.take(der::INTEGER).filter(|version| version.contents == [1] && outer.is_empty())?;
    info.take(der::OID)?;
    let mut imprint = info.take(SEQUENCE)?.inside();
    let algorithm = imprint.take(SEQUENCE)?.inside().take(der::OID)?.contents;
    let digest = imprint.take(der::OCTETS)?.contents;
    info.take(der::INTEGER)?;
    let seconds = seconds(&info.take(der::TIME)?)?;
    // Accuracy and ordering.
    info.optional(SEQUENCE);
    info.optional(der::BOOLEAN);
    let nonce = info.optional(der::INTEGER).map(|nonce| nonce.contents);
    if algorithm != SHA_256 {
        return Some(Err(TimestampFault::Algorithm));
    }
    Some(Ok(Info { digest: Digest(digest.try_into().ok()?), seconds, nonce }))
}

/// Type and digest of the contents, each there once.
fn signed_attributes<'t>(attributes: &Value<'t>) -> Option<(&'t [u8], &'t [u8])> {
    let (mut kind, mut digest) = (None, None);
    let mut all = attributes.inside();
    while !all.is_empty() {
        let mut one = all.take(SEQUENCE)?.inside();
        let name = one.take(der::OID)?.contents;
        let mut values = one.take(SET)?.inside();
        let place = match name {
            CONTENT_TYPE => &mut kind,
            MESSAGE_DIGEST => &mut digest,
            _ => continue,
        };
        let value = values.any()?.contents;
        if place.replace(value).is_some() || !values.is_empty() {
            return None;
        }
    }
    kind.zip(digest)
}

#[cfg(test)]
mod tests;
