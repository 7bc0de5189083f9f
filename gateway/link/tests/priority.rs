//! What comes now goes before what was kept, and leaves it the share that it is owed.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_link::sender::Pipe;
use guan_link::{
    Ack, BoxFrame, Cursor, EncodedBatch, Item, Kept, Offer, Sender, SpaceFrame, StreamRange,
    VERSIONS, Want, Welcome,
};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use std::time::Duration;

/// Of a higher class than what is kept, and still before it.
const LIVE: StreamId = StreamId(3);
const KEPT: StreamId = StreamId(1);
const KEPT_BATCHES: u64 = 1000;

fn item(seq: BatchSeq, bytes: usize) -> Item {
    let bytes = Bytes::from(vec![1; bytes]);
    Item::Batch(EncodedBatch {
        seq,
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse("c").unwrap(),
        rows: 1,
        digest: Digest::of(&bytes),
        bytes,
    })
}

fn session(percent: u8) -> Sender {
    let range = |id, newest| StreamRange { id, oldest_unreleased: BatchSeq(1), newest };
    let ranges = vec![range(KEPT, BatchSeq(KEPT_BATCHES)), range(LIVE, BatchSeq::ZERO)];
    let offer = Offer::new(SpoolId([7; 16]), ranges).unwrap();
    let mut sender = Sender::new(Duration::ZERO, VERSIONS, offer).with_backlog_percent(percent);
    let cursors = [KEPT, LIVE].map(|stream| Cursor { stream, through: BatchSeq::ZERO }).to_vec();
    let welcome = Welcome { version: 1, cursors, credit_bytes: u64::MAX };
    sender.handle_frame(Duration::ZERO, SpaceFrame::Welcome(welcome)).unwrap();
    sender
}

/// Serves wants one after the other; the space answers at once. Gives what each stream was charged.
fn serve(sender: &mut Sender, count: usize, sizes: (usize, usize)) -> (u64, u64) {
    let (mut kept, mut live) = (0, 0);
    for step in 0..count {
        let now = Duration::from_millis(10 * step as u64);
        let Want { stream, after } = sender.poll_want().unwrap();
        let size = if stream == LIVE { sizes.1 } else { sizes.0 };
        let (want, item) = (Want { stream, after }, item(after.next(), size));
        *(if stream == LIVE { &mut live } else { &mut kept }) += item.cost();
        sender.handle_item(now, want, item).unwrap();
        while let Some((_, frame)) = sender.poll_piped() {
            let BoxFrame::Item(stream, item) = frame else { continue };
            let cursor = Cursor { stream, through: item.through() };
            let ack = Ack { cursor, credit_bytes: u64::MAX };
            sender.handle_frame(now, SpaceFrame::Ack(ack)).unwrap();
        }
    }
    (kept, live)
}

fn check(percent: u8, sizes: (usize, usize)) {
    let (kept, live) = serve(&mut session(percent), 400, sizes);
    let share = kept as f64 / (kept + live) as f64 * 100.0;
    assert!((share - f64::from(percent)).abs() < 3.0, "{percent} %, {sizes:?}: {share}");
}

#[test]
fn the_share_is_met_in_bytes_whatever_the_sizes() {
    check(25, (1000, 1000));
    check(25, (8000, 500));
    check(50, (500, 8000));
    check(80, (2000, 2000));
}

#[test]
fn without_a_share_the_backlog_waits_and_without_live_it_has_everything() {
    let mut sender = session(0);
    assert_eq!(serve(&mut sender, 50, (1000, 1000)).0, 0);
    let want = sender.poll_want().unwrap();
    assert_eq!(want.stream, LIVE);
    sender.handle_nothing(want);
    let (kept, live) = serve(&mut sender, 50, (1000, 1000));
    assert!(kept >= 50_000 && live == 0, "{kept}, {live}");
    sender.handle_available(LIVE);
    assert_eq!(sender.poll_want().unwrap().stream, LIVE);
}

#[test]
fn once_caught_up_classes_count() {
    let mut sender = session(25);
    let mut steps = 0;
    while sender.poll_want().unwrap().after < BatchSeq(KEPT_BATCHES)
        || sender.poll_want().unwrap().stream == LIVE
    {
        serve(&mut sender, 1, (10, 10));
        steps += 1;
        assert!(steps < 20_000);
    }
    // The lower class, with nothing old in it, goes first now.
    assert_eq!(serve(&mut sender, 20, (10, 10)).1, 0);
}

/// Serves one want; gives its stream and the pipe.
fn serve_one(sender: &mut Sender) -> (StreamId, Pipe) {
    let want = sender.poll_want().unwrap();
    sender.handle_item(Duration::ZERO, want, item(want.after.next(), 100)).unwrap();
    loop {
        let (pipe, frame) = sender.poll_piped().unwrap();
        if let BoxFrame::Item(stream, _) = frame {
            return (stream, pipe);
        }
    }
}

fn ack(sender: &mut Sender, stream: StreamId, through: u64) {
    let cursor = Cursor { stream, through: BatchSeq(through) };
    let ack = Ack { cursor, credit_bytes: u64::MAX };
    sender.handle_frame(Duration::ZERO, SpaceFrame::Ack(ack)).unwrap();
}

