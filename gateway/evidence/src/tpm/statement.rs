//! What a TPM attests to, and its signature: TPMS_ATTEST and TPMT_SIGNATURE (TPM 2.0, part 2, 10.12 and 11.3.4).
//!
//! A restricted key signs only bytes that the TPM made itself, and those begin with a magic value that no
//! message from outside may have. So the magic is looked at before anything else.

use super::bytes::{TpmBytesFault, TpmReader};
use guan_model::{Digest, PublicKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::collections::BTreeMap;

pub const ALG_SHA256: u16 = 0x000B;
const ALG_ECDSA: u16 = 0x0018;
/// 0xFF, "TCG".
const MAGIC: u32 = 0xFF54_4347;
const ATTEST_NV: u16 = 0x8014;
const ATTEST_CERTIFY: u16 = 0x8017;
const ATTEST_QUOTE: u16 = 0x8018;
/// Coordinate of P-256.
const COORDINATE_BYTES: usize = 32;
const DER_SEQUENCE: u8 = 0x30;
const DER_INTEGER: u8 = 0x02;
/// Registers of one bank.
pub const PCR_COUNT: u8 = 24;
/// A quote over more banks than one is not ours.
const SELECTIONS_MAX: u32 = 1;
/// Longest attested structure: a quote or certification has about 150 bytes, an NV area what it holds.
pub const ATTEST_BYTES_MAX: usize = 1024;

/// PCRs of the SHA-256 bank, by number.
pub type Pcrs = BTreeMap<u8, Digest>;

/// Time as the TPM counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TpmClock {
    /// Milliseconds of operation; never goes back while `resets` and the owner stay the same.
    pub clock_ms: u64,
    pub resets: u32,
    pub restarts: u32,
    /// `false` after an unclean stop: the clock may have gone back a little.
    pub is_safe: bool,
}

/// What is attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attested {
    Quote {
        /// Numbers of the PCRs, ascending.
        selected: Vec<u8>,
        digest: Vec<u8>,
    },
    Certify {
        name: Vec<u8>,
    },
    Nv {
        index_name: Vec<u8>,
        offset: u16,
        contents: Vec<u8>,
    },
}

/// A parsed TPMS_ATTEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Qualified name of the key that signed.
    pub signer: Vec<u8>,
    /// What the caller gave to be signed with it.
    pub extra: Vec<u8>,
    pub clock: TpmClock,
    pub firmware: u64,
    pub attested: Attested,
}

impl Attestation {
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmBytesFault> {
        let mut reader = TpmReader::new(bytes);
        let magic = reader.u32("the magic value")?;
        if magic != MAGIC {
            let (what, expected) = ("the magic value", "0xff544347 of a TPM");
            return Err(TpmBytesFault::Value { what, found: magic.into(), expected });
        }
        let kind = reader.u16("the kind of attestation")?;
        let signer = reader.sized("the signer's name")?.to_vec();
        let extra = reader.sized("the qualifying data")?.to_vec();
        let clock = TpmClock {
            clock_ms: reader.u64("the clock")?,
            resets: reader.u32("the count of resets")?,
            restarts: reader.u32("the count of restarts")?,
            is_safe: reader.u8("the clock's safety")? == 1,
        };
        let firmware = reader.u64("the firmware version")?;
        let attested = match kind {
            ATTEST_QUOTE => quoted(&mut reader)?,
            ATTEST_CERTIFY => {
                let name = reader.sized("the certified name")?.to_vec();
                reader.sized("the certified qualified name")?;
                Attested::Certify { name }
            }
            ATTEST_NV => Attested::Nv {
                index_name: reader.sized("the index's name")?.to_vec(),
                offset: reader.u16("the offset")?,
                contents: reader.sized("the contents")?.to_vec(),
            },
            found => {
                let (what, expected) = ("the kind of attestation", "quote, certify or NV certify");
                return Err(TpmBytesFault::Value { what, found: found.into(), expected });
            }
        };
        reader.end()?;
        Ok(Self { signer, extra, clock, firmware, attested })
    }
}

