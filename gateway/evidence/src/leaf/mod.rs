//! What the log records: one leaf for each key operation, of a closed set of kinds.
//!
//! Numbers of kinds, outcomes and reasons are in logs that outlive this program: append only. There is
//! no free text, so nothing can leak into the log and no reader has to guess.

mod outside;
mod wire;

pub use outside::{
    ANCHOR_PCRS_MAX, Acted, Anchor, Carried, Chain, Cosigned, Deleted, EpochStart, Erased,
    Exported, Fork, Forwarded, Head, KeyRollover, NAME_BYTES_MAX, Prune, Received,
    STATEMENT_BYTES_MAX, STATEMENT_SIGNATURE_BYTES_MAX, Statement, TRAIL_MAX, TRAIL_PCR, TpmStart,
};

use crate::epoch::EPOCHS_MAX;
use guan_model::cbor::CborFault;
use guan_model::ids::RULE_ID_BYTES_MAX;
use guan_model::{
    BatchSeq, BootNumber, ClockQuality, ContractId, DatasetId, Digest, IdFault, Now, RuleId,
    SpoolId, StreamId, WallTime,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Newest version of the leaf schema that this program reads. It has an actor more than [`LEAF_SCHEMA_PLAIN`],
/// and only leaves with one are of it.
pub const LEAF_SCHEMA: u64 = 2;
/// Version of leaves that say nothing of who acted; those of the first releases are all of it.
pub const LEAF_SCHEMA_PLAIN: u64 = 1;
/// Largest leaf. The bundle format would allow 65,535 bytes, no kind of ours needs that.
pub const LEAF_BYTES_MAX: usize = 2048;
/// Longest name and version of a program.
pub const PROGRAM_BYTES_MAX: usize = 64;

/// Declares a numbered enum that is stored by its code.
macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $code,)+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.code() == code)
            }

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

coded!(
    /// Why rows did not leave. The codes are those of `guan_policy::DenyReason`.
    Denial {
        NoContract = 1 "no-contract",
        NotYetValid = 2 "not-yet-valid",
        Expired = 3 "expired",
        PointNotCovered = 4 "point-not-covered",
        /// The point ids were those of another descriptor table.
        OtherDescriptors = 5 "other-descriptors",
        Prohibited = 6 "prohibited",
        NotPermitted = 7 "not-permitted",
        /// The form that the contract demands leaves the rows out.
        Dropped = 8 "dropped",
        /// Kept in a window, whose result leaves in its place.
        Absorbed = 9 "absorbed",
    }
);
coded!(
    /// What became of a contract.
    ContractOutcome {
        Accepted = 1 "accepted",
        Ended = 2 "ended",
        Refused = 3 "refused",
        /// Readings are kept and none leaves.
        Suspended = 4 "suspended",
        /// Readings leave again.
        Resumed = 5 "resumed",
        /// Nothing is kept and nothing leaves, not even what was kept.
        Revoked = 6 "revoked",
        /// The key of what was kept is gone, and with it all that was not sent.
        Destroyed = 7 "destroyed",
    }
);
coded!(
    /// What became of a configuration.
    ConfigOutcome {
        Applied = 1 "applied",
        Refused = 2 "refused",
        Reverted = 3 "reverted",
    }
);
coded!(
    /// Why data or leaves that once existed are gone.
    GapReason {
        /// The quota in bytes made room for newer data.
        QuotaBytes = 1 "quota-bytes",
        /// Older than the stream keeps.
        QuotaAge = 2 "quota-age",
        /// Damaged on the disk.
        Damage = 3 "damage",
        /// A person removed it.
        Operator = 4 "operator",
        /// The contract under which it was kept has ended.
        Shredded = 5 "shredded",
        /// The TPM remembers heads that this log does not have: the disk was set back to an older state.
        /// How much is gone nobody here knows, so the leaf names the place only.
        RolledBack = 6 "rolled-back",
    }
);

