//! What the TPM must remember of the log, and what of it is still to be done. No I/O: the driver keeps the
//! bytes before it acts and tells what the TPM said.
//!
//! Every head is in the ledger on the disk before it goes into the TPM. So after a crash at any point the
//! TPM's value is one that the ledger can reach, and the ledger goes on from there; any other value is the
//! trace of a disk that was set back, or of somebody else's hand.

use guan_evidence::TRAIL_MAX;
use guan_evidence::tpm::{TpmClock, extended};
use guan_model::Digest;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Heads in the trail that make an anchor due before its time.
pub const ANCHOR_HEADS: usize = 64;
/// Largest ledger.
pub const LEDGER_BYTES_MAX: usize = 64 << 10;
const SCHEMA: u32 = 1;

/// A signed head: its size, and SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailHead {
    pub size: u64,
    #[serde(with = "digest_hex")]
    pub digest: Digest,
}

/// Why the TPM's memory and this disk do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Suspicion {
    #[error("the TPM remembers heads of the log that this disk does not have: it was set back")]
    Chain,
    #[error("somebody else extended the register that the log's heads go to")]
    Trail,
    #[error(
        "its signed head could not be read and was set aside; it goes on from its entries and from the head that was \
         cosigned last"
    )]
    Head,
    #[error(
        "the TPM remembers a head of {known} entries, and the log admits {found}: entries are gone of which nobody \
         says so"
    )]
    Heads { known: u64, found: u64 },
    #[error(
        "the head of {size} entries that the TPM remembers is not of this log: it was written anew"
    )]
    History { size: u64 },
    #[error(
        "the log's last word about the TPM's digest over heads is not what the TPM has: the log was set back, begun \
         anew or written anew"
    )]
    Word,
    #[error("the TPM was reset {found} times and the log knows of {known}: it is another TPM")]
    Resets { known: u32, found: u32 },
}

/// How often what is due.
#[derive(Debug, Clone, Copy)]
pub struct Cadence {
    pub anchor: Duration,
    pub chain: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    schema: u32,
    /// Whose words these are: SHA-256 of the attestation key's point.
    #[serde(with = "digest_hex")]
    attestation_key: Digest,
    resets: u32,
    /// Value of the register before the first head of the trail.
    #[serde(with = "digest_hex")]
    base: Digest,
    trail: Vec<TrailHead>,
    #[serde(with = "digest_hex::option")]
    chain: Option<Digest>,
    /// A head that may or may not be in the chain already.
    intent: Option<TrailHead>,
    /// Name of the log whose heads these are; ledgers of earlier releases do not say.
    #[serde(default)]
    log: Option<String>,
}

/// The ledger. Times are those since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    kept: Kept,
    /// So many heads of the trail are in the register for certain.
    extended: usize,
    anchored_at: Option<Duration>,
    chained_at: Option<Duration>,
    /// The newest head that is chained.
    chained_size: u64,
}

impl Ledger {
    /// Of a log that no TPM knows yet, on a TPM that knows of no log.
    pub fn new(attestation_key: Digest, resets: u32, trail: Digest) -> Self {
        let (base, trail, chain, intent, log) = (trail, Vec::new(), None, None, None);
        let kept =
            Kept { schema: SCHEMA, attestation_key, resets, base, trail, chain, intent, log };
        Self { kept, extended: 0, anchored_at: None, chained_at: None, chained_size: 0 }
    }

