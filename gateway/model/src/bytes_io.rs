//! Writing and reading of the small binary headers that several crates share.
//!
//! Integers are little-endian, lengths are LEB128 varints. The reader never allocates more than the
//! bytes that it was given hold.

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    #[error("the bytes end at {at} where {wanted} more were announced")]
    Short { at: usize, wanted: usize },
    #[error("the number at byte {at} does not fit 64 bits")]
    Varint { at: usize },
    #[error("the text at byte {at} is not UTF-8")]
    Utf8 { at: usize },
    #[error("{left} bytes follow after the end")]
    Trailing { left: usize },
    #[error("stream {number} is above the limit of {}", u16::MAX)]
    Stream { number: u64 },
}

/// Appends to a growing buffer.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// LEB128, at most ten bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7F) as u8);
    }

    /// One byte for the shared lanes, as in every earlier form.
    pub fn stream(&mut self, stream: crate::StreamId) {
        self.varint(stream.0.into());
    }

    /// Zig-zag, so that small negative numbers stay short.
    pub fn signed(&mut self, value: i64) {
        self.varint(zigzag(value));
    }

    /// As they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// With a varint length before.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Maps ..., -2, -1, 0, 1, 2, ... to 3, 1, 0, 2, 4.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads what [`Writer`] wrote.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], ReadFault> {
        let short = ReadFault::Short { at: self.at, wanted: count };
        let end = self.at.checked_add(count).ok_or(short)?;
        let slice = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadFault> {
        let slice = self.raw(N)?;
        Ok(slice.try_into().expect("raw(N) returns N bytes"))
    }

    pub fn u8(&mut self) -> Result<u8, ReadFault> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, ReadFault> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ReadFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ReadFault> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn digest(&mut self) -> Result<crate::Digest, ReadFault> {
        self.array().map(crate::Digest)
    }

    pub fn varint(&mut self) -> Result<u64, ReadFault> {
        let at = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(ReadFault::Varint { at });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ReadFault::Varint { at })
    }

    pub fn stream(&mut self) -> Result<crate::StreamId, ReadFault> {
        let number = self.varint()?;
        let fault = ReadFault::Stream { number };
        u16::try_from(number).map(crate::StreamId).map_err(|_| fault)
    }

    pub fn signed(&mut self) -> Result<i64, ReadFault> {
        self.varint().map(unzigzag)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], ReadFault> {
        let at = self.at;
        let count = self.varint()?;
        let count = usize::try_from(count).map_err(|_| ReadFault::Varint { at })?;
        self.raw(count)
    }

    pub fn text(&mut self) -> Result<&'a str, ReadFault> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| ReadFault::Utf8 { at })
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn rest(&mut self) -> &'a [u8] {
        let slice = &self.bytes[self.at..];
        self.at = self.bytes.len();
        slice
    }

    /// An error unless everything was read.
    pub fn end(&self) -> Result<(), ReadFault> {
        match self.left() {
            0 => Ok(()),
            left => Err(ReadFault::Trailing { left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_survive(unsigned: u64, signed: i64, blob: Vec<u8>) {
            let mut out = Writer::new();
            out.varint(unsigned);
            out.signed(signed);
            out.bytes(&blob);
            let bytes = out.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint().unwrap(), unsigned);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.bytes().unwrap(), &blob[..]);
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.left() > 0 && reader.bytes().is_ok() {}
        }
    }

    #[test]
    fn a_length_beyond_the_end_allocates_nothing() {
        let mut out = Writer::new();
        out.varint(u64::MAX);
        let bytes = out.finish();
        assert_eq!(
            Reader::new(&bytes).bytes(),
            Err(ReadFault::Short { at: 10, wanted: usize::MAX })
        );
        assert_eq!(Reader::new(&[0xFF; 10]).varint(), Err(ReadFault::Varint { at: 0 }));
    }
}
