//! What a log says of its own heads and of its TPM, held at a start against what the TPM has and its ledger knows.
//!
//! The ledger lies beside the log, so it agrees with the TPM also where the log was lost, begun anew or written anew:
//! then the log's own words give it away. An epoch that this start begins is no suspicion, as long as its first
//! entry admits every head that the TPM was told of. What cannot be told from the entries that a start looks at is
//! held against nobody; an auditor looks at all.

use super::ledger::{Ledger, Suspicion};
use guan_evidence::checkpoint::head_text;
use guan_evidence::tpm::{Attestation, Attested};
use guan_log::{Epoch, EvidenceLog};
use guan_model::Digest;
use guan_spool::Disk;

/// Most heads whose text is made again, the newest first.
pub(super) const HEADS_COMPARED_MAX: usize = 4;

/// The log's last word about the TPM's digest over all boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainWord {
    /// The entries that a start looks at do not say.
    Unknown,
    /// This log was there from the first entry on, and there never was one.
    Never,
    /// `key`: the attestation key that it names, if that was seen, too.
    Is { key: Option<Digest>, chain: Option<Digest> },
}

/// SHA-256 of the text of the head of so many entries; `None`: it cannot be told here.
pub type DigestAt<'l> = Box<dyn Fn(u64) -> Option<Digest> + 'l>;

/// All that is compared.
pub struct LogWords<'l> {
    pub origin: String,
    pub size: u64,
    /// This start begins an epoch after one of this name, which had promised so many entries.
    pub begun: Option<(String, u64)>,
    pub chain: ChainWord,
    /// Sizes of the heads that the newest anchor and the newest chain leaf speak of.
    pub last: (Option<u64>, Option<u64>),
    pub digest_at: DigestAt<'l>,
}

impl<'l> LogWords<'l> {
    pub fn of<D: Disk>(log: &'l EvidenceLog<D>) -> Self {
        let origin = log.origin().to_owned();
        let digest_at = move |size| {
            let root = log.root_at(size)?;
            Some(Digest::of(head_text(log.origin(), size, &root).as_bytes()))
        };
        Self {
            origin,
            size: log.head().size,
            begun: log.begun().map(|begun| (begun.previous.clone(), begun.signed)),
            chain: chain_word(log),
            last: log.last_outside(),
            digest_at: Box::new(digest_at),
        }
    }
}

fn chain_word<D: Disk>(log: &EvidenceLog<D>) -> ChainWord {
    let words = log.tpm_words();
    let key = words.start.as_ref().map(|start| start.attestation_key);
    if let Some(chain) = &words.chain {
        let said = Attestation::parse(chain.certified.attested()).map(|said| said.attested);
        let Ok(Attested::Nv { contents, .. }) = said else { return ChainWord::Unknown };
        let value = <[u8; 32]>::try_from(&contents[..]).map(Digest).ok();
        return value.map_or(ChainWord::Unknown, |value| ChainWord::Is { key, chain: Some(value) });
    }
    match &words.start {
        Some(start) => ChainWord::Is { key, chain: start.chain },
        None if words.are_all && log.epoch() == Epoch::FIRST => ChainWord::Never,
        None => ChainWord::Unknown,
    }
}

impl Ledger {
    /// Compares the ledger, as it was before this start, with the log; `chain` is what the TPM has.
    pub fn compare_log(&self, words: &LogWords<'_>, chain: Option<Digest>) -> Vec<Suspicion> {
        let mut suspicions = Vec::new();
        suspicions.extend(self.compare_heads(words));
        suspicions.extend(self.compare_word(words.chain, chain));
        suspicions
    }

    fn compare_heads(&self, words: &LogWords<'_>) -> Option<Suspicion> {
        // Ledgers of earlier releases do not say whose heads they have.
        let (limit, is_same) = match (&words.begun, self.log()?) {
            (None, log) if log == words.origin => (words.size, true),
            (Some((previous, promised)), log) if log == previous => (*promised, false),
            _ => return None,
        };
        let heads = self.heads();
        let newest = heads.iter().map(|head| head.size).max()?;
        if newest > limit {
            return Some(Suspicion::Heads { known: newest, found: limit });
        }
        // Of an epoch that has ended the leaves are not all here.
        let compared = heads.iter().rev().filter(|_| is_same).take(HEADS_COMPARED_MAX);
        let other = compared
            .filter(|head| (words.digest_at)(head.size).is_some_and(|one| one != head.digest));
        other.map(|head| Suspicion::History { size: head.size }).next()
    }

    fn compare_word(&self, word: ChainWord, found: Option<Digest>) -> Option<Suspicion> {
        let said = match word {
            ChainWord::Never => None,
            ChainWord::Is { key, chain } if key.is_none_or(|key| self.is_of(&key)) => chain,
            ChainWord::Is { .. } | ChainWord::Unknown => return None,
        };
        // The leaf about the newest link may not have become durable.
        let next = self.intent().map(|head| Self::linked(said, &head));
        let is_explained = found == said || (next.is_some() && found == next);
        (!is_explained).then_some(Suspicion::Word)
    }
}
