use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use guan_model::PublicKey;
use proptest::prelude::*;

/// A key that lies in memory, as no product key does.
pub(crate) struct TestSigner {
    name: String,
    key: SigningKey,
}

impl TestSigner {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(&[seed; 32]) }
    }
}

impl Signer for TestSigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        Ok(self.key.sign(message).to_bytes().to_vec())
    }
}

struct P256Signer;

impl Signer for P256Signer {
    fn name(&self) -> &str {
        "p256"
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::EcdsaP256(vec![4; 65])
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignFault> {
        Err(SignFault::Missing { key: "p256".to_owned(), detail: "test".to_owned() })
    }
}

const ORIGIN: &str = "guan/box-7";

fn signer() -> TestSigner {
    TestSigner::new(ORIGIN, 9)
}

fn key() -> VerifierKey {
    VerifierKey::of(&signer()).unwrap()
}

fn signed() -> String {
    Checkpoint::sign(ORIGIN, 4711, &Digest([0x5A; 32]), &signer()).unwrap()
}

/// Signs any text as a note, to reach the faults behind the signature.
fn note_of(text: &str) -> String {
    note::sign(text, &key(), &signer()).unwrap()
}

#[test]
fn golden_checkpoint() {
    assert_eq!(signed(), include_str!("../../tests/golden/checkpoint-v1.txt"));
    let text = include_str!("../../tests/golden/verifier-key.txt");
    assert_eq!(key().to_string(), text.trim_end());
    let checkpoint = Checkpoint::parse_and_verify(&signed(), &key()).unwrap();
    let expect = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 4711,
        root: Digest([0x5A; 32]),
        extensions: Vec::new(),
    };
    assert_eq!(checkpoint, expect);
}

/// The example key and note of the package golang.org/x/mod/sumdb/note.
#[test]
fn example_of_go() {
    let key =
        VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
            .unwrap();
    let note = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\
                \n\
                \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNX\
                gKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let verify = |note: &str| note::Note::parse(note)?.verify(&key);
    assert!(verify(note).is_ok());
    let altered = note.replace("the answer", "an answer");
    let expect = NoteFault::Forged { key: "PeterNeumann".to_owned() };
    assert_eq!(verify(&altered), Err(expect));
}

#[test]
fn keys_print_and_parse() {
    let text = key().to_string();
    assert_eq!(VerifierKey::parse(&text), Ok(key()));
    let check = |text: &str, expect: fn(&KeyFault) -> bool| {
        let fault = VerifierKey::parse(text).unwrap_err();
        assert!(expect(&fault), "{text}: {fault:?}");
    };
    check("", |fault| *fault == KeyFault::Form);
    check("a+b", |fault| *fault == KeyFault::Form);
    check("a+00000000+AQ==", |fault| *fault == KeyFault::Form);
    check(&text.replacen('+', "+0", 1), |fault| matches!(fault, KeyFault::Hash { .. }));
    check(&text.replace(ORIGIN, "other"), |fault| matches!(fault, KeyFault::Hash { .. }));
    check(&text.replace(ORIGIN, "a b"), |fault| matches!(fault, KeyFault::Name { .. }));
    let weak = VerifierKey::new("weak", [0; 32]);
    assert_eq!(weak, Err(KeyFault::Point), "a key of small order accepts forged signatures");
    let wrong = Checkpoint::sign(ORIGIN, 1, &Digest([0; 32]), &P256Signer).unwrap_err();
    assert_eq!(wrong, CheckpointError::Key(KeyFault::Algorithm { found: 2 }));
}

fn check(text: &str, expect: CheckpointError) {
    assert_eq!(Checkpoint::parse_and_verify(text, &key()), Err(expect), "for {text:?}");
}

