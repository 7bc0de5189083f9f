//! Names of the logs that follow one another. A log that lost leaves which a signed head promised ends, and
//! another one begins under its name with `/e2` behind it, `/e3` and so on, by the same key.
//!
//! A C2SP note names its signer, and for a log that is the log's own name: the key signs each epoch under the
//! epoch's name. Releases before signed all of them under the name of the first; those heads are still read.

use crate::note::VerifierKey;

/// Most logs that follow one another; each but the first begins with a loss.
pub const EPOCHS_MAX: u16 = 9999;
const FIRST: u16 = 1;
/// What stands between the name of the first and the number.
const MARK: &str = "/e";

/// Name of a log: that of the first for the first epoch, with `/e2` behind it for the second.
pub fn epoch_origin(base: &str, number: u16) -> String {
    match number {
        FIRST => base.to_owned(),
        number => format!("{base}{MARK}{number}"),
    }
}

/// Which epoch of the log `base` bears this name.
pub fn epoch_number(base: &str, origin: &str) -> Option<u16> {
    if origin == base {
        return Some(FIRST);
    }
    let number = origin.strip_prefix(base)?.strip_prefix(MARK)?.parse().ok()?;
    let is_later = (FIRST + 1..=EPOCHS_MAX).contains(&number);
    (is_later && epoch_origin(base, number) == origin).then_some(number)
}

/// The first log of those that this name is a later epoch of; `None`: it is a first one itself.
pub fn epoch_base(origin: &str) -> Option<&str> {
    let (base, _) = origin.rsplit_once(MARK)?;
    (!base.is_empty() && epoch_number(base, origin).is_some()).then_some(base)
}

impl VerifierKey {
    /// The same key under the name of this log, where that is an epoch of the log that it is named after.
    #[must_use]
    pub fn of_epoch(&self, origin: &str) -> Self {
        match epoch_number(self.name(), origin) {
            Some(_) => self.renamed(origin).unwrap_or_else(|| self.clone()),
            None => self.clone(),
        }
    }

    fn renamed(&self, name: &str) -> Option<Self> {
        Self::new(name, self.key_bytes()).ok()
    }

    /// The names under which this key may have signed heads of this log. None: it is another log's key.
    pub fn signers_of(&self, origin: &str) -> Vec<Self> {
        if epoch_number(self.name(), origin).is_none() {
            return Vec::new();
        }
        let before = epoch_base(origin);
        std::iter::once(origin).chain(before).filter_map(|name| self.renamed(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::TestSigner;
    use crate::{Checkpoint, CheckpointError, Distrust, Policy, note};
    use guan_model::Digest;

    const BASE: &str = "guan/box-7";
    const SECOND: &str = "guan/box-7/e2";

    fn key(name: &str) -> VerifierKey {
        VerifierKey::of(&TestSigner::new(name, 9)).unwrap()
    }

    /// As releases before signed an epoch; golden, for such heads lie on disks.
    fn old_head() -> String {
        let text = crate::checkpoint::head_text(SECOND, 7, &Digest([5; 32]));
        note::sign(&text, &key(BASE), &TestSigner::new(BASE, 9)).unwrap()
    }

    fn new_head() -> String {
        Checkpoint::sign(SECOND, 7, &Digest([5; 32]), &TestSigner::new(BASE, 9)).unwrap()
    }

    #[test]
    fn names_are_read_as_they_are_made() {
        for number in [1, 2, 10, EPOCHS_MAX] {
            let origin = epoch_origin(BASE, number);
            assert_eq!(epoch_number(BASE, &origin), Some(number));
            assert_eq!(epoch_base(&origin), (number > 1).then_some(BASE));
        }
        for other in ["/e0", "/e1", "/e02", "/e+2", "/e", "/e10000", "/e2/", "/e2/x", "2", "/f2"] {
            let origin = format!("{BASE}{other}");
            assert_eq!(epoch_number(BASE, &origin), None, "{origin}");
            assert_eq!(epoch_base(&origin), None, "{origin}");
        }
        assert_eq!(epoch_base("/e2"), None);
        assert_eq!(epoch_number(SECOND, BASE), None);
        assert_eq!(epoch_base("a/e2/e3"), Some("a/e2"));
    }

    #[test]
    fn golden_head_of_a_second_epoch_by_the_first_name() {
        assert_eq!(old_head(), include_str!("../tests/golden/checkpoint-epoch-v1.txt"));
    }

    /// A head of an epoch bears the epoch's name, and is read with the key under either name.
    #[test]
    fn an_epoch_is_signed_under_its_own_name() {
        let line = format!("\n\u{2014} {SECOND} ");
        assert!(new_head().contains(&line) && !old_head().contains(&line));
        for by in [BASE, SECOND] {
            let read = |head: &str| Checkpoint::parse_and_name(head, &key(by));
            let (head, signer) = read(&new_head()).unwrap();
            assert_eq!((head.origin.as_str(), signer), (SECOND, key(SECOND)));
            let (head, signer) = read(&old_head()).unwrap();
            assert_eq!((head.origin.as_str(), signer), (SECOND, key(BASE)));
        }
        // Neither another epoch's name nor another key.
        let third = Checkpoint::parse_and_verify(&new_head(), &key("guan/box-7/e3"));
        assert!(matches!(third, Err(CheckpointError::Note(_))), "{third:?}");
        let thief = VerifierKey::of(&TestSigner::new(BASE, 8)).unwrap();
        for head in [new_head(), old_head()] {
            assert!(Checkpoint::parse_and_verify(&head, &thief).is_err());
        }
    }

    #[test]
    fn a_policy_that_knows_a_log_knows_its_epochs() {
        let check = |by: VerifierKey, head: &str, signer: Option<VerifierKey>| {
            let trusted = Policy::of_logs(&[by]).unwrap().check(head);
            match signer {
                Some(signer) => assert_eq!(trusted.unwrap().signed, [signer]),
                None => assert!(trusted.is_err(), "{trusted:?}"),
            }
        };
        check(key(BASE), &new_head(), Some(key(SECOND)));
        check(key(SECOND), &new_head(), Some(key(SECOND)));
        check(key(BASE), &old_head(), Some(key(BASE)));
        check(key(SECOND), &old_head(), Some(key(BASE)));
        check(VerifierKey::of(&TestSigner::new(BASE, 8)).unwrap(), &new_head(), None);
        let first = Checkpoint::sign(BASE, 7, &Digest([5; 32]), &TestSigner::new(BASE, 9)).unwrap();
        let unknown = Policy::of_logs(&[key(SECOND)]).unwrap().check(&first).unwrap_err();
        assert!(matches!(unknown, Distrust::UnknownLog { .. }), "{unknown}");
        for by in ["guan/box-7/e3", "guan/box", "guan/box-7/"] {
            check(key(by), &new_head(), None);
        }
    }
}
