//! What a TPM said in the log, held against its key and against the leaves themselves.

use super::trust::Trust;
use crate::checkpoint::head_text;
use crate::leaf::{Anchor, Chain, LeafBody, Statement, TRAIL_PCR, TpmStart};
use crate::tpm::{
    Attestation, Attested, TpmBytesFault, TpmClock, TpmSignature, extended, pcr_digest,
};
use guan_model::{Digest, PublicKey};

/// Why a statement of the TPM does not hold; whoever wrote the log, or its TPM, is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementFault {
    #[error("it is no statement of a TPM")]
    Bytes(#[from] TpmBytesFault),
    #[error("the attestation key did not sign it")]
    Signature,
    #[error("it is about something else")]
    Kind,
    #[error("it was made for other data than what this leaf speaks of")]
    Qualifying,
    #[error("it speaks of {size} leaves, the log has {entries} there")]
    Size { size: u64, entries: u64 },
    #[error("it covers other registers, or other values of them, than the leaf shows")]
    Registers,
    #[error("the register of heads has {found}, the heads of this log lead to {expected}")]
    Trail { found: Digest, expected: Digest },
    #[error("the digest over heads is {found}, the heads of this log lead to {expected}")]
    ChainValue { found: Digest, expected: Digest },
    #[error("it begins at {found:?} where the chain stood at {expected:?}")]
    ChainBefore { found: Option<Digest>, expected: Option<Digest> },
    #[error("the TPM was reset {found} times by then, and {expected} times when this boot began")]
    Resets { found: u32, expected: u32 },
    #[error("the TPM's clock went back from {last} ms to {found} ms within a boot")]
    ClockBack { last: u64, found: u64 },
    #[error("the place in the TPM's memory is another one than before")]
    Place,
    #[error("no TPM began this boot")]
    NoStart,
    #[error("the TPM of this box says nothing of it")]
    Missing,
}

/// One TPM in one boot.
#[derive(Debug)]
struct Boot {
    /// Digest of the attestation key, as the start names it.
    named: Digest,
    resets: u32,
    clock_ms: u64,
    /// Value of the register of heads; `None`: what led to it is not here.
    trail: Option<Digest>,
    key: Option<PublicKey>,
}

/// The register after a reset.
const NOTHING_EXTENDED: Digest = Digest([0; 32]);

/// How the attestation key of a start relates to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyChange {
    First,
    None,
    /// Another key of a TPM that states the chain of this log.
    Tied,
    Untied,
}

/// What a start says, held against what came before it. A start is signed by nobody.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) change: KeyChange,
    /// Resets that went by without a word.
    pub(super) missing: u32,
    /// The TPM had been reset so often before, which is more.
    pub(super) back_from: Option<u32>,
    /// Heads are in the register of a new boot already.
    pub(super) has_trail: bool,
}

/// Follows registers and chain through a log.
#[derive(Debug, Default)]
pub(super) struct TpmReplay {
    boot: Option<Boot>,
    /// The digest over all chained heads; `None` before anything was said of it.
    chain: Option<Option<Digest>>,
    /// What a start found in place of it: the chain leaf that explains it may follow.
    claimed: Option<(u64, Option<Digest>)>,
    place: Option<Vec<u8>>,
}

/// Size, and the roots of earlier sizes.
pub(super) type RootAt<'a> = &'a dyn Fn(u64) -> Option<Digest>;

impl TpmReplay {
    pub(super) fn handle_start(&mut self, index: u64, start: &TpmStart, trust: &Trust) -> Started {
        let change = self.change(start);
        if change == KeyChange::Untied {
            // Another TPM, or another life of it: nothing of before can be held against it.
            (self.boot, self.chain, self.claimed, self.place) = (None, None, None, None);
        }
        let key = trust.attestation_key(&start.attestation_key).cloned();
        let before = self.boot.as_ref().map(|boot| boot.resets);
        match &mut self.boot {
            Some(boot) if boot.resets == start.resets => {
                (boot.named, boot.key) = (start.attestation_key, key);
            }
            boot => {
                *boot = Some(Boot {
                    named: start.attestation_key,
                    resets: start.resets,
                    clock_ms: start.clock_ms,
                    trail: Some(start.trail),
                    key,
                });
            }
        }
        match self.chain {
            None => self.chain = Some(start.chain),
            Some(known) if known == start.chain => self.claimed = None,
            Some(_) => self.claimed = Some((index, start.chain)),
        }
        let is_new_boot = before != Some(start.resets) && change != KeyChange::First;
        Started {
            change,
            missing: before
                .map_or(0, |before| start.resets.saturating_sub(before).saturating_sub(1)),
            back_from: before.filter(|before| start.resets < *before),
            has_trail: is_new_boot && start.trail != NOTHING_EXTENDED,
        }
    }

