//! Small facts that change slowly, in sled: the boot number and the digests of what was last in force.
//!
//! What cannot be opened in any way is set aside, and begun anew: a box must not stand still for it.
//!
//! Never here: anything whose loss would lose a reading; that lives in the spool.

use crate::leaving::Doubt;
use guan_model::{BootNumber, Digest, WallTime};
use guan_spool::facts;
use std::path::{Path, PathBuf};

/// Why the metadata cannot be used; the disk or another running `guan` is to blame.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(
        "{path} cannot be opened: if another guan runs on this state_dir stop it, else check the disk"
    )]
    Open { path: PathBuf, source: sled::Error },
    #[error("{path} cannot be written: check the disk and its free space")]
    Write { path: PathBuf, source: sled::Error },
}

/// Where a damaged folder goes, in the state folder.
const ASIDE: &str = "metadata.damaged";

/// The box's small metadata; clones share it.
#[derive(Debug, Clone)]
pub struct Metadata {
    db: sled::Db,
    path: PathBuf,
    /// What had to be set aside when it was opened.
    set_aside: Vec<PathBuf>,
}

impl Metadata {
    pub fn open(state_dir: &Path) -> Result<Self, MetadataError> {
        let path = state_dir.join("metadata");
        let open = |source| MetadataError::Open { path: path.clone(), source };
        let mut begun_anew = None;
        let facts = match facts::open_in_turn(&path) {
            // A lock or a disk that fails is no damage, and stays where it is.
            Err(fault @ sled::Error::Io(_)) => Err(fault),
            Err(fault) => {
                let aside = state_dir.join(ASIDE);
                tracing::error!(%fault, aside = %aside.display(), "the metadata is damaged; begun anew");
                set_aside(&path, &aside).map_err(|source| open(source.into()))?;
                begun_anew = Some(aside);
                facts::open(&path)
            }
            opened => opened,
        };
        let facts::Facts { db, mut set_aside } = facts.map_err(open)?;
        set_aside.extend(begun_anew);
        let metadata = Self { db, path, set_aside };
        metadata.flush()?;
        Ok(metadata)
    }

    /// What was damaged and had to be set aside: an operator should hear of it.
    pub fn set_aside(&self) -> &[PathBuf] {
        &self.set_aside
    }

    /// Counts this start. `floor` is the newest boot number known from elsewhere (the log), so that a
    /// lost metadata folder does not make numbers come twice.
    pub fn count_boot(&self, floor: Option<BootNumber>) -> Result<BootNumber, MetadataError> {
        let stored = self.number("boot")?.unwrap_or(0);
        let boot = stored.max(floor.map_or(0, |boot| boot.0)).saturating_add(1);
        self.put("boot", &boot.to_le_bytes())?;
        Ok(BootNumber(boot))
    }

    /// Remembers the digest of something in force (`configuration`, `contracts`); `true` when it
    /// differs from the last one.
    pub fn note_digest(&self, what: &str, digest: Digest) -> Result<bool, MetadataError> {
        let known = self.db.get(what).map_err(|source| self.write_error(source))?;
        if known.as_deref() == Some(&digest.0[..]) {
            return Ok(false);
        }
        self.put(what, &digest.0)?;
        Ok(true)
    }

    /// Newest epoch of a contract set that was taken, and how many were; 0: none was.
    pub fn sets(&self) -> Result<(u64, u64), MetadataError> {
        let value = self.db.get("contract-sets").map_err(|source| self.write_error(source))?;
        let both = value.as_deref().and_then(|bytes| {
            let (epoch, count) = bytes.split_at_checked(8)?;
            let long = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
            Some((long(epoch)?, long(count)?))
        });
        match both {
            Some(both) => Ok(both),
            // Of an earlier release, which did not count.
            None => Ok((self.long("contract-epoch")?.unwrap_or(0), 0)),
        }
    }

    pub fn epoch(&self) -> Result<u64, MetadataError> {
        Ok(self.sets()?.0)
    }

    /// Remembers both at once; a lower epoch changes nothing of it.
    pub fn set_sets(&self, epoch: u64, count: u64) -> Result<(), MetadataError> {
        let epoch = epoch.max(self.epoch()?);
        self.put_sets(epoch, count)
    }

    /// The same of another space, whose epochs begin where they like, and which has confirmed nothing yet.
    pub fn begin_sets(&self, epoch: u64, count: u64) -> Result<(), MetadataError> {
        self.db.remove("contracts-confirmed").map_err(|source| self.write_error(source))?;
        self.put_sets(epoch, count)
    }

    fn put_sets(&self, epoch: u64, count: u64) -> Result<(), MetadataError> {
        self.put("contract-sets", &[epoch.to_le_bytes(), count.to_le_bytes()].concat())
    }

