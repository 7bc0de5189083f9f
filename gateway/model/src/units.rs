//! Quantities and units of measure.

use std::fmt;
use std::sync::Arc;

/// A number of bytes; prints with a binary unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match STEPS.iter().find(|(size, _)| self.0 >= *size) {
            Some((size, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*size);
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A UCUM code such as `Cel` or `km/h` (<https://ucum.org>). Only the alphabet is checked: printable
/// ASCII without blanks, at most 32 bytes. `1` is "no unit".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(Arc<str>);

impl Unit {
    pub fn parse(code: &str) -> Option<Self> {
        let fits = (1..=32).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(Arc::from(code)))
    }

    /// The unit of what has none.
    pub fn one() -> Self {
        Self(Arc::from("1"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_read_well() {
        let check = |bytes, expect| assert_eq!(ByteCount(bytes).to_string(), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(u64::MAX, "17179869183.9 GiB");
    }
}
