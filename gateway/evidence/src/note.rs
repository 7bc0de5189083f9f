//! Signed notes with Ed25519 keys, after C2SP signed-note (<https://c2sp.org/signed-note>).
//!
//! A note is a text that ends with a newline, an empty line, and one line a signature:
//! `— name base64(key id, 4 bytes || signature)`. Signatures of other keys are ignored, at least one of
//! the key that is asked for must be there, and all of that key must verify.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use guan_model::{Digest, PublicKey, SignFault, Signer};
use std::fmt;

/// Number of Ed25519 in key ids and keys.
const ALGORITHM_ED25519: u8 = 1;
/// Most signature lines of one note: the log's, its anchors' and a quorum of witnesses.
pub const SIGNATURES_MAX: usize = 32;
/// Longest name of a key.
pub const KEY_NAME_BYTES_MAX: usize = 128;
/// How a signature line begins: an em dash (U+2014) and a blank.
const LINE_START: &str = "\u{2014} ";

/// Why a text is no verifier key; whoever typed or sent it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error(
        "the key name {name:?} is not 1 to {KEY_NAME_BYTES_MAX} bytes without blanks and plus signs"
    )]
    Name { name: String },
    #[error("a verifier key reads name+hash+key, with a hash of 8 hex digits and a base64 key")]
    Form,
    #[error("the key has algorithm {found}; only Ed25519 (1) can be checked here")]
    Algorithm { found: u8 },
    #[error("the hash {found} in the key text does not fit the key, it should be {expected}")]
    Hash { found: String, expected: String },
    #[error("the 32 bytes are no Ed25519 public key")]
    Point,
}

/// Why a note cannot be trusted; whoever made or carried it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    #[error("the note has no empty line between text and signatures")]
    NoSignatures,
    #[error("the note contains a control character or does not end with a newline")]
    Text,
    #[error("line {line} of the signatures is malformed")]
    Line { line: usize },
    #[error("the note has more than {SIGNATURES_MAX} signature lines")]
    TooMany,
    #[error("no signature is by {key}; give the key that belongs to this log")]
    OtherKeys { key: String },
    #[error("the signature by {key} does not fit the text; the note was altered")]
    Forged { key: String },
}

/// The public key that checks notes: its name is part of its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

fn check_key_name(name: &str) -> Result<(), KeyFault> {
    let fits = (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    fits.then_some(()).ok_or_else(|| KeyFault::Name { name: name.to_owned() })
}

impl VerifierKey {
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyFault> {
        check_key_name(name)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| KeyFault::Point)?;
        if key.is_weak() {
            return Err(KeyFault::Point);
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// Reads `name+hash+base64(0x01 || key)`.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        // The base64 part may hold plus signs, the other two may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyFault::Form);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyFault::Form)?;
        let (algorithm, key) = bytes.split_first().ok_or(KeyFault::Form)?;
        if *algorithm != ALGORITHM_ED25519 {
            return Err(KeyFault::Algorithm { found: *algorithm });
        }
        let key = Self::new(name, key.try_into().map_err(|_| KeyFault::Form)?)?;
        let expected = key.hash_text();
        match hash == expected {
            true => Ok(key),
            false => Err(KeyFault::Hash { found: hash.to_owned(), expected }),
        }
    }

    /// The public half of a signer, under the signer's own name.
    pub fn of(signer: &dyn Signer) -> Result<Self, KeyFault> {
        match signer.public_key() {
            PublicKey::Ed25519(key) => Self::new(signer.name(), key),
            PublicKey::EcdsaP256(_) => Err(KeyFault::Algorithm { found: 2 }),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn key_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// First four bytes of SHA-256 over name, newline, algorithm and key.
    pub fn id(&self) -> [u8; 4] {
        let Digest(hash) = Digest::of_parts(&[
            self.name.as_bytes(),
            b"\n",
            &[ALGORITHM_ED25519],
            self.key.as_bytes(),
        ]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    fn hash_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id()))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ALGORITHM_ED25519], &self.key.as_bytes()[..]].concat();
        write!(f, "{}+{}+{}", self.name, self.hash_text(), STANDARD.encode(bytes))
    }
}

/// Appends the empty line and the signer's signature line to a text.
pub(crate) fn sign(
    text: &str,
    key: &VerifierKey,
    signer: &dyn Signer,
) -> Result<String, SignFault> {
    assert!(text.ends_with('\n'), "the text of a note ends with a newline");
    let signature = signer.sign(text.as_bytes())?;
    let bytes = [&key.id()[..], &signature].concat();
    Ok(format!("{text}\n{LINE_START}{} {}\n", key.name, STANDARD.encode(bytes)))
}

/// One signature line.
struct SignatureLine<'a> {
    name: &'a str,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl<'a> SignatureLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        check_key_name(name).ok()?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        (!signature.is_empty()).then(|| Self { name, id: *id, signature: signature.to_vec() })
    }
}

/// The text of a note, once a signature by `key` was found and all of them hold.
pub(crate) fn verify<'a>(note: &'a str, key: &VerifierKey) -> Result<&'a str, NoteFault> {
    if note.chars().any(|c| c < ' ' && c != '\n') || !note.ends_with('\n') {
        return Err(NoteFault::Text);
    }
    let split = note.rfind("\n\n").ok_or(NoteFault::NoSignatures)?;
    let (text, signatures) = (&note[..=split], &note[split + 2..]);
    if signatures.is_empty() {
        return Err(NoteFault::NoSignatures);
    }
    if signatures.lines().count() > SIGNATURES_MAX {
        return Err(NoteFault::TooMany);
    }
    let mut found = false;
    for (index, line) in signatures.lines().enumerate() {
        let line = SignatureLine::parse(line).ok_or(NoteFault::Line { line: index + 1 })?;
        if line.name != key.name || line.id != key.id() {
            continue;
        }
        let forged = || NoteFault::Forged { key: key.name.clone() };
        let signature = Signature::from_slice(&line.signature).map_err(|_| forged())?;
        key.key.verify_strict(text.as_bytes(), &signature).map_err(|_| forged())?;
        found = true;
    }
    found.then_some(text).ok_or_else(|| NoteFault::OtherKeys { key: key.to_string() })
}
