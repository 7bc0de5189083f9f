//! The same tree for SCITT: COSE Receipts of RFC 9942 over RFC9162_SHA256, signed with Ed25519.
//!
//! A COSE_Sign1 whose payload is the root of the tree and is left out: the checker computes it from the
//! leaf and the proof in the unprotected header, and then checks the signature. The protected header
//! names algorithm, key, tree kind and, so that a receipt cannot pass for one of another log, issuer
//! and subject (CWT claims, RFC 9597). Header and key order are RFC 8949's deterministic ones; what
//! has other parameters than those of this profile is refused, not half understood.

use crate::note::{KeyFault, VerifierKey};
use crate::proof::{PROOF_HASHES_MAX, ProofFault, consistency_roots, inclusion_root};
use crate::tree::leaf_hash;
use guan_model::cbor::{CborFault, CborReader, CborWriter};
use guan_model::{Digest, Signer};

/// Longest receipt that is read.
pub const RECEIPT_BYTES_MAX: usize = 8 * 1024;
/// Longest issuer or subject.
pub const CLAIM_BYTES_MAX: usize = 256;
/// Longest inclusion or consistency proof as bytes.
const PROOF_BYTES_MAX: u64 = 4096;
const PROTECTED_BYTES_MAX: u64 = 1024;

/// COSE_Sign1 (RFC 9052).
const TAG_SIGN1: u64 = 18;
/// Header parameters: algorithm, key id, CWT claims, kind of tree, proofs.
const ALG: u64 = 1;
const KID: u64 = 4;
const CLAIMS: u64 = 15;
const TREE: u64 = 395;
const PROOFS: u64 = 396;
/// EdDSA, and RFC9162_SHA256.
const ALG_EDDSA: i64 = -8;
const TREE_RFC9162_SHA256: u64 = 1;
/// Kinds of proofs.
const INCLUSION: i64 = -1;
const CONSISTENCY: i64 = -2;
/// Claims: issuer and subject.
const ISSUER: u64 = 1;
const SUBJECT: u64 = 2;

/// Why a receipt cannot be made, read or trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    #[error("the receipt has {length} bytes; the limit is {RECEIPT_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the receipt is not deterministic CBOR of this profile")]
    Cbor(#[from] CborFault),
    #[error("the receipt has {what} {found}, only {expected} can be checked here")]
    Kind { what: &'static str, found: i64, expected: i64 },
    #[error("issuer and subject are 1 to {CLAIM_BYTES_MAX} bytes, this one has {length}")]
    Claim { length: usize },
    #[error("this is a receipt of {found}, ask for one of {expected}")]
    OtherProof { found: &'static str, expected: &'static str },
    #[error("a consistency receipt needs an older tree of 1 to {new} leaves, not {old}")]
    Sizes { old: u64, new: u64 },
    #[error("the proof in the receipt does not fit")]
    Proof(#[from] ProofFault),
    #[error("the receipt was signed with another key than {key}")]
    OtherKey { key: String },
    #[error("the signature by {key} does not fit: leaf, proof or receipt were altered")]
    Forged { key: String },
    #[error("the signing key cannot sign receipts")]
    Key(#[from] KeyFault),
    #[error("the receipt could not be signed: {0}")]
    Sign(String),
}

/// Which log speaks, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptClaims {
    /// Who runs the log: its origin.
    pub issuer: String,
    /// What the leaf is about.
    pub subject: String,
}

/// What a receipt proves. Only the root at its end is signed: the sizes, and the index as far as the
/// path fits another, are claims (our leaves carry their own index). A checkpoint signs the size too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptProof {
    Inclusion { size: u64, index: u64, path: Vec<Digest> },
    Consistency { old: u64, new: u64, path: Vec<Digest> },
}

/// A receipt as read, not yet trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub claims: ReceiptClaims,
    pub proof: ReceiptProof,
    kid: [u8; 32],
    /// The bytes that were signed.
    protected: Vec<u8>,
    signature: [u8; 64],
}

/// Name of a key inside receipts: the SHA-256 COSE Key Thumbprint of RFC 9679.
pub fn key_thumbprint(key: &VerifierKey) -> Digest {
    let mut out = CborWriter::default();
    out.map(3);
    // Key type OKP, then curve Ed25519 under -1 and the point under -2.
    out.entry(1, 1);
    out.signed(-1);
    out.unsigned(6);
    out.signed(-2);
    out.bytes(&key.key_bytes());
    Digest::of(&out.finish())
}

