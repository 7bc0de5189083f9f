//! The witness of a log: C2SP tlog-witness, `add-checkpoint` (<https://c2sp.org/tlog-witness>), without
//! the HTTP around it.
//!
//! A witness holds the last head that it cosigned and signs another one only if that continues it, so a
//! log that shows two histories needs two sets of witnesses. It never moves back, and its own memory
//! must be durable before the cosignature leaves: [`Pending`] gives it out for the word that it is.
//! A signed head that contradicts a cosigned one is kept as a [`Fork`]. The other end is [`client`].

mod client;
mod request;

pub use client::{ClientFault, WitnessClient, WitnessReply};
pub use request::{AddCheckpoint, PROOF_LINES_MAX, REQUEST_BYTES_MAX, RequestFault};

use crate::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError};
use crate::cosignature::{CosignFault, CosignatureKey};
use crate::note::{Note, NoteFault, VerifierKey, append_lines};
use crate::proof::{ProofFault, consistency_roots, verify_consistency};
use guan_model::{Digest, Signer, WallTime};

/// Most keys of one log: those of its epochs that may still sign.
pub const LOG_KEYS_MAX: usize = 16;

/// Why a log cannot be witnessed; whoever configured or stored it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessFault {
    #[error("a log has 1 to {LOG_KEYS_MAX} keys, {found} were given for {origin:?}")]
    Keys { origin: String, found: usize },
    #[error("the stored head of {origin:?} cannot be read; restore it, never start anew")]
    Head { origin: String, source: CheckpointError },
    #[error("the stored head is of log {found:?}, not of {origin:?}")]
    Origin { origin: String, found: String },
}

/// What a witness answers, in the terms of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// The line of the witness, with its newline.
    Cosigned(String),
    Malformed(String),
    /// No key of the log signed the checkpoint.
    Forbidden(String),
    /// The log is not one of those that this witness watches.
    UnknownLog,
    /// The client's old size is not what was cosigned last, which is this.
    Conflict(u64),
    /// The checkpoint does not continue what was cosigned.
    Inconsistent(String),
}

impl WitnessAnswer {
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Malformed(_) => 400,
            Self::Forbidden(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }

    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(line) => line.clone(),
            Self::Conflict(size) => format!("{size}\n"),
            Self::UnknownLog => "this witness does not watch this log\n".to_owned(),
            Self::Malformed(reason) | Self::Forbidden(reason) | Self::Inconsistent(reason) => {
                format!("{reason}\n")
            }
        }
    }
}

/// The last head that was cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignedHead {
    pub size: u64,
    pub root: Digest,
    /// The note with the lines of the log and of the witness: all that has to be stored, and what
    /// monitors are served.
    pub note: String,
}

/// A signed head that does not go with the cosigned one, and all that is needed to show it to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The head that was cosigned, with the lines of log and witness.
    pub cosigned: String,
    /// The request as it came, with the head that the log signed too.
    pub request: AddCheckpoint,
}

impl Fork {
    /// Whether the two notes alone convict the log: two roots at one size, or a proof that leads from
    /// the signed root to another root at the cosigned size. If not, the log only failed to prove that
    /// it continued, which a broken client can do too.
    pub fn is_proven(&self, keys: &[VerifierKey]) -> Result<bool, CheckpointError> {
        let ours = verified_by_any(&self.cosigned, keys)?;
        let theirs = verified_by_any(&self.request.checkpoint, keys)?;
        if ours.origin != theirs.origin {
            return Ok(false);
        }
        Ok(contradicts((ours.size, &ours.root), &theirs, &self.request))
    }
}

/// Whether a signed head is of another history than `(size, root)`, beyond doubt.
fn contradicts((size, root): (u64, &Digest), head: &Checkpoint, request: &AddCheckpoint) -> bool {
    if head.size == size {
        return head.root != *root;
    }
    if request.old_size != size || size == 0 || head.size < size {
        return false;
    }
    // The proof ties the signed root to one root at the old size; if that is not ours, the log signed
    // a tree that does not hold ours.
    let roots = consistency_roots((size, root), head.size, &request.proof);
    roots.is_ok_and(|(old, new)| new == head.root && old != *root)
}

