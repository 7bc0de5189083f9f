//! Cosignatures that entries of the kind `witness.receipt` keep, as notes: each says by when the entries
//! under its head were there, which the newest head says later.

use super::statements::{check_head, consistency};
use super::{Files, Finding, MakeFault};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::head_text;
use crate::cosignature::{CosignatureKey, cosigned_line};
use crate::leaf::{Cosigned, Leaf, LeafBody};
use crate::note::Note;
use crate::policy::Policy;
use crate::subtrees::{Nodes, root_at};

/// A witness that is believed saw the first `size` entries of the log at this time of its clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    pub index: u64,
    /// As the policy names it.
    pub witness: String,
    pub size: u64,
    pub seconds: u64,
}

/// The head's text and the witness's line: a signed note without the log's own line.
fn note(text: &str, cosigned: &Cosigned) -> String {
    format!("{text}\n{}", cosigned_line(cosigned))
}

pub(super) fn put(
    files: &mut Files,
    (index, leaf): (u64, &Leaf),
    head: &Checkpoint,
    nodes: &dyn Nodes,
    witnesses: &[CosignatureKey],
) -> Result<(), MakeFault> {
    let LeafBody::Cosigned(cosigned) = &leaf.body else { return Ok(()) };
    if !(1..=head.size).contains(&cosigned.size) {
        return Ok(());
    }
    let text = head_text(&head.origin, cosigned.size, &root_at(cosigned.size, nodes)?);
    let note = note(&text, cosigned);
    let is_by =
        |key: &CosignatureKey| Note::parse(&note).is_ok_and(|note| note.verify(key).is_ok());
    if witnesses.iter().any(is_by) {
        files.insert(
            format!("witness/{index}.consistency"),
            consistency(cosigned.size, head, nodes)?,
        );
        files.insert(format!("witness/{index}.note"), note.into_bytes());
    }
    Ok(())
}

/// `None`: there is no such note, or its witness is none that is believed.
pub(super) fn check(
    files: &Files,
    (index, leaf): (u64, &Leaf),
    newest: Option<&Checkpoint>,
    policy: &Policy,
) -> Result<Option<Witnessed>, Finding> {
    let proof = format!("witness/{index}.consistency");
    let Some(bytes) = files.get(&format!("witness/{index}.note")) else {
        // What belongs to a note is nothing without it.
        let alone = files.contains_key(&proof);
        return if alone { Err(Finding::Orphan { name: proof }) } else { Ok(None) };
    };
    let refuse = |what| Finding::Witness { index, what };
    let LeafBody::Cosigned(cosigned) = &leaf.body else {
        return Err(refuse("the entry has no cosignature"));
    };
    let found = std::str::from_utf8(bytes).map_err(|_| refuse("it is no text"))?;
    let (lines, _) = found.split_once("\n\n").ok_or(refuse("it is no signed note"))?;
    let text = format!("{lines}\n");
    if note(&text, cosigned) != found {
        return Err(refuse("it is not what the entry says"));
    }
    let parsed = Note::parse(found).map_err(|_| refuse("it is no signed note"))?;
    // Whoever is believed: the head in the note is one of this log.
    check_head(index, text.as_bytes(), cosigned.size, newest, files.get(&proof))?;
    for (name, key, _) in policy.witnesses() {
        let stated = parsed.statements(key).map_err(|_| refuse("its witness did not sign it"))?;
        if let Some(stated) = stated.first() {
            let (witness, seconds) = (name.to_owned(), stated.seconds);
            return Ok(Some(Witnessed { index, witness, size: cosigned.size, seconds }));
        }
    }
    Ok(None)
}
