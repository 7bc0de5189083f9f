//! Time stamps of authorities (RFC 3161) over earlier heads: by when the entries under them were there, by a clock
//! that is neither the box's nor the space's.
//!
//! `stamps/S.head` is the text of the head of S entries, `stamps/S.consistency` that `checkpoint` continues it, and
//! `stamps/S.tsr` the answer of the authority, byte for byte. It counts only by a certificate that the reader brings.

use super::statements::{check_head, consistency};
use super::{Dossier, Files, Finding, MakeFault, Remark};
use crate::checkpoint::{Checkpoint, head_text};
use crate::subtrees::{Nodes, root_at};
use crate::timestamp::{Authority, Token};
use guan_model::Digest;
use std::collections::BTreeSet;

/// Most time stamps of one bundle.
pub const STAMPS_MAX: usize = 64;
pub(super) const FOLDER: &str = "stamps";
pub(super) const ENDINGS: [&str; 3] = ["consistency", "head", "tsr"];

/// The head of so many entries, and what an authority answered about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    pub answer: Vec<u8>,
}

/// An authority that is believed saw the first `size` entries at this time of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    pub size: u64,
    pub seconds: i64,
}

/// Puts the stamps that say most about these entries: for each entry the first one that covers it.
pub(super) fn put(
    files: &mut Files,
    stamps: &[Stamp],
    entries: &[u64],
    head: &Checkpoint,
    nodes: &dyn Nodes,
) -> Result<(), MakeFault> {
    let under = |index: &u64| {
        let covers = stamps.iter().filter(|stamp| stamp.size > *index && stamp.size <= head.size);
        covers.min_by_key(|stamp| stamp.size)
    };
    let mut chosen = BTreeSet::new();
    for stamp in entries.iter().filter_map(under) {
        if chosen.len() == STAMPS_MAX || !chosen.insert(stamp.size) {
            continue;
        }
        let size = stamp.size;
        // Of a log that was pruned the root of an odd size is not to be had; then the stamp says nothing here.
        let Ok(root) = root_at(size, nodes) else { continue };
        let text = head_text(&head.origin, size, &root);
        let is_of_log = Token::parse(&stamp.answer)
            .is_ok_and(|token| token.digest == Digest::of(text.as_bytes()));
        if is_of_log {
            let proof = consistency(size, head, nodes)?;
            files.insert(format!("{FOLDER}/{size}.consistency"), proof);
            files.insert(format!("{FOLDER}/{size}.head"), text.into_bytes());
            files.insert(format!("{FOLDER}/{size}.tsr"), stamp.answer.clone());
        }
    }
    Ok(())
}

/// The sizes of which there are files, each once.
fn sizes(files: &Files) -> BTreeSet<u64> {
    let name = |name: &String| super::names::stamp(name);
    files.keys().filter_map(name).collect()
}

impl Dossier {
    pub(super) fn check_stamps(&mut self, files: &Files, authority: Option<&Authority>) {
        for (count, size) in sizes(files).into_iter().enumerate() {
            match check(files, size, self.checkpoint.as_ref(), authority) {
                _ if count >= STAMPS_MAX => {
                    self.findings.push(Finding::Stamp { size, what: "it is one too many" });
                }
                Ok(Some(stamped)) => self.stamped.push(stamped),
                Ok(None) => self.remarks.push(Remark::UncheckedStamp { size }),
                Err(finding) => self.findings.push(finding),
            }
        }
    }
}

/// `None`: no authority is believed.
fn check(
    files: &Files,
    size: u64,
    newest: Option<&Checkpoint>,
    authority: Option<&Authority>,
) -> Result<Option<Stamped>, Finding> {
    let refuse = |what| Finding::Stamp { size, what };
    let file = |ending: &str| files.get(&format!("{FOLDER}/{size}.{ending}"));
    let head = file("head").ok_or(refuse("its head is missing"))?;
    let answer = file("tsr").ok_or(refuse("the answer of the authority is missing"))?;
    check_head(size, head, size, newest, file("consistency"))?;
    let token = Token::parse(answer).map_err(|source| Finding::Token { size, source })?;
    let digest = Digest::of(head);
    if token.digest != digest {
        return Err(refuse("it is about another head"));
    }
    let Some(authority) = authority else { return Ok(None) };
    let checked = token.verify(&digest, authority);
    let seconds = checked.map_err(|source| Finding::Token { size, source })?;
    Ok(Some(Stamped { size, seconds }))
}
