//! Shows the log to the space: its heads to the witness, its leaves to the mirror; and takes what the space
//! says of its own log. Letters only, so that data never waits for it.
//!
//! The first keys that come over the space's authenticated link are kept; others later are an alarm, and
//! what they sign is not taken.

use super::Board;
use super::mirroring::Mirroring;
use super::scribe::Scribe;
use crate::status::EvidenceStatus;
use bytes::Bytes;
use guan_evidence::witness::{ClientFault, WitnessReply};
use guan_evidence::{
    AddCheckpoint, Checkpoint, CosignatureKey, Leaf, LeafBody, VerdictOutcome, WitnessClient,
    bundle, cosigned_leaf,
};
use guan_link::driver::{LinkState, describe};
use guan_link::{GateOutcome, Letter, Topic};
use guan_log::SignedHead;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Keys of the space, one line each, as they first came.
pub const SPACE_KEYS_FILE: &str = "space-log-keys";
/// The newest head with the line of the witness; any later one takes its place.
pub const COSIGNED_FILE: &str = "cosigned-head";
/// How often the link and the heads are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// An answer that has not come by then will not come in this session.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Most leaves of one letter of receipts.
const RECEIPTS_MAX: usize = bundle::BUNDLE_LEAVES_MAX;

/// What the space signs with.
pub(super) struct SpaceKeys {
    pub(super) witness: CosignatureKey,
    mirror: CosignatureKey,
}

impl SpaceKeys {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let key = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '))?;
            CosignatureKey::parse(line).ok()
        };
        Some(Self { witness: key("witness")?, mirror: key("mirror")? })
    }
}

pub(super) struct Witnessing {
    board: Board,
    scribe: Scribe,
    out: mpsc::Sender<Letter>,
    letters: mpsc::Receiver<Letter>,
    interval: Duration,
    keys_file: PathBuf,
    cosigned_file: PathBuf,
    keys: Option<SpaceKeys>,
    /// `None` while a thread reads bundles with it.
    mirroring: Option<Mirroring>,
    ticket: u32,
    asked: Option<(u32, Instant, AddCheckpoint)>,
    /// Text of the head that was cosigned last, and when it was asked for.
    cosigned: Option<String>,
    asked_at: Option<Instant>,
    verdict: Option<GateOutcome>,
    /// The space refused: it may know less of the log's keys than what it cosigned lets us think.
    shows_all: bool,
}

