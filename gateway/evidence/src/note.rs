//! Signed notes with Ed25519 keys, after C2SP signed-note (<https://c2sp.org/signed-note>).
//!
//! A note is a text that ends with a newline, an empty line, and one line a signature:
//! `— name base64(key id, 4 bytes || signature)`. Signatures of other keys are ignored, at least one of
//! the key that is asked for must be there, and all of that key must verify. What a signature is made
//! over is the business of the kind of key ([`NoteKey`]): log keys sign the text itself, witness keys
//! ([`crate::cosignature`]) put a time before it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use guan_model::{Digest, PublicKey, SignFault, Signer};
use std::fmt;

/// Number of Ed25519 over the text in key ids and keys.
const ALGORITHM_ED25519: u8 = 1;
/// Number of Ed25519 over a time and the text.
pub(crate) const ALGORITHM_COSIGNATURE: u8 = 4;
/// Most signature lines of one note: the log's, its anchors' and all witnesses of the largest quorum.
pub const SIGNATURES_MAX: usize = 64;
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
    #[error(
        "the key has algorithm {found}; a log key must be Ed25519 (1), a witness key timestamped \
         Ed25519 (4)"
    )]
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

/// An Ed25519 key with its name and algorithm, which are part of its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedKey {
    name: String,
    algorithm: u8,
    key: VerifyingKey,
}

fn check_key_name(name: &str) -> Result<(), KeyFault> {
    let fits = (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    fits.then_some(()).ok_or_else(|| KeyFault::Name { name: name.to_owned() })
}

impl NamedKey {
    pub(crate) fn new(name: &str, algorithm: u8, key: [u8; 32]) -> Result<Self, KeyFault> {
        check_key_name(name)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| KeyFault::Point)?;
        if key.is_weak() {
            return Err(KeyFault::Point);
        }
        Ok(Self { name: name.to_owned(), algorithm, key })
    }

    /// Reads `name+hash+base64(algorithm || key)`.
    pub(crate) fn parse(text: &str, algorithm: u8) -> Result<Self, KeyFault> {
        // The base64 part may hold plus signs, the other two may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyFault::Form);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyFault::Form)?;
        let (found, key) = bytes.split_first().ok_or(KeyFault::Form)?;
        if *found != algorithm {
            return Err(KeyFault::Algorithm { found: *found });
        }
        let key = Self::new(name, algorithm, key.try_into().map_err(|_| KeyFault::Form)?)?;
        let expected = key.hash_text();
        match hash == expected {
            true => Ok(key),
            false => Err(KeyFault::Hash { found: hash.to_owned(), expected }),
        }
    }

    pub(crate) fn of(signer: &dyn Signer, algorithm: u8) -> Result<Self, KeyFault> {
        match signer.public_key() {
            PublicKey::Ed25519(key) => Self::new(signer.name(), algorithm, key),
            PublicKey::EcdsaP256(_) => Err(KeyFault::Algorithm { found: 2 }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// First four bytes of SHA-256 over name, newline, algorithm and key.
    pub(crate) fn id(&self) -> [u8; 4] {
        let Digest(hash) = Digest::of_parts(&[
            self.name.as_bytes(),
            b"\n",
            &[self.algorithm],
            self.key.as_bytes(),
        ]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Whether the 64 bytes are this key's signature over the message.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }

    fn hash_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id()))
    }
}

impl fmt::Display for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.algorithm], &self.key.as_bytes()[..]].concat();
        write!(f, "{}+{}+{}", self.name, self.hash_text(), STANDARD.encode(bytes))
    }
}

/// A key that can check its own lines of a note.
pub trait NoteKey: fmt::Display {
    /// What a good signature says besides "I signed this text": for a witness the time.
    type Statement;
    fn name(&self) -> &str;
    fn id(&self) -> [u8; 4];
    /// What the signature says of the text, `None` if it does not fit.
    fn check(&self, text: &str, signature: &[u8]) -> Option<Self::Statement>;
}

/// The public key of a log that checks notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey(NamedKey);

impl VerifierKey {
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyFault> {
        NamedKey::new(name, ALGORITHM_ED25519, key).map(Self)
    }

    /// Reads `name+hash+base64(0x01 || key)`.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        NamedKey::parse(text, ALGORITHM_ED25519).map(Self)
    }

    /// The public half of a signer, under the signer's own name.
    pub fn of(signer: &dyn Signer) -> Result<Self, KeyFault> {
        NamedKey::of(signer, ALGORITHM_ED25519).map(Self)
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub fn key_bytes(&self) -> [u8; 32] {
        self.0.key_bytes()
    }

    /// First four bytes of SHA-256 over name, newline, algorithm and key.
    pub fn id(&self) -> [u8; 4] {
        self.0.id()
    }

    /// Whether the bytes are this key's signature over a message that is no note.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.holds(message, signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NoteKey for VerifierKey {
    type Statement = ();

    fn name(&self) -> &str {
        self.0.name()
    }

    fn id(&self) -> [u8; 4] {
        self.0.id()
    }

    fn check(&self, text: &str, signature: &[u8]) -> Option<()> {
        self.0.holds(text.as_bytes(), signature).then_some(())
    }
}

