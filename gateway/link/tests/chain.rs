//! Hostile and impossible chains end the session with a fault that names the batch.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_codec::Squeeze;
use guan_codec::chain::{ChainFault, ChainWriter};
use guan_link::chain::{EPOCH_BYTES_MAX, UnchainFault};
use guan_link::frame::{CHECK_BYTES, ITEM_COST_BYTES, Pipe};
use guan_link::{
    Ack, BoxFrame, Chained, Cursor, EncodedBatch, Hello, Item, Offer, PeerFault, PeerMisbehaved,
    RECEIVE_WINDOW_BYTES, Receiver, ReceiverEvent, Sender, SpaceFrame, StreamRange, VERSIONS,
    Versions, Welcome,
};
use guan_model::bytes_io::Writer;
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use std::time::Duration;

const STREAM: StreamId = StreamId(1);
const NOW: Duration = Duration::ZERO;

fn offer(newest: u64) -> Offer {
    let newest = BatchSeq(newest);
    let range = StreamRange { id: STREAM, oldest_unreleased: BatchSeq(1), newest };
    Offer::new(SpoolId([7; 16]), vec![range]).unwrap()
}

fn receiver(versions: Versions) -> Receiver {
    let mut receiver = Receiver::new(NOW, VERSIONS);
    let hello = BoxFrame::Hello(Hello { versions, offer: offer(9) });
    receiver.handle_piped(Pipe::Data, hello).unwrap();
    receiver.handle_cursors(&[]);
    receiver
}

/// What is told of a batch.
fn message(dataset: &str, rows: u64, plain: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(dataset);
    out.text("C-1");
    out.varint(rows);
    out.raw(plain);
    out.finish()
}

fn told(seq: u64, begins: bool, message: &[u8], digest: Digest) -> Chained {
    let piece = Bytes::from(ChainWriter::new(Squeeze::Usual).write(message));
    let (seq, length) = (BatchSeq(seq), u32::try_from(message.len()).unwrap());
    Chained { seq, begins, length, check: digest.0[..CHECK_BYTES].try_into().unwrap(), piece }
}

#[test]
fn what_cannot_be_is_a_fault_of_the_box() {
    let (plain, digest) = (b"plain", Digest::of(b"plain"));
    let good = told(1, true, &message("d", 3, plain), digest);
    let check = |chained: Chained, versions, fault: fn(&PeerMisbehaved) -> bool| {
        let mut receiver = receiver(versions);
        let outcome = receiver.handle_piped(Pipe::Data, BoxFrame::Chained(STREAM, chained));
        let Err(PeerFault::Misbehaved(found)) = outcome else { panic!("{outcome:?}") };
        assert!(fault(&found), "{found:?}");
        let again = receiver.handle_piped(Pipe::Data, BoxFrame::Descriptors(Bytes::new()));
        assert_eq!(again, Ok(()), "the session is over and says nothing more");
        assert_eq!(receiver.poll_event(), None);
    };
    macro_rules! unchain {
        ($chained:expr, $fault:pat) => {
            check($chained, VERSIONS, |found| {
                matches!(found, PeerMisbehaved::Chain { fault: $fault, .. })
            });
        };
    }
    let old = Versions { min: 1, max: 1 };
    check(good.clone(), old, |found| {
        matches!(found, PeerMisbehaved::ChainUnknown { version: 1, .. })
    });
    unchain!(Chained { begins: false, ..good.clone() }, UnchainFault::NotBegun);
    unchain!(Chained { check: [0; CHECK_BYTES], ..good.clone() }, UnchainFault::Check);
    let length = good.length + 1;
    unchain!(Chained { length, ..good.clone() }, UnchainFault::Chain(ChainFault::Length { .. }));
    let length = good.length - 1;
    unchain!(Chained { length, ..good.clone() }, UnchainFault::Chain(ChainFault::Surplus { .. }));
    let piece = Bytes::from_static(b"no piece");
    unchain!(Chained { piece, ..good.clone() }, UnchainFault::Chain(ChainFault::Inflate));
    unchain!(told(1, true, &message("no name", 3, plain), digest), UnchainFault::Name(_));
    unchain!(told(1, true, &message("d", 1 << 32, plain), digest), UnchainFault::Rows { .. });
    unchain!(told(1, true, b"\x09", digest), UnchainFault::Read(_));
    // The chain is of its pipe: on the other one it has not begun.
    let mut receiver = receiver(VERSIONS);
    receiver.handle_piped(Pipe::Live, BoxFrame::Chained(STREAM, good.clone())).unwrap();
    let next = Chained { begins: false, seq: BatchSeq(2), ..good };
    assert!(receiver.handle_piped(Pipe::Data, BoxFrame::Chained(STREAM, next)).is_err());
}

/// What the space holds of a box is bounded by the length of what was told, however small its piece is.
#[test]
fn a_bomb_runs_into_the_credit() {
    let plain = vec![0; 1 << 19];
    let message = message("d", 3, &plain);
    let cost = ITEM_COST_BYTES + message.len() as u64;
    let fit = RECEIVE_WINDOW_BYTES / cost;
    let (mut receiver, mut writer) = (receiver(VERSIONS), ChainWriter::new(Squeeze::Usual));
    for seq in 1..=fit + 1 {
        let piece = Bytes::from(writer.write(&message));
        assert!(piece.len() < 200);
        let chained =
            Chained { begins: seq == 1, piece, ..told(seq, false, &message, Digest::of(&plain)) };
        let outcome = receiver.handle_piped(Pipe::Data, BoxFrame::Chained(STREAM, chained));
        assert_eq!(outcome.is_ok(), seq <= fit, "batch {seq} of {fit}");
    }
}

