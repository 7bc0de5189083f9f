//! Where the root of the contracts' keys lives: overwriting it shreds every copy of what lay under it.
//!
//! In the TPM's own memory no image of the disk has it. In a file it goes with its disk block, which flash may
//! keep: a box without sealed store destroys only as well as its disk does.

use guan_identity::tpm::{ROOT_KEY_BYTES, Tpm, TpmFault};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// A root, of which each vault has one at a time.
pub type RootKey = Zeroizing<[u8; ROOT_KEY_BYTES]>;

/// Longest wait for the TPM: the writer asks, and readings wait behind it.
const TPM_WAIT: Duration = Duration::from_secs(5);

/// Why a root cannot be read or overwritten.
#[derive(Debug, thiserror::Error)]
pub enum RootFault {
    #[error("{path} cannot be used: check the disk and the rights of box.state_dir")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no root of keys; without it what was kept cannot be read")]
    Damaged { path: PathBuf },
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error("the system gives no random numbers")]
    Random,
}

/// A place for one root.
pub trait Root: Send {
    /// `None` before the first, and when the place was cleared.
    fn read(&mut self) -> Result<Option<RootKey>, RootFault>;

    /// Overwrites it; durable when this returns. After an error either may be there, and a later call with the
    /// same root makes good.
    fn write(&mut self, root: &RootKey) -> Result<(), RootFault>;
}

/// A root that nobody had before.
pub(super) fn fresh() -> Result<RootKey, RootFault> {
    let mut root = Zeroizing::new([0; ROOT_KEY_BYTES]);
    SystemRandom::new().fill(&mut root[..]).map_err(|_| RootFault::Random)?;
    Ok(root)
}

/// In a file of mode 0600.
pub struct FileRoot {
    path: PathBuf,
}

impl FileRoot {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// For a root that has moved into the TPM.
    pub(super) fn erase(&self) -> Result<(), RootFault> {
        match self.path.exists() {
            true => erase(&self.path).map_err(|source| self.failed(source)),
            false => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> RootFault {
        RootFault::File { path: self.path.clone(), source }
    }
}

impl Root for FileRoot {
    fn read(&mut self) -> Result<Option<RootKey>, RootFault> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(self.failed(fault)),
        };
        let root = <[u8; ROOT_KEY_BYTES]>::try_from(&bytes[..]);
        let damaged = |_| RootFault::Damaged { path: self.path.clone() };
        root.map(|root| Some(Zeroizing::new(root))).map_err(damaged)
    }

    fn write(&mut self, root: &RootKey) -> Result<(), RootFault> {
        // The old block is overwritten through the handle that is left when the name has moved on.
        let old = File::options().write(true).open(&self.path);
        replace(&self.path, &root[..]).map_err(|source| self.failed(source))?;
        if let Ok(mut old) = old {
            let erased = old.write_all(&[0; ROOT_KEY_BYTES]).and_then(|()| old.sync_all());
            erased.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }
}

/// In the TPM.
pub struct TpmRoot {
    tpm: Tpm,
}

impl TpmRoot {
    pub fn new(tpm: Tpm) -> Self {
        Self { tpm }
    }
}

impl Root for TpmRoot {
    fn read(&mut self) -> Result<Option<RootKey>, RootFault> {
        let what = "give out the root of the contracts' keys";
        Ok(self.tpm.call_within(TPM_WAIT, what, |chip| chip.root())?)
    }

    fn write(&mut self, root: &RootKey) -> Result<(), RootFault> {
        let root = root.clone();
        let what = "take a new root of the contracts' keys";
        Ok(self.tpm.call_within(TPM_WAIT, what, move |chip| chip.set_root(&root))?)
    }
}

/// Whole or not at all, for nobody else to read.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&new, path)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(to.parent().expect("it lies in a folder"))?.sync_all()
}

/// Overwrites before it unlinks; on flash the overwriting may miss the old cells.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&[0; ROOT_KEY_BYTES])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(path.parent().expect("it lies in a folder"))?.sync_all()
}
