//! The file of the contracts' keys.
//!
//! Bytes: `GUANKEYS`, the schema (varint, 1), the number of keys, for each the digest, version and id of its
//! contract; then a nonce of 12 bytes and AES-256-GCM of the keys in that order, with everything before the
//! nonce as additional data. The cipher's key is HKDF-SHA256 (RFC 5869) of the root, salted with the key of
//! the store where there is one.

use super::{KEY_BYTES, KEYS_MAX, Key, Named, RootKey};
use guan_identity::STORE_KEY_BYTES;
use guan_model::bytes_io::{Reader, Writer};
use guan_model::{ContractId, Digest};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"GUANKEYS";
const SCHEMA: u64 = 1;
const PURPOSE: &[u8] = b"guankou contract keys 1";
/// Longest file: `KEYS_MAX` keys with the longest names.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) type KeyMap = BTreeMap<Digest, (Named, Key)>;
pub(super) type StoreKey = Zeroizing<[u8; STORE_KEY_BYTES]>;

/// HKDF (RFC 5869): one key for each use.
pub(super) fn derive(key: &[u8], salt: &[u8], purpose: &[u8]) -> Key {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    let info = [purpose];
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key);
    let okm = derived.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are few");
    okm.fill(&mut out[..]).expect("SHA-256 gives 32 bytes");
    out
}

fn cipher(root: &RootKey, store_key: Option<&StoreKey>) -> LessSafeKey {
    let key = derive(&root[..], store_key.map_or(&[], |key| &key[..]), PURPOSE);
    let key = UnboundKey::new(&AES_256_GCM, &key[..]);
    LessSafeKey::new(key.expect("the key is as long as AES wants"))
}

/// `None`: the system gives no random numbers.
pub(super) fn encode(
    keys: &KeyMap,
    root: &RootKey,
    store_key: Option<&StoreKey>,
) -> Option<Vec<u8>> {
    let mut head = Writer::new();
    head.raw(MAGIC);
    head.varint(SCHEMA);
    head.varint(keys.len() as u64);
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut body =
        Zeroizing::new(Vec::with_capacity(keys.len() * KEY_BYTES + AES_256_GCM.tag_len()));
    for (digest, (named, key)) in keys {
        head.raw(&digest.0);
        head.varint(named.version);
        head.text(named.contract.as_str());
        body.extend_from_slice(&key[..]);
    }
    let mut file = head.finish();
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    cipher(root, store_key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&file), &mut *body)
        .expect("the keys are shorter than 64 GB");
    file.extend_from_slice(&nonce);
    file.extend_from_slice(&body);
    Some(file)
}

/// `None`: another root, or damage; the two cannot be told apart.
pub(super) fn decode(file: &[u8], root: &RootKey, store_key: Option<&StoreKey>) -> Option<KeyMap> {
    let mut reader = Reader::new(file);
    let mut names = Vec::new();
    if reader.raw(MAGIC.len()).ok()? != MAGIC || reader.varint().ok()? != SCHEMA {
        return None;
    }
    let count = reader.varint().ok().filter(|count| *count <= KEYS_MAX as u64)?;
    for _ in 0..count {
        let digest = reader.digest().ok()?;
        let version = reader.varint().ok()?;
        let contract = ContractId::parse(reader.text().ok()?).ok()?;
        names.push((digest, Named { contract, version }));
    }
    let (head, rest) = file.split_at(file.len() - reader.left());
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let keys = cipher(root, store_key).open_in_place(nonce, Aad::from(head), &mut body).ok()?;
    if keys.len() != names.len() * KEY_BYTES {
        return None;
    }
    let keys = keys.chunks_exact(KEY_BYTES).map(|key| {
        Zeroizing::new(<[u8; KEY_BYTES]>::try_from(key).expect("chunks have this length"))
    });
    Some(names.into_iter().zip(keys).map(|((digest, named), key)| (digest, (named, key))).collect())
}
