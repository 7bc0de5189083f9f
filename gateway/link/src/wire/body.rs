//! Bodies of the frames, field by field.

use super::{
    BOX_NOTE_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX, FrameFault,
    LETTER_HEAD_BYTES, SKIPPABLE, SPACE_NOTE_BYTES_MAX, Wire,
};
use crate::frame::{
    ASK_BYTES_MAX, Ack, BoxFrame, BoxNote, CHECK_BYTES, CONTRACTS_BYTES_MAX, Chained, CloseCode,
    Cursor, DESCRIPTORS_BYTES_MAX, EncodedBatch, Gap, Goodbye, Hello, Item, LETTER_BYTES_MAX,
    Letter, NONCE_BYTES, Offer, Question, Refuse, RefuseReason, SpaceFrame, SpaceNote, StreamRange,
    Topic, VERDICT_BYTES_MAX, Versions, WANTED_MAX, Welcome,
};
use crate::gate::GateOutcome;
use crate::text::BoundedText;
use crate::{BATCH_BYTES_MAX, STREAMS_MAX};
use guan_codec::chain::PIECE_BYTES_MAX;

use bytes::Bytes;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, IdFault, SpoolId, StreamId};
use std::time::Duration;

/// So that the place after any place of the wire exists.
const SEQ_MAX: u64 = u64::MAX - 1;

/// Reads one body; knows the frame's name for its faults.
struct Body<'a> {
    frame: &'static str,
    reader: Reader<'a>,
}

impl<'a> Body<'a> {
    fn new(frame: &'static str, bytes: &'a [u8]) -> Self {
        Self { frame, reader: Reader::new(bytes) }
    }

    fn take<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, ReadFault>,
    ) -> Result<T, FrameFault> {
        let frame = self.frame;
        read(&mut self.reader).map_err(|source| FrameFault::Body { frame, source })
    }

    fn u8(&mut self) -> Result<u8, FrameFault> {
        self.take(Reader::u8)
    }

    fn u16(&mut self) -> Result<u16, FrameFault> {
        self.take(Reader::u16)
    }

    fn varint(&mut self) -> Result<u64, FrameFault> {
        self.take(Reader::varint)
    }

    fn stream(&mut self) -> Result<StreamId, FrameFault> {
        self.take(Reader::stream)
    }

    fn spool(&mut self) -> Result<SpoolId, FrameFault> {
        let bytes = self.take(|reader| reader.raw(16))?;
        Ok(SpoolId(bytes.try_into().expect("raw(16) gives 16 bytes")))
    }

    fn nonce(&mut self) -> Result<[u8; NONCE_BYTES], FrameFault> {
        let bytes = self.take(|reader| reader.raw(NONCE_BYTES))?;
        Ok(bytes.try_into().expect("as many bytes were taken"))
    }

    fn digest(&mut self) -> Result<Digest, FrameFault> {
        self.take(Reader::digest)
    }

    /// Any place, with 0 for "before the first".
    fn cursor(&mut self) -> Result<BatchSeq, FrameFault> {
        let value = self.varint()?;
        if value > SEQ_MAX {
            return Err(self.value("a place", value));
        }
        Ok(BatchSeq(value))
    }

    /// The place of a batch.
    fn seq(&mut self) -> Result<BatchSeq, FrameFault> {
        match self.cursor()? {
            BatchSeq::ZERO => Err(self.value("a place", 0)),
            seq => Ok(seq),
        }
    }

    fn name<T>(&mut self, parse: fn(&str) -> Result<T, IdFault>) -> Result<T, FrameFault> {
        let frame = self.frame;
        let text = self.take(Reader::text)?;
        parse(text).map_err(|source| FrameFault::Name { frame, source })
    }

    fn text<const MAX: usize>(&mut self) -> Result<BoundedText<MAX>, FrameFault> {
        let frame = self.frame;
        let text = self.take(Reader::text)?;
        BoundedText::parse(text).map_err(|source| FrameFault::Text { frame, source })
    }

    fn text_to_end<const MAX: usize>(mut self) -> Result<BoundedText<MAX>, FrameFault> {
        let frame = self.frame;
        let text = self.take(|reader| {
            std::str::from_utf8(reader.rest())
                .map_err(|fault| ReadFault::Utf8 { at: fault.valid_up_to() })
        })?;
        BoundedText::parse(text).map_err(|source| FrameFault::Text { frame, source })
    }

    /// How many streams follow.
    fn count(&mut self) -> Result<u64, FrameFault> {
        let count = self.varint()?;
        if count > STREAMS_MAX as u64 {
            return Err(self.value("the number of streams", count));
        }
        Ok(count)
    }

    fn value(&self, what: &'static str, value: u64) -> FrameFault {
        FrameFault::Value { frame: self.frame, what, value }
    }

    fn end(self) -> Result<(), FrameFault> {
        let frame = self.frame;
        self.reader.end().map_err(|source| FrameFault::Body { frame, source })
    }
}

