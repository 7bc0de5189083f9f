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
