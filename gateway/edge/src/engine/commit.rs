//! One group commit: rows to batches, decisions, leaves and session deltas, then one fdatasync.

use super::pending::{Answer, take_batch};
use super::{Effect, Engine, EngineError, Note, Publication, Refusal};
use crate::lanes::Lane;
use crate::leaving::Envelope;
use guan_codec::encode;
use guan_evidence::{BatchAccepted, DecisionSummary, Denial, LeafBody};
use guan_model::{Batch, BatchHeader, ContractId, DatasetId, Digest, Now, Row, RuleId};
use guan_policy::{Decision, Means, Permitted};
use guan_spool::{BatchMeta, Disk, PushError, SpoolError};
use std::collections::BTreeMap;
use std::ops::Range;

/// Why a commit was undone, and what can be done about it.
pub(super) enum Undone {
    /// The stream takes no more of a dataset: its publications are refused, the others are tried
    /// again.
    Full(DatasetId, String),
    /// Nothing fits on the disk.
    DiskFull,
}

impl<D: Disk, T> Engine<D, T> {
    /// Makes everything that waits durable, or answers why not.
    pub(super) fn commit(&mut self, now: Now) -> Result<(), EngineError> {
        loop {
            match self.try_commit(&now)? {
                Ok(()) => return self.handle_committed(&now),
                Err(Undone::Full(_, reason)) if self.ends_windows() => {
                    self.postpone_windows(&reason)
                }
                Err(Undone::Full(dataset, reason)) => self.refuse_dataset(&dataset, &reason),
                Err(Undone::DiskFull) => {
                    self.refuse_all();
                    return Ok(());
                }
            }
        }
    }

    /// Commits what is staged together with the notes from `noted` on, which tell of it. Where the disk is full
    /// both are undone, and `false` says that it is to be tried again.
    pub(super) fn commit_with(&mut self, now: Now, noted: usize) -> Result<bool, EngineError> {
        let before = self.counters.commits;
        self.commit(now)?;
        let is_done = self.counters.commits > before;
        if !is_done {
            self.notes.truncate(noted);
        }
        Ok(is_done)
    }

