//! What convicts a log of two histories, kept for others to see: `forks/<box>/<digest>.txt` holds the head
//! that was cosigned and, after a line of its own, the request with the one that contradicts it.

use guan_evidence::witness::Fork;
use guan_model::Digest;
use guan_spool::{Disk, replace_file};
use std::io;

/// Most that are kept of one box; a box that shows so many is out of the question already.
pub const FORKS_PER_BOX_MAX: usize = 16;
const SEPARATOR: &str = "\n--- contradicted by ---\n\n";

/// What became of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    New(Digest),
    Known,
    /// The folder is full.
    Not,
}

/// SHA-256 of both texts, as the leaf has it.
pub fn evidence(fork: &Fork) -> Digest {
    Digest::of_parts(&[fork.cosigned.as_bytes(), fork.request.to_string().as_bytes()])
}

/// Keeps a fork in the box's folder.
pub fn keep(disk: &impl Disk, fork: &Fork) -> io::Result<Kept> {
    let digest = evidence(fork);
    let name = format!("{digest}.txt");
    let names = disk.list()?;
    if names.contains(&name) {
        return Ok(Kept::Known);
    }
    if names.iter().filter(|name| name.ends_with(".txt")).count() >= FORKS_PER_BOX_MAX {
        return Ok(Kept::Not);
    }
    let text = format!("{}{SEPARATOR}{}", fork.cosigned, fork.request);
    replace_file(disk, &name, text.as_bytes())?;
    Ok(Kept::New(digest))
}
