//! A negotiation as bytes that outlive the program, schema 1.
//!
//! Deterministic CBOR. What is read back obeys the rules of the machine, or it is refused whole. Times
//! are stored as what is left of them; while the power was off they ran on by the wall clock, if both
//! readings of it can be trusted, else they stood still.

use super::limits::{Limits, PROPOSALS_MAX};
use super::machine::{EndCause, InFlight, Negotiation, Parties};
use super::message::{
    ADDRESS_BYTES_MAX, MESSAGE_BYTES_MAX, Message, MessageError, PID_BYTES_MAX, Pid,
    REASON_CHARS_MAX, REASONS_MAX,
};
use super::state::{MessageKind, Role, State, next_state};
use super::terms::{SIGNATURES_BYTES_MAX, Signatures, Terms};
use crate::contract::CONTRACT_BYTES_MAX;
use crate::fault::Faults;
use guan_model::cbor::{CborFault, CborReader, CborWriter};
use guan_model::{ClockQuality, Digest, IdFault, Now, WallTime};
use std::time::Duration;

/// Version of the record.
const SCHEMA: u64 = 1;
/// Largest record: two proposals, an agreement, a message on its way and what stands around them.
pub const RECORD_BYTES_MAX: usize = 3 * CONTRACT_BYTES_MAX + MESSAGE_BYTES_MAX + 64 * 1024;
/// Most followed messages: every proposal, and the steps after the last one.
const FOLLOWED_MAX: u64 = PROPOSALS_MAX as u64 + 8;

