//! Contract to compiled plan to decision and transformed batch.
//!
//! A contract is a signed JSON file that is either understood whole or refused whole. All contracts
//! and descriptors together compile into a [`Plan`]; the plan decides batch by batch, by default no.
//!
//! Never here: files, sockets, clocks, the private half of a key.
#![forbid(unsafe_code)]

pub mod action;
mod carrier;
pub mod constraint;
pub mod contract;
pub mod decision;
pub mod duty;
pub mod envelope;
pub mod explain;
pub mod fault;
mod form;
pub mod interval;
pub mod json;
pub mod means;
pub mod negotiation;
pub mod object;
pub mod plan;
pub mod roster;
pub mod ruling;
pub mod signature;
pub mod situation;
pub mod terms;
mod told;
mod transform;
pub mod truth;
pub mod usage;
pub mod vocabulary;
mod windows;

pub use carrier::{CARRIER_BYTES_MAX, Carrier, CarrierFault};
pub use contract::{CONTRACT_BYTES_MAX, Contract, Validity};
pub use decision::{Decision, DenyReason, Permitted, Refusal};
pub use fault::{ContractError, ContractFault, Problem};
pub use json::canonical_json;
pub use means::Means;
pub use plan::{CONTRACTS_MAX, Collections, InForce, Judged, Plan, PlanWarning, Reading, Verdicts};
pub use roster::{ContractState, Roster};
pub use ruling::Ruling;
pub use signature::{KeyFault, TrustedKeys, key_id, sign};
pub use situation::Situation;
pub use terms::{Leave, Terms, TermsFault};
pub use told::{ContractRefusal, Quota};
pub use truth::Truth;
pub use usage::{Usage, UsageFault};
pub use windows::Ended;
