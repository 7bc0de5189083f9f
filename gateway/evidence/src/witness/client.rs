//! The box's side of `add-checkpoint`: what to send, and what the answer means.

use super::request::AddCheckpoint;
use crate::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError};
use crate::cosignature::{Cosignature, CosignatureKey};
use crate::note::{Note, NoteFault};
use crate::proof::{ProofFault, prove_consistency};
use crate::subtrees::Nodes;
use crate::text;

/// Most characters of a refusal that are kept for people.
const REASON_CHARS_MAX: usize = 200;

/// Why there is no cosignature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    #[error("the checkpoint to be cosigned cannot be read")]
    Checkpoint(#[from] CheckpointError),
    #[error("no proof can be made that the log continues what the witness cosigned")]
    Proof(#[from] ProofFault),
    #[error(
        "the witness cosigned {witness} leaves and this log has {own}: leaves were lost or an old \
         copy of the disk runs; refill the log from the mirror, or open a new epoch"
    )]
    RolledBack { own: u64, witness: u64 },
    #[error(
        "the witness says that the log does not continue what it cosigned ({reason}); this log has \
         two histories"
    )]
    Inconsistent { reason: String },
    #[error("the witness does not watch this log; register its origin and key there")]
    UnknownLog,
    #[error("the witness does not know the key that signed the checkpoint; register it there")]
    UnknownKey,
    #[error("the witness answered {status} ({reason}); try again later")]
    Refused { status: u16, reason: String },
    #[error("the answer of the witness has no size or no signature lines where they belong")]
    Malformed,
    #[error("the answer has no good cosignature of the witness")]
    Cosignature(#[from] NoteFault),
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessReply {
    Cosigned {
        cosignature: Cosignature,
        /// The checkpoint with the line of the witness.
        note: String,
    },
    /// The witness is at another size than was thought, which is known now: send another request.
    Again { size: u64 },
}

/// What a log knows of one witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessClient {
    key: CosignatureKey,
    cosigned: u64,
}

impl WitnessClient {
    /// `cosigned` is the size that the witness cosigned last; 0 if that is not known.
    pub fn new(key: CosignatureKey, cosigned: u64) -> Self {
        Self { key, cosigned }
    }

    /// The size that the witness cosigned last, as far as the log knows: to be stored.
    pub fn cosigned(&self) -> u64 {
        self.cosigned
    }

    /// What to send for a checkpoint of the own log.
    pub fn request(
        &self,
        checkpoint: &str,
        nodes: &dyn Nodes,
    ) -> Result<AddCheckpoint, ClientFault> {
        let own = Checkpoint::parse_unverified(checkpoint)?.size;
        if self.cosigned > own {
            return Err(ClientFault::RolledBack { own, witness: self.cosigned });
        }
        let proof = prove_consistency(self.cosigned, own, nodes)?;
        let checkpoint = checkpoint.to_owned();
        Ok(AddCheckpoint { old_size: self.cosigned, proof, checkpoint })
    }

    /// Takes the answer to a request.
    pub fn take(
        &mut self,
        sent: &AddCheckpoint,
        status: u16,
        body: &str,
    ) -> Result<WitnessReply, ClientFault> {
        let own = Checkpoint::parse_unverified(&sent.checkpoint)?.size;
        let reason = || body.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        match status {
            200 => self.take_lines(sent, own, body),
            409 => {
                let size = body.strip_suffix('\n').and_then(text::parse_number);
                let size = size.ok_or(ClientFault::Malformed)?;
                if size > own {
                    return Err(ClientFault::RolledBack { own, witness: size });
                }
                if size == sent.old_size {
                    return Err(ClientFault::Refused { status, reason: reason() });
                }
                self.cosigned = size;
                Ok(WitnessReply::Again { size })
            }
            403 => Err(ClientFault::UnknownKey),
            404 => Err(ClientFault::UnknownLog),
            422 => Err(ClientFault::Inconsistent { reason: reason() }),
            _ => Err(ClientFault::Refused { status, reason: reason() }),
        }
    }

    /// Looks for the line of this witness among those of the answer; others are left out.
    fn take_lines(
        &mut self,
        sent: &AddCheckpoint,
        own: u64,
        body: &str,
    ) -> Result<WitnessReply, ClientFault> {
        if body.len() > CHECKPOINT_BYTES_MAX {
            return Err(ClientFault::Malformed);
        }
        // Judged apart from the lines that the checkpoint bears already, which may be older ones.
        let checkpoint = Note::parse(&sent.checkpoint)?;
        let answer = format!("{}\n{body}", checkpoint.text());
        let parsed = Note::parse(&answer)?;
        let cosignature = parsed.verify(&self.key)?;
        let line = parsed.first_line_of(&self.key).expect("a key that verified has a line");
        let note = checkpoint.without(&self.key) + &line;
        Note::parse(&note)?;
        self.cosigned = own;
        Ok(WitnessReply::Cosigned { cosignature, note })
    }
}
