//! What waits in the spool as a file for a medium: a session's frames, as far as they may leave.
//!
//! It reads beside the writer and the link, each stream from what the space has on, in order, backlogs before what
//! overtook them: a stream ends at its first batch that is held. Nothing is released here.
//!
//! Never here: files' names, the log, who asked.

use crate::leaving::{Door, Envelope, EnvelopeFault, Held};
use crate::vault::{Vault, VaultFault};
use bytes::Bytes;
use guan_carry::{CarryFault, CarryKey, CarryWriter, Header};
use guan_link::{
    BoxFrame, EncodedBatch, Gap, Hello, Item, Offer, OfferFault, STREAMS_MAX, StreamRange, VERSIONS,
};
use guan_model::{BatchSeq, BoxId, ContractId, Now, SpoolId, StreamId};
use guan_policy::Leave;
use guan_spool::{Disk, Item as Stored, SpoolError, SpoolReader, StoredBatch};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

/// Largest file unless another limit is asked for: FAT32 has no larger ones.
pub const BYTES_MAX_DEFAULT: u64 = u32::MAX as u64;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    #[error(transparent)]
    File(#[from] CarryFault),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Vault(#[from] VaultFault),
    #[error(transparent)]
    Envelope(#[from] EnvelopeFault),
    #[error("too many streams are asked for; name one with --stream or --contract")]
    Streams(#[from] OfferFault),
    #[error("guan stops; what was written counts for nothing, export again")]
    Stopped,
}

/// What went into the file of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub stream: StreamId,
    pub contract: Option<ContractId>,
    pub from: BatchSeq,
    pub through: BatchSeq,
    pub batches: u64,
    pub gaps: u64,
    pub rows: u64,
}

/// A stream that ends in the file before its newest batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    pub stream: StreamId,
    pub contract: Option<ContractId>,
    /// The first batch that is not in the file.
    pub seq: BatchSeq,
    pub why: Held,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub parts: Vec<Part>,
    pub withheld: Vec<Withheld>,
    /// The file has its limit, and more waits.
    pub is_full: bool,
}

/// What is asked for.
pub struct Wanted {
    pub streams: BTreeSet<StreamId>,
    pub key: CarryKey,
    pub bytes_max: u64,
}

/// Reads the spool for files.
pub struct Exporter<D: Disk> {
    pub reader: SpoolReader<D>,
    pub box_id: BoxId,
    pub spool: SpoolId,
    /// Those of [`crate::tables::keep`].
    pub tables: Vec<Bytes>,
    pub door: Door,
    pub vault: Vault,
    pub clock: Box<dyn FnMut() -> Now + Send>,
}

impl<D: Disk> Exporter<D> {
    /// Writes all but the end. `told` hears of each item, with the file's bytes, and says whether to go on.
    pub fn collect<W: Write>(
        &mut self,
        wanted: &Wanted,
        out: W,
        told: &mut dyn FnMut(&CarryWriter<W>) -> bool,
    ) -> Result<(CarryWriter<W>, Collected), ExportFault> {
        let header = Header {
            box_id: self.box_id.clone(),
            spool: self.spool,
            space: wanted.key.space.clone(),
            key: wanted.key.id(),
        };
        let mut writer = CarryWriter::begin(out, &header, &wanted.key.public)?;
        let ranges = self.ranges(&wanted.streams);
        let offer = Offer::new(self.spool, self.offered(&ranges))?;
        writer.put(&BoxFrame::Hello(Hello { versions: VERSIONS, offer }))?;
        for table in &self.tables {
            writer.put(&BoxFrame::Descriptors(table.clone()))?;
        }
        let mut collected = Collected::default();
        for range in ranges {
            if collected.is_full {
                break;
            }
            self.collect_stream(range, wanted.bytes_max, &mut writer, &mut collected, told)?;
        }
        Ok((writer, collected))
    }