    fn change(&self, start: &TpmStart) -> KeyChange {
        match &self.boot {
            None => KeyChange::First,
            Some(boot) if boot.named == start.attestation_key => KeyChange::None,
            // Nobody but the TPM that chained these heads could go on with them.
            Some(_) if start.chain.is_some() && self.chain == Some(start.chain) => KeyChange::Tied,
            Some(_) => KeyChange::Untied,
        }
    }

    /// A start whose chain nothing explains, once no chain leaf can follow any more.
    pub(super) fn unexplained(&self) -> Option<(u64, Option<Digest>, Option<Digest>)> {
        let (index, found) = self.claimed?;
        Some((index, found, self.chain.flatten()))
    }

    /// A statement about the head of `size` leaves.
    fn check_statement(
        &mut self,
        statement: &Statement,
        (origin, size, entries): (&str, u64, u64),
        root_at: RootAt<'_>,
    ) -> Result<(Attestation, Digest), StatementFault> {
        let root = root_at(size).ok_or(StatementFault::Size { size, entries })?;
        let head = Digest::of(head_text(origin, size, &root).as_bytes());
        Ok((self.check_signed(statement, &head)?, head))
    }

    /// Signature, qualifying data and time of a statement.
    fn check_signed(
        &mut self,
        statement: &Statement,
        about: &Digest,
    ) -> Result<Attestation, StatementFault> {
        let said = Attestation::parse(statement.attested())?;
        let signature = TpmSignature::parse(statement.signature())?;
        let boot = self.boot.as_mut().ok_or(StatementFault::NoStart)?;
        let key = boot.key.as_ref().ok_or(StatementFault::Signature)?;
        if !signature.is_by(key, statement.attested()) {
            return Err(StatementFault::Signature);
        }
        if said.extra != about.0 {
            return Err(StatementFault::Qualifying);
        }
        let TpmClock { clock_ms, resets, .. } = said.clock;
        if resets != boot.resets {
            let (found, expected) = (resets, boot.resets);
            return Err(StatementFault::Resets { found, expected });
        }
        if clock_ms < boot.clock_ms {
            let (last, found) = (boot.clock_ms, clock_ms);
            return Err(StatementFault::ClockBack { last, found });
        }
        boot.clock_ms = clock_ms;
        Ok(said)
    }

    /// A quote over the text that hands the log over to another key.
    pub(super) fn handle_rollover(
        &mut self,
        quote: Option<&Statement>,
        text: &str,
    ) -> Result<(), StatementFault> {
        let quote = quote.ok_or(StatementFault::Missing)?;
        let said = self.check_signed(quote, &Digest::of(text.as_bytes()))?;
        match said.attested {
            Attested::Quote { .. } => Ok(()),
            _ => Err(StatementFault::Kind),
        }
    }

