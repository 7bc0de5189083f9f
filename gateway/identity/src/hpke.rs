//! Sealing for one reader: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
//! ChaCha20-Poly1305, and the file in which the reader's key lies.
//!
//! Base mode says nothing of who sealed: whoever needs that signs beside it. Records of one context open in the
//! order in which they were sealed, and in no other. Keys are made for one context each and never stored.

use crate::key_file::{KeyFault, random};
use crate::{pem, secret_file};
use curve25519_dalek::MontgomeryPoint;
use guan_model::Digest;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use std::fmt;
use std::path::Path;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of a key, public or secret, and of what goes with what was sealed.
pub const SEAL_KEY_BYTES: usize = 32;
/// By so much a sealed record is longer.
pub const SEAL_TAG_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// DHKEM(X25519, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x20";
/// The same, HKDF-SHA256, ChaCha20-Poly1305.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";
const MODE_BASE: u8 = 0;
/// RFC 8410, section 7: what stands before the 32 bytes of a secret in PKCS#8.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

type Secret = Zeroizing<[u8; HASH_BYTES]>;

/// Why nothing is sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    #[error("the system gave no random bytes; without them nothing is sealed")]
    Random,
    #[error(
        "the public key gives the same secret with every other; it is no key that a space made"
    )]
    WeakKey,
    #[error("what is sealed was changed, stands out of order, or is for another key")]
    Changed,
}

/// A reader's key. Shows nothing of its secret.
pub struct SealKey {
    secret: Secret,
    public: [u8; SEAL_KEY_BYTES],
}

impl SealKey {
    fn of(secret: Secret) -> Self {
        let public = MontgomeryPoint::mul_base_clamped(*secret).to_bytes();
        Self { secret, public }
    }

    /// Makes a key and its file of mode 0600, durable when this returns. An existing file is refused.
    pub fn create(path: &Path) -> Result<Self, KeyFault> {
        let key = Self::of(random()?);
        secret_file::create(path, key.to_pem().as_bytes()).map_err(KeyFault::File)?;
        Ok(key)
    }

    /// Reads a key file; refuses one that group or others may touch.
    pub fn load(path: &Path) -> Result<Self, KeyFault> {
        let bytes = secret_file::read(path).map_err(KeyFault::File)?;
        Self::from_pem(std::str::from_utf8(&bytes).map_err(|_| KeyFault::NotText)?)
    }

    /// Reads what [`create`](Self::create) or `openssl genpkey -algorithm X25519` wrote.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        let der = pem::decode_private(text).map_err(KeyFault::Pem)?;
        let secret = der.strip_prefix(&PKCS8_HEAD[..]).filter(|secret| secret.len() == HASH_BYTES);
        let mut own = Secret::default();
        own.copy_from_slice(secret.ok_or(KeyFault::Kind { kind: "X25519" })?);
        Ok(Self::of(own))
    }

    fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_HEAD.len() + HASH_BYTES));
        der.extend_from_slice(&PKCS8_HEAD);
        der.extend_from_slice(&self.secret[..]);
        pem::encode(pem::PRIVATE_KEY, &der)
    }

    pub fn public(&self) -> [u8; SEAL_KEY_BYTES] {
        self.public
    }

    /// Opens what was sealed for this key with [`seal_for`]; `enc` is what that gave.
    pub fn open(&self, enc: &[u8; SEAL_KEY_BYTES], info: &[u8]) -> Result<Opening, SealFault> {
        let shared = shared_secret(&self.secret, enc, (enc, &self.public))?;
        Ok(Opening { context: Context::new(&shared, info), has_failed: false })
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X25519 key {}", seal_key_id(&self.public))
    }
}

/// How a reader's key is named: SHA-256 of its public half.
pub fn seal_key_id(public: &[u8; SEAL_KEY_BYTES]) -> Digest {
    Digest::of(public)
}

/// Begins to seal for a reader, with a key of its own. The first value must come to the reader in the clear; `info`
/// he must know, too.
pub fn seal_for(
    reader: &[u8; SEAL_KEY_BYTES],
    info: &[u8],
) -> Result<([u8; SEAL_KEY_BYTES], Sealing), SealFault> {
    seal_with(random().map_err(|_| SealFault::Random)?, reader, info)
}

