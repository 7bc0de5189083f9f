//! A proof that can be checked offline that a leaf is in a log: C2SP tlog-proof
//! (<https://c2sp.org/tlog-proof>).
//!
//! A text with the index of the leaf, the inclusion proof and the signed checkpoint with its
//! cosignatures. Who is believed comes from a [`Policy`], never from the proof itself. The extra data
//! is carried for the application and signed by nobody.

use crate::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError};
use crate::policy::{Distrust, Policy, Trusted};
use crate::proof::{PROOF_HASHES_MAX, ProofFault, prove_inclusion, verify_inclusion};
use crate::subtrees::Nodes;
use crate::text::{self, LineFault};
use crate::tree::leaf_hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::Digest;
use std::fmt;

/// First line of the format.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Longest extra data.
pub const EXTRA_BYTES_MAX: usize = 4096;
/// Longest proof that is read: extra data, a full path and the largest checkpoint.
pub const TLOG_PROOF_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 10 * 1024;

/// Why a proof cannot be made, read or trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofFault {
    #[error("the proof has {length} bytes; the limit is {TLOG_PROOF_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the first line is not {HEADER}; the file is no proof or of a later version")]
    Header,
    #[error("the extra data is not base64 of at most {EXTRA_BYTES_MAX} bytes")]
    Extra,
    #[error("the line `index` with a number without leading zeros is missing")]
    Index,
    #[error("line {line} of the path is no hash in base64")]
    Hash { line: usize },
    #[error("the path has more than {PROOF_HASHES_MAX} hashes")]
    TooManyHashes,
    #[error("there is no checkpoint after the path")]
    NoCheckpoint,
    #[error("the checkpoint in the proof cannot be read")]
    Checkpoint(#[from] CheckpointError),
    #[error("the checkpoint in the proof is not trusted")]
    Distrust(#[from] Distrust),
    #[error("the leaf is not where the proof says")]
    Proof(#[from] ProofFault),
}

/// A leaf's place in a log, and the signed head that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    pub extra: Option<Vec<u8>>,
    pub index: u64,
    pub path: Vec<Digest>,
    /// The signed note.
    pub checkpoint: String,
}

impl TlogProof {
    /// Proves a leaf in the tree of a signed checkpoint.
    pub fn make(index: u64, checkpoint: &str, nodes: &dyn Nodes) -> Result<Self, TlogProofFault> {
        let size = Checkpoint::parse_unverified(checkpoint)?.size;
        let path = prove_inclusion(index, size, nodes)?;
        Ok(Self { extra: None, index, path, checkpoint: checkpoint.to_owned() })
    }

    pub fn parse(text: &str) -> Result<Self, TlogProofFault> {
        if text.len() > TLOG_PROOF_BYTES_MAX {
            return Err(TlogProofFault::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n'));
        let rest = rest.ok_or(TlogProofFault::Header)?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(TlogProofFault::NoCheckpoint)?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| parse_extra(&line["extra ".len()..])).transpose()?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(text::parse_number).ok_or(TlogProofFault::Index)?;
        let path = text::parse_hashes(lines, PROOF_HASHES_MAX).map_err(|fault| match fault {
            LineFault::TooMany => TlogProofFault::TooManyHashes,
            LineFault::Hash { line } => TlogProofFault::Hash { line },
        })?;
        Ok(Self { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that these bytes are a leaf of a log that the policy trusts.
    pub fn verify(&self, leaf: &[u8], policy: &Policy) -> Result<Trusted, TlogProofFault> {
        let trusted = policy.check(&self.checkpoint)?;
        let head = &trusted.checkpoint;
        verify_inclusion(&leaf_hash(leaf), self.index, head.size, &self.path, &head.root)?;
        Ok(trusted)
    }
}

fn parse_extra(encoded: &str) -> Result<Vec<u8>, TlogProofFault> {
    let bytes = STANDARD.decode(encoded).map_err(|_| TlogProofFault::Extra)?;
    (bytes.len() <= EXTRA_BYTES_MAX).then_some(bytes).ok_or(TlogProofFault::Extra)
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        text::write_hashes(f, &self.path)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::TestSigner;
    use crate::note::Note;
    use crate::tree::tests::{numbered_leaf as leaf, numbered_log as levels};
    use crate::{CosignatureKey, NoteFault, VerifierKey, append_lines, cosign};
    use guan_model::WallTime;
    use proptest::prelude::*;

    fn log() -> TestSigner {
        TestSigner::new("guan/box-7", 9)
    }

    fn witness() -> TestSigner {
        TestSigner::new("space.example/w1", 1)
    }

    fn proof(index: u64, size: u64) -> TlogProof {
        let levels = levels(size);
        let root = levels.root_at(size).unwrap();
        let note = Checkpoint::sign("guan/box-7", size, &root, &log()).unwrap();
        let now = WallTime::from_seconds(1_800_000_000);
        let line = cosign(Note::parse(&note).unwrap().text(), now, &witness()).unwrap();
        TlogProof::make(index, &append_lines(&note, &line).unwrap(), &levels).unwrap()
    }

    fn policy() -> Policy {
        let (log, witness) = (VerifierKey::of(&log()), CosignatureKey::of(&witness()));
        let text = format!("log {}\nwitness w {}\nquorum w\n", log.unwrap(), witness.unwrap());
        Policy::parse(&text).unwrap()
    }

    #[test]
    fn golden_proof() {
        let golden = include_str!("../tests/golden/leaf.tlog-proof");
        let proof = TlogProof { extra: Some(b"extra".to_vec()), ..proof(5, 11) };
        assert_eq!(proof.to_string(), golden);
        let read = TlogProof::parse(golden).unwrap();
        assert_eq!(read, proof);
        let trusted = read.verify(&leaf(5), &policy()).unwrap();
        assert_eq!(trusted.checkpoint.size, 11);
        assert_eq!(trusted.cosigned[0].0, "w");
    }

    #[test]
    fn wrong_leaves_places_and_signers_are_refused() {
        let good = proof(5, 11);
        assert!(good.verify(&leaf(5), &policy()).is_ok());
        let fault = good.verify(&leaf(6), &policy()).unwrap_err();
        assert!(matches!(fault, TlogProofFault::Proof(ProofFault::Root { .. })));
        let moved = TlogProof { index: 4, ..good.clone() };
        assert!(moved.verify(&leaf(5), &policy()).is_err());
        let stranger = VerifierKey::of(&TestSigner::new("guan/box-7", 8)).unwrap();
        let fault = good.verify(&leaf(5), &Policy::of_logs(&[stranger]).unwrap()).unwrap_err();
        let is_stranger = matches!(
            fault,
            TlogProofFault::Distrust(Distrust::Checkpoint(CheckpointError::Note(
                NoteFault::OtherKeys { .. }
            )))
        );
        assert!(is_stranger, "{fault:?}");
        let uncosigned = good.checkpoint.rsplit_once("\u{2014} space").unwrap().0.to_owned();
        let bare = TlogProof { checkpoint: uncosigned, ..good };
        let fault = bare.verify(&leaf(5), &policy()).unwrap_err();
        assert!(matches!(fault, TlogProofFault::Distrust(Distrust::Quorum { .. })));
        let fault = TlogProof::make(11, &bare.checkpoint, &levels(11)).unwrap_err();
        assert_eq!(fault, TlogProofFault::Proof(ProofFault::Index { index: 11, size: 11 }));
    }

    #[test]
    fn malformed_texts_are_refused() {
        let check = |text: &str, expect: TlogProofFault| {
            assert_eq!(TlogProof::parse(text), Err(expect), "for {text:?}");
        };
        let headed = |rest: &str| format!("{HEADER}\n{rest}");
        check("", TlogProofFault::Header);
        check("c2sp.org/tlog-proof@v2\n", TlogProofFault::Header);
        check(&headed("index 1\n"), TlogProofFault::NoCheckpoint);
        check(&headed("index 01\n\no"), TlogProofFault::Index);
        check(&headed("\n\no"), TlogProofFault::Index);
        check(&headed("index 1\nextra AAAA\n\no"), TlogProofFault::Hash { line: 1 });
        check(&headed("extra A\nindex 1\n\no"), TlogProofFault::Extra);
        check(&headed("extra AAAA\nextra AAAA\nindex 1\n\no"), TlogProofFault::Index);
    }

    #[test]
    fn limits_are_exact() {
        let with = |hashes: usize, extra: usize| TlogProof {
            extra: Some(vec![1; extra]),
            index: u64::MAX,
            path: vec![Digest([7; 32]); hashes],
            checkpoint: "x".repeat(CHECKPOINT_BYTES_MAX),
        };
        let full = with(PROOF_HASHES_MAX, EXTRA_BYTES_MAX);
        assert_eq!(TlogProof::parse(&full.to_string()), Ok(full));
        let check = |proof: TlogProof, expect| {
            assert_eq!(TlogProof::parse(&proof.to_string()), Err(expect));
        };
        check(with(PROOF_HASHES_MAX + 1, 1), TlogProofFault::TooManyHashes);
        check(with(1, EXTRA_BYTES_MAX + 1), TlogProofFault::Extra);
        let length = TLOG_PROOF_BYTES_MAX + 1;
        let fault = TlogProof::parse(&"x".repeat(length));
        assert_eq!(fault, Err(TlogProofFault::TooLong { length }));
        assert_eq!(TlogProof::parse(&"x".repeat(length - 1)), Err(TlogProofFault::Header));
    }

    proptest! {
        #[test]
        fn proofs_survive_and_changes_do_not(
            size in 1_u64..40,
            index: prop::sample::Index,
            at: prop::sample::Index,
            change in 1_u8..,
        ) {
            let index = index.index(usize::try_from(size).unwrap()) as u64;
            let text = proof(index, size).to_string();
            let read = TlogProof::parse(&text).unwrap();
            prop_assert!(read.verify(&leaf(index), &policy()).is_ok());
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            let changed = String::from_utf8(bytes).ok().and_then(|text| TlogProof::parse(&text).ok());
            if let Some(changed) = changed {
                prop_assert!(changed.verify(&leaf(index), &policy()).is_err());
            }
        }

        #[test]
        fn any_text_gives_an_answer(rest: String) {
            let _ = TlogProof::parse(&rest);
            let _ = TlogProof::parse(&format!("{HEADER}\n{rest}"));
        }
    }
}
