//! The space's end of negotiations: it is the consumer's, and asks boxes for contracts.
//!
//! Catalogues of boxes come the same way, as letters. A proposal is made by a person; verifying its unchanged agreement with the consumer's key needs none.
//! A contract that is finalized goes into the box's set at once, which brings it in force.

use crate::catalogues::{Accepted, Catalogues};
use crate::logs::mirrors::{AskLetter, MirrorLetter};
use crate::parties::{PartyKeys, Strangers};
use crate::sets::{SetFault, Sets};
use bytes::Bytes;
use guan_catalogue::catalogue::CATALOGUE_BYTES_MAX;
use guan_codec::unpack_document;
use guan_link::driver::describe;
use guan_link::{LETTERS_MAX, Letter, Topic};
use guan_model::{BoxId, ClockQuality, Now, Signer, WallTime};
use guan_negotiation::{Conduct, Desk, Ledger, LedgerFault, Parcel};
use guan_policy::negotiation::{CommandFault, MessageError, Negotiation, Role, Signatures, State};
use guan_policy::{Contract, sign};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Folder in `space.state_dir`, with one folder a box.
pub const NEGOTIATIONS_DIR: &str = "negotiations";
const CALLBACK: &str = "urn:guankou:link:space";
/// Most letters of boxes that wait to be read.
const RECEIVED_MAX: usize = 64;
/// The same for letters about logs, which are long.
const LOG_LETTERS_MAX: usize = 16;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where the negotiations with a box are kept.
pub fn ledger(state_dir: &Path, box_id: &BoxId) -> Ledger {
    let folder = state_dir.join(NEGOTIATIONS_DIR).join(box_id.as_str());
    Ledger::new(&folder, Role::Consumer, box_id.as_str(), CALLBACK)
}

/// Boxes with which the space negotiates or did.
pub fn boxes(state_dir: &Path) -> Vec<BoxId> {
    let entries = std::fs::read_dir(state_dir.join(NEGOTIATIONS_DIR)).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut boxes: Vec<BoxId> = names.filter_map(|name| BoxId::parse(&name).ok()).collect();
    boxes.sort();
    boxes
}

/// The space as the consumer's end, with one box.
pub struct Consumer {
    box_id: BoxId,
    keys: PartyKeys,
    sets: Sets,
    clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
}

impl Conduct for Consumer {
    fn act(&mut self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault> {
        // Offers of the box are for people.
        if negotiation.state() != Some(State::Agreed) {
            return Ok(());
        }
        let party = party(negotiation);
        let Some(party) = party else { return Ok(()) };
        match self.keys.private(&party) {
            Ok(Some(key)) => verify(now, negotiation, &key, &party),
            Ok(None) => Ok(()),
            Err(fault) => {
                tracing::warn!(fault = %describe(&fault), "a person must sign for {party}");
                Ok(())
            }
        }
    }

    fn conclude(&mut self, _: Now, negotiation: &Negotiation) {
        let Some(file) = negotiation.contract_file() else { return };
        // The box has checked the owner's signature; the space may not know that key.
        let signed = match self.keys.judge(file, Strangers::Trusted) {
            Ok(signed) => signed,
            Err(fault) => {
                let text = describe(&fault);
                tracing::error!(box_id = %self.box_id, fault = %text, "an agreement is not in force");
                return;
            }
        };
        match self.sets.issue(&self.box_id, &signed, (self.clock)()) {
            Ok(roster) => {
                tracing::info!(box_id = %self.box_id, epoch = roster.epoch, "an agreement is in force");
            }
            // It is there from before, or was ended since.
            Err(SetFault::Version { .. } | SetFault::Final { .. }) => {}
            Err(fault) => {
                let text = describe(&fault);
                tracing::error!(box_id = %self.box_id, fault = %text, "an agreement is not in force");
            }
        }
    }
}

/// The party for which the space verifies.
pub fn party(negotiation: &Negotiation) -> Option<String> {
    let contract = Contract::draft(&negotiation.agreement()?.to_json()).ok()?;
    Some(contract.consumer().to_owned())
}

/// Verifies the agreement, signed by a party.
pub fn verify(
    now: Now,
    negotiation: &mut Negotiation,
    key: &dyn Signer,
    party: &str,
) -> Result<(), CommandFault> {
    let terms = negotiation.agreement().map(|terms| terms.to_json()).unwrap_or_default();
    let signed = sign(&terms, party, key).map_err(MessageError::from);
    let signatures = signed.and_then(|file| Signatures::of_file(&file));
    negotiation.verify(now, signatures.map_err(CommandFault::Message)?)
}

/// Letters about logs go another way, as they need another disk.
#[derive(Clone)]
struct LogMail {
    received: mpsc::Sender<(BoxId, Letter)>,
    /// What every session begins with.
    keys: Bytes,
}

/// Where the sessions of boxes leave letters, and find them.
#[derive(Clone)]
pub struct Mail {
    received: mpsc::Sender<(BoxId, Letter)>,
    logs: Option<LogMail>,
    sent: Arc<Mutex<BTreeMap<BoxId, mpsc::Sender<Letter>>>>,
}

impl Mail {
    pub fn new() -> (Self, mpsc::Receiver<(BoxId, Letter)>) {
        let (received, letters) = mpsc::channel(RECEIVED_MAX);
        (Self { received, logs: None, sent: Arc::default() }, letters)
    }