fn seal_with(
    ephemeral: Secret,
    reader: &[u8; SEAL_KEY_BYTES],
    info: &[u8],
) -> Result<([u8; SEAL_KEY_BYTES], Sealing), SealFault> {
    let enc = MontgomeryPoint::mul_base_clamped(*ephemeral).to_bytes();
    let shared = shared_secret(&ephemeral, reader, (&enc, reader))?;
    Ok((enc, Sealing(Context::new(&shared, info))))
}

/// Seals records, one after the other.
pub struct Sealing(Context);

impl Sealing {
    /// In place; the tag comes last.
    pub fn seal(&mut self, record: &mut Vec<u8>) {
        let nonce = self.0.next_nonce();
        let sealed = self.0.key.seal_in_place_append_tag(nonce, Aad::empty(), record);
        sealed.expect("a record is far shorter than the cipher's limit");
    }
}

/// Opens records, one after the other.
pub struct Opening {
    context: Context,
    has_failed: bool,
}

impl Opening {
    /// In place. After a fault nothing opens any more.
    pub fn open(&mut self, record: &mut Vec<u8>) -> Result<(), SealFault> {
        if std::mem::replace(&mut self.has_failed, true) {
            return Err(SealFault::Changed);
        }
        let nonce = self.context.next_nonce();
        let opened = self.context.key.open_in_place(nonce, Aad::empty(), record);
        let length = opened.map_err(|_| SealFault::Changed)?.len();
        record.truncate(length);
        self.has_failed = false;
        Ok(())
    }
}

/// RFC 9180, section 5.2.
struct Context {
    key: LessSafeKey,
    base_nonce: [u8; NONCE_LEN],
    sequence: u64,
}

impl Context {
    /// RFC 9180, section 5.1, without a pre-shared key.
    fn new(shared: &Secret, info: &[u8]) -> Self {
        let psk_id = extract(&[], SUITE, b"psk_id_hash", &[]);
        let info = extract(&[], SUITE, b"info_hash", info);
        let context = [&[MODE_BASE][..], &psk_id[..], &info[..]].concat();
        let secret = extract(&shared[..], SUITE, b"secret", &[]);
        let key = expand(&secret, SUITE, b"key", &context, CHACHA20_POLY1305.key_len());
        let nonce = expand(&secret, SUITE, b"base_nonce", &context, NONCE_LEN);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key[..]).expect("the key has its length");
        let mut base_nonce = [0; NONCE_LEN];
        base_nonce.copy_from_slice(&nonce[..NONCE_LEN]);
        Self { key: LessSafeKey::new(key), base_nonce, sequence: 0 }
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.base_nonce;
        let number = self.sequence.to_be_bytes();
        nonce[NONCE_LEN - number.len()..].iter_mut().zip(number).for_each(|(at, byte)| *at ^= byte);
        self.sequence = self.sequence.checked_add(1).expect("nobody seals 2^64 records");
        Nonce::assume_unique_for_key(nonce)
    }
}

/// RFC 9180, section 4.1; the pair is `enc` and the reader's public key.
fn shared_secret(
    own: &Secret,
    other: &[u8; SEAL_KEY_BYTES],
    (enc, reader): (&[u8; SEAL_KEY_BYTES], &[u8; SEAL_KEY_BYTES]),
) -> Result<Secret, SealFault> {
    let point = Zeroizing::new(MontgomeryPoint(*other).mul_clamped(**own).to_bytes());
    if bool::from(point.ct_eq(&[0; SEAL_KEY_BYTES])) {
        return Err(SealFault::WeakKey);
    }
    let secret = extract(&[], KEM_SUITE, b"eae_prk", &point[..]);
    let context = [&enc[..], &reader[..]].concat();
    Ok(expand(&secret, KEM_SUITE, b"shared_secret", &context, HASH_BYTES))
}

/// `LabeledExtract`.
fn extract(salt: &[u8], suite: &[u8], label: &[u8], ikm: &[u8]) -> Secret {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
    hash(&key, &[b"HPKE-v1", suite, label, ikm])
}

/// `LabeledExpand` for what fits one block; only the first `length` bytes mean something.
fn expand(secret: &Secret, suite: &[u8], label: &[u8], info: &[u8], length: usize) -> Secret {
    assert!(length <= HASH_BYTES, "one block is enough for all that is asked here");
    let said = u16::try_from(length).expect("it is below the limit").to_be_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret[..]);
    hash(&key, &[&said, b"HPKE-v1", suite, label, info, &[1]])
}

