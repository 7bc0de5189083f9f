//! What a witness says of a checkpoint: C2SP tlog-cosignature with Ed25519, version 1
//! (<https://c2sp.org/tlog-cosignature>).
//!
//! A line `— name base64(key id || time, 8 bytes || signature)` in the note of the checkpoint. It says:
//! at this time, this was the largest head of the log that I know, and it continued all before it.
//! The signature is over `cosignature/v1`, the time and the whole text of the checkpoint. Whether that
//! is true is the business of [`crate::witness`]; this module never looks at proofs.

use crate::leaf::Cosigned;
use crate::note::{self, ALGORITHM_COSIGNATURE, KeyFault, NamedKey, Note, NoteKey};
use guan_model::{SignFault, Signer, WallTime};
use std::fmt;

/// Greatest time of a cosignature, in seconds since 1970.
pub const COSIGNATURE_SECONDS_MAX: u64 = i64::MAX.cast_unsigned();

/// Why no cosignature could be made; the clock or the key of the witness is to blame.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CosignFault {
    #[error("the clock says {now:?}, which is not after 1970; set the clock of the witness")]
    Clock { now: WallTime },
    #[error("the key of the witness cannot cosign")]
    Key(#[from] KeyFault),
    #[error("the cosignature could not be made")]
    Sign(#[from] SignFault),
}

/// What a good cosignature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cosignature {
    /// When it was made, in seconds since 1970, by the clock of the witness.
    pub seconds: u64,
}

/// The public key of a witness. The same 32 bytes as a log key have another id, so neither passes as
/// the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignatureKey(NamedKey);

impl CosignatureKey {
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyFault> {
        NamedKey::new(name, ALGORITHM_COSIGNATURE, key).map(Self)
    }

    /// Reads `name+hash+base64(0x04 || key)`.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        NamedKey::parse(text, ALGORITHM_COSIGNATURE).map(Self)
    }

    /// The public half of a signer, under the signer's own name.
    pub fn of(signer: &dyn Signer) -> Result<Self, KeyFault> {
        NamedKey::of(signer, ALGORITHM_COSIGNATURE).map(Self)
    }

    pub fn key_bytes(&self) -> [u8; 32] {
        self.0.key_bytes()
    }

    /// The line, with its newline, by which this witness cosigns the text of a checkpoint.
    pub(crate) fn cosign(
        &self,
        text: &str,
        now: WallTime,
        signer: &dyn Signer,
    ) -> Result<String, CosignFault> {
        let seconds = u64::try_from(now.0.div_euclid(1_000_000_000)).unwrap_or(0);
        // The time 0 means "no time" and must not be given for a checkpoint.
        if seconds == 0 {
            return Err(CosignFault::Clock { now });
        }
        let signature = signer.sign(message(seconds, text).as_bytes())?;
        let stamped = [&seconds.to_be_bytes()[..], &signature].concat();
        Ok(note::signature_line(self.0.name(), self.0.id(), &stamped))
    }
}

/// What goes into the log about a cosignature of the head of `size` leaves: the first line of the key in
/// a note, if it is good.
pub fn cosigned_leaf(key: &CosignatureKey, note: &str, size: u64) -> Option<Cosigned> {
    let note = Note::parse(note).ok()?;
    let Cosignature { seconds } = note.verify(key).ok()?;
    let signature = note.first_signature_of(key)?;
    let signature = signature.get(8..)?.try_into().ok()?;
    let witness = key.name().to_owned();
    Some(Cosigned { witness, key_id: key.id(), size, timestamp_s: seconds, signature })
}

/// The line, with its newline, that such a leaf was made from.
pub fn cosigned_line(leaf: &Cosigned) -> String {
    let stamped = [&leaf.timestamp_s.to_be_bytes()[..], &leaf.signature].concat();
    note::signature_line(&leaf.witness, leaf.key_id, &stamped)
}

/// Cosigns the text of a checkpoint (a note without its signatures): the line with its newline.
pub fn cosign(text: &str, now: WallTime, signer: &dyn Signer) -> Result<String, CosignFault> {
    CosignatureKey::of(signer)?.cosign(text, now, signer)
}

