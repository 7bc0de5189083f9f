//! A folder of the operating system.

use super::{Disk, DiskFile};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LOCK_FILE: &str = "lock";
/// How long a held lock is waited for, where nobody says otherwise.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A folder on a real disk. Exclusive ones hold a lock until the last clone is gone.
#[derive(Debug, Clone)]
pub struct OsDisk {
    path: Arc<PathBuf>,
    folder: Arc<File>,
    writable: bool,
    _lock: Option<Arc<File>>,
}

/// Makes a folder and those above it, and their names durable. A name that an earlier process has made, and
/// did not live to make durable, is made so as well: the folder's own and that of the one above it.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let is_new = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
    let new = path.ancestors().take_while(is_new).count();
    std::fs::create_dir_all(path)?;
    for above in path.ancestors().skip(1).take(new.max(1) + 1) {
        // The last part of a relative path lies in the working folder.
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn is_locked_within(lock: &File, wait: Duration) -> bool {
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    let deadline = Instant::now() + wait;
    while rustix::fs::flock(lock, operation).is_err() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    true
}

impl OsDisk {
    /// Makes the folder if needed and locks it: a second opener gets `WouldBlock`, after a moment in which the lock
    /// of a process that ends, or of a child that another thread is just starting, may come free.
    pub fn open_exclusive(path: &Path) -> io::Result<Self> {
        Self::open_exclusive_within(path, LOCK_WAIT)
    }

    /// The same, for who knows how long the lock may be held.
    pub fn open_exclusive_within(path: &Path, wait: Duration) -> io::Result<Self> {
        create_folder(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))?;
        if !is_locked_within(&lock, wait) {
            let text = format!("{} is in use by another process; stop it first", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        let folder = Arc::new(File::open(path)?);
        Ok(Self {
            path: Arc::new(path.to_path_buf()),
            folder,
            writable: true,
            _lock: Some(Arc::new(lock)),
        })
    }

    /// For tools that look while the owner works: takes no lock and refuses to write.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let folder = Arc::new(File::open(path)?);
        Ok(Self { path: Arc::new(path.to_path_buf()), folder, writable: false, _lock: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "opened for reading")),
        }
    }
}

impl Disk for OsDisk {
    type File = OsFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path.as_path())? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<OsFile> {
        let mut options = OpenOptions::new();
        options.read(true);
        if self.writable {
            options.append(true);
        }
        Ok(OsFile(options.open(self.path.join(name))?))
    }

    fn create_new(&self, name: &str) -> io::Result<OsFile> {
        self.check_writable()?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        Ok(OsFile(options.open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.check_writable()?;
        self.folder.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&*self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What a program may still write into a folder.
pub fn free_bytes_of(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An open file.
#[derive(Debug)]
pub struct OsFile(File);

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(done)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn blank(&mut self) -> io::Result<()> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let zeros = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        // A file that is open for appending is written at its end, whatever offset is named.
        let flags = fcntl_getfl(&self.0)?;
        fcntl_setfl(&self.0, flags - OFlags::APPEND)?;
        let written = self.0.write_all_at(&zeros, 0);
        fcntl_setfl(&self.0, flags)?;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_those_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        assert!(deep.is_dir());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(create_folder(&folder.path().join("file/d")).is_err());
    }

    #[test]
    fn a_folder_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = OsDisk::open_exclusive(folder.path()).unwrap();
        let fault = OsDisk::open_exclusive(folder.path()).unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::WouldBlock);
        let reader = OsDisk::open_read_only(folder.path()).unwrap();
        assert!(reader.create_new("a").is_err());
        drop(first);
        OsDisk::open_exclusive(folder.path()).unwrap();
    }

    /// Seen through a second name: the zeros lie where the bytes lay, and appending goes on at the end.
    #[test]
    fn a_file_is_blanked_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let disk = OsDisk::open_exclusive(folder.path()).unwrap();
        let mut file = disk.create_new("a").unwrap();
        file.append(b"salt and name").unwrap();
        let other = folder.path().join("b");
        std::fs::hard_link(folder.path().join("a"), &other).unwrap();
        file.blank().unwrap();
        file.sync_data().unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), [0; 13]);
        file.append(b"x").unwrap();
        assert_eq!(std::fs::read(&other).unwrap().len(), 14);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let disk = OsDisk::open_exclusive(folder.path()).unwrap();
        super::super::replace_file(&disk, "a", b"one").unwrap();
        super::super::replace_file(&disk, "a", b"three").unwrap();
        assert_eq!(super::super::read_file(&disk, "a", 5).unwrap(), b"three");
        assert!(super::super::read_file(&disk, "a", 4).is_err());
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
