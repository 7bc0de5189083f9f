//! The keys of a box's log, one after the other: who handed over to whom, and where.
//!
//! A step is the leaf `key.rollover` as it stands in the log, with the log's name; the key before it signed it, so a
//! lineage proves itself to whoever knows the first key. Heads of so many leaves that the leaf is among them are the
//! new key's, all others the old one's. Over the epochs of a log the lineage goes on.
//!
//! Never here: whether the leaf is in the log, which its readers check. What a TPM says of a step is checked where
//! somebody knows the TPM's key ([`Step::is_quoted`]).

use crate::epoch::epoch_number;
use crate::leaf::{KeyRollover, Leaf, LeafBody, LeafError};
use crate::note::{KeyFault, VerifierKey};
use crate::tpm::{Attestation, Attested, TpmSignature};
use crate::verify::{LOG_KEYS_MAX, handover_text, rollover_text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, PublicKey};
use std::fmt;

/// Largest lineage that is read: as many steps as a log may have, each with the longest leaf of its kind.
pub const LINEAGE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of a lineage that go out in one letter: some four hundred steps, a key a week for seven years.
pub const SHOWN_BYTES_MAX: usize = 256 << 10;
const FIRST: &str = "first ";
const STEP: &str = "handover ";

/// Why a lineage does not hold; whoever wrote it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageFault {
    #[error("it has {length} bytes; the limit is {LINEAGE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("line {line} is neither the first key nor a hand-over")]
    Line { line: usize },
    #[error("its first key cannot be read")]
    Key(#[from] KeyFault),
    #[error("a hand-over is no entry of a log")]
    Leaf(#[from] LeafError),
    #[error("entry {index} of {origin} hands no key over")]
    Kind { origin: String, index: u64 },
    #[error("{origin} is no log of the key {key}")]
    Origin { origin: String, key: String },
    #[error("entry {index} of {origin} stands before the hand-over that it follows")]
    Order { origin: String, index: u64 },
    #[error("the key before did not sign entry {index} of {origin}")]
    Signature { origin: String, index: u64 },
    #[error("a log has at most {LOG_KEYS_MAX} keys")]
    TooMany,
}

/// One hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    origin: String,
    index: u64,
    leaf: Vec<u8>,
    rollover: KeyRollover,
    old: VerifierKey,
    new: VerifierKey,
}

impl Step {
    /// Name of the log that it is in, and its place there.
    pub fn place(&self) -> (&str, u64) {
        (&self.origin, self.index)
    }

    /// As it stands in the log.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    pub fn old(&self) -> &VerifierKey {
        &self.old
    }

    pub fn new_key(&self) -> &VerifierKey {
        &self.new
    }

    /// Whether a TPM with one of these keys quoted it.
    pub fn is_quoted(&self, attestation_keys: &[PublicKey]) -> bool {
        let Some(quote) = &self.rollover.quote else { return false };
        let said = Attestation::parse(quote.attested());
        let signature = TpmSignature::parse(quote.signature());
        let (Ok(said), Ok(signature)) = (said, signature) else { return false };
        let (old, new) = (self.old.key_bytes(), self.new.key_bytes());
        let text = handover_text(&self.origin, &old, &new);
        matches!(said.attested, Attested::Quote { .. })
            && said.extra == Digest::of(text.as_bytes()).0
            && attestation_keys.iter().any(|key| signature.is_by(key, quote.attested()))
    }
}

/// The first key, and the steps from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    first: VerifierKey,
    steps: Vec<Step>,
}

impl Lineage {
    /// Of a log that has had one key. It bears the name of the first epoch.
    pub fn new(first: VerifierKey) -> Self {
        Self { first, steps: Vec::new() }
    }

    pub fn first(&self) -> &VerifierKey {
        &self.first
    }

