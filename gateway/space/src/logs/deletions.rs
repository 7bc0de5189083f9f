//! Brings the signed lines about deletions (`deleted.jsonl`) into the space's log: each gets a leaf with its
//! SHA-256. How far that is done lies in `deletions/logged`, so a crash leaves none out; at worst one is
//! there twice.

use guan_evidence::Deleted;
use guan_model::{ContractId, Digest};
use guan_spool::{Disk, read_file, replace_file};
use serde_json::Value;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Folder in `space.state_dir`.
pub const DELETIONS_DIR: &str = "deletions";
/// Most bytes of lines that are read at a time. A longer line is none of ours.
pub const LINES_BYTES_MAX: usize = 64 << 10;
const LOGGED_FILE: &str = "logged";

/// A line that has no leaf yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlogged {
    /// `None`: it names no contract, as our lines do.
    pub deleted: Option<Deleted>,
    /// Where the next line begins.
    pub end: u64,
}

/// The lines, and how far they are logged.
#[derive(Debug)]
pub struct Deletions<D: Disk> {
    lines: PathBuf,
    disk: D,
}

impl<D: Disk> Deletions<D> {
    pub fn new(lines: PathBuf, disk: D) -> Self {
        Self { lines, disk }
    }

    /// The next lines; a last one that is not whole yet is left for later.
    pub fn unlogged(&self) -> io::Result<Vec<Unlogged>> {
        let file = match File::open(&self.lines) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        let mut start = self.logged()?;
        let mut bytes = vec![0; LINES_BYTES_MAX];
        let read = file.read_at(&mut bytes, start)?;
        let mut unlogged = Vec::new();
        let whole = bytes[..read].split_inclusive(|byte| *byte == b'\n');
        for line in whole.filter(|line| line.ends_with(b"\n")) {
            start += line.len() as u64;
            let deleted = deleted(&line[..line.len() - 1]);
            unlogged.push(Unlogged { deleted, end: start });
        }
        if unlogged.is_empty() && read == LINES_BYTES_MAX {
            unlogged.push(Unlogged { deleted: None, end: start + read as u64 });
        }
        Ok(unlogged)
    }

    /// Everything before this place has a leaf.
    pub fn set_logged(&self, end: u64) -> io::Result<()> {
        replace_file(&self.disk, LOGGED_FILE, end.to_string().as_bytes())
    }

    fn logged(&self) -> io::Result<u64> {
        match read_file(&self.disk, LOGGED_FILE, 32) {
            Ok(bytes) => {
                let number = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                number.ok_or_else(|| io::Error::other("deletions/logged holds no number"))
            }
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(fault) => Err(fault),
        }
    }
}

fn deleted(line: &[u8]) -> Option<Deleted> {
    let json: Value = serde_json::from_slice(line).ok()?;
    let contract = ContractId::parse(json["deleted"]["contract"].as_str()?).ok()?;
    Some(Deleted { contract, line: Digest::of(line) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_spool::disk::SimDisk;
    use std::io::Write;

    #[test]
    fn each_line_is_logged_and_none_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("deleted.jsonl"), SimDisk::new());
        let deletions = Deletions::new(path.clone(), disk.clone());
        assert_eq!(deletions.unlogged().unwrap(), []);
        let line = |contract: &str| format!("{{\"deleted\":{{\"contract\":\"{contract}\"}}}}");
        let mut file = File::create(&path).unwrap();
        write!(file, "{}\nnonsense\n{}", line("C-1"), line("C-2")).unwrap();
        let found = deletions.unlogged().unwrap();
        let first = found[0].deleted.clone().unwrap();
        assert_eq!(
            (first.contract.as_str(), first.line),
            ("C-1", Digest::of(line("C-1").as_bytes()))
        );
        assert_eq!((found.len(), &found[1].deleted), (2, &None));
        deletions.set_logged(found[0].end).unwrap();
        disk.crash(3);
        assert_eq!(deletions.unlogged().unwrap(), found[1..]);
        deletions.set_logged(found[1].end).unwrap();
        assert_eq!(deletions.unlogged().unwrap(), []);
        writeln!(file).unwrap();
        let found = deletions.unlogged().unwrap();
        assert_eq!(found[0].deleted.as_ref().unwrap().contract.as_str(), "C-2");
        deletions.set_logged(found[0].end).unwrap();
        // Lines are read in portions, and one that is too long does not stand in the way.
        let many = format!("{}\n", line("C-3")).repeat(3000);
        write!(file, "{}\n{many}", "x".repeat(LINES_BYTES_MAX)).unwrap();
        let mut count = 0;
        loop {
            let found = deletions.unlogged().unwrap();
            let Some(last) = found.last() else { break };
            count += found.iter().filter(|one| one.deleted.is_some()).count();
            deletions.set_logged(last.end).unwrap();
        }
        assert_eq!(count, 3000);
        disk.put(LOGGED_FILE, b"x");
        assert!(deletions.unlogged().is_err());
    }
}