/// Signs that the root at the end of this proof is the log's. The caller has made the proof from the
/// log itself: a wrong root signed here is a fork.
pub fn issue_receipt(
    claims: &ReceiptClaims,
    proof: &ReceiptProof,
    root: &Digest,
    signer: &dyn Signer,
) -> Result<Vec<u8>, ReceiptFault> {
    for claim in [&claims.issuer, &claims.subject] {
        check_claim(claim)?;
    }
    if let ReceiptProof::Consistency { old, new, .. } = proof {
        check_sizes(*old, *new)?;
    }
    let key = VerifierKey::of(signer)?;
    let protected = encode_protected(claims, &key);
    let message = signed_bytes(&protected, root);
    let signature = signer.sign(&message).map_err(|fault| ReceiptFault::Sign(fault.to_string()))?;
    let mut out = CborWriter::default();
    out.tag(TAG_SIGN1);
    out.array(4);
    out.bytes(&protected);
    out.map(1);
    out.unsigned(PROOFS);
    encode_proof(&mut out, proof);
    out.null();
    out.bytes(&signature);
    Ok(out.finish())
}

fn check_claim(claim: &str) -> Result<(), ReceiptFault> {
    let length = claim.len();
    (1..=CLAIM_BYTES_MAX).contains(&length).then_some(()).ok_or(ReceiptFault::Claim { length })
}

/// The empty tree is consistent with all others and its receipt would prove nothing.
fn check_sizes(old: u64, new: u64) -> Result<(), ReceiptFault> {
    (0 < old && old <= new).then_some(()).ok_or(ReceiptFault::Sizes { old, new })
}

fn encode_protected(claims: &ReceiptClaims, key: &VerifierKey) -> Vec<u8> {
    let mut out = CborWriter::default();
    out.map(4);
    out.unsigned(ALG);
    out.signed(ALG_EDDSA);
    out.entry_bytes(KID, &key_thumbprint(key).0);
    out.unsigned(CLAIMS);
    out.map(2);
    out.entry_text(ISSUER, &claims.issuer);
    out.entry_text(SUBJECT, &claims.subject);
    out.entry(TREE, TREE_RFC9162_SHA256);
    out.finish()
}

fn encode_proof(out: &mut CborWriter, proof: &ReceiptProof) {
    let (kind, first, second, path) = match proof {
        ReceiptProof::Inclusion { size, index, path } => (INCLUSION, size, index, path),
        ReceiptProof::Consistency { old, new, path } => (CONSISTENCY, old, new, path),
    };
    let mut inner = CborWriter::default();
    inner.array(3);
    inner.unsigned(*first);
    inner.unsigned(*second);
    inner.array(path.len() as u64);
    path.iter().for_each(|hash| inner.bytes(&hash.0));
    out.map(1);
    out.signed(kind);
    out.array(1);
    out.bytes(&inner.finish());
}

/// The Sig_structure of RFC 9052, section 4.4.
fn signed_bytes(protected: &[u8], root: &Digest) -> Vec<u8> {
    let mut out = CborWriter::default();
    out.array(4);
    out.text("Signature1");
    out.bytes(protected);
    out.bytes(&[]);
    out.bytes(&root.0);
    out.finish()
}

