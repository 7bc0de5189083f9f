//! Something that a person did with the log, on its way into it: the bytes of its file.
//!
//! Deterministic CBOR, a map: 1 version, 2 kind. A bundle was asked for (kind 1): 3 commitment to who asked, empty if
//! nobody said, 4 first and 5 last entry, 6 entries, 7 SHA-256 of the manifest. Openings are to be destroyed
//! (kind 2): 3 ground, 4 their commitments, ascending; in version 2 also 5 commitment to who asked. Something else
//! (kind 3): 3 commitment to who did it, empty if nobody said, 4 the deed, 5 what it is about, empty if nothing. No
//! name of anybody is in it.

use crate::acts::OPENINGS_MAX;
use guan_evidence::{Acted, Deed, Erased, ErasureGround, Exported, LeafBody, Tree, leaf_hash};
use guan_model::Digest;
use guan_model::cbor::{CborFault, CborReader, CborWriter};

const VERSION: u64 = 1;
/// Of an erasure that says who asked for it; those of the first releases do not.
const VERSION_ASKED: u64 = 2;
const EXPORTED: u64 = 1;
const ERASED: u64 = 2;
const ACTED: u64 = 3;

/// Why bytes are no act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActFault {
    #[error("the act is not deterministic CBOR of its kind")]
    Cbor(#[from] CborFault),
    #[error(
        "the act has version {found}, this program reads {VERSION} to {VERSION_ASKED}; use a newer program"
    )]
    Version { found: u64 },
    #[error("the act has the unknown kind {found}; use a newer program")]
    Kind { found: u64 },
    #[error("the act names the unknown ground {found}; use a newer program")]
    Ground { found: u64 },
    #[error("the act is the unknown deed {found}; use a newer program")]
    Deed { found: u64 },
    #[error("the act erases nothing, or its commitments are not ascending")]
    Commitments,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Exported {
        actor: Option<Digest>,
        exported: Exported,
    },
    /// Commitments in ascending order, each once, at least one.
    Erase {
        /// Never one of those that are erased: it would be one more to erase.
        actor: Option<Digest>,
        ground: ErasureGround,
        commitments: Vec<Digest>,
    },
    Acted {
        actor: Option<Digest>,
        acted: Acted,
    },
}

impl Act {
    /// Destroys these openings; `None` without any.
    pub fn erase(
        actor: Option<Digest>,
        ground: ErasureGround,
        mut commitments: Vec<Digest>,
    ) -> Option<Self> {
        commitments.sort_unstable();
        commitments.dedup();
        (!commitments.is_empty()).then_some(Self::Erase { actor, ground, commitments })
    }

    /// Who did it, as the leaf says it.
    pub fn actor(&self) -> Option<Digest> {
        match self {
            Self::Exported { actor, .. }
            | Self::Erase { actor, .. }
            | Self::Acted { actor, .. } => *actor,
        }
    }