    /// `None`: no ledger of ours, or a damaged one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(bytes).ok()?;
        let is_sound = kept.schema == SCHEMA
            && kept.trail.len() <= TRAIL_MAX
            && kept.trail.windows(2).all(|pair| pair[0].size < pair[1].size);
        let nothing = Digest([0; 32]);
        is_sound.then(|| Self { kept, ..Self::new(nothing, 0, nothing) })
    }

    pub fn encode(&self) -> Vec<u8> {
        let bytes = serde_json::to_vec(&self.kept).expect("numbers and texts are always written");
        assert!(bytes.len() <= LEDGER_BYTES_MAX, "the trail is bounded");
        bytes
    }

    /// Compares with what the TPM remembers at this start. `anchored` and `chained` are the heads that
    /// the last leaves of the log speak of: what they list need not be done again.
    ///
    /// Another attestation key is no suspicion: only the space lets one in, and the log names it.
    pub fn handle_start(
        &mut self,
        attestation_key: Digest,
        clock: &TpmClock,
        (trail, chain): (Digest, Option<Digest>),
        (anchored, chained): (Option<u64>, Option<u64>),
    ) -> Vec<Suspicion> {
        if attestation_key != self.kept.attestation_key {
            *self = Self::new(attestation_key, clock.resets, trail);
            self.kept.chain = chain;
            return Vec::new();
        }
        let mut suspicions = Vec::new();
        suspicions.extend(self.compare_trail(clock.resets, trail, anchored));
        suspicions.extend(self.compare_chain(chain, chained));
        suspicions
    }

    fn compare_trail(
        &mut self,
        resets: u32,
        found: Digest,
        anchored: Option<u64>,
    ) -> Option<Suspicion> {
        if resets != self.kept.resets {
            let known = self.kept.resets;
            let is_back = resets < known;
            self.begin_trail(resets, found);
            return is_back.then_some(Suspicion::Resets { known, found: resets });
        }
        if let Some(size) = anchored {
            self.drop_through(size);
        }
        let mut value = self.kept.base;
        for count in 0..=self.kept.trail.len() {
            if value == found {
                self.extended = count;
                return None;
            }
            let Some(head) = self.kept.trail.get(count) else { break };
            value = extended(&value, &head.digest);
        }
        self.begin_trail(resets, found);
        Some(Suspicion::Trail)
    }

    fn begin_trail(&mut self, resets: u32, value: Digest) {
        (self.kept.resets, self.kept.base) = (resets, value);
        self.kept.trail.clear();
        self.extended = 0;
    }

    fn compare_chain(&mut self, found: Option<Digest>, chained: Option<u64>) -> Option<Suspicion> {
        if let Some(intent) = self.kept.intent
            && chained.is_some_and(|size| size >= intent.size)
        {
            self.kept.chain = Some(self.after(&intent));
            self.kept.intent = None;
        }
        let reached = self.kept.intent.map(|intent| self.after(&intent));
        if found == self.kept.chain || (reached.is_some() && found == reached) {
            return None;
        }
        (self.kept.chain, self.kept.intent) = (found, None);
        Some(Suspicion::Chain)
    }

    fn after(&self, head: &TrailHead) -> Digest {
        Self::linked(self.kept.chain, head)
    }

    /// The chain once a head has joined it.
    pub(super) fn linked(before: Option<Digest>, head: &TrailHead) -> Digest {
        extended(&before.unwrap_or(Digest([0; 32])), &head.digest)
    }

    /// Whether it is of the TPM with this attestation key.
    pub fn is_of(&self, attestation_key: &Digest) -> bool {
        self.kept.attestation_key == *attestation_key
    }

    /// Name of the log whose heads it has.
    pub fn log(&self) -> Option<&str> {
        self.kept.log.as_deref()
    }

    /// All heads that it knows.
    pub(super) fn heads(&self) -> Vec<TrailHead> {
        self.kept.trail.iter().chain(&self.kept.intent).copied().collect()
    }

    /// The log that goes on; `begins`: it is another one than that whose heads are here. Those are nothing that this
    /// one can anchor or chain: register and chain go on from where the TPM has them, which `handle_start` has
    /// compared.
    pub fn handle_log(
        &mut self,
        log: &str,
        begins: bool,
        (trail, chain): (Digest, Option<Digest>),
    ) {
        if begins || self.log().is_some_and(|known| known != log) {
            self.begin_trail(self.kept.resets, trail);
            (self.kept.chain, self.kept.intent) = (chain, None);
        }
        self.kept.log = Some(log.to_owned());
    }

    /// A head was signed. It joins the trail unless the trail is full, which an anchor cures; whether
    /// the ledger changed.
    pub fn handle_head(&mut self, head: TrailHead) -> bool {
        let is_new = self.kept.trail.last().is_none_or(|last| last.size < head.size);
        let takes = is_new && self.kept.trail.len() < TRAIL_MAX;
        if takes {
            self.kept.trail.push(head);
        }
        takes
    }

    /// The value from which the register goes on, and by what.
    pub fn next_extend(&self) -> Option<(Digest, Digest)> {
        let head = self.kept.trail.get(self.extended)?;
        Some((self.value(self.extended), head.digest))
    }

    fn value(&self, count: usize) -> Digest {
        let heads = self.kept.trail.iter().take(count);
        heads.fold(self.kept.base, |value, head| extended(&value, &head.digest))
    }

    /// What the register has now.
    pub fn handle_extended(&mut self, value: Digest) -> Option<Suspicion> {
        let expected = self.value(self.extended + 1);
        if value == expected {
            self.extended += 1;
            return None;
        }
        self.begin_trail(self.kept.resets, value);
        Some(Suspicion::Trail)
    }

    /// Value of the register before the first head of the trail.
    pub fn base(&self) -> Digest {
        self.kept.base
    }

    /// The heads that an anchor would account for: all that are in the register. Empty: nothing to anchor.
    pub fn anchor(&self) -> &[TrailHead] {
        &self.kept.trail[..self.extended]
    }

    pub fn is_anchor_due(&self, now: Duration, cadence: Cadence) -> bool {
        let waited = self.anchored_at.is_none_or(|at| now >= at + cadence.anchor);
        self.extended > 0 && (waited || self.extended >= ANCHOR_HEADS)
    }

    /// The anchor over the head of this size is in the log.
    pub fn handle_anchored(&mut self, now: Duration, size: u64) {
        self.anchored_at = Some(now);
        self.drop_through(size);
    }

    fn drop_through(&mut self, size: u64) {
        let listed = self.kept.trail.iter().take_while(|head| head.size <= size).count();
        self.kept.base = self.value(listed);
        self.kept.trail.drain(..listed);
        self.extended = self.extended.saturating_sub(listed);
    }

    /// A head that was to be chained when the program ended: to be finished first.
    pub fn intent(&self) -> Option<TrailHead> {
        self.kept.intent
    }

    pub fn is_chain_due(&self, now: Duration, cadence: Cadence, head: &TrailHead) -> bool {
        let waited = self.chained_at.is_none_or(|at| now >= at + cadence.chain);
        waited && head.size > self.chained_size
    }

    pub fn is_chained(&self, size: u64) -> bool {
        self.kept.intent.is_none() && size <= self.chained_size
    }

    /// Says what will be chained, and from which value on. To be kept before the TPM is asked.
    pub fn begin_chain(&mut self, head: TrailHead) -> Option<Digest> {
        self.kept.intent = Some(head);
        self.kept.chain
    }

    /// The value before the intent.
    pub fn chain(&self) -> Option<Digest> {
        self.kept.chain
    }

    /// The chain leaf about the intent is in the log.
    pub fn handle_chained(&mut self, now: Duration) {
        if let Some(intent) = self.kept.intent.take() {
            self.kept.chain =
                Some(extended(&self.kept.chain.unwrap_or(Digest([0; 32])), &intent.digest));
            self.chained_size = intent.size;
        }
        self.chained_at = Some(now);
    }

    /// The TPM's chain is not where it should be: from now on what it says is taken.
    pub fn handle_foreign_chain(&mut self, found: Option<Digest>) -> Suspicion {
        (self.kept.chain, self.kept.intent) = (found, None);
        Suspicion::Chain
    }
}

mod digest_hex {
    use guan_model::Digest;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, out: S) -> Result<S::Ok, S::Error> {
        hex::encode(digest.0).serialize(out)
    }

    fn parse<E: serde::de::Error>(text: &str) -> Result<Digest, E> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(E::custom)?;
        Ok(Digest(bytes))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Digest, D::Error> {
        parse(&String::deserialize(from)?)
    }

    pub(super) mod option {
        use super::{Digest, parse};
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            digest: &Option<Digest>,
            out: S,
        ) -> Result<S::Ok, S::Error> {
            digest.map(|digest| hex::encode(digest.0)).serialize(out)
        }

        pub(in super::super) fn deserialize<'d, D: Deserializer<'d>>(
            from: D,
        ) -> Result<Option<Digest>, D::Error> {
            Option::<String>::deserialize(from)?.map(|text| parse(&text)).transpose()
        }
    }
}

#[cfg(test)]
mod tests;
