//! COSE Receipts of entries: issued, and held against the head of the bundle.

use super::{Finding, MakeFault};
use crate::checkpoint::Checkpoint;
use crate::policy::Policy;
use crate::proof::prove_inclusion;
use crate::receipt::{Receipt, ReceiptClaims, ReceiptFault, ReceiptProof, issue_receipt};
use crate::subtrees::Nodes;
use guan_model::{Digest, Signer};

fn claims(head: &Checkpoint, index: u64) -> ReceiptClaims {
    ReceiptClaims { issuer: head.origin.clone(), subject: format!("{}/{index}", head.origin) }
}

/// A COSE Receipt of an entry. The log's key signs the head's root: whoever calls this has checked the head.
pub fn receipt(
    head: &Checkpoint,
    index: u64,
    nodes: &dyn Nodes,
    signer: &dyn Signer,
) -> Result<Vec<u8>, MakeFault> {
    let path = prove_inclusion(index, head.size, nodes)?;
    let proof = ReceiptProof::Inclusion { size: head.size, index, path };
    Ok(issue_receipt(&claims(head, index), &proof, &head.root, signer)?)
}

/// Whether a believed key of the log signed this root, and over this very entry of this very head.
pub(super) fn check(
    bytes: &[u8],
    (index, leaf): (u64, &[u8]),
    head: &Checkpoint,
    policy: &Policy,
) -> Result<(), Finding> {
    let refuse = |what| Finding::OtherReceipt { index, what };
    let failed = |source| Finding::Receipt { index, source };
    let receipt = Receipt::decode(bytes).map_err(failed)?;
    let root = signed_root(&receipt, leaf, policy).map_err(failed)?;
    let expected = claims(head, index);
    if receipt.claims.issuer != expected.issuer {
        return Err(refuse("issuer"));
    }
    if receipt.claims.subject != expected.subject {
        return Err(refuse("subject"));
    }
    match receipt.proof {
        ReceiptProof::Inclusion { index: found, .. } if found != index => Err(refuse("index")),
        ReceiptProof::Inclusion { size, .. } if size != head.size => Err(refuse("size")),
        _ if root != head.root => Err(refuse("root")),
        _ => Ok(()),
    }
}

/// A policy may know several logs; the last word is that of the last key.
fn signed_root(receipt: &Receipt, leaf: &[u8], policy: &Policy) -> Result<Digest, ReceiptFault> {
    let tried = policy.log_keys().map(|key| receipt.verify_inclusion(leaf, key));
    let tried = tried.reduce(|known, next| if known.is_ok() { known } else { next });
    let none = || ReceiptFault::OtherKey { key: "none: the policy names no log".to_owned() };
    tried.unwrap_or_else(|| Err(none()))
}
