//! The part of CBOR that leaves, receipts and attestation use, in the one deterministic form of RFC 8949, section 4.2.1.
//!
//! Integers, byte strings, texts, arrays and maps of definite length, tags, null; shortest heads only. The reader
//! refuses every other form, so equal content has equal bytes, and it never allocates by an
//! announced length.

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const MAJOR_SIMPLE: u8 = 7;
/// The simple value null.
const SIMPLE_NULL: u64 = 22;

/// Why bytes are not deterministic CBOR of the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborFault {
    #[error("the bytes end at {at} inside an item")]
    Short { at: usize },
    #[error("the number at byte {at} is not in its shortest form")]
    NotShortest { at: usize },
    #[error("byte {at} does not start {expected}")]
    Type { at: usize, expected: &'static str },
    #[error("the number at byte {at} is outside the range of its field")]
    Range { at: usize },
    #[error("the text at byte {at} is not UTF-8")]
    Utf8 { at: usize },
    #[error("the item at byte {at} has {length} elements where {expected} belong")]
    Length { at: usize, length: u64, expected: u64 },
    #[error("the map has key {found} at byte {at} where key {expected} belongs")]
    Key { at: usize, found: u64, expected: u64 },
    #[error("the map ends at byte {at} before key {expected}")]
    MissingKey { at: usize, expected: u64 },
    #[error("the map ends at byte {at} before its last key")]
    MapEnd { at: usize },
    #[error("the item at byte {at} has tag {found} where {expected} belongs")]
    Tag { at: usize, found: u64, expected: u64 },
    #[error("the map has {left} unknown keys at byte {at}")]
    UnknownKeys { at: usize, left: u64 },
    #[error("{left} bytes follow after the end")]
    Trailing { left: usize },
}

/// Writes one item after another.
#[derive(Debug, Default)]
pub struct CborWriter(Vec<u8>);

