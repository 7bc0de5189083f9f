//! Where the box's side gets batches from.

use crate::frame::{Item, StreamRange};
use crate::sender::Kept;
use bytes::Bytes;
use guan_model::{BatchSeq, SpoolId, StreamId};

/// The spool could not be read; the disk or its contents are to blame.
#[derive(Debug, thiserror::Error)]
#[error("the spool could not be read; check the disk")]
pub struct ReadFault(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What is committed, and nothing else. Methods may read from disk and are called on the session's
/// task.
pub trait BatchSource: Send + 'static {
    fn spool(&self) -> SpoolId;

    /// Range of each stream as committed now, ascending by id. A release that is still on its way
    /// to the spool may be missing: the space will name it again.
    fn streams(&mut self) -> Result<Vec<StreamRange>, ReadFault>;

    /// The number of the session, for telling what was said in it from what was said before.
    fn session(&self) -> u64 {
        0
    }

    /// Whether streams have come that this session does not offer: it is begun anew.
    fn is_outgrown(&mut self) -> bool {
        false
    }

    /// Streams that have become a backlog since the last call, or since the session began.
    fn kept(&mut self) -> Vec<Kept> {
        Vec::new()
    }

    /// The descriptor tables that batches in the spool may use, the current one last; at most
    /// `DESCRIPTORS_PER_SESSION_MAX`. Announced at the beginning of each session.
    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault>;

    /// The batch or gap that covers the place behind `after`, or the next one that exists.
    fn next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, ReadFault>;
}