    /// A quote over the heads of this boot.
    pub(super) fn handle_anchor(
        &mut self,
        anchor: &Anchor,
        (origin, entries): (&str, u64),
        root_at: RootAt<'_>,
    ) -> Result<(), StatementFault> {
        let trail = self.replay(anchor, origin, entries, root_at);
        let found = anchor.pcrs.get(&TRAIL_PCR).copied();
        if let (Some(boot), Some(found)) = (&mut self.boot, found) {
            // Goes on from what the TPM has, so that one gap is one fault.
            boot.trail = Some(found);
        }
        let about = (origin, anchor.size, entries);
        let (said, _) = self.check_statement(&anchor.quote, about, root_at)?;
        let Attested::Quote { selected, digest } = said.attested else {
            return Err(StatementFault::Kind);
        };
        let is_shown = selected.iter().eq(anchor.pcrs.keys());
        if !is_shown || digest != pcr_digest(&anchor.pcrs).0 {
            return Err(StatementFault::Registers);
        }
        let (found, expected) = (found.ok_or(StatementFault::Registers)?, trail?);
        match expected {
            Some(expected) if found != expected => Err(StatementFault::Trail { found, expected }),
            _ => Ok(()),
        }
    }

    /// In a log whose beginning is not here: the TPM and the boot are those that this statement names, if nothing
    /// was said of one yet and a believed key signed it.
    pub(super) fn adopt(&mut self, statement: &Statement, trust: &Trust) {
        let said = Attestation::parse(statement.attested());
        let signature = TpmSignature::parse(statement.signature());
        let (None, Ok(said), Ok(signature)) = (&self.boot, said, signature) else { return };
        let mut keys = trust.attestation_keys.iter();
        let key = keys.find(|key| signature.is_by(key, statement.attested())).cloned();
        if let Some(PublicKey::EcdsaP256(point)) = &key {
            let TpmClock { clock_ms, resets, .. } = said.clock;
            self.boot = Some(Boot { named: Digest::of(point), resets, clock_ms, trail: None, key });
        }
    }

    /// What led to the register and to the chain is not here.
    pub(super) fn forget(&mut self) {
        self.boot.iter_mut().for_each(|boot| boot.trail = None);
        (self.chain, self.claimed) = (None, None);
    }

    /// What comes after a statement that cannot be checked is measured against nothing.
    pub(super) fn pass_over(&mut self, body: &LeafBody) {
        match body {
            LeafBody::Anchor(_) => self.boot.iter_mut().for_each(|boot| boot.trail = None),
            LeafBody::Chain(_) => (self.chain, self.claimed) = (None, None),
            _ => {}
        }
    }

    fn replay(
        &self,
        anchor: &Anchor,
        origin: &str,
        entries: u64,
        root_at: RootAt<'_>,
    ) -> Result<Option<Digest>, StatementFault> {
        let boot = self.boot.as_ref().ok_or(StatementFault::NoStart)?;
        let Some(mut value) = boot.trail else { return Ok(None) };
        for size in &anchor.trail {
            let root = root_at(*size).ok_or(StatementFault::Size { size: *size, entries })?;
            let head = Digest::of(head_text(origin, *size, &root).as_bytes());
            value = extended(&value, &head);
        }
        Ok(Some(value))
    }

    /// A head that joined the digest over all boots.
    pub(super) fn handle_chain(
        &mut self,
        chain: &Chain,
        (origin, entries): (&str, u64),
        root_at: RootAt<'_>,
    ) -> Result<(), StatementFault> {
        let known = self.chain;
        let about = (origin, chain.size, entries);
        let checked = self.check_statement(&chain.certified, about, root_at);
        // Whatever is wrong with it, the next link is measured against what this one says.
        let said = Attestation::parse(chain.certified.attested())?;
        let Attested::Nv { index_name, contents, .. } = said.attested else {
            return Err(StatementFault::Kind);
        };
        let found = <[u8; 32]>::try_from(&contents[..]).map_err(|_| StatementFault::Kind)?;
        let found = Digest(found);
        self.chain = Some(Some(found));
        self.claimed = self.claimed.filter(|(_, claimed)| *claimed != Some(found));
        let (_, head) = checked?;
        let place = self.place.get_or_insert_with(|| index_name.clone());
        if *place != index_name {
            return Err(StatementFault::Place);
        }
        let expected = extended(&chain.before.unwrap_or(Digest([0; 32])), &head);
        if found != expected {
            return Err(StatementFault::ChainValue { found, expected });
        }
        match known {
            Some(expected) if expected != chain.before => {
                Err(StatementFault::ChainBefore { found: chain.before, expected })
            }
            _ => Ok(()),
        }
    }
}