impl Witnessing {
    pub(super) fn new(
        board: &Board,
        scribe: Scribe,
        (out, letters): (mpsc::Sender<Letter>, mpsc::Receiver<Letter>),
        interval: Duration,
        keys_file: PathBuf,
        mirroring: Mirroring,
    ) -> Self {
        let mut mirroring = mirroring;
        let cosigned_file = keys_file.with_file_name(COSIGNED_FILE);
        if let Ok(note) = std::fs::read_to_string(&cosigned_file) {
            mirroring.handle_cosigned(&note);
        }
        let kept = std::fs::read_to_string(&keys_file).ok();
        let keys = kept.and_then(|text| SpaceKeys::parse(&text));
        let board = board.clone();
        let (ticket, asked, cosigned, asked_at, verdict) = (0, None, None, None, None);
        Self {
            board,
            scribe,
            out,
            letters,
            interval,
            cosigned_file,
            keys_file,
            keys,
            mirroring: Some(mirroring),
            ticket,
            asked,
            cosigned,
            asked_at,
            verdict,
            shows_all: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut session = 0;
        loop {
            tokio::select! {
                letter = self.letters.recv() => match letter {
                    Some(letter) => self.take(letter).await,
                    // The link is off.
                    None => return,
                },
                _ = look.tick() => {}
            }
            self.note_verdict().await;
            let (state, sessions) = {
                let link = self.board.link.borrow();
                (link.state, link.sessions)
            };
            if sessions != session {
                // What was on its way in an earlier session may not have come.
                session = sessions;
                (self.asked, self.asked_at) = (None, None);
                self.mirroring.iter_mut().for_each(Mirroring::handle_session);
            }
            if state == LinkState::Connected && self.keys.is_some() {
                self.ask();
                self.mirror().await;
            }
        }
    }

    async fn take(&mut self, letter: Letter) {
        match letter.topic {
            Topic::LogKeys => self.take_keys(&letter.body),
            Topic::WitnessAnswer => self.take_answer(&letter).await,
            Topic::MirrorAnswer => self.take_mirrored(&letter).await,
            Topic::Received => self.take_receipts(&letter.body).await,
            other => tracing::warn!(?other, "a letter that this box does not read"),
        }
    }

    fn take_keys(&mut self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let Some(keys) = SpaceKeys::parse(&text) else {
            return self.board.alarm("the space's log keys cannot be read".to_owned());
        };
        match &self.keys {
            None => {
                if let Err(fault) = crate::upkeep::replace(&self.keys_file, text.as_bytes()) {
                    let path = self.keys_file.display();
                    return self.board.alarm(format!("{path} cannot be written: {fault}"));
                }
                self.keys = Some(keys);
            }
            Some(known) if known.witness != keys.witness || known.mirror != keys.mirror => {
                self.board.alarm(format!(
                    "the space shows other log keys than before; if it was set up anew, remove {} and start \
                     guan again",
                    self.keys_file.display()
                ));
            }
            Some(_) => {}
        }
    }

    /// Sends the newest head, if it is new and its time has come.
    fn ask(&mut self) {
        let is_waiting = self.asked.as_ref().is_some_and(|(_, at, _)| at.elapsed() < ANSWER_WAIT);
        let is_early = self.asked_at.is_some_and(|at| at.elapsed() < self.interval);
        let Some(head) = self.board.head.borrow().clone() else { return };
        if is_waiting || is_early || self.cosigned.as_ref() == Some(&head.text) {
            return;
        }
        let SignedHead { text, cosigned, consistency, .. } = head;
        let request = AddCheckpoint { old_size: cosigned, proof: consistency, checkpoint: text };
        let Some(body) = self.letter(&request) else { return };
        self.ticket = self.ticket.wrapping_add(1);
        let letter = Letter { topic: Topic::Witness, ticket: self.ticket, body };
        if self.out.try_send(letter).is_ok() {
            let now = Instant::now();
            (self.asked, self.asked_at) = (Some((self.ticket, now, request)), Some(now));
        }
    }

    /// The request, and the key that signed its head, with those before it where there are some: the witness may
    /// know the log by one of them.
    fn letter(&self, request: &AddCheckpoint) -> Option<Bytes> {
        let head = Checkpoint::parse_unverified(&request.checkpoint).ok()?;
        let keys = self.board.keys.borrow();
        let lineage = &keys.as_ref()?.lineage;
        let key = lineage.at(&head.origin, head.size).of_epoch(&head.origin);
        let cosigned = if self.shows_all { 0 } else { request.old_size };
        let shown = lineage.shown(&head.origin, cosigned);
        let before = match shown.steps().is_empty() {
            true => String::new(),
            false => shown.to_string(),
        };
        Some(Bytes::from(format!("{key}\n{before}{request}")))
    }

    async fn take_answer(&mut self, letter: &Letter) {
        let Some((_, _, request)) = self.asked.take_if(|(ticket, ..)| *ticket == letter.ticket)
        else {
            return;
        };
        let Some(keys) = &self.keys else { return };
        let Some((status, body)) = letter.body.split_first_chunk::<2>() else { return };
        let body = String::from_utf8_lossy(body);
        let mut client = WitnessClient::new(keys.witness.clone(), request.old_size);
        match client.take(&request, u16::from_be_bytes(*status), &body) {
            Ok(WitnessReply::Cosigned { note, .. }) => {
                let size = client.cosigned();
                let leaf = cosigned_leaf(&keys.witness, &note, size);
                let leaf = leaf.expect("the client has verified the line");
                let at_s = leaf.timestamp_s;
                self.shows_all = false;
                self.mirroring.iter_mut().for_each(|one| one.handle_cosigned(&note));
                if let Err(fault) = crate::upkeep::replace(&self.cosigned_file, &note) {
                    let path = self.cosigned_file.display();
                    self.board.alarm(format!("{path} cannot be written: {fault}"));
                }
                if self.scribe.note(LeafBody::Cosigned(leaf)).await {
                    self.tell(|status| status.cosigned = Some((size, at_s)));
                    self.cosigned = Some(request.checkpoint);
                }
            }
            Ok(WitnessReply::Again { size }) => {
                // The next head comes with a proof from there.
                self.asked_at = None;
                self.scribe.witness_at(size).await;
            }
            Err(fault) => self.handle_refusal(&fault),
        }
    }

    fn handle_refusal(&mut self, fault: &ClientFault) {
        self.shows_all = true;
        let text = format!("the space does not cosign the log: {}", describe(fault));
        match fault {
            ClientFault::RolledBack { .. } | ClientFault::Inconsistent { .. } => {
                self.board.suspect(text);
            }
            _ => self.board.alarm(text),
        }
    }

    async fn mirror(&mut self) {
        let Some((size, _)) = self.board.evidence.borrow().cosigned else { return };
        let Some(mut mirroring) = self.mirroring.take() else { return };
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        // Bundles are read from the disk.
        let made = tokio::task::spawn_blocking(move || {
            let letter = mirroring.next_letter(size, ticket);
            (mirroring, letter)
        });
        let Ok((mut mirroring, letter)) = made.await else { return };
        match letter {
            Ok(Some(letter)) => match self.out.try_send(letter) {
                Ok(()) => {}
                Err(_) => mirroring.handle_unsent(),
            },
            Ok(None) => {}
            Err(fault) => {
                self.board.alarm(format!("the log is not mirrored: {}", describe(&fault)));
            }
        }
        self.mirroring = Some(mirroring);
    }

    async fn take_mirrored(&mut self, letter: &Letter) {
        let (Some(mirroring), Some(keys)) = (&mut self.mirroring, &self.keys) else { return };
        match mirroring.handle_answer(letter, &keys.mirror) {
            Ok(Some(size)) => {
                self.tell(|status| status.mirrored = Some(size));
                self.scribe.mirrored(size).await;
            }
            Ok(None) => {}
            Err(fault) => self.board.alarm(format!("the log is not mirrored: {fault}")),
        }
    }

    async fn take_receipts(&self, body: &[u8]) {
        let (bodies, is_whole) = receipts_in(body);
        if !is_whole {
            self.board.alarm("the space's receipts cannot be read".to_owned());
        }
        if !bodies.is_empty() {
            self.scribe.note_all(bodies).await;
        }
    }

    /// A verdict is worth a leaf when it is another one than before.
    async fn note_verdict(&mut self) {
        let verdict = *self.board.verdict.borrow();
        let Some((outcome, document)) = verdict else { return };
        if self.verdict == Some(outcome) {
            return;
        }
        self.verdict = Some(outcome);
        let outcome = match outcome {
            GateOutcome::Allow => VerdictOutcome::Allow,
            GateOutcome::Restrict => VerdictOutcome::Restrict,
            GateOutcome::Refuse => VerdictOutcome::Refuse,
        };
        self.scribe.note(LeafBody::Verdict { outcome, document }).await;
    }

    fn tell(&self, change: impl FnOnce(&mut EvidenceStatus)) {
        self.board.evidence.send_modify(change);
    }
}

/// What the space's log says of this box's batches, as far as it can be read; and whether all of it can.
pub(super) fn receipts_in(body: &[u8]) -> (Vec<LeafBody>, bool) {
    let Ok(leaves) = bundle::decode(body) else { return (Vec::new(), false) };
    let (mut bodies, mut is_whole) = (Vec::new(), true);
    for leaf in leaves.into_iter().take(RECEIPTS_MAX) {
        match Leaf::decode(leaf) {
            Ok(Leaf { body: body @ LeafBody::Forwarded(_), .. }) => bodies.push(body),
            Ok(_) | Err(_) => is_whole = false,
        }
    }
    (bodies, is_whole)
}
