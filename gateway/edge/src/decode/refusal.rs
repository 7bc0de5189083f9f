//! Why a message is not decoded, and why a mapping cannot be used: texts for operators.
//!
//! Parts of a message may stand in these texts, so they are cut and hold no control characters:
//! they go to logs, terminals and MQTT reason strings.

use std::fmt::Write;

/// Longest text of a refusal, in bytes.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 256;
/// Longest part of a topic or message that is quoted in a text, in bytes before escaping.
const EXCERPT_BYTES_MAX: usize = 48;

/// Who must do something about a refused message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// Operator: no `[[mapping]]` takes the topic.
    NoMapping,
    /// Operator: the mapping leads to no declared point, or to one that it cannot fill.
    UnknownPoint,
    /// Device: the payload is not what the mapping says.
    Undecodable,
    /// Device: a value or the message is longer than its limit.
    TooLong,
}

impl RefusalCode {
    pub const ALL: [Self; 4] =
        [Self::NoMapping, Self::UnknownPoint, Self::Undecodable, Self::TooLong];

    /// For counters and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoMapping => "no-mapping",
            Self::UnknownPoint => "unknown-point",
            Self::Undecodable => "undecodable",
            Self::TooLong => "too-long",
        }
    }
}

/// A message that gave no rows. Its text names topic, fault and remedy within 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DecodeRefusal {
    code: RefusalCode,
    text: String,
}

impl DecodeRefusal {
    pub(super) fn new(topic: &str, complaint: &Complaint) -> Self {
        let text = bounded(&format!("topic {}: {}", excerpt(topic), complaint.text));
        Self { code: complaint.code, text }
    }

    pub fn code(&self) -> RefusalCode {
        self.code
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A refusal before its topic is added; only made when something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) code: RefusalCode,
    pub(super) text: String,
}

impl Complaint {
    pub(super) fn undecodable(text: impl Into<String>) -> Self {
        Self { code: RefusalCode::Undecodable, text: text.into() }
    }

    pub(super) fn too_long(text: impl Into<String>) -> Self {
        Self { code: RefusalCode::TooLong, text: text.into() }
    }

    pub(super) fn unknown_point(name: &str) -> Self {
        let name = excerpt(name);
        let text = format!("no point {name}; declare it with [[point]] or change the mapping");
        Self { code: RefusalCode::UnknownPoint, text }
    }

    /// Says where in the message.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.text = format!("{}: {}", excerpt(place), self.text);
        self
    }
}

/// A quoted, escaped beginning of something that a stranger wrote.
pub(super) fn excerpt(text: &str) -> String {
    let end = text.floor_char_boundary(EXCERPT_BYTES_MAX);
    let mut out = String::from("\"");
    for character in text[..end].chars() {
        match character {
            '"' | '\\' => out.push(character),
            other => write!(out, "{}", other.escape_debug()).expect("a String takes all"),
        }
    }
    out.push_str(if end < text.len() { "...\"" } else { "\"" });
    out
}

fn bounded(text: &str) -> String {
    if text.len() <= REFUSAL_TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX - 3);
    format!("{}...", &text[..end])
}

/// Why a mapping cannot be used; the operator is to blame. `mapping` counts from 1, as in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingFault {
    #[error("{count} mappings; the limit is {limit}")]
    TooManyMappings { count: usize, limit: usize },
    #[error("mapping {mapping}: topic filter {filter:?} is invalid: {why}")]
    Filter { mapping: usize, filter: String, why: &'static str },
    #[error("mapping {mapping}: point {template:?} is no template: {why}")]
    Template { mapping: usize, template: String, why: &'static str },
    #[error(
        "mapping {mapping}: no declared point fits {template:?}; declare it with [[point]] or \
         correct the name"
    )]
    NoSuchPoint { mapping: usize, template: String },
    #[error(
        "mapping {mapping}: {pointer:?} is no JSON pointer; write \"\" for the whole message or \
         \"/name\" for a member (RFC 6901)"
    )]
    Pointer { mapping: usize, pointer: String },
    #[error("mapping {mapping}: {count} fields; give it 1 to {limit}")]
    Fields { mapping: usize, count: usize, limit: usize },
    #[error(
        "mapping {mapping}: point {point} is of type bytes; say encoding = \"hex\" or \"base64\""
    )]
    EncodingMissing { mapping: usize, point: String },
    #[error("mapping {mapping}: point {point} is of type {found}; only bytes points are encoded")]
    EncodingNeedless { mapping: usize, point: String, found: &'static str },
    #[error("mapping {mapping}: point {point} is of type {found}; use a point of type {wanted}")]
    PointType { mapping: usize, point: String, found: &'static str, wanted: &'static str },
}

impl MappingFault {
    /// Number of the mapping, from 1; 0 when no single one is to blame.
    pub fn mapping(&self) -> usize {
        match self {
            Self::TooManyMappings { .. } => 0,
            Self::Filter { mapping, .. }
            | Self::Template { mapping, .. }
            | Self::NoSuchPoint { mapping, .. }
            | Self::Pointer { mapping, .. }
            | Self::Fields { mapping, .. }
            | Self::EncodingMissing { mapping, .. }
            | Self::EncodingNeedless { mapping, .. }
            | Self::PointType { mapping, .. } => *mapping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_printable() {
        let check = |topic: &str, text: &str| {
            let refusal = DecodeRefusal::new(topic, &Complaint::undecodable(text));
            assert!(refusal.text().len() <= REFUSAL_TEXT_BYTES_MAX, "{refusal}");
            assert!(!refusal.text().contains(char::is_control), "{refusal}");
        };
        check("a\u{0}\u{1b}[31m\n", "x");
        check(&"\u{7f}".repeat(1000), &"é".repeat(200));
        check("t", &"x".repeat(REFUSAL_TEXT_BYTES_MAX + 1));
        assert_eq!(excerpt("ok"), "\"ok\"");
        assert_eq!(excerpt(&"é".repeat(25)), format!("\"{}...\"", "é".repeat(24)));
    }
}
