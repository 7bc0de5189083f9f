//! The negotiations of one end with one peer, on disk.
//!
//! The daemon and the command line of an end work on the same folder, under its lock: a record that
//! changed is durable before anything is said. [`Ledger`] is the folder, [`Desk`] the daemon's side of
//! it: letters in, letters out. What an end does of itself says its [`Conduct`].
//!
//! Never here: the link, keys, contracts in force, and what a contract means.

#![forbid(unsafe_code)]

mod desk;
mod ledger;
mod show;

pub use desk::{Conduct, Desk, Parcel};
pub use ledger::{FINISHED_MAX, Found, Ledger, LedgerFault, OPEN_MAX, Opened};
pub use show::{document, line};

#[cfg(test)]
mod tests;