const HELLO: u8 = 0x01;
const BATCH: u8 = 0x02;
const GAP: u8 = 0x03;
const DESCRIPTORS: u8 = 0x04;
const CHAINED: u8 = 0x05;

impl Wire for BoxFrame {
    const BYTES_MAX: usize = DATA_FRAME_BYTES_MAX;
    const SKIPS: bool = false;

    fn code(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Descriptors(_) => DESCRIPTORS,
            Self::Item(_, Item::Batch(_)) => BATCH,
            Self::Item(_, Item::Gap(_)) => GAP,
            Self::Chained(..) => CHAINED,
        }
    }

    fn write(&self, out: &mut Writer) -> Bytes {
        match self {
            Self::Hello(hello) => write_hello(hello, out),
            Self::Descriptors(bytes) => return bytes.clone(),
            Self::Item(stream, Item::Batch(batch)) => {
                out.stream(*stream);
                out.varint(batch.seq.0);
                out.text(batch.dataset.as_str());
                out.text(batch.contract.as_str());
                out.varint(batch.rows.into());
                out.raw(&batch.digest.0);
                return batch.bytes.clone();
            }
            Self::Item(stream, Item::Gap(gap)) => {
                out.stream(*stream);
                out.varint(gap.from.0);
                out.varint(gap.through.0);
                out.varint(gap.rows);
                out.u8(gap.reason);
            }
            Self::Chained(stream, chained) => {
                out.stream(*stream);
                out.varint(chained.seq.0);
                out.u8(chained.begins.into());
                out.varint(chained.length.into());
                out.raw(&chained.check);
                return chained.piece.clone();
            }
        }
        Bytes::new()
    }

    fn read(code: u8, body: &Bytes) -> Result<Option<Self>, FrameFault> {
        Ok(Some(match code {
            HELLO => Self::Hello(read_hello(body)?),
            BATCH => read_batch(body)?,
            GAP => read_gap(body)?,
            DESCRIPTORS => read_descriptors(body)?,
            CHAINED => read_chained(body)?,
            _ => return Ok(None),
        }))
    }
}

fn write_hello(hello: &Hello, out: &mut Writer) {
    out.u16(hello.versions.min);
    out.u16(hello.versions.max);
    out.raw(&hello.offer.spool().0);
    let streams = hello.offer.streams();
    out.varint(streams.len() as u64);
    for stream in streams {
        out.stream(stream.id);
        out.varint(stream.oldest_unreleased.0);
        out.varint(stream.newest.0);
    }
}

fn read_hello(bytes: &Bytes) -> Result<Hello, FrameFault> {
    let mut body = Body::new("hello", bytes);
    let versions = Versions { min: body.u16()?, max: body.u16()? };
    if versions.min > versions.max {
        return Err(body.value("its lowest version", versions.min.into()));
    }
    let spool = body.spool()?;
    let mut streams = Vec::new();
    for _ in 0..body.count()? {
        let id = body.stream()?;
        let (oldest_unreleased, newest) = (body.seq()?, body.cursor()?);
        streams.push(StreamRange { id, oldest_unreleased, newest });
    }
    let frame = body.frame;
    body.end()?;
    let offer = Offer::new(spool, streams).map_err(|source| FrameFault::Offer { frame, source })?;
    Ok(Hello { versions, offer })
}

