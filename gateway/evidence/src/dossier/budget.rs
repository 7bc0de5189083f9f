//! How much a bundle may be: asked before each file is read or kept, by whoever makes or reads one.

use super::{DossierFault, ENTRIES_MAX, STAMPS_MAX};

/// Most files about one entry: two of itself, proof, receipt, disclosure, and six of a statement of the TPM.
pub const FILES_PER_ENTRY_MAX: usize = 11;
/// Files that are about no single entry.
const FILES_BESIDE_MAX: usize = 8 + 3 * STAMPS_MAX;
/// Most files, and largest file, of one bundle.
pub const FILES_MAX: usize = FILES_PER_ENTRY_MAX * ENTRIES_MAX + FILES_BESIDE_MAX;
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Most bytes of all files; the most entries with long proofs take half of it.
pub const DOSSIER_BYTES_MAX: usize = 256 << 20;

/// Longest name of a file.
pub const NAME_BYTES_MAX: usize = 256;

/// Whether a file of a bundle may be called so: ASCII that shows as itself, and no blank. Names are printed.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What was admitted so far.
#[derive(Debug, Default)]
pub struct Budget {
    files: usize,
    bytes: usize,
}

impl Budget {
    /// Admits one more file, or says which limit it is over.
    pub fn admit(&mut self, name: &str, length: u64) -> Result<(), DossierFault> {
        if !is_name(name) {
            return Err(DossierFault::Name { name: name.chars().take(NAME_BYTES_MAX).collect() });
        }
        let fits = usize::try_from(length).ok().filter(|length| *length <= FILE_BYTES_MAX);
        let Some(length) = fits else {
            return Err(DossierFault::TooLong { name: name.to_owned(), length });
        };
        if self.files >= FILES_MAX {
            return Err(DossierFault::TooMany);
        }
        if self.bytes + length > DOSSIER_BYTES_MAX {
            return Err(DossierFault::TooLarge { name: name.to_owned() });
        }
        self.files += 1;
        self.bytes += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact() {
        let largest = FILE_BYTES_MAX as u64;
        let mut budget = Budget::default();
        let over = budget.admit("a", largest + 1).unwrap_err();
        assert_eq!(over, DossierFault::TooLong { name: "a".to_owned(), length: largest + 1 });
        assert!(budget.admit("a", u64::MAX).is_err());
        for _ in 0..DOSSIER_BYTES_MAX / FILE_BYTES_MAX {
            budget.admit("a", largest).unwrap();
        }
        assert_eq!(budget.admit("b", 0), Ok(()));
        let over = budget.admit("b", 1).unwrap_err();
        assert_eq!(over, DossierFault::TooLarge { name: "b".to_owned() });

        let longest = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(Budget::default().admit(&longest, 1), Ok(()));
        for name in ["", "a b", "a\nb", "a\u{1b}b", "a\u{7f}", "\u{e9}", &format!("{longest}a")] {
            let fault = Budget::default().admit(name, 1).unwrap_err();
            assert!(matches!(fault, DossierFault::Name { .. }), "{name:?}");
        }

        let mut budget = Budget::default();
        (0..FILES_MAX).for_each(|_| budget.admit("a", 1).unwrap());
        assert_eq!(budget.admit("a", 1), Err(DossierFault::TooMany));
    }
}