fn hash(key: &hmac::Key, parts: &[&[u8]]) -> Secret {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    let mut out = Secret::default();
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Zeroizing::new(bytes(text).try_into().unwrap())
    }

    /// RFC 9180, appendix A.2.1: the parts without data that is authenticated beside the record.
    #[test]
    fn the_rfc_gives_the_same() {
        let reader =
            SealKey::of(secret("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"));
        let public = bytes("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        assert_eq!(reader.public().to_vec(), public);
        let ephemeral = "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600";
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let (enc, sealing) = seal_with(secret(ephemeral), &reader.public(), &info).unwrap();
        let expect = bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        assert_eq!(enc.to_vec(), expect);
        let shared = shared_secret(&reader.secret, &enc, (&enc, &reader.public())).unwrap();
        let expect = bytes("0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7");
        assert_eq!(shared.to_vec(), expect);
        let expect = bytes("5c4d98150661b848853b547f");
        assert_eq!(sealing.0.base_nonce.to_vec(), expect);
        // With the data that the RFC authenticates beside it.
        let plain = bytes("4265617574792069732074727574682c20747275746820626561757479");
        for (number, expect) in [
            (
                0,
                "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
            ),
            (
                1,
                "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c",
            ),
        ] {
            let mut context = Context::new(&shared, &info);
            context.sequence = number;
            let mut record = plain.clone();
            let nonce = context.next_nonce();
            let aad = Aad::from(format!("Count-{number}"));
            context.key.seal_in_place_append_tag(nonce, aad, &mut record).unwrap();
            assert_eq!(record, bytes(expect), "{number}");
        }
    }

    #[test]
    fn records_open_in_their_order_for_their_reader_only() {
        let key = SealKey::of(random().unwrap());
        let (enc, mut sealing) = seal_for(&key.public(), b"info").unwrap();
        let sealed = [&b"one"[..], b"two", b""].map(|text| {
            let mut record = text.to_vec();
            sealing.seal(&mut record);
            assert_eq!(record.len(), text.len() + SEAL_TAG_BYTES);
            record
        });
        let opened = |key: &SealKey, info: &[u8], records: &[&Vec<u8>]| {
            let mut opening = key.open(&enc, info).unwrap();
            let open = |record: &&Vec<u8>| {
                let mut record = (*record).clone();
                opening.open(&mut record).map(|()| record)
            };
            records.iter().map(open).collect::<Result<Vec<_>, _>>()
        };
        let [one, two, nothing] = &sealed;
        let all = opened(&key, b"info", &[one, two, nothing]).unwrap();
        assert_eq!(all, [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
        assert_eq!(opened(&key, b"info", &[two]), Err(SealFault::Changed));
        assert_eq!(opened(&key, b"other", &[one]), Err(SealFault::Changed));
        assert_eq!(
            opened(&SealKey::of(random().unwrap()), b"info", &[one]),
            Err(SealFault::Changed)
        );
        let mut changed = one.clone();
        changed[1] ^= 1;
        assert_eq!(opened(&key, b"info", &[&changed]), Err(SealFault::Changed));
        // What follows a changed record is as it was sealed, and does not open all the same.
        let mut opening = key.open(&enc, b"info").unwrap();
        let mut followed = [changed, two.clone()];
        let results = followed.each_mut().map(|record| opening.open(record));
        assert_eq!(results, [Err(SealFault::Changed), Err(SealFault::Changed)]);
        assert!(matches!(seal_for(&[0; 32], b"info"), Err(SealFault::WeakKey)));
        assert!(matches!(key.open(&[0; 32], b"info"), Err(SealFault::WeakKey)));
    }

    #[test]
    fn a_key_lies_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carry.key.pem");
        let key = SealKey::create(&path).unwrap();
        assert_eq!(SealKey::load(&path).unwrap().public(), key.public());
        assert!(matches!(SealKey::create(&path), Err(KeyFault::File(_))));
        assert!(!format!("{key:?}").contains(&hex::encode(&key.secret[..])));
        let (_, other) = crate::LogKeyFile::generate("log").unwrap();
        assert!(matches!(SealKey::from_pem(&other), Err(KeyFault::Kind { kind: "X25519" })));
    }
}