#[test]
fn what_is_repeated_is_inflated_and_not_unpacked() {
    let (plain, digest) = (b"plain", Digest::of(b"plain"));
    let message = message("d", 3, plain);
    let (mut receiver, mut writer) = (receiver(VERSIONS), ChainWriter::new(Squeeze::Usual));
    let mut tell = |seq, begins, digest| {
        let piece = Bytes::from(writer.write(&message));
        let chained = Chained { piece, ..told(seq, begins, &message, digest) };
        receiver.handle_piped(Pipe::Data, BoxFrame::Chained(STREAM, chained))
    };
    tell(1, true, digest).unwrap();
    tell(1, false, Digest([0; 32])).expect("its digest is not looked at");
    tell(2, false, digest).expect("the chain goes on");
    tell(3, false, Digest([0; 32])).unwrap_err();
    assert_eq!(receiver.duplicates(), 1);
}

#[test]
fn what_exceeds_the_credit_is_not_inflated() {
    let digest = Digest::of(b"plain");
    let good = told(1, true, &message("d", 3, b"plain"), digest);
    let piece = Bytes::from_static(b"no piece");
    let chained = Chained { piece, length: u32::MAX, ..good };
    let outcome = receiver(VERSIONS).handle_piped(Pipe::Data, BoxFrame::Chained(STREAM, chained));
    let exceeded =
        matches!(outcome, Err(PeerFault::Misbehaved(PeerMisbehaved::CreditExceeded { .. })));
    assert!(exceeded, "{outcome:?}");
}

/// Sends batches of so many canonical bytes; gives the frames.
fn send(count: u64, length: usize, welcomed: u16) -> Vec<BoxFrame> {
    send_by(std::convert::identity, count, length, welcomed)
}

fn send_by(
    set: impl FnOnce(Sender) -> Sender,
    count: u64,
    length: usize,
    welcomed: u16,
) -> Vec<BoxFrame> {
    let mut sender = set(Sender::new(NOW, VERSIONS, offer(count)));
    sender.poll_piped().unwrap();
    let cursors = vec![Cursor { stream: STREAM, through: BatchSeq::ZERO }];
    let welcome = Welcome { version: welcomed, cursors, credit_bytes: u64::MAX };
    sender.handle_frame(NOW, SpaceFrame::Welcome(welcome)).unwrap();
    let mut frames = Vec::new();
    for seq in 1..=count {
        let plain = vec![u8::try_from(seq % 7).unwrap(); length];
        let batch = EncodedBatch {
            seq: BatchSeq(seq),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse("C-1").unwrap(),
            rows: 3,
            digest: Digest::of(&plain),
            bytes: guan_codec::pack(&plain).into(),
        };
        let want = sender.poll_want().unwrap();
        sender.handle_item(NOW, want, Item::Batch(batch)).unwrap();
        frames.extend(std::iter::from_fn(|| sender.poll_piped()).map(|(_, frame)| frame));
        let cursor = Cursor { stream: STREAM, through: BatchSeq(seq) };
        sender.handle_frame(NOW, SpaceFrame::Ack(Ack { cursor, credit_bytes: u64::MAX })).unwrap();
    }
    frames
}

#[test]
fn batches_go_in_a_chain_up_to_the_limit_and_where_both_know_chains() {
    let check = |length, welcomed, is_chained: bool| {
        let frames = send(1, length, welcomed);
        let found = matches!(frames[..], [BoxFrame::Chained(..)]);
        assert_eq!(found, is_chained, "{length} bytes in version {welcomed}");
    };
    check(100, 1, false);
    check(100, 2, true);
    check(guan_link::chain::CHAINED_BYTES_MAX, 2, true);
    check(guan_link::chain::CHAINED_BYTES_MAX + 1, 2, false);
}

/// For a space that made something else of the chain.
#[test]
fn batches_go_alone_where_the_owner_wants_no_chains() {
    let frames = send_by(Sender::without_chains, 3, 100, 2);
    assert!(frames.iter().all(|frame| matches!(frame, BoxFrame::Item(..))), "{frames:?}");
    assert_eq!(frames.len(), 3);
}

#[test]
fn a_chain_begins_anew_after_an_epoch() {
    let length = guan_link::chain::CHAINED_BYTES_MAX;
    // Names and number come on top.
    let epoch = EPOCH_BYTES_MAX / length as u64;
    let begun: Vec<u64> = (1..)
        .zip(send(2 * epoch + 1, length, 2))
        .filter_map(|(place, frame)| match frame {
            BoxFrame::Chained(_, chained) => chained.begins.then_some(place),
            _ => panic!("{frame:?}"),
        })
        .collect();
    assert_eq!(begun, [1, epoch + 1, 2 * epoch + 1]);
    let mut receiver = receiver(VERSIONS);
    for frame in send(2 * epoch + 1, length, 2) {
        receiver.handle_piped(Pipe::Data, frame).unwrap();
        let Some(event) = std::iter::from_fn(|| receiver.poll_event()).last() else { panic!() };
        let ReceiverEvent::Store(stream, Item::Batch(batch)) = event else { panic!("{event:?}") };
        receiver.handle_durable(stream, batch.seq);
        while receiver.poll_frame(NOW).is_some() {}
    }
}
