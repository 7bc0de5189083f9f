//! Tells boxes which of their batches the space's log says it received (Topic::Received), so that each of
//! the two logs holds the other.
//!
//! Batches are counted per stream with the right edge of a tree, so that it costs the same memory however
//! many there are. What finds no session waits; what is sent and lost with a session is not sent again.

use crate::store::Logged;
use bytes::Bytes;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{Forwarded, Leaf, LeafBody, Tree};
use guan_model::{BatchSeq, BootNumber, BoxId, Digest, Now, SpoolId, StreamId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A box gets at most one such letter in this time.
pub const RECEIVED_INTERVAL: Duration = Duration::from_secs(5);
/// Most ranges that wait for one box; later ones push out earlier ones.
pub const RANGES_MAX: usize = BUNDLE_LEAVES_MAX;
/// Most boxes for which ranges wait.
pub const BOXES_MAX: usize = 4096;

/// Batches of a stream that follow one another.
#[derive(Debug)]
struct Range {
    spool: SpoolId,
    stream: StreamId,
    from: BatchSeq,
    through: BatchSeq,
    origin: String,
    first: u64,
    last: u64,
    tree: Tree,
}

impl Range {
    fn begin(one: &Logged) -> Self {
        let mut tree = Tree::new();
        tree.append(one.leaf);
        Self {
            spool: one.spool,
            stream: one.stream,
            from: one.seq,
            through: one.seq,
            origin: one.origin.clone(),
            first: one.index,
            last: one.index,
            tree,
        }
    }

    fn is_followed_by(&self, one: &Logged) -> bool {
        (self.spool, self.stream) == (one.spool, one.stream)
            && self.origin == one.origin
            && self.through.next() == one.seq
    }

    fn extend(&mut self, seq: BatchSeq, index: u64, leaf: Digest) {
        (self.through, self.last) = (seq, index);
        self.tree.append(leaf);
    }

    fn forwarded(&self) -> Forwarded {
        Forwarded {
            stream: self.stream,
            from: self.from,
            through: self.through,
            log: self.origin.clone(),
            first: self.first,
            last: self.last,
            root: self.tree.root(),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    ranges: Vec<Range>,
    told_at: Option<Duration>,
}

/// What waits to be told; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<BoxId, Waiting>>>);

impl Tally {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<BoxId, Waiting>> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// Leaves of a commit that is through.
    pub fn add(&self, logged: Vec<Logged>) {
        let mut all = self.waiting();
        for one in logged {
            if all.len() >= BOXES_MAX && !all.contains_key(&one.box_id) {
                tracing::debug!(box_id = %one.box_id, "too many boxes wait to be told");
                continue;
            }
            let waiting = all.entry(one.box_id.clone()).or_default();
            let same = waiting.ranges.iter_mut().rev();
            match same.into_iter().find(|range| range.is_followed_by(&one)) {
                Some(range) => range.extend(one.seq, one.index, one.leaf),
                None => {
                    if waiting.ranges.len() == RANGES_MAX {
                        waiting.ranges.remove(0);
                    }
                    waiting.ranges.push(Range::begin(&one));
                }
            }
        }
    }

    /// The letter that is due for a box with a session; `None`: not yet, or there is nothing to say.
    pub fn poll(&self, box_id: &BoxId, now: &Now) -> Option<Bytes> {
        let mut all = self.waiting();
        let waiting = all.get_mut(box_id)?;
        let is_early = waiting.told_at.is_some_and(|at| now.monotonic < at + RECEIVED_INTERVAL);
        if is_early {
            return None;
        }
        if waiting.ranges.is_empty() {
            all.remove(box_id);
            return None;
        }
        waiting.told_at = Some(now.monotonic);
        Some(Self::letter(&std::mem::take(&mut waiting.ranges), now))
    }

    /// All that waits for a box, for a receipt that goes another way; the link is not told of it any more.
    pub fn take(&self, box_id: &BoxId, now: &Now) -> Option<Bytes> {
        let waiting = self.waiting().remove(box_id)?;
        (!waiting.ranges.is_empty()).then(|| Self::letter(&waiting.ranges, now))
    }

    fn letter(ranges: &[Range], now: &Now) -> Bytes {
        let leaves = (0..).zip(ranges).map(|(number, range)| {
            Leaf::new(now, number, BootNumber(1), LeafBody::Forwarded(range.forwarded())).encode()
        });
        let leaves: Vec<Vec<u8>> = leaves.collect();
        bundle::encode(&leaves).expect("ranges are bounded as bundles are").into()
    }

    /// The boxes for which something waits.
    pub fn boxes(&self) -> Vec<BoxId> {
        self.waiting().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::leaf_hash;
    use guan_link::LETTER_BYTES_MAX;
    use guan_model::{ClockQuality, WallTime};

    fn logged(stream: u16, seq: u64, index: u64) -> Logged {
        Logged {
            box_id: BoxId::parse("box-1").unwrap(),
            spool: SpoolId([1; 16]),
            stream: StreamId(stream),
            seq: BatchSeq(seq),
            origin: "guan-space/s".to_owned(),
            index,
            leaf: leaf_hash(&index.to_be_bytes()),
        }
    }

    fn now(seconds: u64) -> Now {
        let wall = WallTime::from_seconds(1_800_000_000);
        Now { wall, monotonic: Duration::from_secs(seconds), quality: ClockQuality::Ntp }
    }

    fn told(tally: &Tally, seconds: u64) -> Option<Vec<Forwarded>> {
        let letter = tally.poll(&BoxId::parse("box-1").unwrap(), &now(seconds))?;
        assert!(letter.len() <= LETTER_BYTES_MAX);
        let leaves = bundle::decode(&letter).unwrap();
        let said = leaves.into_iter().map(|leaf| match Leaf::decode(leaf).unwrap().body {
            LeafBody::Forwarded(forwarded) => forwarded,
            other => panic!("{other:?}"),
        });
        Some(said.collect())
    }

    #[test]
    fn batches_are_told_by_stream_and_not_too_often() {
        let tally = Tally::default();
        tally.add(vec![logged(1, 1, 7), logged(2, 5, 8), logged(1, 2, 9)]);
        tally.add(vec![logged(1, 3, 12), logged(1, 5, 13)]);
        let said = told(&tally, 0).unwrap();
        let place =
            |one: &Forwarded| (one.stream.0, one.from.0, one.through.0, one.first, one.last);
        let places: Vec<_> = said.iter().map(place).collect();
        // Batch 4 was a gap: no leaf speaks of it, so it stands in no range.
        assert_eq!(places, [(1, 1, 3, 7, 12), (2, 5, 5, 8, 8), (1, 5, 5, 13, 13)]);
        let mut tree = Tree::new();
        [7_u64, 9, 12].iter().for_each(|index| {
            tree.append(leaf_hash(&index.to_be_bytes()));
        });
        assert_eq!(said[0].root, tree.root());
        tally.add(vec![logged(1, 6, 14)]);
        assert_eq!(told(&tally, 4), None);
        assert_eq!(told(&tally, 5).unwrap().len(), 1);
        assert_eq!(told(&tally, 10), None);
        assert!(tally.boxes().is_empty(), "nothing is kept for a box to which all was said");
        // A receipt on a medium does not wait for the next letter's time.
        tally.add(vec![logged(1, 7, 15)]);
        assert_eq!(told(&tally, 20).unwrap().len(), 1);
        tally.add(vec![logged(1, 8, 16)]);
        let box_id = BoxId::parse("box-1").unwrap();
        assert!(told(&tally, 21).is_none() && tally.take(&box_id, &now(21)).is_some());
        assert!(tally.take(&box_id, &now(99)).is_none() && told(&tally, 99).is_none());
    }

    #[test]
    fn the_newest_ranges_are_kept() {
        let tally = Tally::default();
        let all = (0..=RANGES_MAX as u64).map(|number| logged(1, 2 * number + 1, number));
        tally.add(all.collect());
        let said = told(&tally, 0).unwrap();
        assert_eq!((said.len(), said[0].first), (RANGES_MAX, 1));
    }
}