    /// The outer error stops the process, the inner one was undone.
    pub(super) fn try_commit(&mut self, now: &Now) -> Result<Result<(), Undone>, EngineError> {
        let staged = match self.stage(now) {
            Ok(Ok(())) => self.spool.commit().map_err(EngineError::Spool).map(Ok),
            undone => undone,
        };
        let undone = match staged {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(undone)) => undone,
            Err(EngineError::Spool(fault)) if fault.is_no_space() => Undone::DiskFull,
            Err(fault) => return Err(fault),
        };
        self.spool.rollback();
        self.evidence.rollback();
        self.memory.rollback_decisions();
        Ok(Err(undone))
    }

    fn stage(&mut self, now: &Now) -> Result<Result<(), Undone>, EngineError> {
        self.staged_counters = self.counters.clone();
        self.occasions.clear();
        self.kept.clear();
        for Note { at, actor, body } in self.notes.clone() {
            self.append_leaf_of(&at, actor, body)?;
        }
        for (publications, heard) in self.look_around(now) {
            self.door.set_situation(|situation| heard.describe(now.monotonic, situation));
            if let Err(undone) = self.stage_publications(now, publications)? {
                return Ok(Err(undone));
            }
        }
        if self.ends_windows() {
            let ended = self.results(now);
            self.note_ended(now, &ended)?;
            self.notice_results(&ended);
            for result in ended.permitted {
                let dataset = result.batch.header.dataset.clone();
                if let Err(undone) = self.stage_permitted(now, &dataset, result)? {
                    return Ok(Err(undone));
                }
            }
        }
        self.push_memory()?;
        Ok(Ok(()))
    }

    /// Decides on publications that came one after the other.
    fn stage_publications(
        &mut self,
        now: &Now,
        publications: Range<usize>,
    ) -> Result<Result<(), Undone>, EngineError> {
        for (dataset, mut rows) in self.pending.rows_by_dataset(&self.descriptors, publications) {
            while !rows.is_empty() {
                let chunk = take_batch(&mut rows, self.config.rows_max);
                if let Err(undone) = self.stage_batch(now, &dataset, chunk)? {
                    return Ok(Err(undone));
                }
            }
        }
        Ok(Ok(()))
    }

    fn ends_windows(&self) -> bool {
        self.windows_due || self.hand_over.is_some()
    }

    /// Stages what sessions and decisions have changed.
    pub(super) fn push_memory(&mut self) -> Result<(), EngineError> {
        let delta = self.memory.delta();
        if !delta.is_empty() {
            self.spool.push_session(&delta)?;
        }
        Ok(())
    }

    /// The header of a batch that is made now.
    pub(super) fn header(&self, now: &Now, dataset: &DatasetId) -> BatchHeader {
        BatchHeader {
            dataset: dataset.clone(),
            contract: None,
            descriptors: self.descriptors.digest(),
            boot: self.config.boot,
            monotonic: now.monotonic,
            clock_quality: now.quality,
        }
    }

    /// Decides on one batch and stages what may leave, with the leaves that say so.
    fn stage_batch(
        &mut self,
        now: &Now,
        dataset: &DatasetId,
        rows: Vec<Row>,
    ) -> Result<Result<(), Undone>, EngineError> {
        let batch = Batch::from_rows(self.header(now, dataset), rows)
            .expect("decoders keep value lengths, rows_max keeps the row limit");
        let rows_in = batch.rows() as u64;
        let decision = self.decide(now, batch);
        self.append_leaf(now, LeafBody::Decision(self.summarize(dataset, &decision)))?;
        self.count(dataset, rows_in, &decision);
        self.notice(&decision);
        for permitted in decision.permitted {
            if let Err(undone) = self.stage_permitted(now, dataset, permitted)? {
                return Ok(Err(undone));
            }
        }
        Ok(Ok(()))
    }

    fn decide(&mut self, now: &Now, batch: Batch) -> Decision {
        let situation = self.door.situation(*now);
        let (plan, vault) = (self.plan.clone(), self.vault.clone());
        let key = |id: &ContractId| vault.pseudonym_key(&plan.contract(id)?.digest);
        let mut means = Means {
            usage: &mut self.memory.usage,
            entropy: &mut self.entropy,
            pseudonym_key: &key,
            boot: self.config.boot,
        };
        self.plan.decide(&situation, &mut means, batch)
    }

    /// Stages one batch that may leave, in the lane of its terms and under its contract's key.
    pub(super) fn stage_permitted(
        &mut self,
        now: &Now,
        dataset: &DatasetId,
        permitted: Permitted,
    ) -> Result<Result<(), Undone>, EngineError> {
        let contract = permitted.contract_digest;
        let (class, lane) = (self.config.streams[dataset].class(), self.lane_of(&permitted));
        let stream = match self.stream_for(class, &lane, &permitted) {
            Ok(stream) => stream,
            Err(full) => return Ok(Err(Undone::Full(dataset.clone(), full.to_string()))),
        };
        let encoded = encode(&permitted.batch);
        let sealed = self.vault.seal(&contract, &encoded.bytes)?;
        let envelope = Envelope { contract, terms: permitted.terms.encode() };
        let meta = BatchMeta {
            dataset: dataset.clone(),
            contract: permitted.contract.clone(),
            rows: encoded.rows,
            digest: encoded.digest,
            terms: envelope.encode(),
        };
        let seq = match self.spool.push_batch(stream, now.wall, &meta, &sealed) {
            Ok(seq) => seq,
            Err(PushError::Full(full)) => {
                return Ok(Err(Undone::Full(dataset.clone(), full.to_string())));
            }
            Err(PushError::Spool(full @ SpoolError::Lanes)) => {
                return Ok(Err(Undone::Full(dataset.clone(), full.to_string())));
            }
            Err(PushError::Spool(fault)) => return Err(fault.into()),
        };
        if !permitted.terms.is_delayed() {
            self.kept.insert(stream);
        }
        let counters = self.staged_counters.datasets.entry(dataset.clone()).or_default();
        counters.batch_bytes += encoded.bytes.len() as u64;
        self.staged_counters.batches += 1;
        let accepted = BatchAccepted {
            dataset: dataset.clone(),
            contract: permitted.contract,
            contract_digest: contract,
            plan: self.plan.digest(),
            batch: encoded.digest,
            rows: u64::from(encoded.rows),
            stream,
            seq,
            permission: RuleId::parse(permitted.terms.permission()),
        };
        self.append_leaf(now, LeafBody::Batch(accepted))?;
        Ok(Ok(()))
    }

    fn lane_of(&self, permitted: &Permitted) -> Lane {
        let in_force = self.plan.contract(&permitted.contract);
        let in_force = in_force.expect("the plan permits under contracts in force only");
        Lane {
            contract: in_force.contract.clone(),
            version: in_force.version,
            digest: in_force.digest,
            conditions: permitted.terms.conditions(),
            not_before: in_force.not_before,
            not_after: in_force.not_after,
            lease: in_force.lease,
        }
    }

    fn summarize(&self, dataset: &DatasetId, decision: &Decision) -> DecisionSummary {
        let mut denied = BTreeMap::new();
        for refusal in &decision.refused {
            let reason = Denial::from_code(refusal.reason.code());
            let reason = reason.expect("both enums number the same reasons");
            *denied.entry(reason).or_insert(0) += refusal.rows;
        }
        DecisionSummary {
            dataset: dataset.clone(),
            plan: self.plan.digest(),
            permitted: decision.permitted_rows(),
            masked: decision.masked_rows(),
            denied,
        }
    }

    fn count(&mut self, dataset: &DatasetId, rows_in: u64, decision: &Decision) {
        let (refused, masked) = (decision.refused_rows(), decision.masked_rows());
        let counters = &mut self.staged_counters;
        counters.rows_permitted += rows_in - refused;
        counters.rows_masked += masked;
        counters.rows_refused += refused;
        let counters = counters.datasets.entry(dataset.clone()).or_default();
        counters.rows_in += rows_in;
        counters.rows_permitted += rows_in - refused;
        counters.rows_refused += refused;
    }

    pub(super) fn append_leaf(&mut self, now: &Now, body: LeafBody) -> Result<(), EngineError> {
        self.append_leaf_of(now, None, body)
    }

    fn append_leaf_of(
        &mut self,
        now: &Now,
        actor: Option<Digest>,
        body: LeafBody,
    ) -> Result<(), EngineError> {
        let (place, bytes) = self.evidence.append_of(now, self.config.boot, actor, body);
        self.spool.push_leaf(place, &bytes)?;
        Ok(())
    }

    fn handle_committed(&mut self, now: &Now) -> Result<(), EngineError> {
        self.counters = self.staged_counters.clone();
        self.counters.commits += 1;
        self.committed_at = now.monotonic;
        self.handle_kept(now);
        self.heard = self.staged_heard.clone();
        self.tell(now);
        self.settle_notes();
        self.windows_due = false;
        self.evidence.handle_committed();
        let lanes_changed = self.memory.lanes.is_dirty();
        self.memory.handle_committed();
        if self.spool.wants_session_snapshot() {
            self.spool.set_session_snapshot(self.memory.snapshot());
        }
        if lanes_changed {
            self.show_lanes();
            self.retain_sides();
        }
        let (publications, answers) = self.pending.take_all();
        for publication in publications {
            publication.rows.iter().for_each(|row| self.quality.observe(row));
            self.effects.push_back(Effect::Durable(publication.token));
        }
        for answer in answers {
            self.effects.push_back(match answer {
                Answer::Durable(token) => Effect::Durable(token),
                Answer::Session { client, present, token } => {
                    let held = self.memory.sessions.held_ids(&client);
                    Effect::SessionReady { token, present, held }
                }
            });
        }
        self.effects.push_back(Effect::Committed(*now));
        for gap in self.spool.take_gaps() {
            self.note_gap(*now, None, &gap);
            self.tell_gap(&gap);
        }
        match self.evidence.seal() {
            Ok(Some(sealed)) => self.spool.handle_leaves_sealed(sealed),
            Ok(None) => {}
            // The leaves stay in the journal, and are sealed with the next commit.
            Err(fault) => self.handle_full_log(fault)?,
        }
        Ok(())
    }

    fn refuse_dataset(&mut self, dataset: &DatasetId, reason: &str) {
        for publication in self.pending.take_of_dataset(dataset, &self.descriptors) {
            self.refuse_publication(publication, Refusal::Full(reason.to_owned()));
        }
    }

    fn refuse_all(&mut self) {
        self.memory.sessions.rollback();
        let (publications, answers) = self.pending.take_all();
        for publication in publications {
            self.heard.doubt(&publication.rows);
            self.refuse(publication.token, Refusal::DiskFull);
        }
        for answer in answers {
            let (Answer::Durable(token) | Answer::Session { token, .. }) = answer;
            self.refuse(token, Refusal::DiskFull);
        }
    }

    pub(super) fn refuse_publication(&mut self, publication: Publication<T>, refusal: Refusal) {
        self.heard.doubt(&publication.rows);
        // The client will send it again, so its packet id must not count as received.
        if let Some((client, id)) = &publication.held {
            self.memory.sessions.release(client, *id);
        }
        self.refuse(publication.token, refusal);
    }

    pub(super) fn refuse(&mut self, token: T, refusal: Refusal) {
        self.counters.publications_refused += 1;
        self.effects.push_back(Effect::Refused(token, refusal));
    }
}
