//! Ties the log to the TPM: each head into a register, a quote over it, heads into a digest that outlives
//! boots.
pub mod ledger;
