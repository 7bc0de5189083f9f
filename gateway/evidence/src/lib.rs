//! Merkle log of decisions and batches: leaves, tree, checkpoints, proofs, verifier.
//!
//! A leaf is deterministic CBOR, the tree is RFC 6962's, the signed head is a C2SP tlog-checkpoint, so
//! programs that we did not write can check a log. `verify` reads a whole log as an auditor does.
//! Outward, `tile` shows the log, `witness` lets others vouch for its heads, `policy` says whose word
//! counts, and `tlog_proof` and `receipt` prove a leaf to whoever has nothing but a key.
//!
//! Never here: files, sockets, clocks, the private half of a key.
#![forbid(unsafe_code)]

pub mod account;
pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod dossier;
pub mod epoch;
pub mod leaf;
pub mod lineage;
pub mod note;
pub mod opening;
pub mod policy;
pub mod proof;
pub mod receipt;
pub mod subtrees;
mod text;
pub mod tile;
pub mod timestamp;
pub mod tlog_proof;
pub mod tpm;
mod trace;
pub mod tree;
pub mod verify;
pub mod view;
pub mod witness;

pub use checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError};
pub use cosignature::{
    CosignFault, Cosignature, CosignatureKey, cosign, cosigned_leaf, cosigned_line,
};
pub use leaf::{
    Acted, Anchor, BatchAccepted, Carried, Chain, ConfigOutcome, ContractOutcome, Cosigned,
    DataGap, DecisionSummary, Deed, Deleted, Denial, EpochStart, Erased, ErasureGround, Exported,
    Fork, Forwarded, GapReason, Head, KeyRollover, LEAF_BYTES_MAX, Leaf, LeafBody, LeafError,
    Program, Prune, Received, Refill, Salvage, Statement, TRAIL_MAX, TRAIL_PCR, TpmStart,
    VerdictOutcome,
};
pub use lineage::{LINEAGE_BYTES_MAX, Lineage, LineageFault, Step};
pub use note::{KeyFault, Note, NoteFault, NoteKey, VerifierKey, append_lines};
pub use opening::{Actor, OPENING_BYTES_MAX, Opening, OpeningFault};
pub use policy::{Distrust, POLICY_BYTES_MAX, Policy, PolicyFault, Trusted};
pub use proof::{ProofFault, consistency_proof, inclusion_proof, inclusion_root};
pub use proof::{prove_consistency, prove_inclusion};
pub use proof::{verify_consistency, verify_inclusion};
pub use receipt::{Receipt, ReceiptClaims, ReceiptFault, ReceiptProof, issue_receipt};
pub use subtrees::{LogNodes, Nodes, Subtrees, bundle_root, root_at};
pub use tile::{Tile, TileRow};
pub use tlog_proof::{TlogProof, TlogProofFault};
pub use trace::{TRACE_BYTES, trace_id};
pub use tree::{Tree, leaf_hash, node_hash};
pub use verify::{Fault, LogVerifier, Report};
pub use witness::{AddCheckpoint, Handled, Pending, Witness, WitnessAnswer, WitnessClient};