/// The head of a note that at least one of the keys signed and none is forged in.
fn verified_by_any(note: &str, keys: &[VerifierKey]) -> Result<Checkpoint, CheckpointError> {
    let parsed = Note::parse(note)?;
    let checkpoint = Checkpoint::of_note(&parsed)?;
    let mut signed = false;
    for key in keys {
        signed |= !parsed.statements(key)?.is_empty();
    }
    let named = || keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    signed.then_some(checkpoint).ok_or_else(|| NoteFault::OtherKeys { key: named() }.into())
}

/// What came of a request.
#[derive(Debug)]
pub enum Handled<'w> {
    /// Nothing changed.
    Refused {
        answer: WitnessAnswer,
        /// To be stored as evidence, however the request is answered.
        fork: Option<Box<Fork>>,
    },
    /// To be made durable, then answered.
    Pending(Pending<'w>),
}

/// A cosignature that may not leave yet. Dropping it forgets the request, and the witness stays where
/// it was; no other request of the log can be handled meanwhile.
#[derive(Debug)]
#[must_use = "store the head, then answer with `committed`"]
pub struct Pending<'w> {
    witness: &'w mut Witness,
    head: CosignedHead,
    line: String,
}

impl Pending<'_> {
    /// What must be durable before the answer.
    pub fn head(&self) -> &CosignedHead {
        &self.head
    }

    /// The caller says that `head` is durable: the witness moves on and the answer may leave.
    pub fn committed(self) -> WitnessAnswer {
        self.witness.head = Some(self.head);
        WitnessAnswer::Cosigned(self.line)
    }
}

/// One log as a witness sees it. Which logs there are, the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    origin: String,
    keys: Vec<VerifierKey>,
    head: Option<CosignedHead>,
}

impl Witness {
    /// Starts or resumes a log. `stored` is the note of the last [`CosignedHead`]; giving none for a
    /// log that was cosigned before makes the witness worthless.
    pub fn new(
        origin: &str,
        keys: Vec<VerifierKey>,
        stored: Option<&str>,
    ) -> Result<Self, WitnessFault> {
        let origin = origin.to_owned();
        if !(1..=LOG_KEYS_MAX).contains(&keys.len()) {
            return Err(WitnessFault::Keys { origin, found: keys.len() });
        }
        let Some(note) = stored else { return Ok(Self { origin, keys, head: None }) };
        // Keys may have changed since, so the stored note is not checked against today's.
        let head = match Checkpoint::parse_unverified(note) {
            Ok(head) => head,
            Err(source) => return Err(WitnessFault::Head { origin, source }),
        };
        if head.origin != origin {
            return Err(WitnessFault::Origin { origin, found: head.origin });
        }
        let head = CosignedHead { size: head.size, root: head.root, note: note.to_owned() };
        Ok(Self { origin, keys, head: Some(head) })
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn head(&self) -> Option<&CosignedHead> {
        self.head.as_ref()
    }

    /// Judges a request in the order of the specification. An error means that this witness could not
    /// sign; the client may come again.
    pub fn handle(
        &mut self,
        request: &AddCheckpoint,
        now: WallTime,
        signer: &dyn Signer,
    ) -> Result<Handled<'_>, CosignFault> {
        let (submitted, own) = match self.judge(request) {
            Ok(judged) => judged,
            Err((answer, fork)) => return Ok(Handled::Refused { answer, fork }),
        };
        let text = Note::parse(&own).expect("a judged checkpoint is a note").text();
        let line = CosignatureKey::of(signer)?.cosign(text, now, signer)?;
        let note = append_lines(&own, &line).expect("a line for each key and one more fit a note");
        if note.len() > CHECKPOINT_BYTES_MAX {
            let answer = WitnessAnswer::Malformed("no room for a cosignature".to_owned());
            return Ok(Handled::Refused { answer, fork: None });
        }
        let head = CosignedHead { size: submitted.size, root: submitted.root, note };
        Ok(Handled::Pending(Pending { witness: self, head, line }))
    }

