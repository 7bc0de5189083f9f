//! Acks that follow each other closely are said together, and never so late that the box has to wait for them.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_link::frame::Pipe;
use guan_link::hold::ACK_HOLD;
use guan_link::receiver::{UNSAID_BYTES_MAX, UNSAID_ITEMS_MAX};
use guan_link::{
    BoxFrame, EncodedBatch, Hello, Item, Offer, Receiver, SpaceFrame, StreamRange, VERSIONS,
};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use std::time::Duration;

const STREAMS: [StreamId; 2] = [StreamId(1), StreamId(2)];
const NOW: Duration = Duration::from_secs(1);

fn receiver() -> Receiver {
    let range = |id| StreamRange { id, oldest_unreleased: BatchSeq(1), newest: BatchSeq(9) };
    let offer = Offer::new(SpoolId([7; 16]), STREAMS.map(range).to_vec()).unwrap();
    let mut receiver = Receiver::new(NOW, VERSIONS);
    let hello = BoxFrame::Hello(Hello { versions: VERSIONS, offer });
    receiver.handle_piped(Pipe::Data, hello).unwrap();
    receiver.handle_cursors(&[]);
    assert!(matches!(receiver.poll_frame(NOW), Some(SpaceFrame::Welcome(_))));
    receiver
}

/// A batch of so many bytes arrives and is durable at once.
fn store(receiver: &mut Receiver, stream: StreamId, seq: u64, length: usize) {
    let bytes = Bytes::from(vec![7; length]);
    let batch = EncodedBatch {
        seq: BatchSeq(seq),
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse("c").unwrap(),
        rows: 1,
        digest: Digest::of(&bytes),
        bytes,
    };
    receiver.handle_piped(Pipe::Data, BoxFrame::Item(stream, Item::Batch(batch))).unwrap();
    receiver.handle_durable(stream, BatchSeq(seq));
}

/// Places that are acknowledged now.
fn said(receiver: &mut Receiver, now: Duration) -> Vec<(u16, u64)> {
    let frames = std::iter::from_fn(|| receiver.poll_frame(now));
    frames
        .map(|frame| match frame {
            SpaceFrame::Ack(ack) => (ack.cursor.stream.0, ack.cursor.through.0),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_first_ack_goes_at_once_and_others_together() {
    let mut receiver = receiver();
    store(&mut receiver, STREAMS[0], 1, 10);
    assert_eq!(said(&mut receiver, NOW), [(1, 1)]);
    store(&mut receiver, STREAMS[0], 2, 10);
    store(&mut receiver, STREAMS[0], 3, 10);
    store(&mut receiver, STREAMS[1], 1, 10);
    let due = NOW + ACK_HOLD;
    assert_eq!(said(&mut receiver, NOW), []);
    assert_eq!(receiver.poll_timeout(NOW), Some(due));
    assert_eq!(said(&mut receiver, due - Duration::from_nanos(1)), []);
    assert_eq!(said(&mut receiver, due), [(1, 3), (2, 1)]);
    assert_eq!(receiver.poll_timeout(due), None);
    // What comes rarely never waits.
    store(&mut receiver, STREAMS[0], 4, 10);
    assert_eq!(said(&mut receiver, due + ACK_HOLD), [(1, 4)]);
}

#[test]
fn many_items_and_many_bytes_do_not_wait() {
    let check = |count: usize, length: usize, is_said: bool| {
        let mut receiver = receiver();
        store(&mut receiver, STREAMS[0], 1, 10);
        assert_eq!(said(&mut receiver, NOW), [(1, 1)]);
        let last = 1 + count as u64;
        for seq in 2..=last {
            store(&mut receiver, STREAMS[0], seq, length);
        }
        let expect = if is_said { vec![(1, last)] } else { vec![] };
        assert_eq!(said(&mut receiver, NOW), expect, "{count} of {length} bytes");
    };
    check(UNSAID_ITEMS_MAX - 1, 10, false);
    check(UNSAID_ITEMS_MAX, 10, true);
    let cost = usize::try_from(guan_link::frame::ITEM_COST_BYTES).unwrap();
    let length = usize::try_from(UNSAID_BYTES_MAX).unwrap() - cost;
    check(1, length - 1, false);
    check(1, length, true);
}
