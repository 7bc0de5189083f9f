//! The real link of box and space over a modelled line, with a spool and a store in memory.

use crate::ends::{Pair, SPACE, Tls};
use crate::model::{Counts, Shape};
use bytes::Bytes;
use guan_link::driver::{
    Admit, Appraisal, Appraise, Attest, BatchSource, Bound, BoxInputs, BoxLink, BoxOutputs, Inbox,
    InboxFault, LinkStatus, LinkTuning, Paths, Peers, Permit, Proof, ReadFault, Receipt, Refusal,
    Released, SpaceLink, Underway,
};
use guan_link::frame::Question;
use guan_link::text::{CheckpointText, ReportJson};
use guan_link::{Cursor, EncodedBatch, GateOutcome, Item, LETTERS_MAX, Letter, Offer, StreamRange};
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest, SpoolId, StreamId};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const SPOOL: SpoolId = SpoolId([7; 16]);
/// Sizes of what a box with a TPM shows and gets: measured by `cargo bench -p guan-tests --bench identity`, and
/// of verdicts and rosters on disk.
const EVIDENCE_BYTES: usize = 875;
const VERDICT_BYTES: usize = 700;
const ROSTER_BYTES: usize = 400;

/// When each batch was committed, and how long it is; by stream.
type Spooled = BTreeMap<StreamId, Vec<(Instant, usize)>>;
/// How long each batch took from its commit to the store.
type Stored = BTreeMap<StreamId, Vec<Duration>>;

#[derive(Clone, Default)]
struct Shared {
    spooled: Arc<Mutex<Spooled>>,
    stored: Arc<Mutex<Stored>>,
    connections: Arc<Mutex<u64>>,
}

struct Source {
    shared: Shared,
    released: watch::Receiver<Released>,
}

impl BatchSource for Source {
    fn spool(&self) -> SpoolId {
        SPOOL
    }

    fn streams(&mut self) -> Result<Vec<StreamRange>, ReadFault> {
        let (spooled, released) = (self.shared.spooled.lock().unwrap(), self.released.borrow());
        let range = |(id, batches): (&StreamId, &Vec<_>)| StreamRange {
            id: *id,
            oldest_unreleased: released.get(id).copied().unwrap_or(BatchSeq::ZERO).next(),
            newest: BatchSeq(batches.len() as u64),
        };
        Ok(spooled.iter().map(range).collect())
    }

    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        Ok(vec![Bytes::from(vec![1; 300])])
    }

    fn next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, ReadFault> {
        let spooled = self.shared.spooled.lock().unwrap();
        let index = usize::try_from(after.0).unwrap();
        let Some((_, length)) = spooled[&stream].get(index) else { return Ok(None) };
        let bytes = Bytes::from(vec![1; *length]);
        Ok(Some(Item::Batch(EncodedBatch {
            seq: after.next(),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse("c").unwrap(),
            rows: 1,
            digest: Digest::of(&bytes),
            bytes,
        })))
    }
}

impl Inbox for Shared {
    async fn cursors(&self, _: &BoxId, offer: &Offer) -> Result<Vec<Cursor>, InboxFault> {
        *self.connections.lock().unwrap() += 1;
        let stored = self.stored.lock().unwrap();
        let through = |id: &StreamId| BatchSeq(stored.get(id).map_or(0, |all| all.len() as u64));
        let cursor = |range: &StreamRange| Cursor { stream: range.id, through: through(&range.id) };
        Ok(offer.streams().iter().map(cursor).collect())
    }

    async fn describe(&self, _: &BoxId, _: Bytes) -> Result<Result<(), String>, InboxFault> {
        Ok(Ok(()))
    }

    async fn checkpoint(
        &self,
        _: &BoxId,
        _: CheckpointText,
    ) -> Result<Result<u64, String>, InboxFault> {
        Ok(Ok(9))
    }

    fn roster(&self, _: &BoxId) -> Bytes {
        Bytes::from(vec![2; ROSTER_BYTES])
    }

    fn report(&self, _: &BoxId, _: ReportJson) {}

    async fn store(
        &self,
        _: &BoxId,
        _: SpoolId,
        stream: StreamId,
        item: Item,
        receipt: Receipt,
    ) -> Result<Result<(), Refusal>, InboxFault> {
        let index = usize::try_from(item.from().0 - 1).unwrap();
        let took = self.spooled.lock().unwrap()[&stream][index].0.elapsed();
        let mut stored = self.stored.lock().unwrap();
        let times = stored.entry(stream).or_default();
        assert_eq!(times.len(), index, "no holes, nothing twice");
        times.push(took);
        receipt.durable();
        Ok(Ok(()))
    }
}

#[derive(Clone)]
struct Everyone;

impl Admit for Everyone {
    async fn admit(&self, _: Vec<CertificateDer<'static>>) -> Result<BoxId, String> {
        Ok(BoxId::parse("box-1").unwrap())
    }
}

/// Evidence and verdicts of the usual size, and no more.
struct Proven;

impl Attest for Proven {
    fn attest(&self, _: Bound, _: Question) -> Underway<Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(Bytes::from(vec![3; EVIDENCE_BYTES]))))
    }

    fn verdict(&self, _: GateOutcome, _: Bytes) {}
}

impl Appraise for Proven {
    fn must_prove(&self, _: &CertificateDer<'_>) -> bool {
        true
    }

