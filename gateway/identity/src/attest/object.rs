//! Public areas of TPM keys: TPMT_PUBLIC (TPM 2.0, part 2, 12.2.4), their names and what they allow.

use guan_evidence::tpm::ALG_SHA256;
use guan_evidence::tpm::{TpmBytesFault, TpmReader};
use guan_model::{Digest, PublicKey};

const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;
const CURVE_P256: u16 = 0x0003;
const COORDINATE_BYTES: usize = 32;
/// First byte of an uncompressed point (SEC 1).
const UNCOMPRESSED: u8 = 4;
/// What the field says when it says nothing.
const RSA_EXPONENT_DEFAULT: u32 = 65_537;
/// Longest public area that is looked at.
pub const PUBLIC_BYTES_MAX: usize = 1024;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// What a key allows (TPMA_OBJECT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAttributes(u32);

impl KeyAttributes {
    fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Made in this TPM, and never leaves it.
    pub fn is_bound_to_tpm(self) -> bool {
        self.has(FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN)
    }

    /// Signs what the TPM itself has made, and nothing else.
    pub fn is_attestation_key(self) -> bool {
        self.has(RESTRICTED | SIGN) && !self.has(DECRYPT)
    }

    /// Signs anything that it is given, and nothing else.
    pub fn is_signing_key(self) -> bool {
        self.has(SIGN) && !self.has(RESTRICTED) && !self.has(DECRYPT)
    }

    /// Works on when others have locked the TPM by guessing.
    pub fn is_free_of_lockout(self) -> bool {
        self.has(NO_DA)
    }
}

/// The public key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmKey {
    P256(PublicKey),
    Rsa { modulus: Vec<u8>, exponent: u32 },
}

/// A parsed TPMT_PUBLIC with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmPublic {
    bytes: Vec<u8>,
    pub attributes: KeyAttributes,
    pub key: TpmKey,
}

impl TpmPublic {
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmBytesFault> {
        let mut reader = TpmReader::new(bytes);
        let kind = reader.u16("the key's algorithm")?;
        reader.constant("the key's name algorithm", ALG_SHA256, "SHA-256 (0x000b)")?;
        let attributes = KeyAttributes(reader.u32("the key's attributes")?);
        reader.sized("the key's policy")?;
        let key = match kind {
            ALG_ECC => elliptic(&mut reader)?,
            ALG_RSA => rsa(&mut reader)?,
            found => {
                let (what, expected) = ("the key's algorithm", "RSA (1) or ECC (0x23)");
                return Err(TpmBytesFault::Value { what, found: found.into(), expected });
            }
        };
        reader.end()?;
        Ok(Self { bytes: bytes.to_vec(), attributes, key })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Digest algorithm and digest of the public area (part 1, 16).
    pub fn name(&self) -> Vec<u8> {
        name_of(&self.bytes)
    }

    /// `None` for RSA.
    pub fn p256(&self) -> Option<&PublicKey> {
        match &self.key {
            TpmKey::P256(key) => Some(key),
            TpmKey::Rsa { .. } => None,
        }
    }
}

/// Name of the object with this public area.
pub fn name_of(public: &[u8]) -> Vec<u8> {
    [&ALG_SHA256.to_be_bytes()[..], &Digest::of(public).0].concat()
}

/// Skips a symmetric algorithm.
fn symmetric(reader: &mut TpmReader<'_>) -> Result<(), TpmBytesFault> {
    if reader.u16("the symmetric algorithm")? != ALG_NULL {
        reader.u16("the symmetric key's length")?;
        reader.u16("the symmetric mode")?;
    }
    Ok(())
}

/// Skips a scheme with one digest.
fn scheme(reader: &mut TpmReader<'_>) -> Result<(), TpmBytesFault> {
    if reader.u16("the scheme")? != ALG_NULL {
        reader.u16("the scheme's digest")?;
    }
    Ok(())
}

fn elliptic(reader: &mut TpmReader<'_>) -> Result<TpmKey, TpmBytesFault> {
    symmetric(reader)?;
    scheme(reader)?;
    reader.constant("the curve", CURVE_P256, "P-256 (3)")?;
    scheme(reader)?;
    let mut point = vec![UNCOMPRESSED];
    for what in ["the point's x", "the point's y"] {
        let coordinate = reader.sized(what)?;
        let Some(zeros) = COORDINATE_BYTES.checked_sub(coordinate.len()) else {
            let (count, limit) = (coordinate.len() as u64, COORDINATE_BYTES as u64);
            return Err(TpmBytesFault::Count { what, count, limit });
        };
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(coordinate);
    }
    Ok(TpmKey::P256(PublicKey::EcdsaP256(point)))
}

fn rsa(reader: &mut TpmReader<'_>) -> Result<TpmKey, TpmBytesFault> {
    symmetric(reader)?;
    scheme(reader)?;
    reader.u16("the RSA key's length")?;
    let exponent = match reader.u32("the RSA exponent")? {
        0 => RSA_EXPONENT_DEFAULT,
        exponent => exponent,
    };
    Ok(TpmKey::Rsa { modulus: reader.sized("the RSA modulus")?.to_vec(), exponent })
}

/// TPMT_PUBLIC of the key that signs policies, as a TPM loads it; `None` when it is not of P-256.
#[cfg(feature = "tpm")]
pub(crate) fn sealing_key(key: &PublicKey) -> Option<Vec<u8>> {
    const USER_WITH_AUTH: u32 = 1 << 6;
    let PublicKey::EcdsaP256(point) = key else { return None };
    let (x, y) = point.get(1..)?.split_at_checked(COORDINATE_BYTES)?;
    let length = u16::try_from(COORDINATE_BYTES).ok()?.to_be_bytes();
    let numbers = |all: &[u16]| all.iter().flat_map(|one| one.to_be_bytes()).collect::<Vec<u8>>();
    let head = [numbers(&[ALG_ECC, ALG_SHA256]), (SIGN | USER_WITH_AUTH).to_be_bytes().to_vec()];
    // No policy, no symmetric algorithm, no scheme, the curve, no derivation.
    let form = numbers(&[0, ALG_NULL, ALG_NULL, CURVE_P256, ALG_NULL]);
    Some([&head.concat()[..], &form, &length, x, &length, y].concat())
}

/// TPMT_PUBLIC of something sealed that only a policy opens.
#[cfg(feature = "tpm")]
pub(crate) fn sealed_public(policy: &Digest) -> Vec<u8> {
    const ALG_KEYED_HASH: u16 = 0x0008;
    let attributes = FIXED_TPM | FIXED_PARENT | NO_DA;
    let length = u16::try_from(policy.0.len()).expect("32 fits");
    [
        &ALG_KEYED_HASH.to_be_bytes()[..],
        &ALG_SHA256.to_be_bytes(),
        &attributes.to_be_bytes(),
        &length.to_be_bytes(),
        &policy.0,
        &ALG_NULL.to_be_bytes(),
        &[0, 0],
    ]
    .concat()
}