coded!(
    /// What the space makes of a box.
    VerdictOutcome {
        Allow = 1 "allow",
        Restrict = 2 "restrict",
        Refuse = 3 "refuse",
    }
);

coded!(
    /// Why it is no longer kept who acted: what the law asks for (个保法 art. 47, GDPR art. 17).
    ErasureGround {
        PurposeAchieved = 1 "purpose-achieved",
        RetentionExpired = 2 "retention-expired",
        ServiceEnded = 3 "service-ended",
        ConsentWithdrawn = 4 "consent-withdrawn",
        UnlawfulProcessing = 5 "unlawful-processing",
        LegalDuty = 6 "legal-duty",
    }
);

coded!(
    /// What somebody had the box do that no other kind of leaf tells.
    Deed {
        /// A contract set came by hand; the file that carried it.
        ContractsImported = 1 "contract.import",
        /// The negotiation, by SHA-256 of its number.
        NegotiationAgreed = 2 "negotiation.agree",
        NegotiationOffered = 3 "negotiation.offer",
        NegotiationTerminated = 4 "negotiation.terminate",
        /// A time stamp over the log was kept; the authority's answer.
        TimestampKept = 5 "timestamp.keep",
        CertificateRenewed = 6 "certificate.renew",
        LockoutReset = 7 "tpm.reset-lockout",
        StoreRestored = 8 "tpm.restore-store",
        TpmCleared = 9 "tpm.clear",
    }
);

/// Name and version of a program, such as `guan 0.1.0`: printable ASCII, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Arc<str>);

impl Program {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=PROGRAM_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        fits.then(|| Self(Arc::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A batch that was made durable in the spool, ready to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchAccepted {
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub contract_digest: Digest,
    /// Digest of the plan that decided: all contracts and all descriptors.
    pub plan: Digest,
    /// SHA-256 of the canonical uncompressed bytes of the batch (guan-codec), whatever its compression.
    pub batch: Digest,
    pub rows: u64,
    pub stream: StreamId,
    pub seq: BatchSeq,
    /// The permission that let its rows in; `None` in leaves of the first release.
    pub permission: Option<RuleId>,
}

/// What was decided about the rows of one dataset in one commit. It stands before the `Batch` leaves
/// that it lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionSummary {
    pub dataset: DatasetId,
    pub plan: Digest,
    /// Rows in the batches that may leave, added up over contracts; masked rows included.
    pub permitted: u64,
    /// Permitted rows whose value a contract took away.
    pub masked: u64,
    /// Rows that no contract lets go, by reason; never with a count of zero.
    pub denied: BTreeMap<Denial, u64>,
}

/// Batches of a stream that will never arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataGap {
    pub stream: StreamId,
    /// First and last batch that is missing.
    pub from: BatchSeq,
    pub through: BatchSeq,
    pub rows: u64,
    pub reason: GapReason,
}

/// What recovery had to do when the spool was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Salvage {
    pub files_set_aside: u64,
    pub frames_lost: u64,
    pub bytes_lost: u64,
    pub torn_tail_bytes: u64,
}

/// Leaves that came back from the space's mirror, and fit the hashes that were kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refill {
    /// Of this log: the root of the bundle that came back. Of an ended epoch: the root of the cosigned head that it
    /// reaches again.
    pub root: Digest,
    /// Number of the ended epoch that they are of; `None`: they are of this log.
    pub epoch: Option<u16>,
}

