//! A log as files that programs of others read: C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>), cut at a
//! signed head.

use guan_evidence::{ProofFault, Tile, TileRow, VerifierKey, bundle, tile};
use guan_log::{LogFileFault, LogReader};
use guan_spool::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// The signed head, and the key that signed it: to be compared with one that came another way.
pub const CHECKPOINT_FILE: &str = "checkpoint";
pub const KEY_FILE: &str = "log.vkey";

/// Why a log cannot be written out.
#[derive(Debug, thiserror::Error)]
pub enum LogExportFault {
    #[error("{path} cannot be written: check the folder's rights and free space")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Log(#[from] LogFileFault),
    #[error("the hashes of the log are not all here")]
    Hashes(#[from] ProofFault),
    #[error("bundle {bundle} has fewer entries than the signed head promises")]
    Short { bundle: u64 },
}

/// Writes the first `size` leaves. Gives the number of files.
pub fn write<D: Disk>(
    log: &LogReader<D>,
    size: u64,
    checkpoint: &str,
    key: &VerifierKey,
    out: &Path,
) -> Result<u64, LogExportFault> {
    let mut files = 0;
    for one in tile::tiles(size) {
        let bytes = match one.row {
            TileRow::Entries => entries(log, &one)?,
            TileRow::Hashes(_) => log.with_nodes(|nodes| one.hashes(nodes))?,
        };
        put(out, &one.to_string(), &bytes)?;
        files += 1;
    }
    put(out, CHECKPOINT_FILE, checkpoint.as_bytes())?;
    put(out, KEY_FILE, format!("{key}\n").as_bytes())?;
    Ok(files + 2)
}

fn entries<D: Disk>(log: &LogReader<D>, one: &Tile) -> Result<Vec<u8>, LogExportFault> {
    let leaves = log.bundle(one.index)?;
    let short = LogExportFault::Short { bundle: one.index };
    let leaves = leaves.get(..usize::from(one.width())).ok_or(short)?;
    Ok(bundle::encode(leaves).expect("they were in a bundle"))
}

fn put(out: &Path, name: &str, bytes: &[u8]) -> Result<(), LogExportFault> {
    let path = out.join(name);
    let folder = path.parent().expect("it lies in a folder");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
    written.map_err(|source| LogExportFault::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::mirror::{Mirror, Target, read};
    use crate::logs::tests::{BASE, LOG, Log, MIRROR, now};
    use guan_evidence::{Tree, leaf_hash};
    use guan_spool::disk::SimDisk;

    #[test]
    fn files_hold_the_log_up_to_its_head() {
        let (disk, log) = (SimDisk::new(), Log::new(BASE, &LOG).grown(600, "a"));
        let mut mirror = Mirror::open(disk.clone()).unwrap();
        let target = Target::of(&log.head(600)).unwrap();
        mirror.take(&log.leaves, &target, now(0).wall, MIRROR.as_ref()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = VerifierKey::of(LOG.as_ref()).unwrap();
        let copy = read(disk).unwrap();
        // An older head: the files end with it.
        let files = write(&copy, 550, &log.head(550), &key, folder.path()).unwrap();
        assert_eq!(files, 3 + 3 + 1 + 2);
        let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let mut tree = Tree::new();
        for name in ["000", "001", "002.p/38"] {
            let entries = file(&format!("tile/entries/{name}"));
            let entries = bundle::decode(&entries).unwrap();
            let hashes: Vec<u8> = entries.iter().flat_map(|leaf| leaf_hash(leaf).0).collect();
            assert_eq!(hashes, file(&format!("tile/0/{name}")), "{name}");
            entries.iter().for_each(|leaf| {
                tree.append(leaf_hash(leaf));
            });
        }
        let head = guan_evidence::Checkpoint::parse_and_verify(
            &String::from_utf8(file(CHECKPOINT_FILE)).unwrap(),
            &key,
        );
        let head = head.unwrap();
        assert_eq!((head.size, head.root), (550, tree.root()));
        let fault = write(&copy, 601, &log.head(600), &key, folder.path()).unwrap_err();
        assert!(matches!(fault, LogExportFault::Short { bundle: 2 }), "{fault}");
    }
}
