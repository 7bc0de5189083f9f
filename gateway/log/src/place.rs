//! Where a leaf stands: which of the logs that followed one another, and its index there.
//!
//! A log that lost leaves which a signed head promised must not go on under its name, or it would show
//! two histories. The next one is an epoch of its own, with a name of its own, and begins at index 0.

pub use guan_evidence::epoch::EPOCHS_MAX;
use guan_evidence::epoch::{epoch_number, epoch_origin};
use std::fmt;

/// Bits of a journal's number that hold the index.
const INDEX_BITS: u32 = 48;
const INDEX_MAX: u64 = (1 << INDEX_BITS) - 1;

/// Number of a log among those that followed one another, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u16);

impl Epoch {
    pub const FIRST: Self = Self(1);

    pub fn new(number: u16) -> Option<Self> {
        (1..=EPOCHS_MAX).contains(&number).then_some(Self(number))
    }

    pub fn number(self) -> u16 {
        self.0
    }

    /// `None` after the last.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    pub fn before(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }

    /// Name of the log: the box's own for the first epoch, with `/e2` behind it for the second.
    pub fn origin(self, base: &str) -> String {
        epoch_origin(base, self.0)
    }

    /// Which epoch of the log `base` bears this name.
    pub fn of_origin(base: &str, origin: &str) -> Option<Self> {
        epoch_number(base, origin).and_then(Self::new)
    }

    /// What stands before the names of its files.
    pub(crate) fn file_prefix(self) -> String {
        match self.0 {
            1 => String::new(),
            number => format!("e{number:04}-"),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number under which a journal keeps a leaf: it grows over epochs too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalPlace(u64);

impl JournalPlace {
    pub fn new(epoch: Epoch, index: u64) -> Self {
        assert!(index <= INDEX_MAX, "2^48 leaves outlast the box");
        Self((u64::from(epoch.0 - 1) << INDEX_BITS) | index)
    }

    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub fn number(self) -> u64 {
        self.0
    }

    pub fn index(self) -> u64 {
        self.0 & INDEX_MAX
    }

    /// Places past the last epoch, which only a damaged journal has, count as of the last.
    pub fn epoch(self) -> Epoch {
        let number = u16::try_from((self.0 >> INDEX_BITS) + 1).unwrap_or(u16::MAX);
        Epoch(number.min(EPOCHS_MAX))
    }

    pub fn is_of(self, epoch: Epoch) -> bool {
        self.epoch() == epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_grow_over_epochs() {
        let second = Epoch::FIRST.next().unwrap();
        let places = [
            JournalPlace::new(Epoch::FIRST, 0),
            JournalPlace::new(Epoch::FIRST, INDEX_MAX),
            JournalPlace::new(second, 0),
            JournalPlace::new(second, 7),
        ];
        assert!(places.is_sorted());
        assert_eq!(
            places[0].number(),
            0,
            "the first epoch's are plain indices, as they were before"
        );
        assert_eq!((places[3].index(), places[3].is_of(second)), (7, true));
        assert!(!places[3].is_of(Epoch::FIRST));
        assert_eq!(Epoch::new(EPOCHS_MAX).unwrap().next(), None);
        assert_eq!(Epoch::new(0), None);
        assert_eq!(second.origin("guan/box-1"), "guan/box-1/e2");
        assert_eq!(Epoch::FIRST.origin("guan/box-1"), "guan/box-1");
        assert_eq!(second.before(), Some(Epoch::FIRST));
        assert_eq!(Epoch::FIRST.before(), None);
    }
}
