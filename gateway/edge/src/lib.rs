//! The program guan: collects, decides, records, forwards.
//!
//! - `decode`: payloads to readings; pure.
//! - `engine`: the one writer's rules; pure of threads and system clocks.
//! - `writer`: the loop around it. `ingest`: from drivers to the writer. `uplink`: from spool to link.
//! - `sides`: what comes now overtakes a backlog of the same contract.
//! - `run`: the running program; `wiring`: from configuration to what its parts are told.
//! - `box_identity`: the key in its TPM or file; `joining`: how the space learns of it; `prover`: evidence;
//!   `credentials`, `upkeep`: renewal, and the way out of service; `watchdog`: a TPM that hangs; `sealing`,
//!   `log_keys`: the log's key, and those before it; `log_care`: what of the log is damaged.
//! - `authority`: asks for time stamps over the log; `stamps`: those that are kept.
//! - `catalogue`: what the box offers, and how good its data is.
//! - `standing`: which contracts stand; `own_space`: who may say so.
//! - `contracts`, `flash`, `metadata`, `sessions`, `status`, `system_clock`, `tables`: what the names say.
#![forbid(unsafe_code)]

pub mod anchoring;
pub mod authority;
pub mod box_identity;
pub mod carrying;
pub mod catalogue;
pub mod contracts;
pub mod credentials;
pub mod decode;
pub mod engine;
pub mod flash;
pub mod ingest;
pub mod joining;
pub mod lanes;
pub mod leaving;
pub mod ledger;
pub mod log_care;
pub mod log_keys;
pub mod memory;
pub mod metadata;
pub mod negotiating;
pub mod own_space;
pub mod prover;
pub mod rows;
pub mod run;
pub mod sealing;
pub mod session_files;
pub mod sessions;
pub mod set_counter;
pub mod sides;
pub mod simulation;
pub mod stamps;
pub mod standing;
pub mod status;
pub mod system_clock;
pub mod tables;
pub mod upkeep;
pub mod uplink;
pub mod vault;
pub mod watchdog;
pub mod wiring;
pub mod writer;
