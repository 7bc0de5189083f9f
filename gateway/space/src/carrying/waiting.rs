//! Brings a file of a medium to where the running space looks: as a copy, since a stick may be pulled, or changed.
//!
//! Invariants: nothing is copied that the space could not take, by its header, its size and the room there is; one
//! command copies at a time, so that what another one left half done can be told from work, and is removed.
//!
//! Never here: whether the file is whole, and whose; that costs reading all of it, and is the space's.

use super::{WAITING_MAX, WAITING_SUFFIX, files, key_path};
use crate::carrying::CARRIED_DIR;
use guan_carry::{CarryFault, FILE_BYTES_MAX, Unopened};
use guan_identity::{KeyFault, SealKey};
use guan_model::{BoxId, ByteCount};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// What must stay free beside the copy: the store takes what is in it, too.
pub const FREE_BYTES_MIN: u64 = 64 << 20;
/// How the name of a copy ends that is being made.
const COPY_SUFFIX: &str = "copy";
const LOCK_FILE: &str = "lock";

/// Why a file is not brought to the space; who brings it, or the space's disk, is to blame.
#[derive(Debug, thiserror::Error)]
pub enum LeaveFault {
    #[error("{path} cannot be read: check the medium")]
    Medium { path: PathBuf, source: io::Error },
    #[error("{path} is no file")]
    NoFile { path: PathBuf },
    #[error(
        "{path} has {}, and a file of `guan spool export` has {} at most: name that file, or export again with a \
         smaller --bytes-max",
        ByteCount(*length), ByteCount(FILE_BYTES_MAX)
    )]
    TooLong { path: PathBuf, length: u64 },
    #[error(transparent)]
    File(#[from] CarryFault),
    #[error("the file is for space {found}; this is {ours}")]
    OtherSpace { found: BoxId, ours: BoxId },
    #[error(
        "the space's key for files on a medium cannot be used; `guan-space carry key` makes one"
    )]
    Key(#[from] KeyFault),
    #[error("{WAITING_MAX} files wait already, which is the limit; come again when they are taken")]
    Full,
    #[error(
        "{folder} has {} free, and the file with what the store needs takes {}: free space there, or have the box \
         export with --bytes-max",
        ByteCount(*free), ByteCount(*needed)
    )]
    NoRoom { folder: PathBuf, free: u64, needed: u64 },
    #[error("{path} has another length than before: was the medium changed? Take it again")]
    Changed { path: PathBuf },
    #[error(
        "{path} cannot be copied to {folder}: check the medium, and the disk of space.state_dir"
    )]
    Copy { path: PathBuf, folder: PathBuf, source: io::Error },
    #[error("{path} cannot be used: check the disk and its rights")]
    Folder { path: PathBuf, source: io::Error },
    #[error("the system gives no random numbers")]
    Random,
}

/// Looks at the file, and copies it. Gives where it waits.
pub fn leave(state_dir: &Path, space: &BoxId, file: &Path) -> Result<PathBuf, LeaveFault> {
    let folder = state_dir.join(CARRIED_DIR);
    let failed = |source| LeaveFault::Folder { path: folder.clone(), source };
    guan_spool::create_folder(&folder).map_err(failed)?;
    let (source, length) = look(state_dir, space, file)?;
    let lock = File::options().create(true).append(true).open(folder.join(LOCK_FILE));
    let _turn = lock.and_then(|lock| lock.lock().map(|()| lock)).map_err(failed)?;
    // Whoever made these was killed: they hold the lock no more.
    for path in files(&folder, COPY_SUFFIX) {
        fs::remove_file(&path).map_err(|source| LeaveFault::Folder { path, source })?;
    }
    if files(&folder, WAITING_SUFFIX).len() >= WAITING_MAX {
        return Err(LeaveFault::Full);
    }
    let free = guan_spool::free_bytes_of(&folder).map_err(failed)?;
    check_room(&folder, free, length)?;
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| LeaveFault::Random)?;
    let waiting = folder.join(hex::encode(random)).with_extension(WAITING_SUFFIX);
    let part = waiting.with_extension(COPY_SUFFIX);
    let copied = copy(source, length, &part);
    let left = match copied {
        Ok(copied) if copied != length => Err(LeaveFault::Changed { path: file.to_owned() }),
        Ok(_) => fs::rename(&part, &waiting).map_err(failed),
        Err(source) => {
            let (path, folder) = (file.to_owned(), folder.clone());
            Err(LeaveFault::Copy { path, folder, source })
        }
    };
    if left.is_err() {
        let _ = fs::remove_file(&part);
    }
    left.map(|()| waiting)
}

/// What can be told of a file without reading all of it.
fn look(state_dir: &Path, space: &BoxId, path: &Path) -> Result<(File, u64), LeaveFault> {
    let failed = |source| LeaveFault::Medium { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(LeaveFault::NoFile { path: path.to_owned() });
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(LeaveFault::TooLong { path: path.to_owned(), length: about.len() });
    }
    let unopened = Unopened::begin(BufReader::new(&file))?;
    let found = &unopened.header().space;
    if found != space {
        return Err(LeaveFault::OtherSpace { found: found.clone(), ours: space.clone() });
    }
    unopened.open(&SealKey::load(&key_path(state_dir))?)?;
    // From its beginning, on a place of its own.
    Ok((File::open(path).map_err(failed)?, about.len()))
}

