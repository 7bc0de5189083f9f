//! Identifiers (标识) of what is published: the same for as long as provider, box and name are the same.
//!
//! Two forms. The national one of NDI-TR-2025-04 and -03 has 32 characters: kind (5 connector, 6 product,
//! 7 resource), subject (18, 统一社会信用代码), area or trade (4), serial (8), check (1, ISO 7064 MOD 37-2), and
//! may carry an older id after `•`. The drafts want the serial random; here it comes from a digest of the
//! names, so that a box that was set up anew gives the same one. A provider without a subject code gets
//! `urn:guankou:<kind>:<provider>:<box>[:<name>]`, and so does a distribution, for which the drafts have no
//! form. The kind stands first so that no provider can be named like another of our namespaces.
//!
//! Never here: whether an identifier is registered with anybody.

use guan_model::{BoxId, ContractId, DatasetId, Digest};
use std::fmt;

/// Longest identifier, in bytes: kind and three names.
pub const IDENTIFIER_BYTES_MAX: usize = 256;
/// Longest older id behind a national one, in characters.
pub const OLD_ID_CHARS_MAX: usize = 32;
const URN: &str = "urn:guankou:";
const NATIONAL_CHARS: usize = 32;
const SERIAL_CHARS: usize = 8;
const BASE36: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Alphabet of GB 32100: no I, O, S, V, Z.
const SUBJECT_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
/// Powers of 3 modulo 31 (GB 32100-2015).
const SUBJECT_WEIGHTS: [u32; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];

/// What is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Box,
    Dataset,
    Product,
    Distribution,
}

impl Kind {
    const ALL: [(Self, &'static str, Option<u8>); 4] = [
        (Self::Box, "box", Some(b'5')),
        (Self::Dataset, "dataset", Some(b'7')),
        (Self::Product, "product", Some(b'6')),
        (Self::Distribution, "distribution", None),
    ];

    fn row(self) -> &'static (Self, &'static str, Option<u8>) {
        let row = Self::ALL.iter().find(|(kind, ..)| *kind == self);
        row.expect("every kind is in the table")
    }
}

/// Why a text is no identifier; whoever wrote it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierFault {
    #[error(
        "the identifier has {length} bytes, the limit is {IDENTIFIER_BYTES_MAX}; copy it again"
    )]
    TooLong { length: usize },
    #[error("{found:?} is neither urn:guankou:<kind>:<provider>:<box>[:<name>] nor 32 characters")]
    Form { found: String },
    #[error("the check character of {found:?} should be {expected:?}; correct the identifier")]
    Check { found: String, expected: char },
    #[error("{found:?} is no 统一社会信用代码 of 18 characters whose check fits; correct it")]
    Subject { found: String },
    #[error("{found:?} is no area or trade code of 4 capital letters and digits; correct it")]
    Area { found: String },
}

/// A registered organisation and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    code: String,
    area: String,
}

impl Subject {
    pub fn parse(code: &str, area: &str) -> Result<Self, IdentifierFault> {
        if !is_subject(code) {
            return Err(IdentifierFault::Subject { found: shown(code) });
        }
        if area.len() != 4 || !area.bytes().all(|byte| BASE36.contains(&byte)) {
            return Err(IdentifierFault::Area { found: shown(area) });
        }
        Ok(Self { code: code.to_owned(), area: area.to_owned() })
    }
}

fn is_subject(code: &str) -> bool {
    let value = |byte: u8| SUBJECT_ALPHABET.iter().position(|known| *known == byte);
    let values: Option<Vec<u32>> =
        code.bytes().map(|byte| u32::try_from(value(byte)?).ok()).collect();
    let Some(values) = values.filter(|values| values.len() == 18) else { return false };
    let sum: u32 = SUBJECT_WEIGHTS.iter().zip(&values).map(|(weight, value)| weight * value).sum();
    values[17] == (31 - sum % 31) % 31
}

/// An identifier whose form is right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    kind: Kind,
    text: String,
}

