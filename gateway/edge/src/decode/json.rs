//! One pass over a JSON text (RFC 8259) that picks out the members that a mapping asks for.
//!
//! Numbers come out as their text, so that the reader of a point rounds once and correctly, and
//! integers keep all digits; a general tree would have rounded them already. The whole text is
//! checked, also what nobody asks for. Never builds a tree, never nests deeper than `DEPTH_MAX`.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 32;

/// One value as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    /// By the grammar of RFC 8259, section 6.
    Number(&'a str),
    Text(RawText<'a>),
    Array,
    Object,
}

impl Token<'_> {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// What stands between the quotes; escapes are well formed but not yet resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawText<'a> {
    raw: &'a str,
    has_escapes: bool,
}

impl<'a> RawText<'a> {
    /// `None` when half of a surrogate pair stands alone: no text can hold that.
    pub(super) fn unescape(self) -> Option<Cow<'a, str>> {
        if !self.has_escapes {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let (character, used) = escaped(&rest[at + 1..])?;
            out.push(character);
            rest = &rest[at + 1 + used..];
        }
        out.push_str(rest);
        Some(Cow::Owned(out))
    }
}

/// The character of the escape that follows a backslash, and how many bytes it takes.
fn escaped(text: &str) -> Option<(char, usize)> {
    let simple = match text.as_bytes().first()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => {
            let high = unit(text.get(1..5)?)?;
            if !(0xD800..0xDC00).contains(&high) {
                return char::from_u32(high).map(|character| (character, 5));
            }
            let low = unit(text.get(5..)?.strip_prefix("\\u")?.get(..4)?)?;
            let low = low.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            return char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + low).map(|c| (c, 11));
        }
        other => char::from(*other),
    };
    Some((simple, 1))
}

fn unit(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

/// Why a text is not JSON, or not JSON that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonFault {
    #[error("not JSON at byte {at}: expected {expected}")]
    Syntax { at: usize, expected: &'static str },
    #[error("nested deeper than {DEPTH_MAX} levels at byte {at}")]
    Depth { at: usize },
    #[error("a member that the mapping reads stands twice, again at byte {at}")]
    Twice { at: usize },
}

/// Members that are wanted, as a tree of JSON pointers (RFC 6901) that end in numbered slots.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    slot: Option<usize>,
    children: Vec<(Box<str>, Wanted)>,
}

impl Wanted {
    /// Takes the steps of a pointer in; returns its slot, the old one if it was wanted already.
    pub(super) fn insert(&mut self, steps: &[String], slots: &mut usize) -> usize {
        let mut node = self;
        for step in steps {
            let known = node.children.iter().position(|(name, _)| **name == **step);
            let index = known.unwrap_or_else(|| {
                node.children.push((Box::from(step.as_str()), Self::default()));
                node.children.len() - 1
            });
            node = &mut node.children[index].1;
        }
        *node.slot.get_or_insert_with(|| {
            *slots += 1;
            *slots - 1
        })
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(known, _)| **known == *name).map(|(_, child)| child)
    }
}

/// The steps of a JSON pointer, `None` if it is none. `""` is the whole text.
pub(super) fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_prefix('/')?.split('/').map(pointer_step).collect()
}