    /// The note with one line for each key of the log. Lines of others are not our business, and would
    /// let a client fill our store.
    fn signed_by_log(&self, note: &str) -> Result<String, NoteFault> {
        let note = Note::parse(note)?;
        let lines: String = self.keys.iter().filter_map(|key| note.first_line_of(key)).collect();
        Ok(format!("{}\n{lines}", note.text()))
    }

    /// The submitted head and its note, if it is to be cosigned.
    #[expect(clippy::type_complexity, reason = "the answer and the evidence that comes with it")]
    fn judge(
        &self,
        request: &AddCheckpoint,
    ) -> Result<(Checkpoint, String), (WitnessAnswer, Option<Box<Fork>>)> {
        let refused = |answer| (answer, None);
        let claimed = Checkpoint::parse_unverified(&request.checkpoint)
            .map_err(|fault| refused(WitnessAnswer::Malformed(fault.to_string())))?;
        if claimed.origin != self.origin {
            return Err(refused(WitnessAnswer::UnknownLog));
        }
        let submitted = verified_by_any(&request.checkpoint, &self.keys)
            .map_err(|fault| refused(answer_to_unsigned(&fault)))?;
        if request.old_size > submitted.size {
            let reason = format!("old size {} is above {}", request.old_size, submitted.size);
            return Err(refused(WitnessAnswer::Malformed(reason)));
        }
        self.judge_signed(request, &submitted).map_err(|answer| {
            let fork = self.fork(request, &submitted, &answer);
            (answer, fork)
        })?;
        let own = self.signed_by_log(&request.checkpoint).expect("its signatures were checked");
        Ok((submitted, own))
    }

    /// Compares a head that the log signed with the one that was cosigned.
    fn judge_signed(
        &self,
        request: &AddCheckpoint,
        submitted: &Checkpoint,
    ) -> Result<(), WitnessAnswer> {
        let empty = Digest::of(&[]);
        let (size, root) = self.head.as_ref().map_or((0, empty), |head| (head.size, head.root));
        if request.old_size != size {
            return Err(WitnessAnswer::Conflict(size));
        }
        let inconsistent = |fault: ProofFault| WitnessAnswer::Inconsistent(fault.to_string());
        if submitted.size == 0 && submitted.root != empty {
            let fault = ProofFault::Root { found: submitted.root, expected: empty };
            return Err(inconsistent(fault));
        }
        verify_consistency((size, &root), (submitted.size, &submitted.root), &request.proof)
            .map_err(inconsistent)
    }

    fn fork(
        &self,
        request: &AddCheckpoint,
        submitted: &Checkpoint,
        answer: &WitnessAnswer,
    ) -> Option<Box<Fork>> {
        let head = self.head.as_ref()?;
        let suspect = matches!(answer, WitnessAnswer::Inconsistent(_))
            || contradicts((head.size, &head.root), submitted, request);
        let fork = || Fork { cosigned: head.note.clone(), request: request.clone() };
        suspect.then(|| Box::new(fork()))
    }
}

/// Notes without form are malformed; those without a good signature of the log are forbidden.
fn answer_to_unsigned(fault: &CheckpointError) -> WitnessAnswer {
    match fault {
        CheckpointError::Note(NoteFault::OtherKeys { .. } | NoteFault::Forged { .. }) => {
            WitnessAnswer::Forbidden("no key of this log signed the checkpoint".to_owned())
        }
        _ => WitnessAnswer::Malformed(fault.to_string()),
    }
}

#[cfg(test)]
mod tests;
