//! How many contract sets this box has taken, counted where no image of the disk reaches.
//!
//! The count that is to be is on the disk before the TPM counts. So a TPM that is one behind was cut off in
//! between, and a TPM that is ahead has seen sets of which this disk knows nothing: it was set back.

use guan_identity::tpm::{Tpm, TpmFault};
use std::time::Duration;

/// Longest wait for the TPM; a box without its answer collects on and asks again.
const TPM_WAIT: Duration = Duration::from_secs(5);

/// A counter that never goes back.
pub trait SetCounter: Send + Sync {
    /// 0 before the first.
    fn counted(&mut self) -> Result<u64, TpmFault>;
    /// Counts one more, and gives the new count.
    fn count(&mut self) -> Result<u64, TpmFault>;
}

/// In the TPM's memory.
pub struct TpmCounter {
    tpm: Tpm,
}

impl TpmCounter {
    pub fn new(tpm: Tpm) -> Self {
        Self { tpm }
    }
}

impl SetCounter for TpmCounter {
    fn counted(&mut self) -> Result<u64, TpmFault> {
        let what = "say how many contract sets it has counted";
        self.tpm.call_within(TPM_WAIT, what, |chip| chip.sets_counted())
    }

    fn count(&mut self) -> Result<u64, TpmFault> {
        self.tpm.call_within(TPM_WAIT, "count a contract set", |chip| chip.count_set())
    }
}

/// What the counter says about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// They agree.
    Same,
    /// The power failed before the TPM had counted.
    Behind,
    /// The disk knows of fewer sets than were taken.
    SetBack,
    /// The TPM was cleared or is another one; its keys tell that better.
    OtherTpm,
}

/// Compares what the disk recorded with what the TPM counted.
pub fn compare(recorded: u64, counted: u64) -> Finding {
    match counted {
        _ if counted == recorded => Finding::Same,
        _ if counted > recorded => Finding::SetBack,
        _ if counted + 1 == recorded => Finding::Behind,
        _ => Finding::OtherTpm,
    }
}