    /// Letters about logs come out here; `keys` is what boxes are told about the space's own.
    #[must_use]
    pub fn with_logs(self, keys: Bytes) -> (Self, mpsc::Receiver<(BoxId, Letter)>) {
        let (received, letters) = mpsc::channel(LOG_LETTERS_MAX);
        (Self { logs: Some(LogMail { received, keys }), ..self }, letters)
    }

    /// A session begins; an older one of the same box gets nothing any more.
    pub fn begin(&self, box_id: &BoxId) -> mpsc::Receiver<Letter> {
        let (sender, receiver) = mpsc::channel(LETTERS_MAX);
        if let Some(logs) = &self.logs {
            let keys = Letter { topic: Topic::LogKeys, ticket: 0, body: logs.keys.clone() };
            sender.try_send(keys).expect("a new channel has room");
        }
        let mut sent = self.sent.lock().expect("nobody panics while holding it");
        sent.retain(|_, letters| !letters.is_closed());
        sent.insert(box_id.clone(), sender);
        receiver
    }

    pub async fn receive(&self, box_id: &BoxId, letter: Letter) -> Result<(), String> {
        match letter.topic {
            Topic::Negotiation | Topic::NegotiationAnswer | Topic::Catalogue => {
                let sent = self.received.send((box_id.clone(), letter)).await;
                sent.map_err(|_| "the space stops".to_owned())
            }
            Topic::Witness | Topic::Mirror | Topic::MirrorAsk => {
                let logs = self.logs.as_ref().ok_or("this space watches no logs")?;
                let read = match letter.topic {
                    Topic::Mirror => MirrorLetter::parse(&letter.body).map(drop),
                    Topic::MirrorAsk => AskLetter::parse(&letter.body).map(drop),
                    _ => Ok(()),
                };
                read.map_err(|fault| describe(&fault))?;
                let sent = logs.received.send((box_id.clone(), letter)).await;
                sent.map_err(|_| "the space stops".to_owned())
            }
            Topic::CatalogueReceipt => Err("receipts come from the space".to_owned()),
            other => Err(format!("letters about {other:?} come from the space")),
        }
    }

    fn connected(&self) -> Vec<BoxId> {
        let sent = self.sent.lock().expect("nobody panics while holding it");
        sent.iter().filter(|(_, letters)| !letters.is_closed()).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn is_connected(&self, box_id: &BoxId) -> bool {
        let sent = self.sent.lock().expect("nobody panics while holding it");
        sent.get(box_id).is_some_and(|letters| !letters.is_closed())
    }

    /// A letter that finds no room is written again by whoever wants its answer.
    pub(crate) fn post(&self, box_id: &BoxId, letter: Letter) {
        let sent = self.sent.lock().expect("nobody panics while holding it");
        if sent.get(box_id).is_none_or(|letters| letters.try_send(letter).is_err()) {
            tracing::debug!(%box_id, "the link is behind with its letters");
        }
    }
}

/// Negotiates with all boxes.
pub struct Negotiator {
    pub mail: Mail,
    pub state_dir: PathBuf,
    pub keys: PartyKeys,
    pub sets: Sets,
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
}

type Desks = BTreeMap<BoxId, Desk<Consumer>>;

impl Negotiator {
    pub async fn run(self, mut letters: mpsc::Receiver<(BoxId, Letter)>) {
        let started = Instant::now();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (this, mut desks) = (Arc::new(self), Desks::new());
        loop {
            let letter = tokio::select! {
                letter = letters.recv() => match letter {
                    Some(letter) => Some(letter),
                    None => return,
                },
                _ = look.tick() => None,
            };
            let now = Now {
                monotonic: started.elapsed(),
                wall: (this.clock)(),
                quality: ClockQuality::Ntp,
            };
            let that = this.clone();
            // The desks wait for the disk, and for whoever has a ledger open.
            let turn = tokio::task::spawn_blocking(move || {
                that.turn(&mut desks, now, letter);
                desks
            });
            let Ok(back) = turn.await else { return };
            desks = back;
        }
    }

