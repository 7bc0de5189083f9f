//! Keys through restarts, crashes at each step, copies that come back, and roots that do not answer.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn named() -> Named {
    Named { contract: ContractId::parse("C-1").unwrap(), version: 300 }
}

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

fn provide(vault: &Vault, numbers: &[u8]) -> Result<(), VaultFault> {
    vault.provide(numbers.iter().map(|number| (digest(*number), named())))
}

/// A TPM's memory, which outlives vaults and does not always answer.
#[derive(Clone, Default)]
struct Cell {
    root: Arc<Mutex<Option<RootKey>>>,
    /// Takes what it is given and does not say so.
    is_mute: Arc<AtomicBool>,
    is_dead: Arc<AtomicBool>,
}

impl Root for Cell {
    fn read(&mut self) -> Result<Option<RootKey>, RootFault> {
        Ok(self.root.lock().unwrap().clone())
    }

    fn write(&mut self, root: &RootKey) -> Result<(), RootFault> {
        if !self.is_dead.load(Ordering::Relaxed) {
            *self.root.lock().unwrap() = Some(root.clone());
        }
        match self.is_mute.load(Ordering::Relaxed) || self.is_dead.load(Ordering::Relaxed) {
            true => Err(RootFault::Random),
            false => Ok(()),
        }
    }
}

impl Cell {
    fn open(&self, folder: &Path) -> Result<Vault, VaultFault> {
        Vault::open_sealed(folder, Box::new(self.clone()), Zeroizing::new([7; 32]))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(to).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn destroyed_keys_open_nothing_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (digest(1), digest(2));
    let vault = Vault::open(folder.path()).unwrap();
    provide(&vault, &[1, 2]).unwrap();
    let sealed = vault.seal(&one, b"the batch").unwrap();
    assert!(!sealed.windows(9).any(|window| window == b"the batch"));
    let vault = Vault::open(folder.path()).unwrap();
    assert_eq!(vault.open_batch(&one, &sealed).unwrap(), b"the batch");
    assert!(matches!(vault.open_batch(&two, &sealed), Err(VaultFault::Changed { .. })));
    let pseudonyms = vault.pseudonym_key(&one);
    assert!(pseudonyms.is_some() && pseudonyms != vault.pseudonym_key(&two));
    assert_eq!(vault.destroy(&[one]).unwrap(), [(one, named())]);
    assert_eq!(vault.destroy(&[one]).unwrap(), []);
    for vault in [vault, Vault::open(folder.path()).unwrap()] {
        let fault = vault.open_batch(&one, &sealed);
        assert!(matches!(fault, Err(VaultFault::Destroyed { .. })));
        assert_eq!(vault.contracts(), [two]);
    }
}

#[test]
fn a_copy_of_the_disk_from_before_opens_nothing() {
    let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cell = Cell::default();
    let vault = cell.open(folder.path()).unwrap();
    provide(&vault, &[1, 2]).unwrap();
    copy(folder.path(), image.path());
    assert_eq!(cell.open(image.path()).unwrap().contracts().len(), 2, "the copy is a good one");
    let other = Vault::open_sealed(image.path(), Box::new(cell.clone()), Zeroizing::new([8; 32]));
    assert!(matches!(other, Err(VaultFault::Damaged { .. })), "another store key opens it");
    vault.destroy(&[digest(1)]).unwrap();
    let fault = cell.open(image.path()).err().unwrap();
    assert!(fault.to_string().contains("brought back from a copy"), "{fault}");
    assert_eq!(cell.open(folder.path()).unwrap().contracts(), [digest(2)]);
}

/// The disk after each step of a destruction, with the root as it was and as it will be.
#[test]
fn a_crash_at_any_step_leaves_all_keys_or_those_that_are_to_stay() {
    let (folder, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cell = Cell::default();
    let vault = cell.open(folder.path()).unwrap();
    provide(&vault, &[1, 2]).unwrap();
    let check = |expect: &[Digest]| {
        copy(folder.path(), image.path());
        let vault = cell.open(image.path()).unwrap();
        assert_eq!(vault.contracts(), expect);
        provide(&vault, &[9]).unwrap();
        let again = cell.open(image.path()).unwrap().contracts();
        assert_eq!(again.len(), expect.len() + 1, "what was opened can be written on");
    };
    check(&[digest(1), digest(2)]);
    // The next file is there, and the root never arrived.
    cell.is_dead.store(true, Ordering::Relaxed);
    assert!(matches!(vault.destroy(&[digest(1)]), Err(VaultFault::Root(_))));
    check(&[digest(1), digest(2)]);
    // Others come while it waits, and nothing of theirs is lost on either way.
    provide(&vault, &[3]).unwrap();
    check(&[digest(1), digest(2), digest(3)]);
    // It arrives, and nobody hears of it.
    cell.is_dead.store(false, Ordering::Relaxed);
    cell.is_mute.store(true, Ordering::Relaxed);
    assert!(matches!(vault.destroy(&[digest(1)]), Err(VaultFault::Root(_))));
    assert!(vault.has(&digest(1)), "nobody said that it is gone");
    check(&[digest(2), digest(3)]);
    provide(&vault, &[4]).unwrap();
    check(&[digest(2), digest(3), digest(4)]);
    cell.is_mute.store(false, Ordering::Relaxed);
    let gone = vault.destroy(&[digest(3)]).unwrap();
    let gone: Vec<Digest> = gone.into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(gone, [digest(1), digest(3)]);
    check(&[digest(2), digest(4)]);
}

/// The rename after a destruction fails, and a new contract comes: its key must not be forgotten.
#[test]
fn a_next_file_that_stayed_hides_no_later_key() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path()).unwrap();
    provide(&vault, &[1]).unwrap();
    fs::copy(folder.path().join(KEYS_FILE), folder.path().join(NEXT_FILE)).unwrap();
    provide(&vault, &[2]).unwrap();
    assert_eq!(Vault::open(folder.path()).unwrap().contracts(), [digest(1), digest(2)]);
}