fn pointer_step(step: &str) -> Option<String> {
    let mut out = String::with_capacity(step.len());
    let mut characters = step.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

/// Reads a text once and fills the slots of `wanted`. All of the text must be JSON.
pub(super) fn pick<'a>(
    text: &'a str,
    wanted: &Wanted,
    slots: &mut [Option<Token<'a>>],
) -> Result<(), JsonFault> {
    let mut scanner = Scanner::new(text);
    scanner.value(Some(wanted), slots, 0)?;
    scanner.end()
}

/// A cursor over a JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fault(&self, expected: &'static str) -> JsonFault {
        JsonFault::Syntax { at: self.at, expected }
    }

    /// Takes `byte` after blanks, if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonFault> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(expected)) }
    }

    pub(super) fn end(&mut self) -> Result<(), JsonFault> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("the end")) }
    }

    /// A name and its colon.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, JsonFault> {
        self.skip_blanks();
        let start = self.at;
        let name = self.text()?;
        let lone = JsonFault::Syntax { at: start, expected: "whole surrogate pairs" };
        let name = name.unescape().ok_or(lone)?;
        self.expect(b':', "':'")?;
        Ok(name)
    }

    /// A value that is looked at as a whole; arrays and objects are checked and passed over.
    pub(super) fn whole(&mut self, depth: usize) -> Result<Token<'a>, JsonFault> {
        self.value(None, &mut [], depth)
    }

    fn value(
        &mut self,
        wanted: Option<&Wanted>,
        slots: &mut [Option<Token<'a>>],
        depth: usize,
    ) -> Result<Token<'a>, JsonFault> {
        self.skip_blanks();
        let start = self.at;
        let token = match self.peek() {
            Some(b'{') => self.object(wanted, slots, depth)?,
            Some(b'[') => self.array(wanted, slots, depth)?,
            Some(b'"') => Token::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => Token::Number(self.number()?),
            Some(b't') => self.word("true", Token::Bool(true))?,
            Some(b'f') => self.word("false", Token::Bool(false))?,
            Some(b'n') => self.word("null", Token::Null)?,
            _ => return Err(self.fault("a value")),
        };
        // Two values for one member: choosing one would be a guess about the source.
        if let Some(slot) = wanted.and_then(|wanted| wanted.slot)
            && slots[slot].replace(token).is_some()
        {
            return Err(JsonFault::Twice { at: start });
        }
        Ok(token)
    }

    fn descend(&mut self, depth: usize) -> Result<usize, JsonFault> {
        if depth == DEPTH_MAX {
            return Err(JsonFault::Depth { at: self.at });
        }
        self.at += 1;
        Ok(depth + 1)
    }

    fn object(
        &mut self,
        wanted: Option<&Wanted>,
        slots: &mut [Option<Token<'a>>],
        depth: usize,
    ) -> Result<Token<'a>, JsonFault> {
        let depth = self.descend(depth)?;
        if self.take(b'}') {
            return Ok(Token::Object);
        }
        loop {
            let name = self.name()?;
            let child = wanted.and_then(|wanted| wanted.child(&name));
            self.value(child, slots, depth)?;
            if self.take(b'}') {
                return Ok(Token::Object);
            }
            self.expect(b',', "',' or '}'")?;
        }
    }

    fn array(
        &mut self,
        wanted: Option<&Wanted>,
        slots: &mut [Option<Token<'a>>],
        depth: usize,
    ) -> Result<Token<'a>, JsonFault> {
        let depth = self.descend(depth)?;
        if self.take(b']') {
            return Ok(Token::Array);
        }
        let wanted = wanted.filter(|wanted| !wanted.children.is_empty());
        for index in 0_usize.. {
            let child = wanted.and_then(|wanted| wanted.child(&index.to_string()));
            self.value(child, slots, depth)?;
            if self.take(b']') {
                break;
            }
            self.expect(b',', "',' or ']'")?;
        }
        Ok(Token::Array)
    }

    fn word(&mut self, word: &'static str, token: Token<'a>) -> Result<Token<'a>, JsonFault> {
        match self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(token)
            }
            false => Err(self.fault(word)),
        }
    }

    fn text(&mut self) -> Result<RawText<'a>, JsonFault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("'\"'"));
        }
        self.at += 1;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(0x20..) => self.at += plain(&self.text.as_bytes()[self.at..]),
                _ => return Err(self.fault("'\"'")),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(RawText { raw, has_escapes })
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        let bytes = &self.text.as_bytes()[self.at + 1..];
        let length = match bytes.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if bytes.len() > 4 && bytes[1..5].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(self.fault("an escape of RFC 8259")),
        };
        self.at += length;
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonFault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fault("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, JsonFault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }
}

/// How many bytes from the first on, which is one of them, are neither `"` nor `\` nor a control character. Eight
/// at a time, as in Hacker's Delight, 6-1: the lowest mark is never false.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let ends = controls
            | zeros(word ^ (ONES * u64::from(b'"')))
            | zeros(word ^ (ONES * u64::from(b'\\')));
        if ends != 0 {
            return index * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    words.len() * 8 + rest.iter().take_while(|byte| is_plain(byte)).count()
}

/// Whether a text is exactly one number of RFC 8259.
pub(super) fn is_number(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.number().is_ok() && scanner.at == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_ends_where_it_must_whatever_stands_before() {
        for byte in 0..=u8::MAX {
            for before in 0..20 {
                for after in [b'a', 0xff, 0x00, b'"'] {
                    let bytes = [&vec![b'x'; before][..], &[byte], &[after; 9]].concat();
                    let is_end = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
                    let expect = bytes.iter().position(is_end).unwrap_or(bytes.len());
                    assert_eq!(plain(&bytes), expect, "{bytes:?}");
                }
            }
        }
    }
}