impl CborWriter {
    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        let bytes = number.to_be_bytes();
        match number {
            0..24 => self.0.push(major | bytes[7]),
            24..0x100 => self.0.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..0x1_0000 => {
                self.0.push(major | 25);
                self.0.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..0x1_0000_0000 => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }

    pub fn unsigned(&mut self, number: u64) {
        self.head(MAJOR_UNSIGNED, number);
    }

    pub fn signed(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.head(MAJOR_UNSIGNED, number),
            // CBOR stores -1 - n, which is the complement in two's complement.
            Err(_) => self.head(MAJOR_NEGATIVE, (!number).cast_unsigned()),
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(MAJOR_BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.head(MAJOR_TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn array(&mut self, length: u64) {
        self.head(MAJOR_ARRAY, length);
    }

    /// The caller writes the keys in ascending order.
    pub fn map(&mut self, length: u64) {
        self.head(MAJOR_MAP, length);
    }

    /// What the next item is taken for.
    pub fn tag(&mut self, number: u64) {
        self.head(MAJOR_TAG, number);
    }

    pub fn null(&mut self) {
        self.head(MAJOR_SIMPLE, SIMPLE_NULL);
    }

    /// A number under a key of a map.
    pub fn entry(&mut self, key: u64, value: u64) {
        self.unsigned(key);
        self.unsigned(value);
    }

    pub fn entry_text(&mut self, key: u64, value: &str) {
        self.unsigned(key);
        self.text(value);
    }

    pub fn entry_bytes(&mut self, key: u64, value: &[u8]) {
        self.unsigned(key);
        self.bytes(value);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads one item after another.
#[derive(Debug)]
pub struct CborReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> CborReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    fn raw(&mut self, count: usize) -> Result<&'a [u8], CborFault> {
        let end = self.at.checked_add(count).ok_or(CborFault::Short { at: self.at })?;
        let slice = self.bytes.get(self.at..end).ok_or(CborFault::Short { at: self.at })?;
        self.at = end;
        Ok(slice)
    }

    /// The major type and number of the next item.
    fn head(&mut self) -> Result<(u8, u64), CborFault> {
        let at = self.at;
        let first = self.raw(1)?[0];
        let (width, least) = match first & 0x1F {
            short @ 0..24 => return Ok((first >> 5, u64::from(short))),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(CborFault::Type { at, expected: "an item of definite length" }),
        };
        let number =
            self.raw(width)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        if number < least {
            return Err(CborFault::NotShortest { at });
        }
        Ok((first >> 5, number))
    }

    fn head_of(&mut self, major: u8, expected: &'static str) -> Result<u64, CborFault> {
        let at = self.at;
        match self.head()? {
            (found, number) if found == major => Ok(number),
            _ => Err(CborFault::Type { at, expected }),
        }
    }

    pub fn unsigned(&mut self) -> Result<u64, CborFault> {
        self.head_of(MAJOR_UNSIGNED, "an unsigned integer")
    }

    /// An unsigned integer of a narrower field.
    pub fn narrow<N: TryFrom<u64>>(&mut self) -> Result<N, CborFault> {
        let at = self.at;
        N::try_from(self.unsigned()?).map_err(|_| CborFault::Range { at })
    }

    pub fn signed(&mut self) -> Result<i64, CborFault> {
        let at = self.at;
        let (major, number) = self.head()?;
        let number = i64::try_from(number).map_err(|_| CborFault::Range { at });
        match major {
            MAJOR_UNSIGNED => number,
            MAJOR_NEGATIVE => number.map(|number| !number),
            _ => Err(CborFault::Type { at, expected: "an integer" }),
        }
    }

    fn string(&mut self, major: u8, expected: &'static str) -> Result<&'a [u8], CborFault> {
        let at = self.at;
        let length = self.head_of(major, expected)?;
        self.raw(usize::try_from(length).map_err(|_| CborFault::Short { at })?)
    }

    /// A byte string of `max` bytes at most.
    pub fn bytes(&mut self, max: u64) -> Result<&'a [u8], CborFault> {
        let at = self.at;
        let bytes = self.string(MAJOR_BYTES, "a byte string")?;
        match bytes.len() as u64 {
            length if length <= max => Ok(bytes),
            length => Err(CborFault::Length { at, length, expected: max }),
        }
    }

    pub fn fixed_bytes<const N: usize>(&mut self) -> Result<[u8; N], CborFault> {
        let at = self.at;
        let bytes = self.string(MAJOR_BYTES, "a byte string")?;
        let length = bytes.len() as u64;
        bytes.try_into().map_err(|_| CborFault::Length { at, length, expected: N as u64 })
    }

    pub fn text(&mut self) -> Result<&'a str, CborFault> {
        let at = self.at;
        let bytes = self.string(MAJOR_TEXT, "a text")?;
        std::str::from_utf8(bytes).map_err(|_| CborFault::Utf8 { at })
    }

    pub fn array(&mut self, expected: u64) -> Result<(), CborFault> {
        let at = self.at;
        match self.head_of(MAJOR_ARRAY, "an array")? {
            length if length == expected => Ok(()),
            length => Err(CborFault::Length { at, length, expected }),
        }
    }

    /// An array of `max` elements at most: how many.
    pub fn array_up_to(&mut self, max: u64) -> Result<u64, CborFault> {
        let at = self.at;
        match self.head_of(MAJOR_ARRAY, "an array")? {
            length if length <= max => Ok(length),
            length => Err(CborFault::Length { at, length, expected: max }),
        }
    }

    pub fn tag(&mut self, expected: u64) -> Result<(), CborFault> {
        let at = self.at;
        match self.head_of(MAJOR_TAG, "a tag")? {
            found if found == expected => Ok(()),
            found => Err(CborFault::Tag { at, found, expected }),
        }
    }

    pub fn null(&mut self) -> Result<(), CborFault> {
        let at = self.at;
        match self.head()? {
            (MAJOR_SIMPLE, SIMPLE_NULL) if self.at == at + 1 => Ok(()),
            _ => Err(CborFault::Type { at, expected: "null" }),
        }
    }

    /// Enters a map; its keys are then asked for one by one.
    pub fn map(&mut self) -> Result<MapKeys, CborFault> {
        Ok(MapKeys { left: self.head_of(MAJOR_MAP, "a map")? })
    }

    pub fn end(&self) -> Result<(), CborFault> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(CborFault::Trailing { left }),
        }
    }
}

/// The keys of a map that are still to come. A reader that asks for its keys in ascending order
/// thereby refuses unsorted, repeated and unknown ones.
#[derive(Debug)]
#[must_use = "a map must be finished, else unknown keys pass"]
pub struct MapKeys {
    left: u64,
}

impl MapKeys {
    pub fn next(&mut self, reader: &mut CborReader<'_>) -> Result<Option<u64>, CborFault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        reader.unsigned().map(Some)
    }

    pub fn require(&mut self, reader: &mut CborReader<'_>, expected: u64) -> Result<(), CborFault> {
        let at = reader.at();
        match self.next(reader)? {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(CborFault::Key { at, found, expected }),
            None => Err(CborFault::MissingKey { at, expected }),
        }
    }

    /// The next key, which may be negative, as those of COSE are. The caller minds the order.
    pub fn require_signed(&mut self, reader: &mut CborReader<'_>) -> Result<i64, CborFault> {
        if self.left == 0 {
            return Err(CborFault::MapEnd { at: reader.at() });
        }
        self.left -= 1;
        reader.signed()
    }