    fn turn(&self, desks: &mut Desks, now: Now, letter: Option<(BoxId, Letter)>) {
        let connected = self.mail.connected();
        let among: Vec<BoxId> = match &letter {
            Some((box_id, _)) => vec![box_id.clone()],
            None => {
                // Deadlines run for boxes that are away, too.
                let mut all = boxes(&self.state_dir);
                all.retain(|id| connected.contains(id) || desks.contains_key(id));
                all
            }
        };
        if let Some((box_id, Letter { topic: Topic::Catalogue, ticket, body })) = &letter {
            let receipt = self.take_catalogue(box_id, body);
            let body = Bytes::from(receipt.to_string());
            let receipt = Letter { topic: Topic::CatalogueReceipt, ticket: *ticket, body };
            return self.mail.post(box_id, receipt);
        }
        let mut letter = letter.map(|(_, letter)| letter);
        for box_id in among {
            let desk = desks.entry(box_id.clone()).or_insert_with(|| self.desk(&box_id));
            let is_connected = connected.contains(&box_id);
            match exchange(desk, now, letter.take(), is_connected) {
                Ok(parcels) => {
                    parcels.into_iter().for_each(|parcel| self.mail.post(&box_id, pack(parcel)));
                }
                Err(fault) => {
                    let text = describe(&fault);
                    tracing::error!(%box_id, fault = %text, "negotiations stand still");
                }
            }
        }
    }

    fn take_catalogue(&self, box_id: &BoxId, packed: &[u8]) -> Value {
        let taken = unpack_document(packed, CATALOGUE_BYTES_MAX).map_err(|fault| describe(&fault));
        let taken = taken.and_then(|document| {
            let catalogues = Catalogues::open(&self.state_dir);
            catalogues.accept((self.clock)(), box_id, &document).map_err(|fault| describe(&fault))
        });
        match taken {
            Ok(Accepted { version, datasets, .. }) => {
                tracing::info!(%box_id, version, datasets, "a catalogue came");
                json!({"accepted": true, "version": version})
            }
            Err(text) => {
                tracing::warn!(%box_id, fault = %text, "a catalogue is refused");
                json!({"accepted": false, "text": text})
            }
        }
    }

    fn desk(&self, box_id: &BoxId) -> Desk<Consumer> {
        let (keys, sets, clock) = (self.keys.clone(), self.sets.clone(), self.clock.clone());
        let consumer = Consumer { box_id: box_id.clone(), keys, sets, clock };
        Desk::new(ledger(&self.state_dir, box_id), consumer)
    }
}

fn exchange(
    desk: &mut Desk<Consumer>,
    now: Now,
    letter: Option<Letter>,
    is_connected: bool,
) -> Result<Vec<Parcel>, LedgerFault> {
    let mut parcels = Vec::new();
    match letter {
        Some(Letter { topic: Topic::Negotiation, ticket, body }) => {
            parcels.push(desk.handle_message(now, ticket, &body)?);
        }
        Some(Letter { topic: Topic::NegotiationAnswer, ticket, body }) => {
            desk.handle_answer(now, ticket, &body)?;
        }
        _ => {}
    }
    parcels.extend(desk.poll(now, is_connected)?);
    Ok(parcels)
}

fn pack(parcel: Parcel) -> Letter {
    let topic = if parcel.is_message { Topic::Negotiation } else { Topic::NegotiationAnswer };
    Letter { topic, ticket: parcel.ticket, body: Bytes::from(parcel.json) }
}
