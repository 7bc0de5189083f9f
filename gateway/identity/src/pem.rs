//! Keys and certificates as text (RFC 7468); private keys pass only through buffers that are wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::PublicKey;
use rustls::sign::public_key_to_spki;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{SubjectPublicKeyInfoDer, alg_id};
use zeroize::Zeroizing;

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
const PUBLIC_KEY: &str = "PUBLIC KEY";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const LINE_CHARS: usize = 64;

/// Why a text is no private key. Nothing of the text's body is repeated: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    #[error("there is no PEM block \"PRIVATE KEY\"; check that the path names a private key")]
    Missing,
    #[error("there is more than one private key; keep one key in a file")]
    Twice,
    #[error("the key is a {label:?}; convert it with 'openssl pkcs8 -topk8 -nocrypt'")]
    Label { label: String },
    #[error("the PEM block has no end line; the file was cut short, restore it")]
    Unended,
    #[error("the PEM block is not base64; the file is damaged, restore it")]
    Base64,
}

/// A public key in PEM, as `openssl pkey -pubout` writes it.
pub fn encode_public(key: &PublicKey) -> String {
    let spki = match key {
        PublicKey::Ed25519(key) => public_key_to_spki(&alg_id::ED25519, key),
        PublicKey::EcdsaP256(point) => public_key_to_spki(&alg_id::ECDSA_P256, point),
    };
    encode(PUBLIC_KEY, &spki).to_string()
}

/// Reads what [`encode_public`] wrote; `None` for anything else.
pub fn decode_public(text: &str) -> Option<PublicKey> {
    const KEY_BYTES: usize = 32;
    decode_public_p256(text).or_else(|| {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?;
        let key = spki.get(spki.len().checked_sub(KEY_BYTES)?..)?;
        let is_it = public_key_to_spki(&alg_id::ED25519, key) == spki;
        is_it.then(|| PublicKey::Ed25519(key.try_into().expect("as many bytes as were cut off")))
    })
}

/// A P-256 key in PEM, as `openssl pkey -pubout` writes it.
pub fn encode_public_p256(key: &PublicKey) -> Option<String> {
    let PublicKey::EcdsaP256(point) = key else { return None };
    Some(encode(PUBLIC_KEY, &public_key_to_spki(&alg_id::ECDSA_P256, point)).to_string())
}

/// Reads what [`encode_public_p256`] wrote; `None` for anything else.
pub fn decode_public_p256(text: &str) -> Option<PublicKey> {
    const POINT_BYTES: usize = 65;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?;
    let point = spki.get(spki.len().checked_sub(POINT_BYTES)?..)?;
    // The whole structure is compared, so that no other curve passes with a point of this length.
    let is_it = public_key_to_spki(&alg_id::ECDSA_P256, point) == spki;
    is_it.then(|| PublicKey::EcdsaP256(point.to_vec()))
}

pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(der, &mut body).expect("the buffer has base64's length");
    let body = std::str::from_utf8(&body[..length]).expect("base64 is ASCII");
    // Room for everything at once: a text that grows leaves copies behind.
    let frame = 2 * (BEGIN.len() + label.len() + DASHES.len() + 1);
    let mut text = Zeroizing::new(String::with_capacity(frame + length + length / LINE_CHARS + 1));
    for part in [BEGIN, label, DASHES, "\n"] {
        text.push_str(part);
    }
    for start in (0..length).step_by(LINE_CHARS) {
        text.push_str(&body[start..length.min(start + LINE_CHARS)]);
        text.push('\n');
    }
    for part in [END, label, DASHES, "\n"] {
        text.push_str(part);
    }
    text
}

/// Finds the one private key; text and other blocks around it are skipped, as RFC 7468 asks.
pub(crate) fn decode_private(text: &str) -> Result<Zeroizing<Vec<u8>>, PemFault> {
    let mut found = None;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = label_of(line, BEGIN).filter(|label| label.ends_with(PRIVATE_KEY)) else {
            continue;
        };
        if label != PRIVATE_KEY {
            return Err(PemFault::Label { label: label.to_owned() });
        }
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            let line = lines.next().ok_or(PemFault::Unended)?;
            if label_of(line, END) == Some(PRIVATE_KEY) {
                break;
            }
            body.push_str(line);
        }
        if found.replace(decode_body(&body)?).is_some() {
            return Err(PemFault::Twice);
        }
    }
    found.ok_or(PemFault::Missing)
}

fn label_of<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

fn decode_body(body: &str) -> Result<Zeroizing<Vec<u8>>, PemFault> {
    let mut der = Zeroizing::new(vec![0; body.len().div_ceil(4) * 3]);
    let length = STANDARD.decode_slice(body, &mut der).map_err(|_| PemFault::Base64)?;
    der.truncate(length);
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_survive(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = encode(PRIVATE_KEY, &der);
            prop_assert!(text.lines().all(|line| line.len() <= LINE_CHARS));
            let back = decode_private(&text).unwrap();
            prop_assert_eq!(back.as_slice(), der.as_slice());
        }

        #[test]
        fn any_text_is_survived(text in "(-----(BEGIN|END) (EC )?PRIVATE KEY-----|\\PC|\n){0,40}") {
            let _ = decode_private(&text);
        }
    }

    fn check(text: &str, expect: Result<&[u8], PemFault>) {
        let outcome = decode_private(text);
        assert_eq!(outcome.as_ref().map(|der| der.as_slice()), expect.as_ref().copied(), "{text}");
    }

    #[test]
    fn texts() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";
        check(key, Ok(&[0, 1, 2]));
        check(&key.replace('\n', "\r\n"), Ok(&[0, 1, 2]));
        check(&format!("note\n-----BEGIN X-----\nAA\n-----END X-----\n{key}"), Ok(&[0, 1, 2]));
        check("", Err(PemFault::Missing));
        check(&format!("{key}{key}"), Err(PemFault::Twice));
        check(&key[..40], Err(PemFault::Unended));
        check(&key.replace("AAEC", "AA*C"), Err(PemFault::Base64));
        let label = "EC PRIVATE KEY".to_owned();
        check(&key.replace("PRIVATE", "EC PRIVATE"), Err(PemFault::Label { label }));
    }
}
