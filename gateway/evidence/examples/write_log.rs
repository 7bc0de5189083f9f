//! Writes a small log as files, for the verifiers under tests/verifiers: `write_log DIR LEAVES`.
//!
//! DIR gets `checkpoint`, `checkpoints/*`, `tile/...`, the keys, a policy, and for one leaf its bytes,
//! `leaf.tlog-proof`, `leaf.receipt`, a consistency receipt and the request to a witness that knows a
//! third of the log. The keys are those of tests: the seeds
//! stand below.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "an example is a program, not part of the pure crate"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use guan_evidence::{
    Checkpoint, CosignatureKey, LogNodes, Note, Policy, ReceiptClaims, ReceiptProof, Subtrees,
    Tile, TileRow, TlogProof, VerifierKey, WitnessClient, append_lines, bundle, cosign,
    issue_receipt, leaf_hash, prove_consistency, prove_inclusion, root_at, tile,
};
use guan_model::{Digest, PublicKey, SignFault, Signer, WallTime};
use std::error::Error;
use std::path::Path;

const ORIGIN: &str = "guan.example/box-7";
const LOG_SEED: u8 = 9;

struct SeedSigner(String, SigningKey);

impl SeedSigner {
    fn new(name: &str, seed: u8) -> Self {
        Self(name.to_owned(), SigningKey::from_bytes(&[seed; 32]))
    }
}

impl Signer for SeedSigner {
    fn name(&self) -> &str {
        &self.0
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.1.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.1.sign(message).to_bytes().to_vec())
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().ok_or("a file lies in a folder")?)?;
    Ok(std::fs::write(path, bytes)?)
}

/// A checkpoint with the lines of the log and of two witnesses.
fn cosigned(size: u64, root: &Digest) -> Result<String, Box<dyn Error>> {
    let log = SeedSigner::new(ORIGIN, LOG_SEED);
    let note = Checkpoint::sign(ORIGIN, size, root, &log)?;
    let text = Note::parse(&note)?.text().to_owned();
    let now = WallTime::from_seconds(1_800_000_000);
    let mut cosigned = note;
    for seed in [1, 2] {
        let line = cosign(&text, now, &SeedSigner::new(&format!("space.example/w{seed}"), seed))?;
        cosigned = append_lines(&cosigned, &line)?;
    }
    Ok(cosigned)
}

fn write_keys(dir: &Path) -> Result<(), Box<dyn Error>> {
    let log = VerifierKey::of(&SeedSigner::new(ORIGIN, LOG_SEED))?;
    let mut policy = format!("log {log}\n");
    for seed in [1, 2] {
        let signer = SeedSigner::new(&format!("space.example/w{seed}"), seed);
        let key = CosignatureKey::of(&signer)?;
        policy += &format!("witness w{seed} {key}\n");
        write(dir, &format!("w{seed}.vkey"), format!("{key}\n").as_bytes())?;
    }
    policy += "group space 2 w1 w2\nquorum space\n";
    assert_eq!(Policy::parse(&policy)?.to_string(), policy);
    write(dir, "log.vkey", format!("{log}\n").as_bytes())?;
    write(dir, "policy", policy.as_bytes())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dir, size] = arguments.as_slice() else { return Err("write_log DIR LEAVES".into()) };
    let (dir, size) = (Path::new(dir), size.parse::<u64>()?);
    let leaves: Vec<Vec<u8>> =
        (0..size).map(|number| format!("leaf {number}").into_bytes()).collect();
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut subtrees = Subtrees::new();
    for bundle in hashes.chunks_exact(256) {
        subtrees.seal(bundle)?;
    }
    let read =
        |number| hashes.chunks(256).nth(usize::try_from(number).ok()?).map(<[Digest]>::to_vec);
    let nodes = LogNodes::new(&subtrees, &read);
    for file in tile::tiles(size) {
        let bytes = match file.row {
            TileRow::Hashes(_) => file.hashes(&nodes)?,
            TileRow::Entries => bundle_bytes(&leaves, &file)?,
        };
        write(dir, &file.to_string(), &bytes)?;
    }
    for old in [size / 3, size / 2, size] {
        let note = cosigned(old, &root_at(old, &nodes)?)?;
        write(dir, &format!("checkpoints/{old}"), note.as_bytes())?;
    }
    let root = root_at(size, &nodes)?;
    let checkpoint = cosigned(size, &root)?;
    write(dir, "checkpoint", checkpoint.as_bytes())?;
    write_keys(dir)?;

    let (index, old) = (size / 2, (size / 3).max(1));
    write(dir, "leaf", &leaves[usize::try_from(index)?])?;
    let proof = TlogProof::make(index, &checkpoint, &nodes)?;
    write(dir, "leaf.tlog-proof", proof.to_string().as_bytes())?;
    let signer = SeedSigner::new(ORIGIN, LOG_SEED);
    let claims = ReceiptClaims { issuer: ORIGIN.to_owned(), subject: format!("{ORIGIN}#{index}") };
    let path = prove_inclusion(index, size, &nodes)?;
    let inclusion = ReceiptProof::Inclusion { size, index, path };
    write(dir, "leaf.receipt", &issue_receipt(&claims, &inclusion, &root, &signer)?)?;
    let path = prove_consistency(old, size, &nodes)?;
    let consistency = ReceiptProof::Consistency { old, new: size, path };
    write(dir, "growth.receipt", &issue_receipt(&claims, &consistency, &root, &signer)?)?;
    let key = CosignatureKey::of(&SeedSigner::new("space.example/w1", 1))?;
    let request = WitnessClient::new(key, old).request(&checkpoint, &nodes)?;
    write(dir, "add-checkpoint", request.to_string().as_bytes())?;
    println!("{}", VerifierKey::of(&signer)?);
    Ok(())
}

fn bundle_bytes(leaves: &[Vec<u8>], file: &Tile) -> Result<Vec<u8>, Box<dyn Error>> {
    let first = usize::try_from(file.index)? * bundle::BUNDLE_LEAVES_MAX;
    Ok(bundle::encode(&leaves[first..first + usize::from(file.width())])?)
}