/// The kinds of leaf. A leaf's kind number is in [`LeafBody::kind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafBody {
    /// The box started. First leaf of every boot.
    Start {
        program: Program,
        spool: SpoolId,
    },
    /// The box stopped in order.
    Stop,
    Batch(BatchAccepted),
    Decision(DecisionSummary),
    /// A contract came into force, ended or was refused; `plan` is the plan from here on.
    ContractChange {
        contract: ContractId,
        version: u64,
        digest: Digest,
        plan: Digest,
        outcome: ContractOutcome,
    },
    /// `digest` is SHA-256 of the configuration file.
    ConfigChange {
        digest: Digest,
        outcome: ConfigOutcome,
    },
    /// The wall clock jumped. The leaf's own wall time is `to`.
    ClockStep {
        from: WallTime,
        to: WallTime,
    },
    /// Leaves (by index) whose bytes are lost, or are back after they were.
    LogGap {
        from: u64,
        through: u64,
        reason: GapReason,
        /// They are back; `None` in leaves of earlier releases.
        refill: Option<Refill>,
    },
    DataGap(DataGap),
    Salvage(Salvage),
    /// The TPM at this start; the second leaf of a start where there is one.
    TpmStart(TpmStart),
    Anchor(Anchor),
    Chain(Chain),
    Cosigned(Cosigned),
    KeyRollover(KeyRollover),
    /// Stands before the first `Start`.
    EpochStart(EpochStart),
    Prune(Prune),
    Forwarded(Forwarded),
    /// The space's verdict over this box; `document` is SHA-256 of what the space signed.
    Verdict {
        outcome: VerdictOutcome,
        document: Digest,
    },
    /// From here on only in the space's own log.
    Received(Received),
    Deleted(Deleted),
    Head(Head),
    Fork(Fork),
    /// From here on in the log of a box.
    Erased(Erased),
    Exported(Exported),
    Carried(Carried),
    Acted(Acted),
}

impl LeafBody {
    /// Number of the kind, as stored.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Start { .. } => 1,
            Self::Stop => 2,
            Self::Batch(_) => 3,
            Self::Decision(_) => 4,
            Self::ContractChange { .. } => 5,
            Self::ConfigChange { .. } => 6,
            Self::ClockStep { .. } => 7,
            Self::LogGap { .. } => 8,
            Self::DataGap(_) => 9,
            Self::Salvage(_) => 10,
            Self::TpmStart(_) => 11,
            Self::Anchor(_) => 12,
            Self::Chain(_) => 13,
            Self::Cosigned(_) => 14,
            Self::KeyRollover(_) => 15,
            Self::EpochStart(_) => 16,
            Self::Prune(_) => 17,
            Self::Forwarded(_) => 18,
            Self::Verdict { .. } => 19,
            Self::Received(_) => 20,
            Self::Deleted(_) => 21,
            Self::Head(_) => 22,
            Self::Fork(_) => 23,
            Self::Erased(_) => 24,
            Self::Exported(_) => 25,
            Self::Carried(_) => 26,
            Self::Acted(_) => 27,
        }
    }

    /// Name of the kind for people.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop => "stop",
            Self::Batch(_) => "batch",
            Self::Decision(_) => "decision.summary",
            Self::ContractChange { .. } => "contract.change",
            Self::ConfigChange { .. } => "config.change",
            Self::ClockStep { .. } => "clock.step",
            Self::LogGap { .. } => "log.gap",
            Self::DataGap(_) => "data.gap",
            Self::Salvage(_) => "salvage",
            Self::TpmStart(_) => "tpm.start",
            Self::Anchor(_) => "anchor",
            Self::Chain(_) => "chain",
            Self::Cosigned(_) => "witness.receipt",
            Self::KeyRollover(_) => "key.rollover",
            Self::EpochStart(_) => "log.epoch",
            Self::Prune(_) => "log.prune",
            Self::Forwarded(_) => "data.forwarded",
            Self::Verdict { .. } => "attest.verdict",
            Self::Received(_) => "data.received",
            Self::Deleted(_) => "data.deleted",
            Self::Head(_) => "log.head",
            Self::Fork(_) => "log.fork",
            Self::Erased(_) => "log.erase",
            Self::Exported(_) => "audit.export",
            Self::Carried(_) => "data.carried",
            Self::Acted(_) => "operator.act",
        }
    }

    /// Whether the leaf only says what became of earlier ones. Such leaves alone make nothing due that
    /// would write the next of them, or an idle box would never come to rest.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(
            self,
            Self::Anchor(_)
                | Self::Chain(_)
                | Self::Cosigned(_)
                | Self::Forwarded(_)
                | Self::Verdict { .. }
                | Self::Head(_)
        )
    }

    /// Whether a head is due for the leaf alone. A receipt of the space is proven only under one, and calls
    /// forth no further receipt.
    pub fn is_worth_a_head(&self) -> bool {
        !self.is_bookkeeping() || matches!(self, Self::Forwarded(_))
    }
}