    /// A part of a file that may not leave any more: what stands may have changed while the file was written.
    pub fn held_since(&mut self, parts: &[Part]) -> Option<Withheld> {
        let now = (self.clock)();
        // What the space has by now is in no danger; its lane may be closed.
        let waits = |part: &&Part| self.reader.acknowledged(part.stream) < part.through;
        parts.iter().filter(waits).find_map(|part| {
            let why = self.door.held_on_medium(part.stream, &now)?;
            let (stream, contract, seq) = (part.stream, part.contract.clone(), part.from);
            Some(Withheld { stream, contract, seq, why })
        })
    }

    /// What waits in the streams that are asked for, as of now: what comes meanwhile is for the next file. Backlogs
    /// first: what has no room in the file is then the newest of a contract.
    fn ranges(&self, streams: &BTreeSet<StreamId>) -> Vec<StreamRange> {
        let range = |id: &StreamId| StreamRange {
            id: *id,
            oldest_unreleased: self.reader.acknowledged(*id).next(),
            newest: self.reader.newest(*id),
        };
        let waits = |range: &StreamRange| range.oldest_unreleased <= range.newest;
        let ranges = streams.iter().map(range).filter(waits).collect();
        backlogs_first(ranges, |id| self.door.is_resting(id))
    }

    /// Those, and how far all other streams are released: so the space learns which receipts have come here.
    fn offered(&self, asked: &[StreamRange]) -> Vec<StreamRange> {
        let all = self.reader.streams().into_iter().map(|id| StreamRange {
            id,
            oldest_unreleased: self.reader.acknowledged(id).next(),
            newest: self.reader.newest(id),
        });
        with_others(asked, all)
    }

    fn collect_stream<W: Write>(
        &mut self,
        range: StreamRange,
        bytes_max: u64,
        writer: &mut CarryWriter<W>,
        collected: &mut Collected,
        told: &mut dyn FnMut(&CarryWriter<W>) -> bool,
    ) -> Result<(), ExportFault> {
        let (stream, contract) = (range.id, self.door.contract_of(range.id));
        let mut part: Option<Part> = None;
        let mut after = BatchSeq(range.oldest_unreleased.0 - 1);
        let mut held = None;
        while after < range.newest {
            // The link, or a receipt, may release batches meanwhile; those are in the space.
            after = after.max(self.reader.acknowledged(stream));
            let Some(stored) = self.reader.next(stream, after)? else { break };
            let item = match self.take(stream, stored)? {
                Taken::Item(item) => item,
                Taken::Released => continue,
                Taken::Held(why) => {
                    held = Some(why);
                    break;
                }
            };
            if !writer.has_room(&item, bytes_max) {
                collected.is_full = true;
                break;
            }
            let (from, rows) = (item.from(), item.rows());
            after = item.through();
            let is_batch = matches!(item, Item::Batch(_));
            writer.put(&BoxFrame::Item(stream, item))?;
            let part = part.get_or_insert_with(|| Part {
                stream,
                contract: contract.clone(),
                from,
                through: after,
                batches: 0,
                gaps: 0,
                rows: 0,
            });
            part.through = after;
            match is_batch {
                true => (part.batches, part.rows) = (part.batches + 1, part.rows + rows),
                false => part.gaps += 1,
            }
            if !told(writer) {
                return Err(ExportFault::Stopped);
            }
        }
        collected.parts.extend(part);
        let seq = after.next();
        collected.withheld.extend(held.map(|why| Withheld { stream, contract, seq, why }));
        Ok(())
    }

    fn take(&mut self, stream: StreamId, stored: Stored) -> Result<Taken, ExportFault> {
        let batch = match stored {
            Stored::Gap(gap) if self.reader.acknowledged(stream) >= gap.from => {
                return Ok(Taken::Released);
            }
            Stored::Gap(gap) => {
                return Ok(Taken::Item(Item::Gap(Gap {
                    from: gap.from,
                    through: gap.through,
                    rows: gap.rows,
                    reason: gap.reason as u8,
                })));
            }
            Stored::Batch(batch) => batch,
        };
        let now = (self.clock)();
        match self.door.held_on_medium(stream, &now) {
            Some(why) => Ok(Taken::Held(why)),
            None => self.leave(now, batch),
        }
    }