#[test]
fn malformed_texts_are_refused() {
    let root = STANDARD.encode([0; 32]);
    let size = |found: &str| CheckpointError::Size { found: found.to_owned() };
    check(&note_of(&format!("o\n01\n{root}\n")), size("01"));
    check(&note_of(&format!("o\n+1\n{root}\n")), size("+1"));
    check(&note_of(&format!("o\n18446744073709551616\n{root}\n")), size("18446744073709551616"));
    check(&note_of("o\n1\nAAAA\n"), CheckpointError::Root { found: "AAAA".to_owned() });
    check(&note_of("o\n1\n"), CheckpointError::Lines);
    let empty = CheckpointError::Origin { origin: String::new() };
    check(&note_of(&format!("\n1\n{root}\n")), empty);
    check(&note_of(&format!("o\n1\n{root}\n\nx\n")), CheckpointError::Lines);
    check("", CheckpointError::Note(NoteFault::Text));
    check("o\n1\n", CheckpointError::Note(NoteFault::NoSignatures));
    check("o\n1\n\n", CheckpointError::Note(NoteFault::NoSignatures));
    check("o\r\n\n", CheckpointError::Note(NoteFault::Text));
    let dash = signed().replace('\u{2014}', "-");
    check(&dash, CheckpointError::Note(NoteFault::Line { line: 1 }));
}

#[test]
fn other_signatures_are_ignored_and_extensions_kept() {
    let root = STANDARD.encode([0; 32]);
    let cosignature = format!("\u{2014} witness.example {}\n", STANDARD.encode([7; 76]));
    let text = note_of(&format!("o\n1\n{root}\nextension\n")) + &cosignature;
    let checkpoint = Checkpoint::parse_and_verify(&text, &key()).unwrap();
    assert_eq!(checkpoint.extensions, ["extension"]);
    let stranger = VerifierKey::of(&TestSigner::new(ORIGIN, 8)).unwrap();
    let expect = CheckpointError::Note(NoteFault::OtherKeys { key: stranger.to_string() });
    assert_eq!(Checkpoint::parse_and_verify(&text, &stranger), Err(expect));
}

#[test]
fn limits_are_exact() {
    let line = format!("\u{2014} witness.example {}\n", STANDARD.encode([7; 76]));
    let with = |lines: usize| signed() + &line.repeat(lines - 1);
    assert!(Checkpoint::parse_and_verify(&with(note::SIGNATURES_MAX), &key()).is_ok());
    check(&with(note::SIGNATURES_MAX + 1), CheckpointError::Note(NoteFault::TooMany));

    let root = STANDARD.encode([0; 32]);
    let of_length = |length: usize| {
        let bare = note_of(&format!("o\n1\n{root}\nx\n")).len();
        note_of(&format!("o\n1\n{root}\n{}\n", "x".repeat(length - bare + 1)))
    };
    let text = of_length(CHECKPOINT_BYTES_MAX);
    assert_eq!(text.len(), CHECKPOINT_BYTES_MAX);
    assert!(Checkpoint::parse_and_verify(&text, &key()).is_ok());
    let length = CHECKPOINT_BYTES_MAX + 1;
    check(&of_length(length), CheckpointError::TooLong { length });

    let origin = "o".repeat(ORIGIN_BYTES_MAX);
    assert!(Checkpoint::sign(&origin, 1, &Digest([0; 32]), &signer()).is_ok());
    let origin = "o".repeat(ORIGIN_BYTES_MAX + 1);
    let fault = Checkpoint::sign(&origin, 1, &Digest([0; 32]), &signer()).unwrap_err();
    assert_eq!(fault, CheckpointError::Origin { origin });
}

#[test]
fn every_bit_flip_is_noticed() {
    let good = signed();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(Checkpoint::parse_and_verify(&text, &key()).is_err(), "bit {bit} of byte {at}");
        }
    }
    for end in 0..good.len() {
        if let Some(cut) = good.get(..end) {
            assert!(Checkpoint::parse_and_verify(cut, &key()).is_err(), "cut at {end}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text: String, name: String) {
        prop_assert!(Checkpoint::parse_and_verify(&text, &key()).is_err());
        let _ = VerifierKey::parse(&name);
    }

    #[test]
    fn heads_survive(size: u64, root: [u8; 32], origin in "[ -~]{1,128}") {
        let text = Checkpoint::sign(&origin, size, &Digest(root), &signer()).unwrap();
        let read = Checkpoint::parse_and_verify(&text, &key()).unwrap();
        prop_assert_eq!((read.origin, read.size, read.root), (origin, size, Digest(root)));
    }
}