    pub fn newest(&self) -> &VerifierKey {
        self.steps.last().map_or(&self.first, |step| &step.new)
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn epoch_of(&self, origin: &str) -> Option<u16> {
        epoch_number(self.first.name(), origin)
    }

    /// The key that signs the head of `size` leaves of a log.
    pub fn at(&self, origin: &str, size: u64) -> &VerifierKey {
        let epoch = self.epoch_of(origin).unwrap_or(0);
        let is_before = |step: &&Step| {
            let of = self.epoch_of(&step.origin).unwrap_or(0);
            of < epoch || (of == epoch && step.index < size)
        };
        let last = self.steps.iter().take_while(is_before).last();
        last.map_or(&self.first, |step| &step.new)
    }

    /// Takes the next hand-over.
    pub fn extend(&mut self, origin: &str, leaf: &[u8]) -> Result<&Step, LineageFault> {
        let decoded = Leaf::decode(leaf)?;
        let (index, origin) = (decoded.seq, origin.to_owned());
        let LeafBody::KeyRollover(rollover) = decoded.body else {
            return Err(LineageFault::Kind { origin, index });
        };
        let Some(epoch) = self.epoch_of(&origin) else {
            let key = self.first.to_string();
            return Err(LineageFault::Origin { origin, key });
        };
        let last = self.steps.last();
        let last = last.map(|step| (self.epoch_of(&step.origin), step.index));
        if last.is_some_and(|last| (Some(epoch), index) <= last) {
            return Err(LineageFault::Order { origin, index });
        }
        if self.steps.len() >= LOG_KEYS_MAX {
            return Err(LineageFault::TooMany);
        }
        let old = self.newest().clone();
        let text = rollover_text(&origin, index, &rollover.key);
        if !old.holds(text.as_bytes(), &rollover.by_old) {
            return Err(LineageFault::Signature { origin, index });
        }
        let new = VerifierKey::new(self.first.name(), rollover.key)?;
        self.steps.push(Step { origin, index, leaf: leaf.to_vec(), rollover, old, new });
        Ok(self.steps.last().expect("it was pushed"))
    }

    /// The steps after a head that was cosigned, as the witness is shown them: what came before it knows. After
    /// nothing all of them, the last ones as far as they fit.
    #[must_use]
    pub fn shown(&self, origin: &str, cosigned: u64) -> Self {
        let epoch = self.epoch_of(origin).unwrap_or(0);
        let is_known = |step: &&Step| {
            let place = (self.epoch_of(&step.origin).unwrap_or(0), step.index);
            cosigned > 0 && place < (epoch, cosigned)
        };
        let known = self.steps.iter().take_while(is_known).count();
        let mut room = SHOWN_BYTES_MAX;
        let fits = self.steps[known..].iter().rev().take_while(|step| {
            let length = step.to_string().len();
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        });
        let from = self.steps.len() - fits.count();
        let steps = self.steps[from..].to_vec();
        let first = steps.first().map_or(self.newest(), |step| &step.old).clone();
        Self { first, steps }
    }

    /// What of it is about one log: the key that it began with, and its own hand-overs.
    #[must_use]
    pub fn of_log(&self, origin: &str) -> Self {
        let own = self.steps.iter().filter(|step| step.origin == origin);
        Self { first: self.at(origin, 0).clone(), steps: own.cloned().collect() }
    }

    /// The steps that follow on a key; `None`: it is none of these.
    pub fn after(&self, key: &[u8; 32]) -> Option<&[Step]> {
        if self.newest().key_bytes() == *key {
            return Some(&[]);
        }
        let place = self.steps.iter().position(|step| step.old.key_bytes() == *key)?;
        Some(&self.steps[place..])
    }

    /// Reads what [`fmt::Display`] writes, and checks each step.
    pub fn parse(text: &str) -> Result<Self, LineageFault> {
        if text.len() > LINEAGE_BYTES_MAX {
            return Err(LineageFault::TooLong { length: text.len() });
        }
        let mut lines = (1..).zip(text.lines());
        let first = lines.next().and_then(|(_, line)| line.strip_prefix(FIRST));
        let first = first.ok_or(LineageFault::Line { line: 1 })?;
        let mut lineage = Self::new(VerifierKey::parse(first)?);
        for (line, text) in lines {
            let step = text.strip_prefix(STEP).and_then(|step| step.split_once(' '));
            let step = step.and_then(|(origin, leaf)| Some((origin, STANDARD.decode(leaf).ok()?)));
            let (origin, leaf) = step.ok_or(LineageFault::Line { line })?;
            lineage.extend(origin, &leaf)?;
        }
        Ok(lineage)
    }

    /// The lines of a lineage at the beginning of a text, and what follows them; `None`: it begins with no such line.
    pub fn split_lines(text: &str) -> (Option<&str>, &str) {
        let mut end = 0;
        for line in text.split_inclusive('\n') {
            let prefix = if end == 0 { FIRST } else { STEP };
            if !line.starts_with(prefix) {
                break;
            }
            end += line.len();
        }
        let (lines, rest) = text.split_at(end);
        ((end > 0).then_some(lines), rest)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST}{}", self.first)?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{STEP}{} {}", self.origin, STANDARD.encode(&self.leaf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::TestSigner;
    use guan_model::{BootNumber, ClockQuality, Signer as _, WallTime};
    use std::time::Duration;

    const BASE: &str = "guan/box-7";
    const SECOND: &str = "guan/box-7/e2";

    fn signer(number: u8) -> TestSigner {
        TestSigner::new(BASE, number)
    }

    fn public(number: u8) -> [u8; 32] {
        VerifierKey::of(&signer(number)).unwrap().key_bytes()
    }

    /// `old` hands over to `new` at a place.
    fn step(origin: &str, index: u64, old: u8, new: u8) -> Vec<u8> {
        let key = public(new);
        let text = rollover_text(origin, index, &key);
        let by_old = signer(old).sign(text.as_bytes()).unwrap().try_into().unwrap();
        let leaf = Leaf {
            seq: index,
            wall: WallTime::from_millis(1_800_000_000_000),
            boot: BootNumber(1),
            monotonic: Duration::from_millis(5),
            clock_quality: ClockQuality::Ntp,
            actor: None,
            body: LeafBody::KeyRollover(KeyRollover { key, by_old, quote: None }),
        };
        leaf.encode()
    }

    fn three() -> Lineage {
        let mut lineage = Lineage::new(VerifierKey::of(&signer(1)).unwrap());
        lineage.extend(BASE, &step(BASE, 10, 1, 2)).unwrap();
        lineage.extend(BASE, &step(BASE, 20, 2, 3)).unwrap();
        lineage.extend(SECOND, &step(SECOND, 4, 3, 4)).unwrap();
        lineage
    }

    #[test]
    fn heads_are_of_the_key_of_their_range() {
        let lineage = three();
        let check = |origin: &str, size: u64, expect: u8| {
            assert_eq!(lineage.at(origin, size).key_bytes(), public(expect), "{origin} {size}");
        };
        [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (99, 3)]
            .into_iter()
            .for_each(|(size, key)| check(BASE, size, key));
        [(0, 3), (4, 3), (5, 4)].into_iter().for_each(|(size, key)| check(SECOND, size, key));
        assert_eq!(lineage.newest().key_bytes(), public(4));
        let second = lineage.of_log(SECOND);
        assert_eq!((second.first().key_bytes(), second.steps().len()), (public(3), 1));
        assert_eq!(lineage.after(&public(2)).unwrap().len(), 2);
        assert_eq!(lineage.after(&public(4)), Some(&[][..]));
        assert_eq!(lineage.after(&public(9)), None);
    }

    #[test]
    fn a_lineage_is_read_as_it_is_written() {
        let text = three().to_string();
        assert_eq!(Lineage::parse(&text), Ok(three()));
        let (lines, rest) = Lineage::split_lines(&text);
        assert_eq!((lines, rest), (Some(text.as_str()), ""));
        let more = format!("{text}old 0\n\nhandover x\n");
        let (lines, rest) = Lineage::split_lines(&more);
        assert_eq!((lines, rest), (Some(text.as_str()), "old 0\n\nhandover x\n"));
        assert_eq!(Lineage::split_lines("old 0\n"), (None, "old 0\n"));
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let refused = |origin: &str, leaf: Vec<u8>, expect: &str| {
            let mut lineage = three();
            let fault = lineage.extend(origin, &leaf).unwrap_err().to_string();
            assert!(fault.contains(expect), "{expect}: {fault}");
            assert_eq!(lineage, three());
        };
        // Signed by a key of before, by nobody, for another place or another log.
        refused(SECOND, step(SECOND, 9, 3, 5), "did not sign");
        refused(SECOND, step(SECOND, 9, 7, 5), "did not sign");
        refused("guan/box-7/e3", step(SECOND, 9, 4, 5), "did not sign");
        refused(SECOND, step(SECOND, 4, 4, 5), "stands before");
        refused(BASE, step(BASE, 30, 4, 5), "stands before");
        refused("guan/box-8", step("guan/box-8", 30, 4, 5), "no log of the key");
        refused(SECOND, vec![1, 2], "no entry");
        let text = three().to_string();
        let cut: String = text.lines().filter(|line| !line.contains(" guan/box-7 ")).collect();
        assert!(Lineage::parse(&cut).is_err());
        for (text, line) in [("", 1), ("handover a b\n", 1)] {
            assert_eq!(Lineage::parse(text), Err(LineageFault::Line { line }));
        }
        let twice = format!("{}{}", three(), text.lines().next().unwrap());
        assert_eq!(Lineage::parse(&twice), Err(LineageFault::Line { line: 5 }));
        let length = LINEAGE_BYTES_MAX + 1;
        assert_eq!(Lineage::parse(&" ".repeat(length)), Err(LineageFault::TooLong { length }));
    }

    #[test]
    fn the_witness_is_shown_what_it_does_not_know() {
        let shown = |cosigned: u64, origin: &str| {
            let shown = three().shown(origin, cosigned);
            (shown.steps().len(), shown.first().key_bytes())
        };
        assert_eq!(shown(0, BASE), (3, public(1)));
        assert_eq!(shown(10, BASE), (3, public(1)), "the hand-over is not under that head");
        assert_eq!(shown(11, BASE), (2, public(2)));
        assert_eq!(shown(21, BASE), (1, public(3)));
        assert_eq!(shown(0, SECOND), (3, public(1)));
        assert_eq!(shown(5, SECOND), (0, public(4)));
        // A first key that was never handed over shows itself.
        let alone = Lineage::new(VerifierKey::of(&signer(0)).unwrap());
        assert_eq!(alone.shown(BASE, 0), alone);
    }

    #[test]
    fn hundreds_of_steps_fit_a_letter_and_then_the_last_ones_do() {
        let mut lineage = Lineage::new(VerifierKey::of(&signer(0)).unwrap());
        let mut check = |steps: u16, is_whole: bool| {
            for number in u16::try_from(lineage.steps().len()).unwrap()..steps {
                let signers =
                    [number % 250, (number + 1) % 250].map(|one| u8::try_from(one).unwrap());
                let leaf = step(BASE, u64::from(number), signers[0], signers[1]);
                lineage.extend(BASE, &leaf).unwrap();
            }
            let shown = lineage.shown(BASE, 0);
            assert_eq!(shown.steps().len() == usize::from(steps), is_whole, "{steps}");
            assert_eq!(shown.newest(), lineage.newest());
            let text = shown.to_string();
            assert!(text.len() <= SHOWN_BYTES_MAX + 200, "{} bytes", text.len());
            assert_eq!(Lineage::parse(&text), Ok(shown));
        };
        [64, 65, 200, 400].into_iter().for_each(|steps| check(steps, true));
        check(2000, false);
    }
}