#[test]
fn plain_keys_move_into_the_tpm_and_a_cleared_tpm_takes_them_along() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path()).unwrap();
    provide(&vault, &[1]).unwrap();
    let sealed = vault.seal(&digest(1), b"x").unwrap();
    let cell = Cell::default();
    let vault = cell.open(folder.path()).unwrap();
    assert_eq!(vault.open_batch(&digest(1), &sealed).unwrap(), b"x");
    assert!(!folder.path().join(ROOT_FILE).exists());
    assert!(cell.open(folder.path()).unwrap().has(&digest(1)));
    *cell.root.lock().unwrap() = None;
    assert_eq!(cell.open(folder.path()).unwrap().contracts(), []);
}

#[test]
fn files_of_the_first_release_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let old = [&[5; 32][..], &[0xAC, 0x02], &[3], b"C-1"].concat();
    let path = folder.path().join(format!("{}.key", digest(1)));
    fs::write(&path, old).unwrap();
    let first = Vault::open(folder.path()).unwrap();
    assert!(!path.exists());
    let second = Vault::open(folder.path()).unwrap();
    assert_eq!(first.pseudonym_key(&digest(1)), second.pseudonym_key(&digest(1)));
    assert_eq!(second.destroy(&[digest(1)]).unwrap(), [(digest(1), named())]);
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path()).unwrap();
    provide(&vault, &[1]).unwrap();
    let one = digest(1);
    let sealed = vault.seal(&one, b"x").unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(vault.open_batch(&one, &changed).is_err());
        assert!(vault.open_batch(&one, &sealed[..at]).is_err());
    }
    let path = folder.path().join(KEYS_FILE);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(matches!(Vault::open(folder.path()), Err(VaultFault::Damaged { .. })), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(matches!(Vault::open(folder.path()), Err(VaultFault::Damaged { .. })), "cut {at}");
    }
    fs::write(&path, vec![0; (1 << 20) + 1]).unwrap();
    assert!(matches!(Vault::open(folder.path()), Err(VaultFault::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert_eq!(Vault::open(folder.path()).unwrap().contracts(), [], "moved away, the box goes on");
}

#[test]
fn keys_have_a_limit_and_fit_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path()).unwrap();
    let long = "C".repeat(64);
    let longest = Named { contract: ContractId::parse(&long).unwrap(), version: u64::MAX };
    let many = |count: usize| {
        (0..count).map(|number| (Digest::of(&number.to_le_bytes()), longest.clone()))
    };
    assert!(matches!(vault.provide(many(KEYS_MAX + 1)), Err(VaultFault::Full)));
    assert_eq!(vault.contracts().len(), 0, "all or none");
    vault.provide(many(KEYS_MAX)).unwrap();
    assert!(matches!(provide(&vault, &[1]), Err(VaultFault::Full)));
    assert_eq!(Vault::open(folder.path()).unwrap().contracts().len(), KEYS_MAX);
}
