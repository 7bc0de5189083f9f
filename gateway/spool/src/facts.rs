//! Small facts that change slowly, in a folder of sled's: opened on whatever a power cut has left, and durable.
//!
//! sled 0.34 promises less than it seems: `flush` does not reach the disk's cache, and a cut while it writes its
//! snapshot or its settings leaves files with which it does not open again. Both are derived from its log, so
//! they are set aside then and made anew; what is in the log stays. `tests/cuts` is the proof. Whoever opens is told,
//! and the newest of what was set aside lie in the folder as `damaged-N.NAME`, for examination.
//!
//! Never here: readings, leaves, cursors. Those lie in journals.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CACHE_BYTES: u64 = 1 << 20;
const OPEN_ATTEMPTS_MAX: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(20);
const SETTINGS: &str = "conf";
const SNAPSHOT: &str = "snap.";
const DAMAGED: &str = "damaged-";
/// Most files that were set aside and are kept; the oldest goes first.
pub const DAMAGED_KEPT_MAX: usize = 8;

/// An open folder.
#[derive(Debug)]
pub struct Facts {
    pub db: sled::Db,
    /// What had to be set aside to open it, by its path now. Somebody must be told.
    pub set_aside: Vec<PathBuf>,
}

/// Opens the folder, or makes it. A held lock is `sled::Error::Io`, damage is `sled::Error::Corruption`.
pub fn open(path: &Path) -> sled::Result<Facts> {
    let begin = || sled::Config::new().path(path).cache_capacity(CACHE_BYTES).open();
    match begin() {
        Err(fault @ sled::Error::Corruption { .. }) => {
            let set_aside = set_derived_aside(path)?;
            if set_aside.is_empty() {
                return Err(fault);
            }
            Ok(Facts { db: begin()?, set_aside })
        }
        opened => Ok(Facts { db: opened?, set_aside: Vec::new() }),
    }
}

/// As [`open`], and waits a moment for whoever holds the lock: a command that looks, or a child that another
/// thread is just starting, which has the lock's file until its program runs.
pub fn open_in_turn(path: &Path) -> sled::Result<Facts> {
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

fn names(path: &Path, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_meant(name)));
    }
    names.sort_unstable();
    Ok(names)
}

/// Number of a file that was set aside.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix(DAMAGED)?.split_once('.')?.0.parse().ok()
}

/// Renames what sled derives from its log, and gives the new paths.
fn set_derived_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut kept = names(path, |name| number(name).is_some())?;
    kept.sort_by_key(|name| number(name));
    let mut next =
        kept.last().and_then(|name| number(name)).map_or(0, |last| last.saturating_add(1));
    let mut set_aside = Vec::new();
    for name in names(path, |name| name == SETTINGS || name.starts_with(SNAPSHOT))? {
        let aside = format!("{DAMAGED}{next}.{name}");
        std::fs::rename(path.join(&name), path.join(&aside))?;
        set_aside.push(path.join(&aside));
        kept.push(aside);
        next = next.saturating_add(1);
    }
    for old in &kept[..kept.len().saturating_sub(DAMAGED_KEPT_MAX)] {
        std::fs::remove_file(path.join(old))?;
    }
    // Of many at once the first have gone already.
    set_aside.retain(|path| path.exists());
    Ok(set_aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with one fact, flushed; then a file of it is changed.
    /// Gives how many files were set aside.
    fn check(change: impl FnOnce(&Path), expect: Option<&[u8]>) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let db = open(&path).unwrap().db;
        db.insert("a", b"one").unwrap();
        flush(&db, &path).unwrap();
        drop(db);
        // It writes a snapshot when it is opened again.
        drop(open(&path).unwrap());
        change(&path);
        let opened = open(&path);
        let set_aside = opened.as_ref().map_or(0, |facts| facts.set_aside.len());
        let read = opened.map(|facts| facts.db.get("a").unwrap().map(|value| value.to_vec()));
        assert_eq!(read.ok().flatten().as_deref(), expect);
        set_aside
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
        assert_eq!(check(|_| {}, one), 0);
        // The settings go with it: which of both is damaged sled does not say.
        check(|path| std::fs::write(snapshot(path), "").unwrap(), one);
        assert_eq!(check(|path| std::fs::write(snapshot(path), [7; 99]).unwrap(), one), 2);
        assert_eq!(check(|path| std::fs::remove_file(snapshot(path)).unwrap(), one), 0);
        check(|path| std::fs::write(path.join("snap.F.generating"), "x").unwrap(), one);
        check(|path| std::fs::write(path.join(SETTINGS), [0; 40]).unwrap(), one);
        check(|path| std::fs::write(path.join(SETTINGS), "x").unwrap(), one);
    }

    /// As they were found, named to whoever opens, and no more of them than the limit.
    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let db = open(&path).unwrap().db;
        db.insert("a", b"one").unwrap();
        flush(&db, &path).unwrap();
        drop(db);
        for round in 0..DAMAGED_KEPT_MAX {
            drop(open(&path).unwrap());
            let damage = [u8::try_from(round).unwrap(); 99];
            std::fs::write(snapshot(&path), damage).unwrap();
            let facts = open(&path).unwrap();
            assert_eq!(facts.db.get("a").unwrap().as_deref(), Some(&b"one"[..]));
            let found: Vec<Vec<u8>> =
                facts.set_aside.iter().map(|path| std::fs::read(path).unwrap()).collect();
            assert!(found.contains(&damage.to_vec()), "round {round}: {:?}", facts.set_aside);
            let kept = names(&path, |name| number(name).is_some()).unwrap().len();
            assert_eq!(kept, (2 * (round + 1)).min(DAMAGED_KEPT_MAX), "round {round}");
        }
    }
}