    /// When the space last said which contracts stand.
    pub fn confirmed_at(&self) -> Result<Option<WallTime>, MetadataError> {
        Ok(self.long("contracts-confirmed")?.map(|nanos| WallTime(nanos.cast_signed())))
    }

    pub fn set_confirmed_at(&self, at: WallTime) -> Result<(), MetadataError> {
        self.put("contracts-confirmed", &at.0.cast_unsigned().to_le_bytes())
    }

    /// Whether nobody knows what stands.
    pub fn doubt(&self) -> Result<Option<Doubt>, MetadataError> {
        let value = self.db.get("contracts-doubted").map_err(|source| self.write_error(source))?;
        Ok(value.map(|bytes| {
            let nanos = bytes.as_ref().try_into().ok().map(i64::from_le_bytes);
            Doubt { after: nanos.map(WallTime) }
        }))
    }

    pub fn set_doubt(&self, doubt: Option<Doubt>) -> Result<(), MetadataError> {
        if self.doubt()? == doubt {
            return Ok(());
        }
        match doubt {
            Some(Doubt { after: Some(at) }) => self.put("contracts-doubted", &at.0.to_le_bytes()),
            Some(Doubt { after: None }) => self.put("contracts-doubted", &[]),
            None => {
                let removed = self.db.remove("contracts-doubted");
                removed.map_err(|source| self.write_error(source))?;
                self.flush()
            }
        }
    }

    /// Bytes that the link has used, as [`crate::ledger`] writes them.
    pub fn link_usage(&self) -> Result<Option<Vec<u8>>, MetadataError> {
        let value = self.db.get("link-usage").map_err(|source| self.write_error(source))?;
        Ok(value.map(|bytes| bytes.to_vec()))
    }

    pub fn set_link_usage(&self, usage: &[u8]) -> Result<(), MetadataError> {
        self.put("link-usage", usage)
    }

    fn long(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        let value = self.db.get(key).map_err(|source| self.write_error(source))?;
        Ok(value.and_then(|bytes| Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))))
    }

    fn number(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        let value = self.db.get(key).map_err(|source| self.write_error(source))?;
        Ok(value.and_then(|bytes| Some(u32::from_le_bytes(bytes.as_ref().try_into().ok()?))))
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), MetadataError> {
        self.db.insert(key, value).map_err(|source| self.write_error(source))?;
        self.flush()
    }

    fn flush(&self) -> Result<(), MetadataError> {
        facts::flush(&self.db, &self.path).map_err(|source| self.write_error(source))
    }

    fn write_error(&self, source: sled::Error) -> MetadataError {
        MetadataError::Write { path: self.path.clone(), source }
    }
}

/// Only the newest damaged folder is kept.
fn set_aside(path: &Path, aside: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(aside) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault),
        _ => std::fs::rename(path, aside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_counted_across_starts() {
        let folder = tempfile::tempdir().unwrap();
        let boot = |floor| Metadata::open(folder.path()).unwrap().count_boot(floor).unwrap();
        assert_eq!(boot(None), BootNumber(1));
        assert_eq!(boot(None), BootNumber(2));
        assert_eq!(boot(Some(BootNumber(9))), BootNumber(10));
        assert_eq!(boot(Some(BootNumber(3))), BootNumber(11));
    }

    #[test]
    fn what_sled_cannot_open_is_set_aside() {
        let check = |file: &str, bytes: &[u8], is_aside: bool| {
            let folder = tempfile::tempdir().unwrap();
            Metadata::open(folder.path()).unwrap().count_boot(None).unwrap();
            std::fs::write(folder.path().join("metadata").join(file), bytes).unwrap();
            let metadata = Metadata::open(folder.path()).unwrap();
            let boot = metadata.count_boot(Some(BootNumber(6))).unwrap();
            assert_eq!(boot, BootNumber(7), "{file}");
            assert_eq!(folder.path().join(ASIDE).exists(), is_aside, "{file}");
        };
        check("conf", &[0; 40], false);
        // Of another sled.
        let other = b"segment_size: 524288\nuse_compression: false\nversion: 0.1\n....";
        check("conf", other, true);
    }

    #[test]
    fn epochs_of_an_earlier_release_are_known_and_never_fall() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(folder.path()).unwrap();
        assert_eq!(metadata.sets().unwrap(), (0, 0));
        metadata.put("contract-epoch", &7_u64.to_le_bytes()).unwrap();
        assert_eq!(metadata.sets().unwrap(), (7, 0));
        metadata.set_sets(5, 3).unwrap();
        assert_eq!(metadata.sets().unwrap(), (7, 3));
    }

    #[test]
    fn digests_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(folder.path()).unwrap();
        assert!(metadata.note_digest("contracts", Digest([1; 32])).unwrap());
        assert!(!metadata.note_digest("contracts", Digest([1; 32])).unwrap());
        assert!(metadata.note_digest("contracts", Digest([2; 32])).unwrap());
    }
}