    pub fn finish(self, reader: &CborReader<'_>) -> Result<(), CborFault> {
        match self.left {
            0 => Ok(()),
            left => Err(CborFault::UnknownKeys { at: reader.at(), left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut CborWriter)) -> Vec<u8> {
        let mut out = CborWriter::default();
        write(&mut out);
        out.finish()
    }

    /// Examples of RFC 8949, appendix A.
    #[test]
    fn examples_of_the_rfc() {
        let check = |number: i64, expect: &[u8]| {
            assert_eq!(written(|out| out.signed(number)), expect, "for {number}");
            assert_eq!(CborReader::new(expect).signed(), Ok(number));
        };
        check(0, &[0x00]);
        check(23, &[0x17]);
        check(24, &[0x18, 0x18]);
        check(1000, &[0x19, 0x03, 0xE8]);
        check(1_000_000, &[0x1A, 0x00, 0x0F, 0x42, 0x40]);
        check(1_000_000_000_000, &[0x1B, 0, 0, 0, 0xE8, 0xD4, 0xA5, 0x10, 0]);
        check(-1, &[0x20]);
        check(-10, &[0x29]);
        check(-100, &[0x38, 0x63]);
        check(-1000, &[0x39, 0x03, 0xE7]);
        assert_eq!(written(|out| out.text("IETF")), b"\x64IETF");
        assert_eq!(written(|out| out.bytes(&[1, 2, 3, 4])), [0x44, 1, 2, 3, 4]);
    }

    #[test]
    fn other_forms_are_refused() {
        let check = |bytes: &[u8], expect| {
            assert_eq!(CborReader::new(bytes).unsigned(), Err(expect), "for {bytes:02x?}");
        };
        check(&[0x18, 0x17], CborFault::NotShortest { at: 0 });
        check(&[0x19, 0x00, 0xFF], CborFault::NotShortest { at: 0 });
        check(&[0x1A, 0, 0, 0xFF, 0xFF], CborFault::NotShortest { at: 0 });
        check(&[0x1B, 0, 0, 0, 0, 0xFF, 0, 0, 0], CborFault::NotShortest { at: 0 });
        check(&[0x1F], CborFault::Type { at: 0, expected: "an item of definite length" });
        check(&[0x19, 0x01], CborFault::Short { at: 1 });
        check(&[0x61], CborFault::Type { at: 0, expected: "an unsigned integer" });
        check(&[], CborFault::Short { at: 0 });
        let endless = [0x5B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(CborReader::new(&endless).fixed_bytes::<4>(), Err(CborFault::Short { at: 9 }));
        let outside = [0x3B, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(CborReader::new(&outside).signed(), Err(CborFault::Range { at: 0 }));
    }

    #[test]
    fn tags_null_and_negative_keys() {
        let bytes = written(|out| {
            out.tag(18);
            out.null();
            out.map(1);
            out.signed(-1);
            out.null();
        });
        assert_eq!(bytes, [0xD2, 0xF6, 0xA1, 0x20, 0xF6]);
        let mut reader = CborReader::new(&bytes);
        assert_eq!(reader.tag(18), Ok(()));
        assert_eq!(reader.null(), Ok(()));
        let mut keys = reader.map().unwrap();
        assert_eq!(keys.require_signed(&mut reader), Ok(-1));
        assert_eq!(reader.null(), Ok(()));
        assert_eq!(keys.require_signed(&mut reader), Err(CborFault::MapEnd { at: 5 }));
        assert_eq!(keys.finish(&reader), Ok(()));
        let fault = CborFault::Tag { at: 0, found: 18, expected: 17 };
        assert_eq!(CborReader::new(&bytes).tag(17), Err(fault));
        let null = |bytes: &[u8]| CborReader::new(bytes).null();
        let fault = CborFault::Type { at: 0, expected: "null" };
        assert_eq!(null(&[0xF5]), Err(fault));
        assert_eq!(null(&[0x16]), Err(fault));
        // A long head that reads as the number of null is none.
        assert_eq!(null(&[0xF8, 0x16]), Err(CborFault::NotShortest { at: 0 }));
    }

    proptest! {
        #[test]
        fn numbers_survive(number: i64, unsigned: u64) {
            let bytes = written(|out| { out.signed(number); out.unsigned(unsigned); });
            let mut reader = CborReader::new(&bytes);
            prop_assert_eq!(reader.signed(), Ok(number));
            prop_assert_eq!(reader.unsigned(), Ok(unsigned));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