fn read_batch(bytes: &Bytes) -> Result<BoxFrame, FrameFault> {
    let mut body = Body::new("batch", bytes);
    let stream = body.stream()?;
    let seq = body.seq()?;
    let dataset = body.name(DatasetId::parse)?;
    let contract = body.name(ContractId::parse)?;
    let rows = body.varint()?;
    let rows = u32::try_from(rows).map_err(|_| body.value("its rows", rows))?;
    let digest = body.digest()?;
    let left = body.reader.left();
    if left > BATCH_BYTES_MAX {
        return Err(body.value("the batch's length", left as u64));
    }
    let bytes = bytes.slice(bytes.len() - left..);
    let batch = EncodedBatch { seq, dataset, contract, rows, digest, bytes };
    Ok(BoxFrame::Item(stream, Item::Batch(batch)))
}

fn read_chained(bytes: &Bytes) -> Result<BoxFrame, FrameFault> {
    let mut body = Body::new("chained batch", bytes);
    let (stream, seq) = (body.stream()?, body.seq()?);
    let begins = match body.u8()? {
        0 => false,
        1 => true,
        other => return Err(body.value("whether its chain begins", other.into())),
    };
    let said = body.varint()?;
    if said > PIECE_BYTES_MAX as u64 {
        return Err(body.value("its length", said));
    }
    let length = u32::try_from(said).expect("it is below the limit");
    let check = body.take(|reader| reader.raw(CHECK_BYTES))?;
    let check = check.try_into().expect("as many bytes were taken");
    let piece = bytes.slice(bytes.len() - body.reader.left()..);
    Ok(BoxFrame::Chained(stream, Chained { seq, begins, length, check, piece }))
}

fn read_gap(bytes: &Bytes) -> Result<BoxFrame, FrameFault> {
    let mut body = Body::new("gap", bytes);
    let stream = body.stream()?;
    let (from, through) = (body.seq()?, body.seq()?);
    if from > through {
        return Err(body.value("its last place", through.0));
    }
    let (rows, reason) = (body.varint()?, body.u8()?);
    body.end()?;
    Ok(BoxFrame::Item(stream, Item::Gap(Gap { from, through, rows, reason })))
}

fn read_descriptors(bytes: &Bytes) -> Result<BoxFrame, FrameFault> {
    if bytes.len() > DESCRIPTORS_BYTES_MAX {
        let body = Body::new("descriptors", bytes);
        return Err(body.value("the table's length", bytes.len() as u64));
    }
    Ok(BoxFrame::Descriptors(bytes.clone()))
}

const WELCOME: u8 = 0x11;
const ACK: u8 = 0x12;
const REFUSE: u8 = 0x13;

impl Wire for SpaceFrame {
    const BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX;
    const SKIPS: bool = false;

    fn code(&self) -> u8 {
        match self {
            Self::Welcome(_) => WELCOME,
            Self::Ack(_) => ACK,
            Self::Refuse(_) => REFUSE,
        }
    }

    fn write(&self, out: &mut Writer) -> Bytes {
        match self {
            Self::Welcome(welcome) => {
                out.u16(welcome.version);
                out.varint(welcome.cursors.len() as u64);
                for cursor in &welcome.cursors {
                    out.stream(cursor.stream);
                    out.varint(cursor.through.0);
                }
                out.varint(welcome.credit_bytes);
            }
            Self::Ack(ack) => {
                out.stream(ack.cursor.stream);
                out.varint(ack.cursor.through.0);
                out.varint(ack.credit_bytes);
            }
            Self::Refuse(refuse) => {
                out.stream(refuse.stream);
                out.varint(refuse.seq.0);
                out.u8(refuse.reason.code());
                out.text(refuse.text.as_str());
            }
        }
        Bytes::new()
    }

    fn read(code: u8, body: &Bytes) -> Result<Option<Self>, FrameFault> {
        Ok(Some(match code {
            WELCOME => Self::Welcome(read_welcome(body)?),
            ACK => {
                let mut body = Body::new("ack", body);
                let cursor = Cursor { stream: body.stream()?, through: body.cursor()? };
                let credit_bytes = body.varint()?;
                body.end()?;
                Self::Ack(Ack { cursor, credit_bytes })
            }
            REFUSE => {
                let mut body = Body::new("refuse", body);
                let (stream, seq) = (body.stream()?, body.seq()?);
                let reason = RefuseReason::from_code(body.u8()?);
                let text = body.text()?;
                body.end()?;
                Self::Refuse(Refuse { stream, seq, reason, text })
            }
            _ => return Ok(None),
        }))
    }
}

