//! Durable store-and-forward on segment files; the only code that writes data files.
//!
//! - `disk`: the port to a folder, real or simulated.
//! - `journal`: append-only segments with group commit and recovery.
//! - `facts`: small facts that change slowly, in sled.
//! - `spool`: streams, quotas, cursors and gaps of a box on top of it.
//!
//! Never here: networks, contracts, encodings, clocks.
#![forbid(unsafe_code)]

pub mod disk;
pub mod facts;
pub mod journal;
pub mod spool;

pub use disk::{Disk, DiskFile, OsDisk, create_folder, free_bytes_of, read_file, replace_file};
pub use journal::{FrameRead, Journal, JournalConfig, JournalError, JournalReader, Salvage, Visit};
pub use spool::{
    BatchMeta, Full, GapReason, GapRecord, Item, PushError, Recovered, Spool, SpoolConfig,
    SpoolError, SpoolReader, SpoolStatus, StoredBatch, StreamConfig, WhenFull,
};
