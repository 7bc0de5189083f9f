//! The daemon's side of a ledger: what comes from the peer, what is due, what this end does of itself.
//!
//! A machine that was read stays in memory as long as its record is as it was, so that its timers run
//! by the monotonic clock; whoever else changes the record is seen by its bytes.

use crate::ledger::{Found, Ledger, LedgerFault, Opened, name_of, own_pid};
use guan_model::{Digest, Now};
use guan_policy::negotiation::{
    Answer, CommandFault, Message, MessageError, Negotiation, Pid, Refusal, Rejection, Role, State,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Most messages whose answers are waited for; an older one is sent again by its machine.
const TICKETS_MAX: usize = 256;
/// A folder that changed so lately may change again without its time showing it.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// Most steps in a row that an end takes of itself.
const STEPS_MAX: usize = 4;
/// Stands for a name that is not known.
const NO_PID: &str = "urn:uuid:00000000-0000-0000-0000-000000000000";

/// What an end does of itself.
pub trait Conduct {
    /// Takes the step that is due at this end, if a program may take it.
    fn act(&mut self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault>;

    /// The negotiation is finalized: puts the agreement where it belongs. Called again after a restart.
    fn conclude(&mut self, now: Now, negotiation: &Negotiation);
}

/// Something for the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// A message; else the answer to one.
    pub is_message: bool,
    /// An answer bears the ticket of its message.
    pub ticket: u32,
    pub json: Vec<u8>,
}

struct Kept {
    digest: Digest,
    negotiation: Negotiation,
    is_concluded: bool,
}

/// The daemon's side of the ledger.
pub struct Desk<C> {
    ledger: Ledger,
    conduct: C,
    kept: BTreeMap<String, Kept>,
    tickets: BTreeMap<u32, (Pid, u32)>,
    next_ticket: u32,
    /// The folder as it was when all records were read.
    seen: Option<SystemTime>,
}

impl<C: Conduct> Desk<C> {
    pub fn new(ledger: Ledger, conduct: C) -> Self {
        let (kept, tickets) = (BTreeMap::new(), BTreeMap::new());
        Self { ledger, conduct, kept, tickets, next_ticket: 0, seen: None }
    }

    /// A message of the peer; the answer may go out at once, as what it says is durable.
    pub fn handle_message(
        &mut self,
        now: Now,
        ticket: u32,
        json: &[u8],
    ) -> Result<Parcel, LedgerFault> {
        let json = match Message::read(json) {
            Ok(message) => self.follow(now, &message)?,
            Err(fault) => unreadable(&fault),
        };
        Ok(Parcel { is_message: false, ticket, json })
    }

    fn follow(&mut self, now: Now, message: &Message) -> Result<Vec<u8>, LedgerFault> {
        let ledger = self.ledger.clone();
        let opened = ledger.open()?;
        self.refresh(now, &opened)?;
        let role = ledger.role();
        let known = self.kept.values().map(|kept| &kept.negotiation).find(|known| {
            let is_named = message.pid(role).is_some_and(|pid| pid == own_pid(known));
            let theirs = message.pid(role.other());
            is_named || (message.pid(role).is_none() && theirs == known.pid(role.other()))
        });
        let followed = match known {
            Some(known) => {
                let mut negotiation = known.clone();
                let ack = negotiation.handle_message(now, message);
                ack.map(|ack| (negotiation, ack)).map_err(|fault| Rejection::from(&fault))
            }
            None if message.pid(role).is_some() => Err(unknown(message, role)),
            None => match opened.check_room(now) {
                Err(fault @ LedgerFault::Full { .. }) => Err(Rejection {
                    code: Some("too-many-negotiations".to_owned()),
                    reasons: vec![fault.to_string()],
                }),
                Err(fault) => return Err(fault),
                Ok(()) => {
                    let parties = opened.new_parties()?;
                    let begun = Negotiation::begin(now, parties, message, opened.limits());
                    begun.map_err(|fault: Refusal| Rejection::from(&fault))
                }
            },
        };
        match followed {
            Ok((negotiation, ack)) => {
                self.keep(now, &opened, negotiation)?;
                Ok(ack.to_json())
            }
            Err(rejection) => {
                let none = Pid::parse(NO_PID).expect("it is a name");
                let pid = |role| message.pid(role).unwrap_or(&none);
                Ok(rejection.to_json(pid(Role::Consumer), pid(Role::Provider)))
            }
        }
    }

    /// What the peer answered. One that nobody waits for means nothing: its message goes out again.
    pub fn handle_answer(&mut self, now: Now, ticket: u32, json: &[u8]) -> Result<(), LedgerFault> {
        let Some((pid, sequence)) = self.tickets.remove(&ticket) else { return Ok(()) };
        let answer = match Answer::read(json) {
            Ok(answer) => answer,
            Err(fault) => {
                tracing::warn!(%fault, %pid, "an answer of {} is not understood", self.ledger.peer());
                return Ok(());
            }
        };
        let ledger = self.ledger.clone();
        let opened = ledger.open()?;
        self.refresh(now, &opened)?;
        let Some(kept) = self.kept.get(name_of(&pid)) else { return Ok(()) };
        let mut negotiation = kept.negotiation.clone();
        match negotiation.handle_answer(now, sequence, &answer) {
            Ok(()) => self.keep(now, &opened, negotiation),
            Err(fault) => {
                tracing::warn!(%fault, %pid, "an answer of {} is not believed", self.ledger.peer());
                Ok(())
            }
        }
    }

    /// Looks whether anything is due or has changed on disk. `is_connected`: the peer would hear.
    pub fn poll(&mut self, now: Now, is_connected: bool) -> Result<Vec<Parcel>, LedgerFault> {
        if !self.must_look(now, is_connected) {
            return Ok(Vec::new());
        }
        let changed_at = self.ledger.changed_at();
        let ledger = self.ledger.clone();
        let opened = ledger.open()?;
        self.refresh(now, &opened)?;
        let mut parcels = Vec::new();
        let names: Vec<String> = self.kept.keys().cloned().collect();
        for name in names {
            let kept = &self.kept[&name];
            let mut negotiation = kept.negotiation.clone();
            negotiation.handle_timeout(now);
            self.act(now, &mut negotiation);
            let message = is_connected.then(|| negotiation.poll_message(now)).flatten();
            let pid = own_pid(&negotiation).clone();
            if negotiation != self.kept[&name].negotiation {
                self.keep(now, &opened, negotiation)?;
            } else {
                self.conclude(now, &name);
            }
            if let Some(message) = message {
                let ticket = self.new_ticket(pid, message.sequence);
                let json = message.message.to_json().to_vec();
                parcels.push(Parcel { is_message: true, ticket, json });
            }
        }
        let is_settled = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > SETTLED_AFTER);
        self.seen = changed_at.filter(is_settled);
        Ok(parcels)
    }

    fn must_look(&self, now: Now, is_connected: bool) -> bool {
        let changed_at = self.ledger.changed_at();
        if changed_at.is_none() || changed_at != self.seen {
            // A folder that is not there has nothing to be read.
            return changed_at.is_some();
        }
        self.kept.values().any(|kept| {
            let negotiation = &kept.negotiation;
            let attempt = negotiation.poll_attempt().filter(|_| is_connected);
            [attempt, negotiation.poll_timeout()]
                .into_iter()
                .flatten()
                .any(|at| at <= now.monotonic)
        })
    }

    /// Brings what is kept up to the records.
    fn refresh(&mut self, now: Now, opened: &Opened<'_>) -> Result<(), LedgerFault> {
        let mut old = std::mem::take(&mut self.kept);
        let mut known = |name: &str, digest: &Digest| {
            old.get(name).filter(|kept| kept.digest == *digest).map(|kept| kept.negotiation.clone())
        };
        let found = opened.records(now, &mut known)?;
        for found in found {
            let digest = found.digest();
            let Found { pid, negotiation, .. } = found;
            let name = name_of(&pid).to_owned();
            let is_concluded = old.remove(&name).is_some_and(|kept| kept.is_concluded);
            self.kept.insert(name, Kept { digest, negotiation, is_concluded });
        }
        Ok(())
    }

    /// Takes this end's steps, makes the record durable and keeps it.
    fn keep(
        &mut self,
        now: Now,
        opened: &Opened<'_>,
        mut negotiation: Negotiation,
    ) -> Result<(), LedgerFault> {
        self.act(now, &mut negotiation);
        let digest = opened.store(now, &negotiation)?;
        let name = name_of(own_pid(&negotiation)).to_owned();
        let is_concluded = self.kept.get(&name).is_some_and(|kept| kept.is_concluded);
        self.kept.insert(name.clone(), Kept { digest, negotiation, is_concluded });
        self.conclude(now, &name);
        Ok(())
    }

    fn act(&mut self, now: Now, negotiation: &mut Negotiation) {
        for _ in 0..STEPS_MAX {
            if negotiation.in_flight().is_some()
                || negotiation.state().is_none_or(State::is_terminal)
            {
                return;
            }
            let before = negotiation.clone();
            if let Err(fault) = self.conduct.act(now, negotiation) {
                let pid = own_pid(negotiation);
                tracing::warn!(%fault, %pid, "a step of a negotiation cannot be taken");
                return;
            }
            if *negotiation == before {
                return;
            }
        }
    }

    fn conclude(&mut self, now: Now, name: &str) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        if kept.negotiation.state() == Some(State::Finalized) && !kept.is_concluded {
            kept.is_concluded = true;
            self.conduct.conclude(now, &kept.negotiation);
        }
    }

    fn new_ticket(&mut self, pid: Pid, sequence: u32) -> u32 {
        if self.tickets.len() >= TICKETS_MAX {
            self.tickets.pop_first();
        }
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.tickets.insert(self.next_ticket, (pid, sequence));
        self.next_ticket
    }
}

fn unreadable(fault: &MessageError) -> Vec<u8> {
    let none = Pid::parse(NO_PID).expect("it is a name");
    let rejection =
        Rejection { code: Some("bad-message".to_owned()), reasons: vec![fault.to_string()] };
    rejection.to_json(&none, &none)
}

fn unknown(message: &Message, role: Role) -> Rejection {
    let pid = message.pid(role).map_or(NO_PID, Pid::as_str);
    let reason = format!("the {role} has no negotiation {pid}; begin a new one");
    Rejection { code: Some("unknown-negotiation".to_owned()), reasons: vec![reason] }
}