/// What is signed.
fn message(seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

impl NoteKey for CosignatureKey {
    type Statement = Cosignature;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn id(&self) -> [u8; 4] {
        self.0.id()
    }

    fn check(&self, text: &str, signature: &[u8]) -> Option<Cosignature> {
        let (time, signature) = signature.split_first_chunk::<8>()?;
        let seconds = u64::from_be_bytes(*time);
        let dated = (1..=COSIGNATURE_SECONDS_MAX).contains(&seconds);
        (dated && self.0.holds(message(seconds, text).as_bytes(), signature))
            .then_some(Cosignature { seconds })
    }
}

impl fmt::Display for CosignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::TestSigner;
    use crate::note::{Note, NoteFault, SIGNATURES_MAX, append_lines};
    use crate::{Checkpoint, VerifierKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use guan_model::Digest;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

    fn log() -> TestSigner {
        TestSigner::new("guan/box-7", 9)
    }

    fn witness(number: u8) -> TestSigner {
        TestSigner::new(&format!("space.example/w{number}"), number)
    }

    fn checkpoint() -> String {
        Checkpoint::sign("guan/box-7", 4711, &Digest([0x5A; 32]), &log()).unwrap()
    }

    fn line(number: u8) -> String {
        cosign(Note::parse(&checkpoint()).unwrap().text(), NOW, &witness(number)).unwrap()
    }

    #[test]
    fn golden_cosigned_checkpoint() {
        let note = append_lines(&append_lines(&checkpoint(), &line(1)).unwrap(), &line(2)).unwrap();
        assert_eq!(note, include_str!("../tests/golden/checkpoint-cosigned-v1.txt"));
        let key = CosignatureKey::of(&witness(1)).unwrap();
        let text = include_str!("../tests/golden/witness-key.txt");
        assert_eq!(key.to_string(), text.trim_end());
        assert_eq!(CosignatureKey::parse(text.trim_end()), Ok(key.clone()));
        let parsed = Note::parse(&note).unwrap();
        let said = Cosignature { seconds: 1_800_000_000 };
        assert_eq!(parsed.verify(&key), Ok(said));
        assert_eq!(parsed.verify(&CosignatureKey::of(&witness(2)).unwrap()), Ok(said));
        assert_eq!(parsed.verify(&VerifierKey::of(&log()).unwrap()), Ok(()));
        let absent = CosignatureKey::of(&witness(3)).unwrap();
        assert_eq!(parsed.statements(&absent), Ok(Vec::new()));
        let expect = NoteFault::OtherKeys { key: absent.to_string() };
        assert_eq!(parsed.verify(&absent), Err(expect));
    }

    #[test]
    fn a_leaf_gives_its_line_back() {
        let key = CosignatureKey::of(&witness(1)).unwrap();
        let note = append_lines(&checkpoint(), &line(1)).unwrap();
        let leaf = cosigned_leaf(&key, &note, 4711).unwrap();
        assert_eq!((leaf.size, leaf.timestamp_s), (4711, 1_800_000_000));
        assert_eq!(cosigned_line(&leaf), line(1));
        let other = CosignatureKey::of(&witness(2)).unwrap();
        assert_eq!(cosigned_leaf(&other, &note, 4711), None);
    }

    #[test]
    fn kinds_of_keys_do_not_mix() {
        let of_log = VerifierKey::of(&witness(1)).unwrap();
        let of_witness = CosignatureKey::of(&witness(1)).unwrap();
        assert_ne!(of_log.id(), of_witness.id());
        let fault = CosignatureKey::parse(&of_log.to_string());
        assert_eq!(fault, Err(KeyFault::Algorithm { found: 1 }));
        let fault = VerifierKey::parse(&of_witness.to_string());
        assert_eq!(fault, Err(KeyFault::Algorithm { found: 4 }));
        // A log signature under the id of the witness key is no cosignature.
        let text = "o\n1\n";
        let plain = witness(1).sign(text.as_bytes()).unwrap();
        assert_eq!(of_witness.check(text, &plain), None);
    }

    #[test]
    fn times_out_of_range_are_refused() {
        let check = |now: i64| {
            let fault = cosign("o\n", WallTime(now), &witness(1)).unwrap_err();
            assert!(matches!(fault, CosignFault::Clock { .. }), "{now}: {fault:?}");
        };
        check(0);
        check(-1);
        check(999_999_999);
        assert!(cosign("o\n", WallTime(1_000_000_000), &witness(1)).is_ok());
        let key = CosignatureKey::of(&witness(1)).unwrap();
        let stamped = |seconds: u64| {
            let signature = witness(1).sign(message(seconds, "o\n").as_bytes()).unwrap();
            [&seconds.to_be_bytes()[..], &signature].concat()
        };
        assert_eq!(key.check("o\n", &stamped(0)), None);
        let greatest = Cosignature { seconds: COSIGNATURE_SECONDS_MAX };
        assert_eq!(key.check("o\n", &stamped(COSIGNATURE_SECONDS_MAX)), Some(greatest));
        assert_eq!(key.check("o\n", &stamped(COSIGNATURE_SECONDS_MAX + 1)), None);
    }

    #[test]
    fn lines_are_appended_once_and_up_to_the_limit() {
        let once = append_lines(&checkpoint(), &line(1)).unwrap();
        assert_eq!(append_lines(&once, &line(1)).unwrap(), once);
        let other = |number: u32| note::signature_line("w.example", number.to_be_bytes(), &[7; 72]);
        let many: String = (0..63).map(other).collect();
        let full = append_lines(&checkpoint(), &many).unwrap();
        assert_eq!(full.lines().count() - 4, SIGNATURES_MAX);
        assert_eq!(append_lines(&full, &other(99)), Err(NoteFault::TooMany));
        assert_eq!(append_lines(&once, "nonsense\n"), Err(NoteFault::Line { line: 1 }));
        assert_eq!(append_lines(&once, ""), Err(NoteFault::Text));
        assert_eq!(append_lines("text\n", &line(1)), Err(NoteFault::NoSignatures));
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_noticed(at: prop::sample::Index, change in 1_u8..) {
            let text = "guan/box-7\n4711\n";
            let line = cosign(text, NOW, &witness(1)).unwrap();
            let encoded = line.trim_end().rsplit(' ').next().unwrap();
            let mut bytes = STANDARD.decode(encoded).unwrap()[4..].to_vec();
            let key = CosignatureKey::of(&witness(1)).unwrap();
            prop_assert!(key.check(text, &bytes).is_some());
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert_eq!(key.check(text, &bytes), None);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>, text: String) {
            let key = CosignatureKey::of(&witness(1)).unwrap();
            prop_assert_eq!(key.check(&text, &bytes), None);
            let _ = append_lines(&checkpoint(), &text);
        }
    }
}