/// One signature line with its newline.
pub(crate) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    format!("{LINE_START}{name} {}\n", STANDARD.encode([&id[..], signature].concat()))
}

/// Appends the empty line and the signer's signature line to a text.
pub(crate) fn sign(
    text: &str,
    key: &VerifierKey,
    signer: &dyn Signer,
) -> Result<String, SignFault> {
    assert!(text.ends_with('\n'), "the text of a note ends with a newline");
    let signature = signer.sign(text.as_bytes())?;
    Ok(format!("{text}\n{}", signature_line(key.name(), key.id(), &signature)))
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl fmt::Display for SignatureLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&signature_line(self.name, self.id, &self.signature))
    }
}

/// A note whose form is good. Its text means nothing before a key was found that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    lines: Vec<SignatureLine<'a>>,
}

impl<'a> Note<'a> {
    pub fn parse(note: &'a str) -> Result<Self, NoteFault> {
        if note.chars().any(|c| c < ' ' && c != '\n') || !note.ends_with('\n') {
            return Err(NoteFault::Text);
        }
        let split = note.rfind("\n\n").ok_or(NoteFault::NoSignatures)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        Ok(Self { text, lines: parse_lines(signatures)? })
    }

    /// The text with its last newline, without the signatures.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The note without signature lines of this key: a newer line then takes their place, since some
    /// programs refuse notes with two lines of one key.
    pub(crate) fn without<K: NoteKey>(&self, key: &K) -> String {
        let other = |line: &&SignatureLine<'_>| line.name != key.name() || line.id != key.id();
        let lines: String = self.lines.iter().filter(other).map(ToString::to_string).collect();
        format!("{}\n{lines}", self.text)
    }

    /// One signature line of this key, good or not, with its newline.
    pub(crate) fn first_line_of<K: NoteKey>(&self, key: &K) -> Option<String> {
        let is_own = |line: &&SignatureLine<'_>| line.name == key.name() && line.id == key.id();
        self.lines.iter().find(is_own).map(ToString::to_string)
    }

    /// The bytes of one signature of this key, good or not.
    pub(crate) fn first_signature_of<K: NoteKey>(&self, key: &K) -> Option<&[u8]> {
        let is_own = |line: &&SignatureLine<'_>| line.name == key.name() && line.id == key.id();
        self.lines.iter().find(is_own).map(|line| &line.signature[..])
    }

    /// What the lines of this key say: none if it did not sign, an error if one of them is forged.
    pub fn statements<K: NoteKey>(&self, key: &K) -> Result<Vec<K::Statement>, NoteFault> {
        let forged = || NoteFault::Forged { key: key.name().to_owned() };
        let own = self.lines.iter().filter(|line| line.name == key.name() && line.id == key.id());
        own.map(|line| key.check(self.text, &line.signature).ok_or_else(forged)).collect()
    }

    /// Demands at least one good line of this key and no forged one: its first statement.
    pub fn verify<K: NoteKey>(&self, key: &K) -> Result<K::Statement, NoteFault> {
        let first = self.statements(key)?.into_iter().next();
        first.ok_or_else(|| NoteFault::OtherKeys { key: key.to_string() })
    }
}

fn parse_lines(signatures: &str) -> Result<Vec<SignatureLine<'_>>, NoteFault> {
    if signatures.is_empty() {
        return Err(NoteFault::NoSignatures);
    }
    if signatures.lines().count() > SIGNATURES_MAX {
        return Err(NoteFault::TooMany);
    }
    let parsed = signatures.lines().enumerate();
    parsed
        .map(|(at, line)| SignatureLine::parse(line).ok_or(NoteFault::Line { line: at + 1 }))
        .collect()
}

/// The note with more signature lines, each of which must end with a newline. Lines that the note has
/// already are not repeated. Who signed is not checked.
pub fn append_lines(note: &str, lines: &str) -> Result<String, NoteFault> {
    Note::parse(note)?;
    if !lines.ends_with('\n') {
        return Err(NoteFault::Text);
    }
    parse_lines(lines)?;
    let split = note.rfind("\n\n").ok_or(NoteFault::NoSignatures)?;
    let mut longer = note.to_owned();
    for line in lines.lines() {
        if !longer[split + 2..].lines().any(|own| own == line) {
            longer.push_str(line);
            longer.push('\n');
        }
    }
    Note::parse(&longer).map(|_| ())?;
    Ok(longer)
}
