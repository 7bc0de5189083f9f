//! The program guan-space: receives, stores, acknowledges, exports.
//!
//! - `store`: the rules of what is kept; `runner`: the one task that owns it and commits in groups.
//! - `inbox`: the link's seam to the runner; `admit`: who may come in, by `registry`.
//! - `export`, `parquet_file`: readings for consumers. `status`: what runs, for people.
//! - `joining`: new boxes with a TPM; `appraiser`: what their TPMs prove, at each connection;
//!   `boot_logs`: what they need not send again; `care`: renewals, and the way out of service;
//!   `alarms`: boxes that are not what they were.
//! - `parties`: who signed a contract; `sets`: contracts of boxes; `retention`: deletion that they ask for; `acknowledgement`:
//!   of use; `signed_lines`: what the space says
//!   under its signature.
//! - `carrying`: files of boxes without a link, and the receipts for them.
//! - `logs`: witness and mirror of the boxes' logs; `received`: what boxes are told of their batches.
//! - `provenance`: where data came from and what proves it.
//! - `catalogues`: what boxes offer; `catalogue_server`: the same over HTTP. `init`: sets a space up.
#![forbid(unsafe_code)]

pub mod acknowledgement;
pub mod admit;
pub mod alarms;
pub mod appraiser;
pub mod boot_logs;
pub mod care;
pub mod carrying;
pub mod catalogue_server;
pub mod catalogues;
pub mod export;
pub mod inbox;
pub mod init;
pub mod joining;
pub mod logs;
pub mod negotiating;
pub mod parquet_file;
pub mod parties;
pub mod provenance;
pub mod received;
pub mod registry;
pub mod retention;
pub mod run;
pub mod runner;
pub mod sets;
pub mod signed_lines;
pub mod status;
pub mod store;
