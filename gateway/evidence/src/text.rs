//! What the line formats of C2SP have in common: decimal numbers in one spelling, hashes in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::Digest;
use std::fmt;

/// Why lines are no list of hashes. The format that holds them says it to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFault {
    TooMany,
    /// Counted from 1.
    Hash {
        line: usize,
    },
}

/// A decimal number without sign and leading zeros, so that one number has one text.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

pub(crate) fn parse_hash(text: &str) -> Option<Digest> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Digest)
}

pub(crate) fn parse_hashes<'a>(
    lines: impl Iterator<Item = &'a str>,
    max: usize,
) -> Result<Vec<Digest>, LineFault> {
    let mut hashes = Vec::new();
    for line in lines {
        if hashes.len() == max {
            return Err(LineFault::TooMany);
        }
        let at = hashes.len() + 1;
        hashes.push(parse_hash(line).ok_or(LineFault::Hash { line: at })?);
    }
    Ok(hashes)
}

pub(crate) fn write_hashes(f: &mut fmt::Formatter<'_>, hashes: &[Digest]) -> fmt::Result {
    hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))
}
