//! Files that hold a secret: made whole or not at all with mode 0600, read only if nobody else can.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest file that is read as a key; a P-256 key in PEM has about 240 bytes.
pub const SECRET_FILE_BYTES_MAX: usize = 4096;

/// Why a secret could not be read or written; the operator or the disk is to blame.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file; name the key file itself", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{path} has mode {mode:04o}, so that others can use the key; make a new key, or run \
         'chmod 600 {path}' if nobody can have read it", path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{} is longer than {SECRET_FILE_BYTES_MAX} bytes; check that the path names a key file",
        path.display()
    )]
    TooLong { path: PathBuf },
    #[error(
        "{} exists, and a key is never overwritten; move it away or name another file",
        path.display()
    )]
    Exists { path: PathBuf },
}

/// Reads a file of text that only its owner may touch.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    let fault = |source| FileFault::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fault)?;
    // Asked of the open file, so that it cannot be exchanged between the question and the reading.
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(FileFault::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileFault::Exposed { path: path.to_owned(), mode });
    }
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_BYTES_MAX + 1));
    let limit = SECRET_FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() > SECRET_FILE_BYTES_MAX {
        return Err(FileFault::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Makes the file, durable when this returns. A power cut leaves either the whole file under its name
/// or none.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    // A plain rename would silently replace a key that is already there.
    place(path, bytes, RenameFlags::NOREPLACE)
}

/// As [`create`], for what may take the place of an earlier one.
#[cfg(feature = "tpm")]
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    place(path, bytes, RenameFlags::empty())
}

/// Puts a file in the place of another one, durably, and overwrites what the old one held: it is destroyed as well
/// as the disk destroys what is overwritten.
pub(crate) fn take_place(next: &Path, path: &Path) -> Result<(), FileFault> {
    let fault = |source| FileFault::Write { path: path.to_owned(), source };
    // Held open, as it has no name any more when it is wiped.
    let old = match OpenOptions::new().write(true).open(path) {
        Ok(old) => Some(old),
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(fault(source)),
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::rename(next, path).map_err(fault)?;
    let directory = File::open(parent.unwrap_or(Path::new(".")));
    directory.and_then(|directory| directory.sync_all()).map_err(fault)?;
    let Some(mut old) = old else { return Ok(()) };
    let wiped = old.metadata().and_then(|metadata| {
        let length = usize::try_from(metadata.len()).unwrap_or(0).min(SECRET_FILE_BYTES_MAX);
        old.write_all(&vec![0; length])?;
        old.sync_all()
    });
    wiped.map_err(fault)
}

fn place(path: &Path, bytes: &[u8], flags: RenameFlags) -> Result<(), FileFault> {
    let fault = |source| FileFault::Write { path: path.to_owned(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let draft = draft_path(directory).map_err(fault)?;
    let named =
        write_draft(&draft, bytes).and_then(|()| Ok(renameat_with(CWD, &draft, CWD, path, flags)?));
    if let Err(source) = named {
        // Only the first fault is reported; the draft of a key that nobody uses harms nobody.
        let _ = fs::remove_file(&draft);
        return Err(match source.kind() {
            io::ErrorKind::AlreadyExists => FileFault::Exists { path: path.to_owned() },
            _ => fault(source),
        });
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault)
}

fn draft_path(directory: &Path) -> io::Result<PathBuf> {
    let suffix = crate::key_file::random::<8>()
        .map_err(|_| io::Error::other("the system gave no random bytes"))?;
    let suffix = u64::from_le_bytes(*suffix);
    Ok(directory.join(format!(".key-{suffix:016x}.draft")))
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_is_read_and_only_the_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        create(&path, b"secret").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_key_that_is_replaced_is_wiped() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("key.pem"), dir.path().join("key.next.pem"));
        create(&path, b"first").unwrap();
        // Another name keeps the old file in sight.
        let witness = dir.path().join("old");
        fs::hard_link(&path, &witness).unwrap();
        create(&next, b"second").unwrap();
        take_place(&next, &path).unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"second");
        assert_eq!((fs::read(&witness).unwrap().as_slice(), next.exists()), (&[0; 5][..], false));
        create(&next, b"third").unwrap();
        fs::remove_file(&path).unwrap();
        take_place(&next, &path).unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"third");
        assert!(matches!(take_place(&next, &path), Err(FileFault::Write { .. })));
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        create(&path, b"first").unwrap();
        assert!(matches!(create(&path, b"second"), Err(FileFault::Exists { .. })));
        assert_eq!(read(&path).unwrap().as_slice(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn what_others_may_touch_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        create(&path, b"secret").unwrap();
        let check = |mode: u32, fits: bool| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(_) => assert!(fits, "mode {mode:o} was accepted"),
                Err(FileFault::Exposed { mode: told, .. }) => {
                    assert!(!fits, "mode {mode:o} was refused");
                    assert_eq!(told, mode);
                }
                Err(other) => panic!("mode {mode:o}: {other}"),
            }
        };
        check(0o400, true);
        check(0o600, true);
        check(0o700, true);
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            check(0o600 | bit, false);
        }
    }

    #[test]
    fn the_remedy_stands_in_the_text() {
        let fault = FileFault::Exposed { path: "/etc/guan/key.pem".into(), mode: 0o644 };
        assert_eq!(
            fault.to_string(),
            "/etc/guan/key.pem has mode 0644, so that others can use the key; make a new key, or \
             run 'chmod 600 /etc/guan/key.pem' if nobody can have read it"
        );
    }

    #[test]
    fn length_limit_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let full = dir.path().join("full");
        create(&full, &[b'x'; SECRET_FILE_BYTES_MAX]).unwrap();
        assert_eq!(read(&full).unwrap().len(), SECRET_FILE_BYTES_MAX);
        let over = dir.path().join("over");
        create(&over, &[b'x'; SECRET_FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(read(&over), Err(FileFault::TooLong { .. })));
    }

    #[test]
    fn places_that_are_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileFault::NotAFile { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(read(&missing), Err(FileFault::Read { .. })));
        assert!(matches!(create(&missing.join("key"), b""), Err(FileFault::Write { .. })));
    }
}
