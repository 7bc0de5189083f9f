//! Small facts that change slowly, in a folder of sled's: opened on whatever a power cut has left, and durable.
//!
//! sled 0.34 promises less than it seems: `flush` does not reach the disk's cache, and a cut while it writes its
//! snapshot or its settings leaves files with which it does not open again. Both are derived from its log, so
//! they are removed then and made anew; what is in the log stays. `tests/cuts` is the proof.
//!
//! Never here: readings, leaves, cursors. Those lie in journals.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

const CACHE_BYTES: u64 = 1 << 20;
const OPEN_ATTEMPTS_MAX: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(20);
const SETTINGS: &str = "conf";
const SNAPSHOT: &str = "snap.";

/// Opens the folder, or makes it. A held lock is `sled::Error::Io`, damage is `sled::Error::Corruption`.
pub fn open(path: &Path) -> sled::Result<sled::Db> {
    let begin = || sled::Config::new().path(path).cache_capacity(CACHE_BYTES).open();
    match begin() {
        Err(fault @ sled::Error::Corruption { .. }) => {
            if remove_derived(path)? == 0 {
                return Err(fault);
            }
            begin()
        }
        opened => opened,
    }
}

/// As [`open`], and waits a moment for whoever holds the lock: a command that looks, or a child that another
/// thread is just starting, which has the lock's file until its program runs.
pub fn open_in_turn(path: &Path) -> sled::Result<sled::Db> {
    for _ in 1..OPEN_ATTEMPTS_MAX {
        match open(path) {
            // sled reports a held lock as an I/O error without a kind of its own.
            Err(sled::Error::Io(_)) => std::thread::sleep(OPEN_PAUSE),
            opened => return opened,
        }
    }
    open(path)
}

/// Makes everything durable that was written before.
pub fn flush(db: &sled::Db, path: &Path) -> sled::Result<()> {
    db.flush()?;
    crate::create_folder(path)?;
    // Which of its files sled has written is its own affair.
    for entry in std::fs::read_dir(path)? {
        match File::open(entry?.path()).and_then(|file| file.sync_all()) {
            // A snapshot that sled has removed or renamed meanwhile.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    Ok(File::open(path)?.sync_all()?)
}

/// How many files it were.
fn remove_derived(path: &Path) -> io::Result<u32> {
    let mut removed = 0;
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_derived =
            name.to_str().is_some_and(|name| name == SETTINGS || name.starts_with(SNAPSHOT));
        if is_derived {
            std::fs::remove_file(path.join(name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with one fact, flushed; then a file of it is changed.
    fn check(change: impl FnOnce(&Path), expect: Option<&[u8]>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let db = open(&path).unwrap();
        db.insert("a", b"one").unwrap();
        flush(&db, &path).unwrap();
        drop(db);
        // It writes a snapshot when it is opened again.
        drop(open(&path).unwrap());
        change(&path);
        let read = open(&path).map(|db| db.get("a").unwrap().map(|value| value.to_vec()));
        assert_eq!(read.ok().flatten().as_deref(), expect);
    }

    fn snapshot(path: &Path) -> std::path::PathBuf {
        let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let is_one = |path: &std::path::PathBuf| path.to_str().unwrap().contains(SNAPSHOT);
        names.filter(is_one).max().unwrap()
    }

    #[test]
    fn a_lock_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(sled::Error::Io(_))));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| open_in_turn(folder.path()).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_can_be_derived_may_be_damaged() {
        let one = Some(&b"one"[..]);
        check(|_| {}, one);
        check(|path| std::fs::write(snapshot(path), "").unwrap(), one);
        check(|path| std::fs::write(snapshot(path), [7; 99]).unwrap(), one);
        check(|path| std::fs::remove_file(snapshot(path)).unwrap(), one);
        check(|path| std::fs::write(path.join("snap.F.generating"), "x").unwrap(), one);
        check(|path| std::fs::write(path.join(SETTINGS), [0; 40]).unwrap(), one);
        check(|path| std::fs::write(path.join(SETTINGS), "x").unwrap(), one);
    }
}