    fn question(&self, _: BoxId) -> Underway<Question> {
        let nothing = Digest([0; 32]);
        let question =
            Question { nonce: [7; 32], ima_start: 0, ima_value: nothing, boot_log: nothing };
        Box::pin(std::future::ready(question))
    }

    fn appraise(&self, _: Proof) -> Underway<Appraisal> {
        let (text, document) = (String::new(), Bytes::from(vec![4; VERDICT_BYTES]));
        let (outcome, holds_for) = (GateOutcome::Allow, Duration::from_secs(900));
        Box::pin(std::future::ready(Appraisal { outcome, holds_for, text, document }))
    }
}

/// Box and space that run.
pub struct Running {
    pair: Pair,
    shared: Shared,
    committed: watch::Sender<u64>,
    pub permit: watch::Sender<Permit>,
    pub report: watch::Sender<Option<ReportJson>>,
    pub status: watch::Receiver<LinkStatus>,
    /// Dropping them stops both ends.
    _kept: Kept,
}

struct Kept {
    _box_stop: watch::Sender<bool>,
    _space_stop: watch::Sender<bool>,
    _checkpoint: watch::Sender<Option<CheckpointText>>,
    _wanted: watch::Sender<Vec<Digest>>,
    _letters: mpsc::Sender<Letter>,
}

impl Running {
    /// Starts both with what is spooled already, as lengths by stream. `is_proven`: with attestation.
    pub fn start(
        tls: &Tls,
        tuning: LinkTuning,
        shape: Shape,
        spooled: &[(StreamId, Vec<usize>)],
        is_proven: bool,
    ) -> Self {
        Self::start_capped(tls, tuning, shape, spooled, is_proven, None)
    }

    /// As [`start`](Self::start), with a cap on what the box sends.
    pub fn start_capped(
        tls: &Tls,
        tuning: LinkTuning,
        shape: Shape,
        spooled: &[(StreamId, Vec<usize>)],
        is_proven: bool,
        rate_bytes_per_s_max: Option<u64>,
    ) -> Self {
        let pair = Pair::new(tls, tuning, shape, 5);
        let shared = Shared::default();
        let now = Instant::now();
        let with_time = |lengths: &Vec<usize>| lengths.iter().map(|one| (now, *one)).collect();
        *shared.spooled.lock().unwrap() =
            spooled.iter().map(|(stream, lengths)| (*stream, with_time(lengths))).collect();
        let (space_stop, stopping) = watch::channel(false);
        let space = SpaceLink {
            tcp: None,
            endpoint: pair.space_end.clone(),
            inbox: shared.clone(),
            admit: Everyone,
            appraise: is_proven.then(|| Arc::new(Proven) as Arc<dyn Appraise>),
            peers_max: 4,
            peers: watch::Sender::new(Peers::new()),
            stop: stopping,
        };
        tokio::spawn(space.run());
        let (released_out, released) = watch::channel(Released::new());
        let (committed, commits) = watch::channel(0);
        let (checkpoint, checkpoints) = watch::channel(None);
        let (report, reports) = watch::channel(None);
        let (wanted, wants) = watch::channel(Vec::new());
        let (letters, letters_in) = mpsc::channel(LETTERS_MAX);
        let (permit, permits) = watch::channel(Permit::Open);
        let (box_stop, stop) = watch::channel(false);
        let (events, mut events_in) = mpsc::channel(64);
        let (status_out, status) = watch::channel(LinkStatus::default());
        let client = pair.client.clone();
        let link = BoxLink {
            endpoint: pair.box_end.clone(),
            credentials: Box::new(move || client.clone().into()),
            locate: vec![SPACE],
            paths: Paths::default(),
            server_name: "space".to_owned(),
            source: Source { shared: shared.clone(), released },
            inputs: BoxInputs {
                committed: commits,
                checkpoint: checkpoints,
                report: reports,
                wanted: wants,
                letters: letters_in,
                permit: permits,
                stop,
            },
            outputs: BoxOutputs { released: released_out, events, status: status_out },
            attest: is_proven.then(|| Arc::new(Proven) as Arc<dyn Attest>),
            backlog_percent: guan_link::sender::BACKLOG_PERCENT,
            rate_bytes_per_s_max,
            random: Box::new(|| 0),
        };
        tokio::spawn(link.run());
        tokio::spawn(async move { while events_in.recv().await.is_some() {} });
        let kept = Kept {
            _box_stop: box_stop,
            _space_stop: space_stop,
            _checkpoint: checkpoint,
            _wanted: wanted,
            _letters: letters,
        };
        Self { pair, shared, committed, permit, report, status, _kept: kept }
    }

    pub fn commit(&self, stream: StreamId, length: usize) {
        let mut spooled = self.shared.spooled.lock().unwrap();
        spooled.get_mut(&stream).unwrap().push((Instant::now(), length));
        self.committed.send_modify(|count| *count += 1);
    }

    pub fn stored(&self, stream: StreamId) -> Vec<Duration> {
        self.shared.stored.lock().unwrap().get(&stream).cloned().unwrap_or_default()
    }

    /// Sessions that came as far as the hello.
    pub fn connections(&self) -> u64 {
        *self.shared.connections.lock().unwrap()
    }

    /// Bytes on the line in both directions, IP headers included.
    pub fn line_bytes(&self) -> u64 {
        let (up, down): (Counts, Counts) = self.pair.net.counts();
        up.offered_bytes + down.offered_bytes
    }
}
