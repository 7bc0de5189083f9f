//! The four messages, in deterministic CBOR; on the wire each after its length in 32 bits, big endian.

use super::token::TOKEN_BYTES;
use crate::attest::{
    INTERMEDIATES_MAX, MAKER_CERTIFICATE_BYTES_MAX, PUBLIC_BYTES_MAX, SECRET_BYTES,
};
use crate::request::REQUEST_BYTES_MAX;
use crate::sealed_file::STORE_KEY_BYTES;
use crate::tier::{Tier, TierFault};
use guan_model::cbor::{CborFault, CborReader, CborWriter, MapKeys};
use guan_model::{BoxId, IdFault};
use zeroize::Zeroizing;

/// Longest message.
pub const JOIN_MESSAGE_BYTES_MAX: usize = 128 << 10;
pub(super) const SCHEMA: u64 = 1;
pub(super) const ATTEST_BYTES_MAX: u64 = 1024;
pub(super) const SIGNATURE_BYTES_MAX: u64 = 256;
const CREDENTIAL_BYTES_MAX: u64 = 1024;
pub(super) const TEXT_BYTES_MAX: usize = 1024;
pub(super) const PEM_BYTES_MAX: usize = 24 << 10;
/// Bytes of the password of a hierarchy.
pub const PASSWORD_BYTES: usize = 32;

/// Why bytes are none of the messages; whoever sent them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinMessageFault {
    #[error("a message that is no deterministic CBOR of its form")]
    Cbor(#[from] CborFault),
    #[error("schema {found}; schema {SCHEMA} is spoken here, update the older of the two programs")]
    Schema { found: u64 },
    #[error("a text of {length} bytes; the limit is {limit}")]
    Text { length: usize, limit: usize },
    #[error("no name of a box")]
    BoxId(#[from] IdFault),
    #[error(transparent)]
    Tier(#[from] TierFault),
    #[error("secrets to be kept that are not of {PASSWORD_BYTES} bytes, or left out")]
    Passwords,
    #[error("an answer of kind {kind}")]
    Answer { kind: u64 },
}

/// First message of the box.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRequest {
    pub token: Zeroizing<[u8; TOKEN_BYTES]>,
    pub box_id: BoxId,
    /// TPMT_PUBLIC.
    pub ek_public: Vec<u8>,
    /// DER; empty when the maker gave none.
    pub ek_certificate: Vec<u8>,
    pub intermediates: Vec<Vec<u8>>,
    pub ak_public: Vec<u8>,
    pub tls_public: Vec<u8>,
    /// PKCS#10 in PEM, for the TLS key.
    pub request: String,
    /// TPMS_ATTEST and TPMT_SIGNATURE: the AK certifies the TLS key.
    pub certified: Vec<u8>,
    pub certified_signature: Vec<u8>,
}

/// The space's answer: prove that the AK lives beside that EK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinChallenge {
    pub blob: Vec<u8>,
    pub encrypted_seed: Vec<u8>,
}

/// Passwords of a TPM that had none, for the space to keep: without them nobody clears it, and nobody else
/// becomes its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnerPasswords {
    pub owner: Zeroizing<[u8; PASSWORD_BYTES]>,
    pub lockout: Zeroizing<[u8; PASSWORD_BYTES]>,
}

/// The proof.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret {
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
    /// `None` when the TPM has passwords from an earlier joining.
    pub passwords: Option<OwnerPasswords>,
    /// Key of the box's store, for the day when its TPM is gone; `None` when nothing is sealed.
    pub store_key: Option<Zeroizing<[u8; STORE_KEY_BYTES]>>,
}

/// The end, in place of the challenge too when the request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    Challenge(JoinChallenge),
    Issued { certificate_pem: String, authority_pem: String, tier: Tier },
    Refused { text: String },
}

const KIND_CHALLENGE: u64 = 1;
const KIND_ISSUED: u64 = 2;
const KIND_REFUSED: u64 = 3;

/// Maps with all keys from 1 upwards.
pub(super) struct Fields<'a> {
    reader: CborReader<'a>,
    keys: MapKeys,
    next: u64,
}

impl<'a> Fields<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, JoinMessageFault> {
        let mut reader = CborReader::new(bytes);
        let keys = reader.map()?;
        let mut fields = Self { reader, keys, next: 1 };
        match fields.number()? {
            SCHEMA => Ok(fields),
            found => Err(JoinMessageFault::Schema { found }),
        }
    }

    pub(super) fn step(&mut self) -> Result<&mut CborReader<'a>, CborFault> {
        self.keys.require(&mut self.reader, self.next)?;
        self.next += 1;
        Ok(&mut self.reader)
    }

    pub(super) fn number(&mut self) -> Result<u64, CborFault> {
        self.step()?.unsigned()
    }

    pub(super) fn bytes(&mut self, max: u64) -> Result<Vec<u8>, CborFault> {
        Ok(self.step()?.bytes(max)?.to_vec())
    }

    pub(super) fn text(&mut self, limit: usize) -> Result<String, JoinMessageFault> {
        let text = self.step()?.text()?;
        match text.len() {
            length if length <= limit => Ok(text.to_owned()),
            length => Err(JoinMessageFault::Text { length, limit }),
        }
    }

    pub(super) fn close(self) -> Result<(), CborFault> {
        self.keys.finish(&self.reader)?;
        self.reader.end()
    }
}

