//! Who acted: `disclosures/N.opening` opens what entry N commits to. Only for those that the reader may know; an
//! entry without one proves as well.

use super::{Dossier, Files, Finding};
use crate::leaf::Leaf;
use crate::opening::Opening;
use guan_model::Digest;
use std::collections::BTreeMap;

pub(super) const FOLDER: &str = "disclosures";

/// Who acted in an entry, as the entry itself commits to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosed {
    pub index: u64,
    pub actor: String,
}

fn name(index: u64) -> String {
    format!("{FOLDER}/{index}.opening")
}

pub(super) fn put(
    files: &mut Files,
    index: u64,
    leaf: &Leaf,
    openings: &BTreeMap<Digest, Opening>,
) {
    if let Some(opening) = leaf.actor.and_then(|actor| openings.get(&actor)) {
        files.insert(name(index), opening.encode());
    }
}

impl Dossier {
    pub(super) fn check_disclosure(&mut self, files: &Files, index: u64, leaf: &Leaf) {
        let Some(bytes) = files.get(&name(index)) else { return };
        match Opening::decode(bytes) {
            Ok(opening) if leaf.actor == Some(opening.commitment()) => {
                let actor = opening.actor().as_str().to_owned();
                self.disclosed.push(Disclosed { index, actor });
            }
            Ok(_) => self.findings.push(Finding::Disclosure { index }),
            Err(source) => self.findings.push(Finding::Opening { index, source }),
        }
    }
}