#[test]
fn live_batches_change_to_their_pipe_when_nothing_of_theirs_is_underway() {
    let mut sender = session(0);
    // Descriptors go before the first batch, on the data pipe: nothing may overtake them.
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Data));
    assert_eq!((serve_one(&mut sender), sender.poll_live_want()), ((LIVE, Pipe::Data), None));
    ack(&mut sender, LIVE, 1);
    assert_eq!((serve_one(&mut sender), sender.poll_live_want()), ((LIVE, Pipe::Data), None));
    ack(&mut sender, LIVE, 3);
    assert_eq!(sender.poll_live_want(), Some(Want { stream: LIVE, after: BatchSeq(3) }));
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Live));
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Live));
    sender.handle_nothing(sender.poll_want().unwrap());
    assert_eq!(serve_one(&mut sender), (KEPT, Pipe::Data));
}

/// Nothing more of it goes by the live pipe, and what follows waits for what is underway there.
#[test]
fn what_becomes_a_backlog_leaves_the_live_pipe_when_nothing_of_it_is_underway() {
    let mut sender = session(0);
    serve_one(&mut sender);
    ack(&mut sender, LIVE, 1);
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Live));
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Live));
    sender.handle_kept(Kept { stream: LIVE, through: BatchSeq(4), younger: None });
    assert_eq!(sender.poll_live_want(), None);
    // Another backlog does not wait for it.
    assert_eq!(serve_one(&mut sender), (KEPT, Pipe::Data));
    let rest = sender.poll_want().unwrap();
    assert_eq!(rest, Want { stream: KEPT, after: BatchSeq(1) });
    sender.handle_nothing(rest);
    assert_eq!(sender.poll_want(), None);
    ack(&mut sender, LIVE, 2);
    assert_eq!(sender.poll_want(), None, "one of two is underway");
    ack(&mut sender, LIVE, 3);
    assert_eq!(sender.poll_want(), Some(Want { stream: LIVE, after: BatchSeq(3) }));
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Data));
    // What comes then is new again, and goes to the live pipe as soon as it may.
    ack(&mut sender, LIVE, 4);
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Live));
}

#[test]
fn what_was_taken_back_stays_on_its_pipe() {
    let mut sender = session(0);
    serve_one(&mut sender);
    serve_one(&mut sender);
    ack(&mut sender, LIVE, 1);
    let text = guan_link::text::Reason::cut("no");
    let reason = guan_link::RefuseReason::BadDigest;
    let refuse = guan_link::Refuse { stream: LIVE, seq: BatchSeq(2), reason, text };
    sender.handle_frame(Duration::ZERO, SpaceFrame::Refuse(refuse)).unwrap();
    // Its place is a gap now; the next batch could overtake what followed the refused one.
    ack(&mut sender, LIVE, 2);
    while sender.poll_piped().is_some() {}
    assert_eq!(serve_one(&mut sender), (LIVE, Pipe::Data));
}

#[test]
fn what_the_owner_calls_a_backlog_gives_way_though_it_came_in_the_session() {
    let mut sender = session(0);
    assert_eq!(sender.poll_want().unwrap().stream, LIVE);
    sender.handle_kept(Kept { stream: LIVE, through: BatchSeq(2), younger: None });
    assert_eq!(sender.poll_want().unwrap().stream, KEPT);
    sender.handle_nothing(sender.poll_want().unwrap());
    assert_eq!((serve_one(&mut sender).0, serve_one(&mut sender).0), (LIVE, LIVE));
    // What follows is new again.
    sender.handle_available_all();
    assert_eq!(sender.poll_want().unwrap().stream, LIVE);
}

/// What a second outage left goes before what the first one left; both are a backlog.
#[test]
fn of_two_backlogs_of_a_lane_the_younger_goes_first() {
    const YOUNGER: StreamId = StreamId(9);
    let range = |id, newest| StreamRange { id, oldest_unreleased: BatchSeq(1), newest };
    let ranges =
        vec![range(KEPT, BatchSeq(9)), range(LIVE, BatchSeq(9)), range(YOUNGER, BatchSeq(2))];
    let offer = Offer::new(SpoolId([7; 16]), ranges).unwrap();
    let mut sender = Sender::new(Duration::ZERO, VERSIONS, offer);
    let streams = [KEPT, LIVE, YOUNGER];
    let cursors = streams.map(|stream| Cursor { stream, through: BatchSeq::ZERO }).to_vec();
    let welcome = Welcome { version: 1, cursors, credit_bytes: u64::MAX };
    sender.handle_frame(Duration::ZERO, SpaceFrame::Welcome(welcome)).unwrap();
    sender.handle_kept(Kept { stream: KEPT, through: BatchSeq(9), younger: Some(YOUNGER) });
    assert_eq!((serve_one(&mut sender).0, serve_one(&mut sender).0), (YOUNGER, YOUNGER));
    // It has caught up: what comes now of it goes by its share, and the older one before other classes.
    sender.handle_nothing(Want { stream: YOUNGER, after: BatchSeq(2) });
    assert_eq!((serve_one(&mut sender).0, serve_one(&mut sender).0), (KEPT, KEPT));
}
