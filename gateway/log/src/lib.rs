//! The evidence log on disk: what box and space share of it.
//!
//! Leaves become durable in the journal of whoever writes the log, beside the data that they speak of.
//! Here lie the full bundles, the hashes that outlive them, and the signed head; what was damaged comes back here.
//!
//! Never here: what is worth a leaf, networks, the TPM.
#![forbid(unsafe_code)]

mod act;
mod acts;
mod bundles;
mod ended;
mod log;
mod place;
mod reader;
mod recovery;
mod refill;

#[cfg(test)]
mod tests;

pub use act::{Act, ActFault};
pub use acts::{
    ACTS_DIR, ACTS_MAX, Acts, ActsFault, LogKeeper, OPENINGS_MAX, Openings, Recorded, Recorder,
};
pub use bundles::{Bundles, LogFileFault, sealed_tree};
pub use ended::{BEYOND_KEPT_MAX, ENDED_EPOCHS_MAX, ENDED_LEAVES_MAX, Ended, Returned};
pub use log::{
    EvidenceLog, EvidenceLogError, Known, LeavesDamaged, LeavesLost, LogHead, SignedHead, TpmWords,
};
pub use place::{EPOCHS_MAX, Epoch, JournalPlace};
pub use reader::{LogReader, Piece};
pub use refill::{DAMAGED_KEPT_MAX, RefillFault, Refilled, SetAside};