/// Why bytes are no record. A record that was written here and is refused was damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    #[error(
        "the record has {length} bytes, the limit is {RECORD_BYTES_MAX}; it was not written here"
    )]
    TooLong { length: usize },
    #[error("the record has schema {found}, this program reads {SCHEMA}; use the newer program")]
    Schema { found: u64 },
    #[error("the record is damaged: {0}; take it from a copy or end the negotiation")]
    Cbor(#[from] CborFault),
    #[error("the record is damaged: {0}; take it from a copy or end the negotiation")]
    Name(#[from] IdFault),
    #[error("the record is damaged: {0}; take it from a copy or end the negotiation")]
    Message(#[from] MessageError),
    #[error("the record is damaged: {what}; take it from a copy or end the negotiation")]
    Inconsistent { what: &'static str },
}

const fn damaged(what: &'static str) -> RecordFault {
    RecordFault::Inconsistent { what }
}

impl Negotiation {
    /// The record as of now.
    pub fn to_record(&self, now: Now) -> Vec<u8> {
        let mut out = CborWriter::default();
        out.map(16);
        out.entry(1, SCHEMA);
        out.entry(2, u64::from(self.parties.role == Role::Provider));
        out.entry_text(3, self.parties.pid.as_str());
        out.entry_text(4, &self.parties.peer);
        out.entry_text(5, &self.parties.callback);
        out.entry_text(6, self.peer_pid.as_ref().map_or("", Pid::as_str));
        out.entry_text(7, self.peer_callback.as_deref().unwrap_or_default());
        out.entry(8, state_code(self.state));
        out.entry(9, u64::from(self.proposals));
        out.unsigned(10);
        out.array(4);
        out.bytes(&self.proposal.as_ref().map(Terms::to_json).unwrap_or_default());
        out.bytes(&self.agreement.as_ref().map(Terms::to_json).unwrap_or_default());
        out.bytes(&crate::canonical_json(&self.agreement_signatures.value()));
        out.bytes(&crate::canonical_json(&self.verification_signatures.value()));
        out.entry(11, u64::from(self.sequence));
        out.unsigned(12);
        write_in_flight(self, now, &mut out);
        out.unsigned(13);
        out.array(self.followed.len() as u64);
        for (digest, state) in &self.followed {
            out.array(2);
            out.bytes(&digest.0);
            out.unsigned(state_code(Some(*state)));
        }
        out.unsigned(14);
        write_left(self.deadline, now, &mut out);
        out.unsigned(15);
        write_end(self.end.as_ref(), &mut out);
        out.unsigned(16);
        out.array(2);
        out.signed(now.wall.0);
        out.unsigned(now.quality as u64);
        out.finish()
    }

    /// Reads a record, perhaps after a restart; `limits` count from here on.
    pub fn from_record(now: Now, record: &[u8], limits: Limits) -> Result<Self, RecordFault> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(RecordFault::TooLong { length: record.len() });
        }
        let mut reader = CborReader::new(record);
        let mut keys = reader.map()?;
        let mut key = |reader: &mut CborReader<'_>, expected| keys.require(reader, expected);
        key(&mut reader, 1)?;
        match reader.unsigned()? {
            SCHEMA => {}
            found => return Err(RecordFault::Schema { found }),
        }
        let mut texts = Vec::new();
        key(&mut reader, 2)?;
        let role = match reader.unsigned()? {
            0 => Role::Consumer,
            1 => Role::Provider,
            _ => return Err(damaged("there is no such role")),
        };
        for number in 3..=7 {
            key(&mut reader, number)?;
            texts.push(reader.text()?);
        }
        let parties = Parties::new(role, Pid::parse(texts[0])?, texts[1], texts[2])?;
        let mut negotiation = Self::new(now, parties, limits);
        negotiation.peer_pid = present(texts[3]).map(Pid::parse).transpose()?;
        negotiation.peer_callback = present(texts[4]).map(str::to_owned);
        key(&mut reader, 8)?;
        negotiation.state = read_state(&mut reader)?;
        key(&mut reader, 9)?;
        negotiation.proposals = reader.narrow()?;
        key(&mut reader, 10)?;
        read_terms(&mut negotiation, &mut reader)?;
        key(&mut reader, 11)?;
        negotiation.sequence = reader.narrow()?;
        key(&mut reader, 12)?;
        let in_flight = read_in_flight(&mut reader)?;
        key(&mut reader, 13)?;
        for _ in 0..reader.array_up_to(FOLLOWED_MAX)? {
            reader.array(2)?;
            let digest = Digest(reader.fixed_bytes()?);
            let state = read_state(&mut reader)?.ok_or(damaged("a step leads nowhere"))?;
            negotiation.followed.push((digest, state));
        }
        key(&mut reader, 14)?;
        let deadline = read_left(&mut reader)?;
        key(&mut reader, 15)?;
        negotiation.end = read_end(&mut reader)?;
        key(&mut reader, 16)?;
        let elapsed = read_elapsed(now, &mut reader)?;
        keys.finish(&reader)?;
        reader.end()?;
        let moment = |left: Duration| now.monotonic.saturating_add(left.saturating_sub(elapsed));
        negotiation.deadline = deadline.map(moment);
        negotiation.in_flight =
            in_flight.map(|(message, left)| InFlight { due: moment(left), ..message });
        check(&negotiation)?;
        Ok(negotiation)
    }
}

/// What the machine's own steps guarantee, and rely on.
fn check(negotiation: &Negotiation) -> Result<(), RecordFault> {
    let Negotiation { state, peer_pid, end, in_flight, deadline, .. } = negotiation;
    let is_over = state.is_some_and(State::is_terminal);
    if is_over != end.is_some() {
        return Err(damaged("a terminal state has a cause, and no other has"));
    }
    if deadline.is_none() && (!is_over || in_flight.is_some()) {
        return Err(damaged("what is not done has a deadline"));
    }
    let is_opening = state.is_none();
    if peer_pid.is_none() && !is_opening && *state != Some(State::Terminated) {
        return Err(damaged("a begun negotiation has a name at both ends"));
    }
    if peer_pid.is_none() && !negotiation.followed.is_empty() {
        return Err(damaged("who was followed has named the negotiation"));
    }
    let Some(in_flight) = in_flight else {
        return if is_opening { Err(damaged("it was never opened")) } else { Ok(()) };
    };
    let kind = in_flight.body.kind();
    let is_notice = kind == MessageKind::Termination && *state == Some(State::Terminated);
    let is_step =
        kind != MessageKind::Termination && next_state(*state, negotiation.role(), kind).is_some();
    if !is_notice && !is_step {
        return Err(damaged("the message on its way is not a step from here"));
    }
    if is_notice && peer_pid.is_none() {
        return Err(damaged("a notice goes to a named negotiation"));
    }
    Ok(())
}

fn present(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// 0 before the first message, else the place among the states.
fn state_code(state: Option<State>) -> u64 {
    let place = state.and_then(|state| State::ALL.iter().position(|other| *other == state));
    place.map_or(0, |place| place as u64 + 1)
}

fn read_state(reader: &mut CborReader<'_>) -> Result<Option<State>, RecordFault> {
    let code: usize = reader.narrow()?;
    match code.checked_sub(1) {
        None => Ok(None),
        Some(place) => {
            let state = State::ALL.get(place).copied();
            state.map(Some).ok_or(damaged("there is no such state"))
        }
    }
}

fn kind_code(kind: MessageKind) -> u64 {
    let place = MessageKind::ALL.iter().position(|other| *other == kind);
    place.expect("every kind is in the list") as u64
}

fn read_kind(reader: &mut CborReader<'_>) -> Result<MessageKind, RecordFault> {
    let place: usize = reader.narrow()?;
    MessageKind::ALL.get(place).copied().ok_or(damaged("there is no such message"))
}

fn write_left(moment: Option<Duration>, now: Now, out: &mut CborWriter) {
    out.array(u64::from(moment.is_some()));
    if let Some(moment) = moment {
        out.unsigned(nanos(moment.saturating_sub(now.monotonic)));
    }
}

fn read_left(reader: &mut CborReader<'_>) -> Result<Option<Duration>, RecordFault> {
    match reader.array_up_to(1)? {
        0 => Ok(None),
        _ => Ok(Some(Duration::from_nanos(reader.unsigned()?))),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How long the record lay, as far as is known.
fn read_elapsed(now: Now, reader: &mut CborReader<'_>) -> Result<Duration, RecordFault> {
    reader.array(2)?;
    let written = WallTime(reader.signed()?);
    let quality = ClockQuality::from_code(reader.narrow()?);
    let quality = quality.ok_or(damaged("there is no such quality of a clock"))?;
    let are_good = quality.min(now.quality) > ClockQuality::Unset;
    Ok(if are_good { now.wall.since(written) } else { Duration::ZERO })
}

fn write_in_flight(negotiation: &Negotiation, now: Now, out: &mut CborWriter) {
    let Some(in_flight) = &negotiation.in_flight else { return out.array(0) };
    let message = Message::new(negotiation.envelope(), in_flight.body.clone());
    out.array(4);
    out.bytes(message.to_json());
    out.unsigned(u64::from(in_flight.sequence));
    out.unsigned(u64::from(in_flight.attempts));
    out.unsigned(nanos(in_flight.due.saturating_sub(now.monotonic)));
}

fn read_in_flight(
    reader: &mut CborReader<'_>,
) -> Result<Option<(InFlight, Duration)>, RecordFault> {
    match reader.array_up_to(4)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(damaged("a message on its way has four parts")),
    }
    let message = Message::read(reader.bytes(MESSAGE_BYTES_MAX as u64)?)?;
    let (sequence, attempts) = (reader.narrow()?, reader.narrow()?);
    let left = Duration::from_nanos(reader.unsigned()?);
    let body = message.body;
    Ok(Some((InFlight { body, sequence, attempts, due: Duration::ZERO }, left)))
}

fn read_terms(
    negotiation: &mut Negotiation,
    reader: &mut CborReader<'_>,
) -> Result<(), RecordFault> {
    reader.array(4)?;
    let terms = |json: &[u8]| match json {
        [] => Ok(None),
        json => Terms::read(json).map(Some),
    };
    negotiation.proposal = terms(reader.bytes(CONTRACT_BYTES_MAX as u64)?)?;
    negotiation.agreement = terms(reader.bytes(CONTRACT_BYTES_MAX as u64)?)?;
    negotiation.agreement_signatures = read_signatures(reader)?;
    negotiation.verification_signatures = read_signatures(reader)?;
    Ok(())
}

fn read_signatures(reader: &mut CborReader<'_>) -> Result<Signatures, RecordFault> {
    let json = reader.bytes(SIGNATURES_BYTES_MAX as u64)?;
    let mut faults = Faults::default();
    let list = crate::json::read(json, &mut faults);
    let signatures = list.map(|list| Signatures::of(&list, "", &mut faults));
    Ok(faults.finish(signatures).map_err(MessageError::from)?)
}

/// A cause as its number, a state, a message, a doubt, a code and reasons.
fn write_end(end: Option<&EndCause>, out: &mut CborWriter) {
    let none: &[String] = &[];
    let termination = MessageKind::Termination;
    let (number, state, kind, in_doubt, code, reasons) = match end {
        None => return out.array(0),
        Some(EndCause::Concluded) => (0, None, termination, false, None, none),
        Some(EndCause::TerminatedHere { code, reasons }) => {
            (1, None, termination, false, code.as_deref(), &reasons[..])
        }
        Some(EndCause::TerminatedByPeer { code, reasons }) => {
            (2, None, termination, false, code.as_deref(), &reasons[..])
        }
        Some(EndCause::Deadline { state, in_doubt }) => {
            (3, *state, termination, *in_doubt, None, none)
        }
        Some(EndCause::AttemptsSpent { message }) => (4, None, *message, false, None, none),
        Some(EndCause::RefusedByPeer { message, reasons }) => {
            (5, None, *message, false, None, &reasons[..])
        }
    };
    out.array(6);
    out.unsigned(number);
    out.unsigned(state_code(state));
    out.unsigned(kind_code(kind));
    out.unsigned(u64::from(in_doubt));
    out.text(code.unwrap_or_default());
    out.array(reasons.len() as u64);
    reasons.iter().for_each(|reason| out.text(reason));
}

fn read_end(reader: &mut CborReader<'_>) -> Result<Option<EndCause>, RecordFault> {
    match reader.array_up_to(6)? {
        0 => return Ok(None),
        6 => {}
        _ => return Err(damaged("a cause has six parts")),
    }
    let number = reader.unsigned()?;
    let state = read_state(reader)?;
    let message = read_kind(reader)?;
    let in_doubt = match reader.unsigned()? {
        0 => false,
        1 => true,
        _ => return Err(damaged("a doubt is 0 or 1")),
    };
    let code = present(reader.text()?).map(str::to_owned);
    let mut reasons = Vec::new();
    for _ in 0..reader.array_up_to(REASONS_MAX as u64)? {
        reasons.push(reader.text()?.to_owned());
    }
    let is_long = |text: &String| text.len() > 4 * REASON_CHARS_MAX;
    if reasons.iter().chain(&code).any(is_long) {
        return Err(damaged("a reason is longer than reasons are"));
    }
    Ok(Some(match number {
        0 => EndCause::Concluded,
        1 => EndCause::TerminatedHere { code, reasons },
        2 => EndCause::TerminatedByPeer { code, reasons },
        3 => EndCause::Deadline { state, in_doubt },
        4 => EndCause::AttemptsSpent { message },
        5 => EndCause::RefusedByPeer { message, reasons },
        _ => return Err(damaged("there is no such cause")),
    }))
}

// The texts of a record are bounded by the record; these are the longest that are written.
const _: () = assert!(2 * PID_BYTES_MAX + 3 * ADDRESS_BYTES_MAX < 8 * 1024);
