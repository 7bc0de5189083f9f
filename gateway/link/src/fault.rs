//! What can be wrong with the other end, and with what the box's own spool hands out.

use crate::chain::UnchainFault;
use crate::frame::{CloseCode, Versions};
use crate::wire::FrameFault;
use guan_model::{BatchSeq, StreamId};
use std::time::Duration;

/// The peer broke a rule of the protocol; a repetition will not help, a new version may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerMisbehaved {
    #[error("the peer said hello twice in one session")]
    HelloTwice,
    #[error("the box sent data before it said hello")]
    BeforeHello,
    #[error("the peer went on before the space's welcome")]
    BeforeWelcome,
    #[error("the space welcomed the box twice in one session")]
    WelcomeTwice,
    #[error("the space's welcome names other streams than the {offered} that were offered")]
    CursorStreams { offered: usize },
    #[error("stream {stream} was never offered in this session")]
    UnknownStream { stream: StreamId },
    #[error("stream {stream}: the space acknowledges {through}, but only {sent} was sent")]
    AckBeyondSent { stream: StreamId, through: BatchSeq, sent: BatchSeq },
    #[error("stream {stream}: the space takes back an ack, from {acked} to {through}")]
    AckRegressed { stream: StreamId, through: BatchSeq, acked: BatchSeq },
    #[error("the space takes back credit, from {granted} to {credit} bytes")]
    CreditShrank { credit: u64, granted: u64 },
    #[error("stream {stream}: the space refuses batch {seq}, which does not wait for an answer")]
    RefuseOutside { stream: StreamId, seq: BatchSeq },
    #[error("stream {stream}: batch {seq} came where {expected} was due")]
    Hole { stream: StreamId, seq: BatchSeq, expected: BatchSeq },
    #[error("the box sent {used} bytes with a credit of {granted}")]
    CreditExceeded { used: u64, granted: u64 },
    #[error("stream {stream}: batch {seq} came in a chain, which version {version} has not")]
    ChainUnknown { stream: StreamId, seq: BatchSeq, version: u16 },
    #[error("stream {stream}: batch {seq} cannot be told from those before it: {fault}")]
    Chain { stream: StreamId, seq: BatchSeq, fault: UnchainFault },
    #[error("the box announced more than {limit} descriptor tables in one session")]
    DescriptorTables { limit: usize },
    #[error("the descriptor table of the box cannot be used: {detail}")]
    DescriptorTable { detail: String },
    #[error("a note of the box cannot be used: {detail}")]
    Note { detail: String },
    #[error("a stream of kind {code} was opened, or one kind twice")]
    StreamKind { code: u8 },
    #[error("the peer ended a stream in the middle of the session")]
    StreamEnded,
}

/// Both ends keep the rules and still cannot work together; a person has to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerIncompatible {
    #[error(
        "no common version: the box speaks {} to {}, the space {} to {}; update the older one",
        theirs.min, theirs.max, ours.min, ours.max
    )]
    NoCommonVersion { theirs: Versions, ours: Versions },
    #[error("the space chose version {version}, which was not offered; update the space")]
    VersionNotOffered { version: u16 },
    /// Going on would let the space take new batches for old ones, and drop them.
    #[error(
        "stream {stream}: the space holds batches through {space}, the spool ends at {newest}: it \
         was set back to an older copy; start a new spool, so that new data is not taken for old"
    )]
    SpoolSetBack { stream: StreamId, space: BatchSeq, newest: BatchSeq },
}

/// The peer did not answer in time; trying again later may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerSilent {
    #[error("no hello within {} s of connecting", limit.as_secs())]
    Hello { limit: Duration },
    #[error("no welcome within {} s of the hello", limit.as_secs())]
    Welcome { limit: Duration },
    #[error("no ack for {} s with {bytes} bytes on the way or waiting for credit", limit.as_secs())]
    Ack { limit: Duration, bytes: u64 },
}

/// Why a session with this peer ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error(transparent)]
    Misbehaved(#[from] PeerMisbehaved),
    #[error(transparent)]
    Incompatible(#[from] PeerIncompatible),
    #[error(transparent)]
    Silent(#[from] PeerSilent),
}

impl PeerFault {
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Frame(_) | Self::Misbehaved(_) => CloseCode::Misbehaved,
            Self::Incompatible(_) => CloseCode::Incompatible,
            Self::Silent(_) => CloseCode::Silent,
        }
    }
}

/// The box's own spool handed out something impossible: a bug on this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    #[error(
        "stream {stream}: the spool handed out {from} through {through} where {wanted} was due; \
         please report this as a bug"
    )]
    Regressed { stream: StreamId, from: BatchSeq, through: BatchSeq, wanted: BatchSeq },
    #[error(
        "stream {stream}: batch {seq} has {length} bytes; the limit is {}; please report this as a bug",
        crate::BATCH_BYTES_MAX
    )]
    TooLong { stream: StreamId, seq: BatchSeq, length: usize },
}
