//! A witness for one request: `witness_answer STATE LOG_VKEY SECONDS < BODY`.
//!
//! Prints status, content type and body, and keeps the cosigned head in the file STATE, so that
//! tests/verifiers/witness.py can hold it against another witness. Its key is one of tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "an example is a program, not part of the pure crate"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use guan_evidence::{AddCheckpoint, Handled, VerifierKey, Witness, WitnessAnswer};
use guan_model::{PublicKey, SignFault, Signer, WallTime};
use std::error::Error;
use std::io::Read as _;

struct TestKey(SigningKey);

impl Signer for TestKey {
    fn name(&self) -> &str {
        "space.example/w1"
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

fn answer(
    body: &[u8],
    witness: &mut Witness,
    now: WallTime,
    state: &str,
) -> Result<WitnessAnswer, Box<dyn Error>> {
    let request = match AddCheckpoint::parse(body) {
        Ok(request) => request,
        Err(fault) => return Ok(WitnessAnswer::Malformed(fault.to_string())),
    };
    match witness.handle(&request, now, &TestKey(SigningKey::from_bytes(&[1; 32])))? {
        Handled::Refused { answer, fork } => {
            if fork.is_some() {
                std::fs::write(format!("{state}.fork"), body)?;
            }
            Ok(answer)
        }
        Handled::Pending(pending) => {
            std::fs::write(state, &pending.head().note)?;
            Ok(pending.committed())
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, state, vkey, seconds] = arguments.as_slice() else {
        return Err("witness_answer STATE LOG_VKEY SECONDS < BODY".into());
    };
    let key = VerifierKey::parse(vkey)?;
    let stored = std::fs::read_to_string(state).ok();
    let origin = key.name().to_owned();
    let mut witness = Witness::new(&origin, vec![key], stored.as_deref())?;
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let answer = answer(&body, &mut witness, WallTime::from_seconds(seconds.parse()?), state)?;
    print!("{}\n{}\n{}", answer.status(), answer.content_type(), answer.body());
    Ok(())
}