impl Identifier {
    pub fn parse(text: &str) -> Result<Self, IdentifierFault> {
        if text.len() > IDENTIFIER_BYTES_MAX {
            return Err(IdentifierFault::TooLong { length: text.len() });
        }
        let kind = match text.strip_prefix(URN) {
            Some(rest) => urn_kind(rest),
            None => national_kind(text)?,
        };
        let kind = kind.ok_or_else(|| IdentifierFault::Form { found: shown(text) })?;
        Ok(Self { kind, text: text.to_owned() })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn urn_kind(rest: &str) -> Option<Kind> {
    let parts: Vec<&str> = rest.split(':').collect();
    let (kind, ..) = Kind::ALL.iter().find(|(_, name, _)| *name == parts[0])?;
    let names = &parts[1..];
    let wanted = if *kind == Kind::Box { 2 } else { 3 };
    let fits = names.len() == wanted && names.iter().all(|name| DatasetId::parse(name).is_ok());
    fits.then_some(*kind)
}

/// `None`: of no form at all.
fn national_kind(text: &str) -> Result<Option<Kind>, IdentifierFault> {
    let (body, old) = match text.split_once('\u{2022}') {
        Some((body, old)) => (body, Some(old)),
        None => (text, None),
    };
    let bytes = body.as_bytes();
    let Some((check, data)) = bytes.split_last().filter(|_| bytes.len() == NATIONAL_CHARS) else {
        return Ok(None);
    };
    let first = Kind::ALL.iter().find(|(_, _, digit)| *digit == Some(data[0]));
    let old_fits = old.is_none_or(|old| {
        (1..=OLD_ID_CHARS_MAX).contains(&old.chars().count()) && !old.chars().any(char::is_control)
    });
    let (Some((kind, ..)), true) = (first, old_fits) else { return Ok(None) };
    let Some(expected) = check_character(data) else { return Ok(None) };
    if expected != *check {
        let expected = char::from(expected);
        return Err(IdentifierFault::Check { found: shown(text), expected });
    }
    let subject = &body[1..19];
    match is_subject(subject) {
        true => Ok(Some(*kind)),
        false => Err(IdentifierFault::Subject { found: shown(subject) }),
    }
}

/// ISO 7064 MOD 37-2; `None` for a character that is no capital letter or digit.
fn check_character(data: &[u8]) -> Option<u8> {
    let mut sum = 0;
    for byte in data {
        let value = BASE36.iter().position(|known| known == byte)?;
        sum = (sum + value) * 2 % 37;
    }
    let check = (38 - sum) % 37;
    Some(BASE36.get(check).copied().unwrap_or(b'*'))
}

/// Names everything that one box publishes.
#[derive(Debug, Clone)]
pub struct Namer {
    provider: DatasetId,
    box_id: BoxId,
    subject: Option<Subject>,
}

impl Namer {
    /// `provider` is a party as contracts name it, and follows the rules of all names.
    pub fn new(provider: DatasetId, box_id: BoxId, subject: Option<Subject>) -> Self {
        Self { provider, box_id, subject }
    }

    pub fn provider(&self) -> &str {
        self.provider.as_str()
    }

    pub fn connector(&self) -> Identifier {
        self.name(Kind::Box, None)
    }

    pub fn dataset(&self, dataset: &DatasetId) -> Identifier {
        self.name(Kind::Dataset, Some(dataset.as_str()))
    }

    /// What an offer makes out of datasets.
    pub fn product(&self, offer: &ContractId) -> Identifier {
        self.name(Kind::Product, Some(offer.as_str()))
    }

    pub fn distribution(&self, dataset: &DatasetId) -> Identifier {
        self.name(Kind::Distribution, Some(dataset.as_str()))
    }

    fn name(&self, kind: Kind, name: Option<&str>) -> Identifier {
        let (_, word, digit) = kind.row();
        let (provider, box_id) = (self.provider.as_str(), self.box_id.as_str());
        let tail = name.map_or_else(String::new, |name| format!(":{name}"));
        let urn = format!("{URN}{word}:{provider}:{box_id}{tail}");
        let text = match (&self.subject, digit) {
            (Some(subject), Some(digit)) => national(subject, *digit, &urn),
            _ => urn,
        };
        Identifier { kind, text }
    }
}

fn national(subject: &Subject, digit: u8, urn: &str) -> String {
    let digest = Digest::of(urn.as_bytes()).0;
    let mut number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut text = vec![digit];
    text.extend_from_slice(subject.code.as_bytes());
    text.extend_from_slice(subject.area.as_bytes());
    for _ in 0..SERIAL_CHARS {
        let digit = usize::try_from(number % 36).expect("it is below 36");
        text.push(BASE36[digit]);
        number /= 36;
    }
    text.push(check_character(&text).expect("a subject has letters and digits only"));
    String::from_utf8(text).expect("letters and digits are ASCII")
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