fn read_welcome(bytes: &Bytes) -> Result<Welcome, FrameFault> {
    let mut body = Body::new("welcome", bytes);
    let version = body.u16()?;
    let mut cursors = Vec::new();
    for _ in 0..body.count()? {
        cursors.push(Cursor { stream: body.stream()?, through: body.cursor()? });
    }
    let credit_bytes = body.varint()?;
    body.end()?;
    Ok(Welcome { version, cursors, credit_bytes })
}

const CHECKPOINT: u8 = 0x21;
const REPORT: u8 = 0x22;
const EVIDENCE: u8 = 0x23;
const ASK: u8 = 0x24;
const WANT: u8 = 0x25;
// Programs that know no letters go on without them.
const BOX_LETTER: u8 = 0x26 | SKIPPABLE;

impl Wire for BoxNote {
    const BYTES_MAX: usize = BOX_NOTE_BYTES_MAX;
    const SKIPS: bool = true;

    fn code(&self) -> u8 {
        match self {
            Self::Checkpoint(_) => CHECKPOINT,
            Self::Report(_) => REPORT,
            Self::Evidence(_) => EVIDENCE,
            Self::Ask(_) => ASK,
            Self::Want(_) => WANT,
            Self::Letter(_) => BOX_LETTER,
        }
    }

    fn write(&self, out: &mut Writer) -> Bytes {
        match self {
            Self::Checkpoint(text) => out.raw(text.as_str().as_bytes()),
            Self::Report(json) => out.raw(json.as_str().as_bytes()),
            Self::Evidence(bytes) | Self::Ask(bytes) => return bytes.clone(),
            Self::Want(digests) => digests.iter().for_each(|digest| out.raw(&digest.0)),
            Self::Letter(letter) => return write_letter(letter, out),
        }
        Bytes::new()
    }

    fn read(code: u8, body: &Bytes) -> Result<Option<Self>, FrameFault> {
        Ok(Some(match code {
            CHECKPOINT => Self::Checkpoint(Body::new("checkpoint", body).text_to_end()?),
            REPORT => Self::Report(Body::new("report", body).text_to_end()?),
            EVIDENCE => Self::Evidence(body.clone()),
            ASK => Self::Ask(short("ask", body)?),
            WANT => Self::Want(read_digests(body)?),
            BOX_LETTER => return Ok(read_letter(body)?.map(Self::Letter)),
            _ => return Ok(None),
        }))
    }
}

/// The contracts that a box wants to read.
fn read_digests(bytes: &Bytes) -> Result<Vec<Digest>, FrameFault> {
    let mut body = Body::new("want", bytes);
    let count = bytes.len() / 32;
    if count > WANTED_MAX {
        return Err(body.value("the number of contracts", count as u64));
    }
    let digests: Result<Vec<Digest>, FrameFault> = (0..count).map(|_| body.digest()).collect();
    body.end()?;
    digests
}

fn contract_bytes(frame: &'static str, body: &Bytes) -> Result<Bytes, FrameFault> {
    match body.len() <= CONTRACTS_BYTES_MAX {
        true => Ok(body.clone()),
        false => Err(Body::new(frame, body).value("its length", body.len() as u64)),
    }
}

/// Topic, ticket (u32, big-endian), then the letter itself.
fn write_letter(letter: &Letter, out: &mut Writer) -> Bytes {
    out.u8(letter.topic.code());
    out.raw(&letter.ticket.to_be_bytes());
    letter.body.clone()
}

/// `None` for a topic that only a newer program knows.
fn read_letter(bytes: &Bytes) -> Result<Option<Letter>, FrameFault> {
    let mut body = Body::new("letter", bytes);
    let code = body.u8()?;
    let mut ticket = [0; 4];
    for byte in &mut ticket {
        *byte = body.u8()?;
    }
    let letter = bytes.slice(LETTER_HEAD_BYTES..);
    if letter.len() > LETTER_BYTES_MAX {
        return Err(body.value("its length", letter.len() as u64));
    }
    let ticket = u32::from_be_bytes(ticket);
    Ok(Topic::from_code(code).map(|topic| Letter { topic, ticket, body: letter }))
}