/// One entry of the log. Times are stored in whole milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Equals the index in the tree.
    pub seq: u64,
    /// A claim only; order comes from `seq`.
    pub wall: WallTime,
    pub boot: BootNumber,
    pub monotonic: Duration,
    pub clock_quality: ClockQuality,
    /// Commitment to who acted ([`crate::Opening::commitment`]); `None`: nobody, or it was not said.
    pub actor: Option<Digest>,
    pub body: LeafBody,
}

impl Leaf {
    /// A leaf of this moment, its times cut to whole milliseconds as they will be stored.
    pub fn new(now: &Now, seq: u64, boot: BootNumber, body: LeafBody) -> Self {
        let monotonic_ms = u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX);
        Self {
            seq,
            wall: WallTime::from_millis(now.wall.millis()),
            boot,
            monotonic: Duration::from_millis(monotonic_ms),
            clock_quality: now.quality,
            actor: None,
            body,
        }
    }

    /// The bytes that are stored and hashed: deterministic CBOR (RFC 8949, section 4.2.1).
    pub fn encode(&self) -> Vec<u8> {
        let bytes = wire::encode(self);
        assert!(bytes.len() <= LEAF_BYTES_MAX, "every field of a leaf is bounded");
        bytes
    }

    /// Reads exactly what [`Leaf::encode`] writes and refuses everything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        wire::decode(bytes)
    }
}

/// Why bytes are no leaf. Whoever gave the log is to blame: it was altered, damaged, or written by
/// a newer program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the leaf has {length} bytes; the limit is {LEAF_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the leaf is not deterministic CBOR of its kind")]
    Cbor(#[from] CborFault),
    #[error(
        "the leaf has schema {found}, this program reads {LEAF_SCHEMA_PLAIN} to {LEAF_SCHEMA}; use a newer program"
    )]
    Schema { found: u64 },
    #[error("the leaf has the unknown kind {found}; use a newer program")]
    Kind { found: u64 },
    #[error("the {what} has the unknown code {found}; use a newer program")]
    Code { what: &'static str, found: u64 },
    #[error("a name in the leaf is not valid")]
    Name(#[from] IdFault),
    #[error("the program's name is not 1 to {PROGRAM_BYTES_MAX} printable ASCII characters")]
    Program,
    #[error("the wall time {millis} ms is outside the years 1677 to 2262")]
    Wall { millis: i64 },
    #[error("a decision summary names one contract; it speaks of all")]
    SummaryOfOne,
    #[error("the name of a log or a key is not 1 to {NAME_BYTES_MAX} bytes of one line")]
    LogName,
    #[error("a statement of a TPM is longer than any of ours")]
    Statement,
    #[error(
        "the anchor's list of heads or of PCRs is not ascending, too long or does not end with its head"
    )]
    Anchor,
    #[error(
        "the permission is not 1 to {RULE_ID_BYTES_MAX} letters, digits, '.', ':', '-' and '_'"
    )]
    Permission,
    #[error("a count of denied rows is zero; such an entry is left out")]
    ZeroCount,
    #[error("epoch {found} is none of 1 to {EPOCHS_MAX}")]
    Epoch { found: u64 },
}

#[cfg(test)]
pub(crate) mod tests;
