//! Text with a limit, so that what a person or a peer wrote never makes a frame too long.

use std::fmt;

/// UTF-8 of at most `MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedText<const MAX: usize>(Box<str>);

/// A text is longer than its place in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text has {length} bytes; the limit is {limit}")]
pub struct TextTooLong {
    pub length: usize,
    pub limit: usize,
}

/// Why the space refuses or says goodbye, for people.
pub type Reason = BoundedText<256>;
/// A signed checkpoint with its signature lines.
pub type CheckpointText = BoundedText<{ 32 << 10 }>;
/// What a box reports about itself, as JSON.
pub type ReportJson = BoundedText<{ 16 << 10 }>;

impl<const MAX: usize> BoundedText<MAX> {
    pub fn parse(text: &str) -> Result<Self, TextTooLong> {
        if text.len() > MAX {
            return Err(TextTooLong { length: text.len(), limit: MAX });
        }
        Ok(Self(text.into()))
    }

    /// Keeps the longest whole characters that fit: for messages to people, where the start says most.
    pub fn cut(text: &str) -> Self {
        Self(text[..text.floor_char_boundary(MAX.min(text.len()))].into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for BoundedText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_a_cut_keeps_characters_whole() {
        assert_eq!(BoundedText::<4>::parse("abcd").unwrap().as_str(), "abcd");
        let fault = BoundedText::<4>::parse("abcde").unwrap_err();
        assert_eq!(fault, TextTooLong { length: 5, limit: 4 });
        assert_eq!(BoundedText::<4>::cut("关口").as_str(), "关");
        assert_eq!(BoundedText::<6>::cut("关口").as_str(), "关口");
        assert_eq!(BoundedText::<4>::cut("ab").as_str(), "ab");
    }
}
