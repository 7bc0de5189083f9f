//! What is wrong with a contract file: every fault at once, each with its place and a remedy.

use std::fmt;

/// Most faults that one report lists; a file with more is no contract at all.
pub const FAULTS_MAX: usize = 64;
/// Longest piece of the file that a fault repeats, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// One thing that is wrong. The author of the file is to blame, except where the text says else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file has {length} bytes, the limit is {limit}; split the contract")]
    TooLong { length: usize, limit: usize },
    #[error("not JSON: {detail}; correct the syntax")]
    Syntax { detail: String },
    #[error("nested deeper than {limit}; no term of a contract is")]
    TooDeep { limit: usize },
    #[error("this key stands twice; keep one")]
    DuplicateKey,
    #[error("null and numbers that are not integers within 2^53 - 1 cannot be signed; replace it")]
    NotCanonical,
    #[error("unknown key; remove it or correct its name")]
    UnknownKey,
    #[error("missing; add it")]
    Missing,
    #[error("not {expected}")]
    Type { expected: &'static str },
    #[error("{found:?} is not known here, use {known}")]
    UnknownTerm { found: String, known: &'static str },
    #[error("{detail}")]
    Name { detail: String },
    #[error("empty; name at least one")]
    Empty,
    #[error("has {count} entries, the limit is {limit}")]
    TooMany { count: usize, limit: usize },
    #[error("{found:?} stands twice; keep one")]
    Duplicate { found: String },
    #[error("{found:?} is not a time such as 2026-01-01T00:00:00Z, in UTC, from 1678 to 2261")]
    Time { found: String },
    #[error("not_after is not later than not_before; the contract would never be valid")]
    Interval,
    #[error("{found:?} is masked but not among the points; add it there or remove it here")]
    MaskNotCovered { found: String },
    #[error("the number {found} is not a version; versions start at 1")]
    Version { found: i64 },
    #[error("not a base64 signature of 64 bytes; sign the contract again")]
    Signature,
    #[error(
        "the signature of {party:?} with key {key_id} does not fit; the contract was altered \
         after signing"
    )]
    Forged { party: String, key_id: String },
    #[error("key {key_id} belongs to {owner:?}, not to {party:?}; let the right party sign")]
    WrongParty { key_id: String, owner: String, party: String },
    #[error(
        "no trusted key of {provider:?} or {consumer:?} has signed (unknown keys: {unknown}); \
         have it signed, or the operator adds the key"
    )]
    NotSigned { provider: String, consumer: String, unknown: String },
    #[error("{party:?} is neither provider nor consumer of the contract; sign as one of them")]
    NotAParty { party: String },
    #[error("the signing key is not Ed25519; sign with an Ed25519 key")]
    KeyKind,
    #[error("the key failed: {detail}")]
    Signer { detail: String },
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractFault {
    /// JSON pointer (RFC 6901) into the file; empty for the whole file.
    pub pointer: String,
    pub problem: Problem,
}

impl fmt::Display for ContractFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "{}", self.problem),
            pointer => write!(f, "{pointer}: {}", self.problem),
        }
    }
}

/// Why a file is not accepted as a contract: at least one fault, at most [`FAULTS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractError {
    pub faults: Vec<ContractFault>,
    /// There were more faults than are listed.
    pub truncated: bool,
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the contract is refused")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        if self.truncated { f.write_str("\n  and more") } else { Ok(()) }
    }
}

impl std::error::Error for ContractError {}

/// Collects faults while a file is read to its end.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<ContractFault>,
    truncated: bool,
}

impl Faults {
    pub(crate) fn add(&mut self, pointer: &str, problem: Problem) {
        if self.faults.len() == FAULTS_MAX {
            self.truncated = true;
            return;
        }
        self.faults.push(ContractFault { pointer: pointer.to_owned(), problem });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The value, unless something is wrong with the file.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ContractError> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                assert!(!self.faults.is_empty(), "a missing value has a fault that says why");
                Err(ContractError { faults: self.faults, truncated: self.truncated })
            }
        }
    }
}

/// A piece of the file, short enough to be repeated.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('\u{2026}');
    }
    out
}

/// The pointer to a member of what `parent` points to (RFC 6901, section 3).
pub(crate) fn child(parent: &str, key: &str) -> String {
    format!("{parent}/{}", shown(key).replace('~', "~0").replace('/', "~1"))
}