fn check_room(folder: &Path, free: u64, length: u64) -> Result<(), LeaveFault> {
    let needed = length.saturating_add(FREE_BYTES_MIN);
    match free >= needed {
        true => Ok(()),
        false => Err(LeaveFault::NoRoom { folder: folder.to_owned(), free, needed }),
    }
}

/// A file that grows meanwhile does not fill the disk.
fn copy(source: File, length: u64, to: &Path) -> io::Result<u64> {
    let mut out = File::create_new(to)?;
    io::copy(&mut source.take(length.saturating_add(1)), &mut out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_carry::{CarryWriter, Header};
    use guan_model::SpoolId;
    use std::io::Write as _;

    struct Place(tempfile::TempDir, SealKey);

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = key_path(folder.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let key = SealKey::create(&path).unwrap();
            Self(folder, key)
        }

        /// The beginning of a file for a space, without an end.
        fn file(&self, space: &str, key: &SealKey) -> PathBuf {
            let header = Header {
                box_id: BoxId::parse("box-1").unwrap(),
                spool: SpoolId([7; 16]),
                space: BoxId::parse(space).unwrap(),
                key: guan_identity::seal_key_id(&key.public()),
            };
            let path = self.0.path().join("stick.carry");
            let file = File::create(&path).unwrap();
            CarryWriter::begin(file, &header, &key.public()).unwrap();
            path
        }

        fn leave(&self, file: &Path) -> Result<PathBuf, LeaveFault> {
            leave(self.0.path(), &BoxId::parse("space-1").unwrap(), file)
        }

        fn there(&self, suffix: &str) -> usize {
            files(&self.0.path().join(CARRIED_DIR), suffix).len()
        }
    }

    #[test]
    fn a_file_is_looked_at_before_it_is_copied() {
        let place = Place::new();
        let refused = |file: &Path, expect: &str| {
            let text = place.leave(file).unwrap_err().to_string();
            assert!(text.contains(expect), "{text} for {expect}");
            assert_eq!((place.there(WAITING_SUFFIX), place.there(COPY_SUFFIX)), (0, 0), "{expect}");
        };
        refused(Path::new("/nowhere"), "check the medium");
        refused(place.0.path(), "is no file");
        let other = place.0.path().join("other");
        fs::write(&other, "{}").unwrap();
        refused(&other, "no file of");
        refused(&place.file("space-2", &place.1), "is for space space-2; this is space-1");
        let foreign = SealKey::create(&place.0.path().join("foreign.pem")).unwrap();
        refused(&place.file("space-1", &foreign), "sealed for the key");
        // Larger than any file may be; sparse, so that it costs no disk.
        let large = place.file("space-1", &place.1);
        let set_length = |length| {
            let file = File::options().write(true).open(&large).unwrap();
            file.set_len(length).unwrap();
        };
        set_length(FILE_BYTES_MAX + 1);
        refused(&large, "name that file");
        set_length(1000);
        let waiting = place.leave(&large).unwrap();
        assert_eq!(fs::read(waiting).unwrap(), fs::read(&large).unwrap());
        fs::remove_file(key_path(place.0.path())).unwrap();
        let text = place.leave(&large).unwrap_err().to_string();
        assert!(text.contains("guan-space carry key"), "{text}");
    }

    #[test]
    fn the_room_is_looked_at_before_anything_is_copied() {
        let check = |free, length| check_room(Path::new("/srv"), free, length);
        check(FREE_BYTES_MIN + 100, 100).unwrap();
        let text = check(FREE_BYTES_MIN + 99, 100).unwrap_err().to_string();
        assert!(text.contains("/srv has") && text.contains("free space there"), "{text}");
        assert!(check(u64::MAX - 1, u64::MAX).is_err());
    }

    #[test]
    fn leftovers_go_and_as_many_wait_as_may() {
        let place = Place::new();
        let file = place.file("space-1", &place.1);
        place.leave(&file).unwrap();
        let left = place.0.path().join(CARRIED_DIR).join("00ff").with_extension(COPY_SUFFIX);
        fs::write(&left, "half of a file").unwrap();
        while place.there(WAITING_SUFFIX) < WAITING_MAX {
            place.leave(&file).unwrap();
        }
        assert!(!left.exists());
        assert!(matches!(place.leave(&file), Err(LeaveFault::Full)));
        assert_eq!((place.there(WAITING_SUFFIX), place.there(COPY_SUFFIX)), (WAITING_MAX, 0));
    }

    #[test]
    fn a_file_that_grows_is_copied_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        File::create(&from).unwrap().write_all(&[7; 5000]).unwrap();
        assert_eq!(copy(File::open(&from).unwrap(), 1000, &to).unwrap(), 1001);
        assert_eq!(fs::metadata(&to).unwrap().len(), 1001);
    }
}