impl Receipt {
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptFault> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptFault::TooLong { length: bytes.len() });
        }
        let mut reader = CborReader::new(bytes);
        reader.tag(TAG_SIGN1)?;
        reader.array(4)?;
        let protected = reader.bytes(PROTECTED_BYTES_MAX)?;
        let mut keys = reader.map()?;
        keys.require(&mut reader, PROOFS)?;
        let proof = decode_proof(&mut reader)?;
        keys.finish(&reader)?;
        reader.null()?;
        let signature = reader.fixed_bytes()?;
        reader.end()?;
        let (claims, kid) = decode_protected(protected)?;
        Ok(Self { claims, proof, kid, protected: protected.to_vec(), signature })
    }

    /// Checks that these bytes are a leaf of the tree that the key signed: its root. Whether issuer
    /// and subject are those that were meant is for the caller to compare.
    pub fn verify_inclusion(&self, leaf: &[u8], key: &VerifierKey) -> Result<Digest, ReceiptFault> {
        let ReceiptProof::Inclusion { size, index, path } = &self.proof else {
            let (found, expected) = ("consistency", "inclusion");
            return Err(ReceiptFault::OtherProof { found, expected });
        };
        let root = inclusion_root(&leaf_hash(leaf), *index, *size, path)?;
        self.verify_signature(&root, key)?;
        Ok(root)
    }

    /// Checks that the tree that the key signed continues the one with this root: the newer root.
    pub fn verify_consistency(
        &self,
        old_root: &Digest,
        key: &VerifierKey,
    ) -> Result<Digest, ReceiptFault> {
        let ReceiptProof::Consistency { old, new, path } = &self.proof else {
            let (found, expected) = ("inclusion", "consistency");
            return Err(ReceiptFault::OtherProof { found, expected });
        };
        check_sizes(*old, *new)?;
        let root = if old == new {
            let length = ProofFault::Length { length: path.len() };
            path.is_empty().then_some(*old_root).ok_or(length)?
        } else {
            let (found, root) = consistency_roots((*old, old_root), *new, path)?;
            let expected = *old_root;
            (found == expected).then_some(root).ok_or(ProofFault::Root { found, expected })?
        };
        self.verify_signature(&root, key)?;
        Ok(root)
    }

    fn verify_signature(&self, root: &Digest, key: &VerifierKey) -> Result<(), ReceiptFault> {
        if self.kid != key_thumbprint(key).0 {
            return Err(ReceiptFault::OtherKey { key: key.to_string() });
        }
        let holds = key.holds(&signed_bytes(&self.protected, root), &self.signature);
        holds.then_some(()).ok_or_else(|| ReceiptFault::Forged { key: key.to_string() })
    }
}

fn decode_protected(bytes: &[u8]) -> Result<(ReceiptClaims, [u8; 32]), ReceiptFault> {
    let mut reader = CborReader::new(bytes);
    let mut keys = reader.map()?;
    keys.require(&mut reader, ALG)?;
    expect("algorithm", reader.signed()?, ALG_EDDSA)?;
    keys.require(&mut reader, KID)?;
    let kid = reader.fixed_bytes()?;
    keys.require(&mut reader, CLAIMS)?;
    let mut claims = reader.map()?;
    claims.require(&mut reader, ISSUER)?;
    let issuer = reader.text()?.to_owned();
    claims.require(&mut reader, SUBJECT)?;
    let subject = reader.text()?.to_owned();
    claims.finish(&reader)?;
    keys.require(&mut reader, TREE)?;
    let tree = reader.signed()?;
    expect("tree kind", tree, TREE_RFC9162_SHA256.cast_signed())?;
    keys.finish(&reader)?;
    reader.end()?;
    check_claim(&issuer)?;
    check_claim(&subject)?;
    Ok((ReceiptClaims { issuer, subject }, kid))
}

fn expect(what: &'static str, found: i64, expected: i64) -> Result<(), ReceiptFault> {
    (found == expected).then_some(()).ok_or(ReceiptFault::Kind { what, found, expected })
}

fn decode_proof(reader: &mut CborReader<'_>) -> Result<ReceiptProof, ReceiptFault> {
    let mut keys = reader.map()?;
    let kind = keys.require_signed(reader)?;
    reader.array(1)?;
    let bytes = reader.bytes(PROOF_BYTES_MAX)?;
    keys.finish(reader)?;
    let mut inner = CborReader::new(bytes);
    inner.array(3)?;
    let (first, second) = (inner.unsigned()?, inner.unsigned()?);
    let count = inner.array_up_to(PROOF_HASHES_MAX as u64)?;
    let mut path = Vec::new();
    for _ in 0..count {
        path.push(Digest(inner.fixed_bytes()?));
    }
    inner.end()?;
    match kind {
        INCLUSION => Ok(ReceiptProof::Inclusion { size: first, index: second, path }),
        CONSISTENCY => Ok(ReceiptProof::Consistency { old: first, new: second, path }),
        found => Err(ReceiptFault::Kind { what: "proof kind", found, expected: INCLUSION }),
    }
}

#[cfg(test)]
mod tests;
