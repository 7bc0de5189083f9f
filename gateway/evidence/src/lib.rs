//! Merkle log of decisions and batches: leaves, tree, checkpoints, proofs, verifier.
#![forbid(unsafe_code)]