    /// The batch in the clear, if it may go.
    fn leave(&mut self, now: Now, batch: StoredBatch) -> Result<Taken, ExportFault> {
        let Some(envelope) = Envelope::decode(&batch.meta.terms)? else {
            return Ok(Taken::Held(Held::NoContract));
        };
        let leave = self.door.judge_on_medium(&envelope.terms, now);
        match leave.map_err(EnvelopeFault::from)? {
            Leave::Now => {}
            // Nothing is given up for it: what no medium may take may still leave over the link, and what stands
            // before it in the file waits for its receipt.
            Leave::Hold(rule) | Leave::Never(rule) => return Ok(Taken::Held(Held::Rule(rule))),
        }
        let bytes = match self.vault.open_batch(&envelope.contract, &batch.bytes) {
            Ok(bytes) => bytes,
            // It was shredded while we read.
            Err(VaultFault::Destroyed { .. }) => return Ok(Taken::Held(Held::Ended)),
            Err(fault) => return Err(fault.into()),
        };
        Ok(Taken::Item(Item::Batch(EncodedBatch {
            seq: batch.seq,
            dataset: batch.meta.dataset,
            contract: batch.meta.contract,
            rows: batch.meta.rows,
            digest: batch.meta.digest,
            bytes: bytes.into(),
        })))
    }
}

fn backlogs_first(
    mut ranges: Vec<StreamRange>,
    is_resting: impl Fn(StreamId) -> bool,
) -> Vec<StreamRange> {
    ranges.sort_by_key(|range| (!is_resting(range.id), range.id));
    ranges
}

/// What is asked for, and as many others as an offer has room for; in the order of an offer.
fn with_others(asked: &[StreamRange], all: impl Iterator<Item = StreamRange>) -> Vec<StreamRange> {
    let others = all.filter(|other| asked.iter().all(|range| range.id != other.id));
    let others = others.take(STREAMS_MAX.saturating_sub(asked.len()));
    let mut offered: Vec<StreamRange> = asked.iter().copied().chain(others).collect();
    offered.sort_by_key(|range| range.id);
    offered
}

/// What becomes of the next item of a stream.
enum Taken {
    Item(Item),
    /// The space has it by now.
    Released,
    Held(Held),
}

impl Withheld {
    /// For people, with what to do where something helps.
    pub fn remedy(&self) -> Option<&'static str> {
        match self.why {
            Held::Unconfirmed | Held::LeaseOver => Some(
                "bring a new set: `guan-space contract carry` at the space, `guan contract import` here",
            ),
            Held::ClockNotSet => Some("set the clock"),
            _ => None,
        }
    }
}

/// A reader that tasks share.
pub type SharedExporter<D> = Arc<std::sync::Mutex<Exporter<D>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn range(id: u16) -> StreamRange {
        StreamRange { id: StreamId(id), oldest_unreleased: BatchSeq(1), newest: BatchSeq(9) }
    }

    #[test]
    fn the_backlog_of_a_contract_goes_before_what_overtook_it() {
        let ranges = [10, 17, 18, 26].map(range).to_vec();
        let ordered = backlogs_first(ranges, |id| [18, 26].contains(&id.0));
        assert_eq!(ordered.iter().map(|range| range.id.0).collect::<Vec<_>>(), [18, 26, 10, 17]);
    }

    #[test]
    fn an_offer_tells_of_all_streams_as_far_as_it_has_room() {
        let ids = |offered: Vec<StreamRange>| -> Vec<u16> {
            offered.iter().map(|range| range.id.0).collect()
        };
        let all = || [2, 10, 18].map(range).into_iter();
        assert_eq!(ids(with_others(&[range(18), range(10)], all())), [2, 10, 18]);
        let limit = u16::try_from(STREAMS_MAX).unwrap();
        let asked: Vec<StreamRange> = (1..limit).map(|id| range(id + 100)).collect();
        let offered = with_others(&asked, all());
        assert_eq!((offered.len(), offered[0].id), (STREAMS_MAX, StreamId(2)));
        Offer::new(SpoolId([7; 16]), offered).unwrap();
        // Too many are for the offer to refuse.
        let asked: Vec<StreamRange> = (0..=limit).map(range).collect();
        assert_eq!(with_others(&asked, all()).len(), STREAMS_MAX + 1);
    }
}