/// Bytes that the link does not look into.
fn short(frame: &'static str, body: &Bytes) -> Result<Bytes, FrameFault> {
    match body.len() <= ASK_BYTES_MAX {
        true => Ok(body.clone()),
        false => Err(Body::new(frame, body).value("its length", body.len() as u64)),
    }
}

const CHECKPOINT_SEEN: u8 = 0x31;
const GOODBYE: u8 = 0x32;
const CHALLENGE: u8 = 0x33;
const VERDICT: u8 = 0x34;
const ANSWER: u8 = 0x35;
const ROSTER: u8 = 0x36;
const DOCUMENT: u8 = 0x37;
const SPACE_LETTER: u8 = 0x38 | SKIPPABLE;

impl Wire for SpaceNote {
    const BYTES_MAX: usize = SPACE_NOTE_BYTES_MAX;
    const SKIPS: bool = true;

    fn code(&self) -> u8 {
        match self {
            Self::CheckpointSeen { .. } => CHECKPOINT_SEEN,
            Self::Goodbye(_) => GOODBYE,
            Self::Challenge(_) => CHALLENGE,
            Self::Verdict { .. } => VERDICT,
            Self::Answer(_) => ANSWER,
            Self::Roster(_) => ROSTER,
            Self::Document(_) => DOCUMENT,
            Self::Letter(_) => SPACE_LETTER,
        }
    }

    fn write(&self, out: &mut Writer) -> Bytes {
        match self {
            Self::CheckpointSeen { size } => out.varint(*size),
            Self::Goodbye(goodbye) => {
                out.u8(goodbye.code.code());
                out.text(goodbye.text.as_str());
                let millis = goodbye.retry_after.as_millis();
                out.varint(u64::try_from(millis).unwrap_or(u64::MAX));
            }
            Self::Challenge(question) => {
                out.raw(&question.nonce);
                out.varint(question.ima_start);
                out.raw(&question.ima_value.0);
                out.raw(&question.boot_log.0);
            }
            Self::Verdict { outcome, document } => {
                out.u8(outcome.code());
                return document.clone();
            }
            Self::Answer(bytes) | Self::Roster(bytes) | Self::Document(bytes) => {
                return bytes.clone();
            }
            Self::Letter(letter) => return write_letter(letter, out),
        }
        Bytes::new()
    }

    fn read(code: u8, body: &Bytes) -> Result<Option<Self>, FrameFault> {
        Ok(Some(match code {
            CHECKPOINT_SEEN => {
                let mut body = Body::new("checkpoint-seen", body);
                let size = body.varint()?;
                body.end()?;
                Self::CheckpointSeen { size }
            }
            GOODBYE => {
                let mut body = Body::new("goodbye", body);
                let code = CloseCode::from_code(body.u8()?);
                let text = body.text()?;
                let retry_after = Duration::from_millis(body.varint()?);
                body.end()?;
                Self::Goodbye(Goodbye { code, text, retry_after })
            }
            CHALLENGE => {
                let mut body = Body::new("challenge", body);
                let (nonce, ima_start) = (body.nonce()?, body.varint()?);
                let (ima_value, boot_log) = (Digest(body.nonce()?), Digest(body.nonce()?));
                body.end()?;
                Self::Challenge(Question { nonce, ima_start, ima_value, boot_log })
            }
            VERDICT => {
                let outcome = GateOutcome::from_code(Body::new("verdict", body).u8()?);
                let document = body.slice(1..);
                if document.len() > VERDICT_BYTES_MAX {
                    let length = document.len() as u64;
                    return Err(Body::new("verdict", body).value("the verdict's length", length));
                }
                Self::Verdict { outcome, document }
            }
            ROSTER => Self::Roster(contract_bytes("roster", body)?),
            DOCUMENT => Self::Document(contract_bytes("document", body)?),
            ANSWER => Self::Answer(short("answer", body)?),
            SPACE_LETTER => return Ok(read_letter(body)?.map(Self::Letter)),
            _ => return Ok(None),
        }))
    }
}