impl JoinRequest {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        out.map(11);
        out.entry(1, SCHEMA);
        out.entry_bytes(2, &*self.token);
        out.entry_text(3, self.box_id.as_str());
        out.entry_bytes(4, &self.ek_public);
        out.entry_bytes(5, &self.ek_certificate);
        out.unsigned(6);
        out.array(self.intermediates.len() as u64);
        self.intermediates.iter().for_each(|certificate| out.bytes(certificate));
        out.entry_bytes(7, &self.ak_public);
        out.entry_bytes(8, &self.tls_public);
        out.entry_text(9, &self.request);
        out.entry_bytes(10, &self.certified);
        out.entry_bytes(11, &self.certified_signature);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, JoinMessageFault> {
        let (public, certificate) = (PUBLIC_BYTES_MAX as u64, MAKER_CERTIFICATE_BYTES_MAX as u64);
        let mut fields = Fields::open(bytes)?;
        let token = Zeroizing::new(fields.step()?.fixed_bytes()?);
        let box_id = BoxId::parse(fields.step()?.text()?)?;
        let ek_public = fields.bytes(public)?;
        let ek_certificate = fields.bytes(certificate)?;
        let reader = fields.step()?;
        let count = reader.array_up_to(INTERMEDIATES_MAX as u64)?;
        let intermediates = (0..count)
            .map(|_| reader.bytes(certificate).map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        let (ak_public, tls_public) = (fields.bytes(public)?, fields.bytes(public)?);
        let request = fields.text(REQUEST_BYTES_MAX)?;
        let certified = fields.bytes(ATTEST_BYTES_MAX)?;
        let certified_signature = fields.bytes(SIGNATURE_BYTES_MAX)?;
        fields.close()?;
        Ok(Self {
            token,
            box_id,
            ek_public,
            ek_certificate,
            intermediates,
            ak_public,
            tls_public,
            request,
            certified,
            certified_signature,
        })
    }
}

impl JoinSecret {
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = CborWriter::default();
        out.map(5);
        out.entry(1, SCHEMA);
        out.entry_bytes(2, &*self.secret);
        let (owner, lockout): (&[u8], &[u8]) = match &self.passwords {
            Some(passwords) => (&*passwords.owner, &*passwords.lockout),
            None => (&[], &[]),
        };
        out.entry_bytes(3, owner);
        out.entry_bytes(4, lockout);
        out.entry_bytes(5, self.store_key.as_ref().map_or(&[][..], |key| &key[..]));
        Zeroizing::new(out.finish())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, JoinMessageFault> {
        let mut fields = Fields::open(bytes)?;
        let secret = Zeroizing::new(fields.step()?.fixed_bytes()?);
        let owner = Zeroizing::new(fields.bytes(PASSWORD_BYTES as u64)?);
        let lockout = Zeroizing::new(fields.bytes(PASSWORD_BYTES as u64)?);
        let store_key = Zeroizing::new(fields.bytes(STORE_KEY_BYTES as u64)?);
        fields.close()?;
        let whole = |password: &[u8]| <[u8; PASSWORD_BYTES]>::try_from(password).ok();
        let passwords = match (whole(&owner), whole(&lockout)) {
            (Some(owner), Some(lockout)) => Some(OwnerPasswords {
                owner: Zeroizing::new(owner),
                lockout: Zeroizing::new(lockout),
            }),
            _ if owner.is_empty() && lockout.is_empty() => None,
            _ => return Err(JoinMessageFault::Passwords),
        };
        let store_key = match whole(&store_key) {
            None if !store_key.is_empty() => return Err(JoinMessageFault::Passwords),
            store_key => store_key.map(Zeroizing::new),
        };
        Ok(Self { secret, passwords, store_key })
    }
}

impl JoinAnswer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        match self {
            Self::Challenge(challenge) => {
                out.map(4);
                out.entry(1, SCHEMA);
                out.entry(2, KIND_CHALLENGE);
                out.entry_bytes(3, &challenge.blob);
                out.entry_bytes(4, &challenge.encrypted_seed);
            }
            Self::Issued { certificate_pem, authority_pem, tier } => {
                out.map(5);
                out.entry(1, SCHEMA);
                out.entry(2, KIND_ISSUED);
                out.entry_text(3, certificate_pem);
                out.entry_text(4, authority_pem);
                out.entry_text(5, tier.name());
            }
            Self::Refused { text } => {
                out.map(3);
                out.entry(1, SCHEMA);
                out.entry(2, KIND_REFUSED);
                let end = text.floor_char_boundary(TEXT_BYTES_MAX);
                out.entry_text(3, &text[..end]);
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, JoinMessageFault> {
        let mut fields = Fields::open(bytes)?;
        let answer = match fields.number()? {
            KIND_CHALLENGE => {
                let blob = fields.bytes(CREDENTIAL_BYTES_MAX)?;
                let encrypted_seed = fields.bytes(CREDENTIAL_BYTES_MAX)?;
                Self::Challenge(JoinChallenge { blob, encrypted_seed })
            }
            KIND_ISSUED => {
                let certificate_pem = fields.text(PEM_BYTES_MAX)?;
                let authority_pem = fields.text(PEM_BYTES_MAX)?;
                let tier = Tier::parse(&fields.text(TEXT_BYTES_MAX)?)?;
                Self::Issued { certificate_pem, authority_pem, tier }
            }
            KIND_REFUSED => Self::Refused { text: fields.text(TEXT_BYTES_MAX)? },
            kind => return Err(JoinMessageFault::Answer { kind }),
        };
        fields.close()?;
        Ok(answer)
    }
}