    /// What the log says of it.
    pub fn body(&self) -> LeafBody {
        match self {
            Self::Exported { exported, .. } => LeafBody::Exported(exported.clone()),
            Self::Acted { acted, .. } => LeafBody::Acted(acted.clone()),
            Self::Erase { ground, commitments, .. } => {
                let mut tree = Tree::new();
                for commitment in commitments {
                    tree.append(leaf_hash(&commitment.0));
                }
                LeafBody::Erased(Erased {
                    commitments: commitments.len() as u64,
                    root: tree.root(),
                    ground: *ground,
                })
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        match self {
            Self::Exported { actor, exported } => {
                out.map(7);
                out.entry(1, VERSION);
                out.entry(2, EXPORTED);
                out.entry_bytes(3, actor.as_ref().map_or(&[], |actor| &actor.0));
                out.entry(4, exported.from);
                out.entry(5, exported.through);
                out.entry(6, exported.entries);
                out.entry_bytes(7, &exported.manifest.0);
            }
            Self::Erase { actor, ground, commitments } => {
                out.map(4 + u64::from(actor.is_some()));
                out.entry(1, if actor.is_some() { VERSION_ASKED } else { VERSION });
                out.entry(2, ERASED);
                out.entry(3, u64::from(ground.code()));
                out.unsigned(4);
                out.array(commitments.len() as u64);
                commitments.iter().for_each(|one| out.bytes(&one.0));
                if let Some(actor) = actor {
                    out.entry_bytes(5, &actor.0);
                }
            }
            Self::Acted { actor, acted } => {
                out.map(5);
                out.entry(1, VERSION);
                out.entry(2, ACTED);
                out.entry_bytes(3, actor.as_ref().map_or(&[], |actor| &actor.0));
                out.entry(4, u64::from(acted.deed.code()));
                out.entry_bytes(5, acted.about.as_ref().map_or(&[], |about| &about.0));
            }
        }
        out.finish()
    }

    /// Reads exactly what [`Act::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ActFault> {
        let mut reader = CborReader::new(bytes);
        let mut map = reader.map()?;
        map.require(&mut reader, 1)?;
        let version = reader.unsigned()?;
        map.require(&mut reader, 2)?;
        let kind = reader.unsigned()?;
        if version != VERSION && (version, kind) != (VERSION_ASKED, ERASED) {
            return Err(ActFault::Version { found: version });
        }
        map.require(&mut reader, 3)?;
        let act = match kind {
            EXPORTED => {
                let actor = maybe(&mut reader)?;
                let mut number = |key| {
                    map.require(&mut reader, key)?;
                    reader.unsigned()
                };
                let (from, through, entries) = (number(4)?, number(5)?, number(6)?);
                map.require(&mut reader, 7)?;
                let manifest = Digest(reader.fixed_bytes()?);
                Self::Exported { actor, exported: Exported { from, through, entries, manifest } }
            }
            ERASED => {
                let found = reader.unsigned()?;
                let ground = u8::try_from(found).ok().and_then(ErasureGround::from_code);
                let ground = ground.ok_or(ActFault::Ground { found })?;
                map.require(&mut reader, 4)?;
                let commitments = commitments(&mut reader)?;
                let mut actor = None;
                if version == VERSION_ASKED {
                    map.require(&mut reader, 5)?;
                    actor = Some(Digest(reader.fixed_bytes()?));
                }
                Self::Erase { actor, ground, commitments }
            }
            ACTED => {
                let actor = maybe(&mut reader)?;
                map.require(&mut reader, 4)?;
                let found = reader.unsigned()?;
                let deed = u8::try_from(found).ok().and_then(Deed::from_code);
                let deed = deed.ok_or(ActFault::Deed { found })?;
                map.require(&mut reader, 5)?;
                Self::Acted { actor, acted: Acted { deed, about: maybe(&mut reader)? } }
            }
            found => return Err(ActFault::Kind { found }),
        };
        map.finish(&reader)?;
        reader.end()?;
        Ok(act)
    }
}

/// A digest, or nothing.
fn maybe(reader: &mut CborReader<'_>) -> Result<Option<Digest>, CborFault> {
    let at = reader.at();
    match reader.bytes(32)? {
        [] => Ok(None),
        bytes => {
            let length = bytes.len() as u64;
            let short = CborFault::Length { at, length, expected: 32 };
            Ok(Some(Digest(bytes.try_into().map_err(|_| short)?)))
        }
    }
}

fn commitments(reader: &mut CborReader<'_>) -> Result<Vec<Digest>, ActFault> {
    let count = reader.array_up_to(OPENINGS_MAX as u64)?;
    let mut commitments: Vec<Digest> = Vec::new();
    for _ in 0..count {
        let one = Digest(reader.fixed_bytes()?);
        if commitments.last().is_some_and(|last| *last >= one) {
            return Err(ActFault::Commitments);
        }
        commitments.push(one);
    }
    (!commitments.is_empty()).then_some(commitments).ok_or(ActFault::Commitments)
}
