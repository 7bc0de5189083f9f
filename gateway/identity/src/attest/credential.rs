//! A secret that only the TPM with this EK can open, and only if it holds the AK with this name: what
//! TPM2_MakeCredential computes, without a TPM (TPM 2.0, part 1, 24 and annex B.10.3).

use aes::Aes128;
use aes::cipher::{AsyncStreamCipher, KeyIvInit};
use cfb_mode::Encryptor;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rsa::{BigUint, Oaep, RsaPublicKey, rand_core::OsRng};
use sha2::Sha256;
use zeroize::Zeroizing;

const SEED_BYTES: usize = 32;
const AES_KEY_BYTES: usize = 16;
const AES_BLOCK_BYTES: usize = 16;
/// Label of the seed's encryption; the final zero belongs to it.
const LABEL: &str = "IDENTITY\0";
/// Bytes of the secret that the box must give back.
pub const SECRET_BYTES: usize = 32;

/// What the box is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialChallenge {
    /// Contents of a TPM2B_ID_OBJECT.
    pub blob: Vec<u8>,
    /// Contents of a TPM2B_ENCRYPTED_SECRET.
    pub encrypted_seed: Vec<u8>,
}

/// Why no challenge can be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialFault {
    #[error("the endorsement key is no RSA key of 2048 bits; only those are spoken to so far")]
    EkKind,
    #[error("the system gives no random numbers")]
    Random,
    #[error("nothing can be encrypted to the endorsement key: {0}")]
    Encrypt(String),
}

/// A challenge, and the secret that answers it.
pub fn make_credential(
    ek_modulus: &[u8],
    ek_exponent: u32,
    ak_name: &[u8],
) -> Result<(CredentialChallenge, Zeroizing<[u8; SECRET_BYTES]>), CredentialFault> {
    if ek_modulus.len() != 256 {
        return Err(CredentialFault::EkKind);
    }
    let random = SystemRandom::new();
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    random.fill(&mut *seed).map_err(|_| CredentialFault::Random)?;
    random.fill(&mut *secret).map_err(|_| CredentialFault::Random)?;
    let encrypt = |fault: rsa::Error| CredentialFault::Encrypt(fault.to_string());
    let (modulus, exponent) = (BigUint::from_bytes_be(ek_modulus), BigUint::from(ek_exponent));
    let key = RsaPublicKey::new(modulus, exponent).map_err(encrypt)?;
    let padding = Oaep::new_with_label::<Sha256, _>(LABEL);
    let encrypted_seed = key.encrypt(&mut OsRng, padding, &*seed).map_err(encrypt)?;
    Ok((CredentialChallenge { blob: protect(&seed, ak_name, &secret), encrypted_seed }, secret))
}

/// The secret under the seed: encrypted, and bound to the name.
fn protect(seed: &[u8; SEED_BYTES], ak_name: &[u8], secret: &[u8; SECRET_BYTES]) -> Vec<u8> {
    let length = u16::try_from(SECRET_BYTES).expect("32 fits");
    let mut identity = Zeroizing::new([&length.to_be_bytes()[..], secret].concat());
    let storage = kdf_a(seed, b"STORAGE", ak_name, 128);
    let key = &storage[..AES_KEY_BYTES];
    let cipher = Encryptor::<Aes128>::new_from_slices(key, &[0; AES_BLOCK_BYTES]);
    cipher.expect("key and IV have their lengths").encrypt(&mut identity);
    let integrity = hmac::Key::new(hmac::HMAC_SHA256, &*kdf_a(seed, b"INTEGRITY", &[], 256));
    let mut context = hmac::Context::with_key(&integrity);
    context.update(&identity);
    context.update(ak_name);
    let tag = context.sign();
    let length = u16::try_from(tag.as_ref().len()).expect("32 fits");
    [&length.to_be_bytes()[..], tag.as_ref(), &identity].concat()
}

/// KDFa (part 1, 11.4.10.2) with HMAC-SHA256, for one block at most; fewer bits are its beginning.
fn kdf_a(key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let mut block = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [&1_u32.to_be_bytes()[..], label, &[0], context, &bits.to_be_bytes()] {
        block.update(part);
    }
    Zeroizing::new(block.sign().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
