//! Bytes as a TPM writes them: big endian, lengths of 16 bits before what varies (TPM 2.0, part 2).

/// Why bytes are no TPM structure; whoever sent them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TpmBytesFault {
    #[error("a TPM structure ends at byte {at} inside {what}")]
    Short { at: usize, what: &'static str },
    #[error("{left} bytes follow after a TPM structure")]
    Trailing { left: usize },
    #[error("{what} is {found:#x}; {expected} is spoken here")]
    Value { what: &'static str, found: u64, expected: &'static str },
    #[error("{what} counts {count}; the limit is {limit}")]
    Count { what: &'static str, count: u64, limit: u64 },
}

/// Reads one field after another.
pub struct TpmReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> TpmReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], TpmBytesFault> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(TpmBytesFault::Short { at: self.at, what })?;
        self.at += length;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TpmBytesFault> {
        Ok(self.take(N, what)?.try_into().expect("as many bytes were taken"))
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, TpmBytesFault> {
        Ok(self.fixed::<1>(what)?[0])
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, TpmBytesFault> {
        self.fixed(what).map(u16::from_be_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, TpmBytesFault> {
        self.fixed(what).map(u32::from_be_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, TpmBytesFault> {
        self.fixed(what).map(u64::from_be_bytes)
    }

    /// A TPM2B: a length, and as many bytes.
    pub fn sized(&mut self, what: &'static str) -> Result<&'a [u8], TpmBytesFault> {
        let length = self.u16(what)?;
        self.take(usize::from(length), what)
    }

    /// A 16 bit constant that must be this one.
    pub fn constant(
        &mut self,
        what: &'static str,
        value: u16,
        expected: &'static str,
    ) -> Result<(), TpmBytesFault> {
        match self.u16(what)? {
            found if found == value => Ok(()),
            found => Err(TpmBytesFault::Value { what, found: found.into(), expected }),
        }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    pub fn end(&self) -> Result<(), TpmBytesFault> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(TpmBytesFault::Trailing { left }),
        }
    }
}
