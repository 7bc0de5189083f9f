//! What others say of the log: anchors, cosignatures, the mirror. Their words become leaves here, and what
//! the mirror has may leave the disk.

use super::{Effect, Engine, EngineError, KeyRolled, NextKey, OnLogFull};
use guan_evidence::{KeyRollover, Leaf, LeafBody, Prune, Statement};
use guan_log::EvidenceLogError;
use guan_model::{Digest, Now, PublicKey};
use guan_spool::Disk;

impl<D: Disk, T> Engine<D, T> {
    /// Words from outside are durable before anything builds on them.
    pub(super) fn handle_notes(
        &mut self,
        now: Now,
        actor: Option<Digest>,
        bodies: Vec<LeafBody>,
        ticket: u64,
    ) -> Result<(), EngineError> {
        for body in bodies {
            match &body {
                LeafBody::Cosigned(cosigned) => self.evidence.set_cosigned(cosigned.size),
                // A receipt for what was never sent is none.
                LeafBody::Forwarded(one) if one.through > self.spool.newest(one.stream) => {
                    let text = format!(
                        "the space says that it received batch {} of stream {}, which this box never had; \
                         ask its operator",
                        one.through, one.stream
                    );
                    self.effects.push_back(Effect::Alarm(text));
                    continue;
                }
                _ => {}
            }
            self.note_of(now, actor, body);
        }
        self.ticket = Some(ticket);
        self.commit(now)
    }

    /// The key that signs hands over to the next one, in a leaf of its own, and the next one signs at once: its
    /// head proves that somebody has it.
    pub(super) fn roll_key(
        &mut self,
        now: Now,
        NextKey(signer): NextKey,
        actor: Option<Digest>,
        quote: Option<Statement>,
    ) -> Result<(), EngineError> {
        self.commit(now)?;
        if !self.notes.is_empty() {
            // A commit leaves notes about what it found; they stand before the leaf, whose place is signed.
            self.commit(now)?;
        }
        let PublicKey::Ed25519(key) = signer.public_key() else {
            unreachable!("keys of logs are of Ed25519");
        };
        if !self.notes.is_empty() {
            self.effects.push_back(Effect::KeyRolled(None));
            return Ok(());
        }
        let index = self.evidence.head().size;
        let by_old = self.evidence.hand_over(&key)?;
        let body = LeafBody::KeyRollover(KeyRollover { key, by_old, quote });
        let leaf = Leaf { actor, ..Leaf::new(&now, index, self.config.boot, body.clone()) };
        let leaf = leaf.encode();
        self.note_of(now, actor, body);
        if !self.commit_with(now, 0)? {
            self.effects.push_back(Effect::KeyRolled(None));
            return Ok(());
        }
        self.evidence.set_signer(signer);
        let origin = self.evidence.origin().to_owned();
        self.effects.push_back(Effect::KeyRolled(Some(KeyRolled { origin, leaf })));
        self.sign_head(now)
    }

    /// Signs the durable head. On a full disk it stays unsigned until there is room.
    pub(super) fn sign_head(&mut self, now: Now) -> Result<(), EngineError> {
        match self.evidence.sign_checkpoint(&now) {
            Ok(head) => {
                self.effects.push_back(Effect::Checkpoint(head));
                Ok(())
            }
            Err(fault) => self.handle_full_log(fault),
        }
    }

    /// Whether there is room again: for what waits to be sealed, and for a head, whatever there is to sign.
    pub(super) fn try_full_log(&mut self, now: Now) -> Result<(), EngineError> {
        match self.evidence.seal() {
            Ok(Some(sealed)) => self.spool.handle_leaves_sealed(sealed),
            Ok(None) => {}
            Err(fault) => return self.handle_full_log(fault),
        }
        match self.evidence.sign_checkpoint(&now) {
            Ok(head) => {
                self.is_log_full = false;
                self.effects.push_back(Effect::Checkpoint(head));
                Ok(())
            }
            Err(fault) => self.handle_full_log(fault),
        }
    }

    /// A log that finds no room waits; any other fault ends the program.
    pub(super) fn handle_full_log(&mut self, fault: EvidenceLogError) -> Result<(), EngineError> {
        if !fault.is_no_space() {
            return Err(fault.into());
        }
        if !std::mem::replace(&mut self.is_log_full, true) {
            let then = match self.config.on_log_full {
                OnLogFull::StopCollecting => "no message is taken until there is room",
                OnLogFull::Continue => {
                    "messages are taken, and nothing vouches for them until there is room"
                }
            };
            let text = format!(
                "the disk has no room for the evidence log; {then}: free space in box.state_dir"
            );
            self.effects.push_back(Effect::Alarm(text));
        }
        Ok(())
    }

    /// Called when the notes are durable.
    pub(super) fn settle_notes(&mut self) {
        self.notes.clear();
        self.effects.extend(self.ticket.take().map(Effect::Noted));
    }

    /// Drops the oldest leaves that the mirror has, once the log is larger than it may be.
    pub(super) fn handle_mirrored(&mut self, now: Now, mirrored: u64) -> Result<(), EngineError> {
        self.mirrored = self.mirrored.max(mirrored);
        self.prune_if_large(now)
    }

    pub(super) fn prune_if_large(&mut self, now: Now) -> Result<(), EngineError> {
        let kept_max = self.config.log_bytes_max;
        let outside = self.mirrored.min(self.evidence.cosigned());
        let Some(first) = self.evidence.prunable(kept_max, outside)? else { return Ok(()) };
        let before = self.evidence.first()?;
        let Some(root) = self.evidence.root_at(first) else { return Ok(()) };
        // The leaf is durable before the leaves go: what is missing is always accounted for.
        let noted = self.notes.len();
        self.note(now, LeafBody::Prune(Prune { before, first, root }));
        if self.commit_with(now, noted)? {
            self.evidence.prune(first)?;
        }
        Ok(())
    }
}