fn quoted(reader: &mut TpmReader<'_>) -> Result<Attested, TpmBytesFault> {
    let what = "the selection of PCRs";
    let count = reader.u32(what)?;
    if count != SELECTIONS_MAX {
        let limit = SELECTIONS_MAX.into();
        return Err(TpmBytesFault::Count { what, count: count.into(), limit });
    }
    reader.constant("the bank of PCRs", ALG_SHA256, "SHA-256 (0x000b)")?;
    let length = reader.u8(what)?;
    let limit = PCR_COUNT / 8;
    if length > limit {
        return Err(TpmBytesFault::Count { what, count: length.into(), limit: limit.into() });
    }
    let bits = reader.take(usize::from(length), what)?;
    let selected = (0..length * 8).filter(|pcr| bits[usize::from(pcr / 8)] >> (pcr % 8) & 1 == 1);
    let selected = selected.collect();
    Ok(Attested::Quote { selected, digest: reader.sized("the digest of PCRs")?.to_vec() })
}

/// Value of a register, or of an index that is extended, after one more digest (TPM 2.0 Library, part 3,
/// TPM2_PCR_Extend and TPM2_NV_Extend, with SHA-256).
pub fn extended(before: &Digest, data: &Digest) -> Digest {
    Digest::of_parts(&[&before.0, &data.0])
}

/// The digest that a quote over these PCRs carries.
pub fn pcr_digest(pcrs: &Pcrs) -> Digest {
    let bytes: Vec<u8> = pcrs.values().flat_map(|value| value.0).collect();
    Digest::of(&bytes)
}

/// A signature with ECDSA over SHA-256, as 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmSignature([u8; 2 * COORDINATE_BYTES]);

impl TpmSignature {
    /// From a TPMT_SIGNATURE.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmBytesFault> {
        let mut reader = TpmReader::new(bytes);
        reader.constant("the signature's algorithm", ALG_ECDSA, "ECDSA (0x0018)")?;
        reader.constant("the signature's digest", ALG_SHA256, "SHA-256 (0x000b)")?;
        let (r, s) = (reader.sized("the signature's r")?, reader.sized("the signature's s")?);
        reader.end()?;
        Self::from_scalars(r, s)
    }

    /// A TPM may leave out leading zeros.
    pub fn from_scalars(r: &[u8], s: &[u8]) -> Result<Self, TpmBytesFault> {
        let mut fixed = [0; 2 * COORDINATE_BYTES];
        for (scalar, half) in [r, s].into_iter().zip(fixed.chunks_exact_mut(COORDINATE_BYTES)) {
            let Some(start) = COORDINATE_BYTES.checked_sub(scalar.len()) else {
                let (what, count) = ("a signature's number", scalar.len() as u64);
                let limit = COORDINATE_BYTES as u64;
                return Err(TpmBytesFault::Count { what, count, limit });
            };
            half[start..].copy_from_slice(scalar);
        }
        Ok(Self(fixed))
    }

    /// From what [`to_der`](Self::to_der) writes; `None` for anything else.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let [DER_SEQUENCE, length, body @ ..] = der else { return None };
        let mut rest = body;
        let mut scalar = || {
            let [DER_INTEGER, length, more @ ..] = rest else { return None };
            let (number, more) = more.split_at_checked(usize::from(*length))?;
            rest = more;
            Some(number.strip_prefix(&[0]).unwrap_or(number))
        };
        let (r, s) = (scalar()?, scalar()?);
        let is_whole = usize::from(*length) == body.len() && rest.is_empty();
        Self::from_scalars(r, s).ok().filter(|_| is_whole)
    }

    /// r and s, 32 bytes each.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As X.509 and TLS write it: a SEQUENCE of two INTEGERs (RFC 3279, 2.2.3).
    pub fn to_der(&self) -> Vec<u8> {
        let integers = self.0.chunks_exact(COORDINATE_BYTES).flat_map(|scalar| {
            let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
            let digits = &scalar[zeros.min(COORDINATE_BYTES - 1)..];
            // A leading one bit would make the number negative.
            let sign = if digits[0] & 0x80 == 0 { &[][..] } else { &[0] };
            let length = u8::try_from(sign.len() + digits.len()).expect("33 at most");
            [&[DER_INTEGER, length], sign, digits].concat()
        });
        let body: Vec<u8> = integers.collect();
        let length = u8::try_from(body.len()).expect("70 at most");
        [&[DER_SEQUENCE, length][..], &body].concat()
    }

    /// Whether the key made it over the SHA-256 of the message.
    pub fn is_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        let PublicKey::EcdsaP256(point) = key else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &self.0).is_ok()
    }
}
