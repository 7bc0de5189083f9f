//! Something that a person did with the log, on its way into it: the bytes of its file.
//!
//! Deterministic CBOR, a map: 1 version, 2 kind. A bundle was asked for (kind 1): 3 commitment to who asked, empty if
//! nobody said, 4 first and 5 last entry, 6 entries, 7 SHA-256 of the manifest. Openings are to be destroyed
//! (kind 2): 3 ground, 4 their commitments, ascending. No name of anybody is in it.

use crate::acts::OPENINGS_MAX;
use guan_evidence::{Erased, ErasureGround, Exported, LeafBody, Tree, leaf_hash};
use guan_model::Digest;
use guan_model::cbor::{CborFault, CborReader, CborWriter};

const VERSION: u64 = 1;
const EXPORTED: u64 = 1;
const ERASED: u64 = 2;

/// Why bytes are no act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActFault {
    #[error("the act is not deterministic CBOR of its kind")]
    Cbor(#[from] CborFault),
    #[error("the act has version {found}, this program reads {VERSION}; use a newer program")]
    Version { found: u64 },
    #[error("the act has the unknown kind {found}; use a newer program")]
    Kind { found: u64 },
    #[error("the act names the unknown ground {found}; use a newer program")]
    Ground { found: u64 },
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
        ground: ErasureGround,
        commitments: Vec<Digest>,
    },
}

impl Act {
    /// Destroys these openings; `None` without any.
    pub fn erase(ground: ErasureGround, mut commitments: Vec<Digest>) -> Option<Self> {
        commitments.sort_unstable();
        commitments.dedup();
        (!commitments.is_empty()).then_some(Self::Erase { ground, commitments })
    }

    /// Who did it, as the leaf says it. Whoever erases is not named: the leaf would be one more to erase.
    pub fn actor(&self) -> Option<Digest> {
        match self {
            Self::Exported { actor, .. } => *actor,
            Self::Erase { .. } => None,
        }
    }

    /// What the log says of it.
    pub fn body(&self) -> LeafBody {
        match self {
            Self::Exported { exported, .. } => LeafBody::Exported(exported.clone()),
            Self::Erase { ground, commitments } => {
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
            Self::Erase { ground, commitments } => {
                out.map(4);
                out.entry(1, VERSION);
                out.entry(2, ERASED);
                out.entry(3, u64::from(ground.code()));
                out.unsigned(4);
                out.array(commitments.len() as u64);
                commitments.iter().for_each(|one| out.bytes(&one.0));
            }
        }
        out.finish()
    }

    /// Reads exactly what [`Act::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ActFault> {
        let mut reader = CborReader::new(bytes);
        let mut map = reader.map()?;
        map.require(&mut reader, 1)?;
        match reader.unsigned()? {
            VERSION => {}
            found => return Err(ActFault::Version { found }),
        }
        map.require(&mut reader, 2)?;
        let kind = reader.unsigned()?;
        map.require(&mut reader, 3)?;
        let act = match kind {
            EXPORTED => {
                let at = reader.at();
                let actor = match reader.bytes(32)? {
                    [] => None,
                    bytes => {
                        let length = bytes.len() as u64;
                        let short = CborFault::Length { at, length, expected: 32 };
                        Some(Digest(bytes.try_into().map_err(|_| short)?))
                    }
                };
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
                Self::Erase { ground, commitments }
            }
            found => return Err(ActFault::Kind { found }),
        };
        map.finish(&reader)?;
        reader.end()?;
        Ok(act)
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
