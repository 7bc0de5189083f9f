use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::proof::{prove_consistency, prove_inclusion};
use crate::tree::tests::{numbered_leaf as leaf, numbered_log as levels};
use proptest::prelude::*;

fn log() -> TestSigner {
    TestSigner::new("guan/box-7", 9)
}

fn key() -> VerifierKey {
    VerifierKey::of(&log()).unwrap()
}

fn claims() -> ReceiptClaims {
    ReceiptClaims { issuer: "guan/box-7".to_owned(), subject: "guan/box-7#5".to_owned() }
}

fn inclusion(index: u64, size: u64) -> Vec<u8> {
    let levels = levels(size);
    let path = prove_inclusion(index, size, &levels).unwrap();
    let proof = ReceiptProof::Inclusion { size, index, path };
    issue_receipt(&claims(), &proof, &levels.root_at(size).unwrap(), &log()).unwrap()
}

fn consistency(old: u64, new: u64) -> Vec<u8> {
    let levels = levels(new);
    let path = prove_consistency(old, new, &levels).unwrap();
    let proof = ReceiptProof::Consistency { old, new, path };
    issue_receipt(&claims(), &proof, &levels.root_at(new).unwrap(), &log()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_receipts() {
    let text = [inclusion(5, 11), consistency(6, 11)].map(|bytes| hex(&bytes) + "\n").concat();
    assert_eq!(text, include_str!("../../tests/golden/receipts-v1.hex"));
}

#[test]
fn every_small_inclusion_and_consistency() {
    for size in 1..20 {
        let root = levels(size).root_at(size).unwrap();
        for index in 0..size {
            let receipt = Receipt::decode(&inclusion(index, size)).unwrap();
            assert_eq!(receipt.claims, claims());
            assert_eq!(receipt.verify_inclusion(&leaf(index), &key()), Ok(root));
            assert!(receipt.verify_inclusion(&leaf(index + 1), &key()).is_err());
            let old = index + 1;
            let receipt = Receipt::decode(&consistency(old, size)).unwrap();
            let old_root = levels(old).root_at(old).unwrap();
            assert_eq!(receipt.verify_consistency(&old_root, &key()), Ok(root));
            let other = Digest([0; 32]);
            assert!(receipt.verify_consistency(&other, &key()).is_err(), "{old} of {size}");
        }
    }
}

#[test]
fn what_cannot_be_issued_or_trusted() {
    let good = Receipt::decode(&inclusion(5, 11)).unwrap();
    let stranger = VerifierKey::of(&TestSigner::new("guan/box-7", 8)).unwrap();
    let expect = ReceiptFault::OtherKey { key: stranger.to_string() };
    assert_eq!(good.verify_inclusion(&leaf(5), &stranger), Err(expect));
    let forged = ReceiptFault::Forged { key: key().to_string() };
    assert_eq!(good.verify_inclusion(&leaf(4), &key()), Err(forged));
    let expect = ReceiptFault::OtherProof { found: "inclusion", expected: "consistency" };
    assert_eq!(good.verify_consistency(&Digest([0; 32]), &key()), Err(expect));
    let other = Receipt::decode(&consistency(6, 11)).unwrap();
    let expect = ReceiptFault::OtherProof { found: "consistency", expected: "inclusion" };
    assert_eq!(other.verify_inclusion(&leaf(5), &key()), Err(expect));

    let root = Digest([0; 32]);
    let issue = |claims: &ReceiptClaims, old, new| {
        let proof = ReceiptProof::Consistency { old, new, path: Vec::new() };
        issue_receipt(claims, &proof, &root, &log())
    };
    assert_eq!(issue(&claims(), 0, 3), Err(ReceiptFault::Sizes { old: 0, new: 3 }));
    assert_eq!(issue(&claims(), 4, 3), Err(ReceiptFault::Sizes { old: 4, new: 3 }));
    let with = |length: usize| ReceiptClaims { issuer: "i".repeat(length), ..claims() };
    assert_eq!(issue(&with(0), 1, 1), Err(ReceiptFault::Claim { length: 0 }));
    let length = CLAIM_BYTES_MAX + 1;
    assert_eq!(issue(&with(length), 1, 1), Err(ReceiptFault::Claim { length }));
    let longest = issue(&with(CLAIM_BYTES_MAX), 1, 1).unwrap();
    assert!(Receipt::decode(&longest).unwrap().verify_consistency(&root, &key()).is_ok());
}

#[test]
fn limits_are_exact() {
    let with = |hashes: usize| {
        let path = vec![Digest([7; 32]); hashes];
        let proof = ReceiptProof::Inclusion { size: u64::MAX, index: u64::MAX - 1, path };
        let text = "c".repeat(CLAIM_BYTES_MAX);
        let claims = ReceiptClaims { issuer: text.clone(), subject: text };
        issue_receipt(&claims, &proof, &Digest([0; 32]), &log()).unwrap()
    };
    let full = with(PROOF_HASHES_MAX);
    assert!(full.len() <= RECEIPT_BYTES_MAX);
    assert!(Receipt::decode(&full).is_ok());
    let over = Receipt::decode(&with(PROOF_HASHES_MAX + 1));
    assert!(matches!(over, Err(ReceiptFault::Cbor(CborFault::Length { .. }))));
    let length = RECEIPT_BYTES_MAX + 1;
    assert_eq!(Receipt::decode(&vec![0; length]), Err(ReceiptFault::TooLong { length }));
    let at_limit = Receipt::decode(&vec![0; length - 1]);
    assert!(matches!(at_limit, Err(ReceiptFault::Cbor(_))));
}

#[test]
fn every_changed_bit_is_noticed() {
    let good = inclusion(5, 11);
    let path = prove_inclusion(5, 11, &levels(11)).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let Ok(receipt) = Receipt::decode(&bytes) else { continue };
            if receipt.verify_inclusion(&leaf(5), &key()).is_ok() {
                // The root is signed, the size is not: this path fits all from 9 to 16.
                let ReceiptProof::Inclusion { size, index, path: found } = receipt.proof else {
                    panic!("bit {bit} of byte {at}");
                };
                let same = (9..=16).contains(&size) && index == 5 && found == path;
                assert!(same, "bit {bit} of byte {at}");
            }
        }
        assert!(Receipt::decode(&good[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>) {
        let _ = Receipt::decode(&bytes);
        let _ = Receipt::decode(&[&[0xD2, 0x84][..], &bytes].concat());
    }
}
