//! Files under the store key, which the TPM gives out only to firmware that was signed for.
//!
//! Bytes: `GUANSEAL`, a nonce of 12 bytes, then AES-256-GCM of the contents with the first eight bytes as
//! additional data.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"GUANSEAL";
pub const STORE_KEY_BYTES: usize = 32;

/// Why a sealed file stays shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedFault {
    #[error("the system gave no random bytes")]
    Random,
    #[error("the file is not sealed; move it away, and `guan join` makes a sealed one")]
    NotSealed,
    #[error("the file was sealed with another key, or is damaged")]
    OtherKey,
}

fn key(store_key: &[u8; STORE_KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, store_key);
    LessSafeKey::new(key.expect("a key of AES-256 has 32 bytes"))
}

pub(crate) fn seal(
    store_key: &[u8; STORE_KEY_BYTES],
    contents: &[u8],
) -> Result<Vec<u8>, SealedFault> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| SealedFault::Random)?;
    let mut body = contents.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    key(store_key)
        .seal_in_place_append_tag(unique, Aad::from(MAGIC), &mut body)
        .map_err(|_| SealedFault::Random)?;
    Ok([&MAGIC[..], &nonce, &body].concat())
}

pub(crate) fn open(
    store_key: &[u8; STORE_KEY_BYTES],
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealedFault> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SealedFault::NotSealed)?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealedFault::OtherKey)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealedFault::OtherKey)?;
    let mut body = Zeroizing::new(body.to_vec());
    let opened = key(store_key).open_in_place(nonce, Aad::from(MAGIC), &mut body);
    let length = opened.map_err(|_| SealedFault::OtherKey)?.len();
    body.truncate(length);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_its_key_and_whole() {
        let sealed = seal(&[1; 32], b"a key").unwrap();
        assert_eq!(open(&[1; 32], &sealed).unwrap()[..], *b"a key");
        assert_ne!(seal(&[1; 32], b"a key").unwrap(), sealed, "a nonce is used once");
        assert_eq!(open(&[2; 32], &sealed), Err(SealedFault::OtherKey));
        assert_eq!(open(&[1; 32], b"-----BEGIN"), Err(SealedFault::NotSealed));
        for at in MAGIC.len()..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(open(&[1; 32], &damaged), Err(SealedFault::OtherKey), "byte {at}");
            assert!(open(&[1; 32], &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
