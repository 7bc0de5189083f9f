//! Every frame survives, version 1 stays as it is, and nothing that arrives makes a decoder panic.

use super::*;
use crate::frame::*;
use crate::gate::GateOutcome;
use crate::text::{CheckpointText, Reason, ReportJson};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use proptest::prelude::*;
use std::fmt::Debug;
use std::time::Duration;

fn box_frames() -> Vec<BoxFrame> {
    let range = |id, oldest, newest| StreamRange {
        id: StreamId(id),
        oldest_unreleased: BatchSeq(oldest),
        newest: BatchSeq(newest),
    };
    let streams = vec![range(1, 1, 0), range(7, 300, 70_000)];
    let offer = Offer::new(SpoolId([9; 16]), streams).unwrap();
    let bytes = Bytes::from_static(b"batch");
    let batch = EncodedBatch {
        seq: BatchSeq(128),
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        contract: ContractId::parse("C-1").unwrap(),
        rows: 300,
        digest: Digest::of(&bytes),
        bytes,
    };
    let gap = Gap { from: BatchSeq(1), through: BatchSeq(200), rows: 5, reason: 2 };
    vec![
        BoxFrame::Hello(Hello { versions: Versions { min: 1, max: 3 }, offer }),
        BoxFrame::Descriptors(Bytes::from_static(b"table")),
        BoxFrame::Item(StreamId(1), Item::Batch(batch)),
        BoxFrame::Item(StreamId(7), Item::Gap(gap)),
    ]
}

fn space_frames() -> Vec<SpaceFrame> {
    let cursor = Cursor { stream: StreamId(7), through: BatchSeq(299) };
    let text = Reason::parse("no contract").unwrap();
    vec![
        SpaceFrame::Welcome(Welcome { version: 1, cursors: vec![cursor], credit_bytes: 1 << 24 }),
        SpaceFrame::Ack(Ack { cursor, credit_bytes: (1 << 24) + 1 }),
        SpaceFrame::Refuse(Refuse {
            stream: StreamId(7),
            seq: BatchSeq(300),
            reason: RefuseReason::NoContract,
            text,
        }),
    ]
}

fn box_notes() -> Vec<BoxNote> {
    vec![
        BoxNote::Checkpoint(CheckpointText::parse("guan/box-1\n3\n").unwrap()),
        BoxNote::Report(ReportJson::parse("{}").unwrap()),
    ]
}

fn space_notes() -> Vec<SpaceNote> {
    let (text, retry_after) = (Reason::parse("bye").unwrap(), Duration::from_millis(1500));
    vec![
        SpaceNote::CheckpointSeen { size: 70_000 },
        SpaceNote::Goodbye(Goodbye { code: CloseCode::Storage, text, retry_after }),
    ]
}

fn bytes_of<F: Wire>(frames: &[F]) -> Vec<u8> {
    frames.iter().flat_map(|frame| encode(frame).concat()).collect()
}

/// Feeds pieces of one size, so that every frame is cut at every place for some size.
fn read<F: Wire>(bytes: &[u8], piece: usize) -> Result<Vec<F>, FrameFault> {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.handle_bytes(piece);
        while let Some(frame) = decoder.poll()? {
            frames.push(frame);
        }
    }
    assert_eq!(decoder.held_bytes(), 0, "a frame is not whole");
    Ok(frames)
}

fn check<F: Wire + Clone + PartialEq + Debug>(frames: &[F], golden: &str) {
    let bytes = bytes_of(frames);
    assert_eq!(hex(&bytes), golden, "version 1 of the link is on the wire: never change it");
    for piece in [1, 2, 7, bytes.len()] {
        assert_eq!(read::<F>(&bytes, piece).unwrap(), frames);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frames_survive_and_version_one_stays() {
    check(&box_frames(), include_str!("../../tests/golden/box-frames-1.hex").trim());
    check(&space_frames(), include_str!("../../tests/golden/space-frames-1.hex").trim());
    check(&box_notes(), include_str!("../../tests/golden/box-notes-1.hex").trim());
    check(&space_notes(), include_str!("../../tests/golden/space-notes-1.hex").trim());
}

/// Version 2 adds a frame and changes none.
#[test]
fn chained_batches_stay_too() {
    let chained = |begins| {
        let (check, piece) = ([9; CHECK_BYTES], Bytes::from_static(b"piece"));
        BoxFrame::Chained(
            StreamId(7),
            Chained { seq: BatchSeq(128), begins, length: 300, check, piece },
        )
    };
    check(
        &[chained(true), chained(false)],
        include_str!("../../tests/golden/box-frames-2.hex").trim(),
    );
    let of_length = |length: u64| {
        let mut out = Writer::new();
        out.stream(StreamId(7));
        out.varint(128);
        out.u8(0);
        out.varint(length);
        out.raw(&[9; CHECK_BYTES]);
        let body = out.finish();
        [&[u8::try_from(body.len() + 1).unwrap(), 0x05], &body[..]].concat()
    };
    let limit = guan_codec::chain::PIECE_BYTES_MAX as u64;
    for (length, is_taken) in [(limit, true), (limit + 1, false), (u64::MAX, false)] {
        let frame = of_length(length);
        assert_eq!(read::<BoxFrame>(&frame, frame.len()).is_ok(), is_taken, "{length} bytes");
    }
}

/// What keeps a box's identity came later, with types of its own.
#[test]
fn notes_about_the_identity_stay_too() {
    let bytes = Bytes::from_static;
    check(&[BoxNote::Evidence(bytes(b"e")), BoxNote::Ask(bytes(b"q"))], "022365022471");
    let outcome = GateOutcome::Restrict;
    let notes = [
        SpaceNote::Challenge(Question {
            nonce: [7; 32],
            ima_start: 300,
            ima_value: Digest([8; 32]),
            boot_log: Digest([9; 32]),
        }),
        SpaceNote::Verdict { outcome, document: bytes(b"v") },
        SpaceNote::Answer(bytes(b"a")),
    ];
    let bytes_of = |byte: &str| byte.repeat(32);
    let (nonce, value, log) = (bytes_of("07"), bytes_of("08"), bytes_of("09"));
    let challenge = format!("6333{nonce}ac02{value}{log}");
    check(&notes, &format!("{challenge}03340176023561"));
    let long = vec![0; ASK_BYTES_MAX + 1];
    let frame = encode(&BoxNote::Ask(long.into())).concat();
    let refused = read::<BoxNote>(&frame, frame.len());
    assert!(matches!(refused, Err(FrameFault::Value { frame: "ask", .. })), "{refused:?}");
}

/// Letters may be left out by programs that know none, whole or by their topic.
#[test]
fn letters_stay_too() {
    let letter = |topic, body| Letter { topic, ticket: 0x0102_0304, body };
    let bytes = Bytes::from_static(b"l");
    for (topic, code) in Topic::ALL.into_iter().zip(1_u8..) {
        let notes = [BoxNote::Letter(letter(topic, bytes.clone()))];
        check(&notes, &format!("07a6{code:02x}010203046c"));
        let notes = [SpaceNote::Letter(letter(topic, Bytes::new()))];
        check(&notes, &format!("06b8{code:02x}01020304"));
    }
    let unknown = [6, 0xa6, 0x7F, 0, 0, 0, 1];
    assert_eq!(read::<BoxNote>(&unknown, 7).unwrap(), []);
    let refused = read::<BoxNote>(&[5, 0xa6, 1, 0, 0, 0], 6);
    assert!(refused.is_err(), "{refused:?}");
    let (full, long) = (LETTER_BYTES_MAX, LETTER_BYTES_MAX + 1);
    for (length, is_taken) in [(full, true), (long, false)] {
        let note = SpaceNote::Letter(letter(Topic::Catalogue, vec![0; length].into()));
        let frame = encode(&note).concat();
        assert_eq!(read::<SpaceNote>(&frame, frame.len()).is_ok(), is_taken, "{length} bytes");
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_the_bytes_come() {
    let check = |bytes: &[u8], limit_exceeded: bool| {
        let mut decoder = FrameDecoder::<SpaceFrame>::new();
        decoder.handle_bytes(bytes);
        let refused = matches!(decoder.poll(), Err(FrameFault::TooLong { .. }));
        assert_eq!(refused, limit_exceeded, "{bytes:02x?}");
    };
    let length = |length: u64| {
        let mut out = Writer::new();
        out.varint(length);
        out.finish()
    };
    let limit = CONTROL_FRAME_BYTES_MAX as u64;
    check(&length(limit), false);
    check(&length(limit + 1), true);
    check(&length(u64::MAX), true);
}

#[test]
fn unknown_types_are_passed_over_on_the_control_stream_only() {
    let skippable = [1, SKIPPABLE | 0x10];
    assert_eq!(read::<BoxNote>(&skippable, 1), Ok(vec![]));
    let unknown = |code| FrameFault::UnknownType { code };
    assert_eq!(read::<BoxNote>(&[1, 0x70], 1).unwrap_err(), unknown(0x70));
    assert_eq!(read::<SpaceFrame>(&skippable, 1).unwrap_err(), unknown(SKIPPABLE | 0x10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_bytes_are_faults_or_other_frames_and_never_a_panic(
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<prop::sample::Index>(),
    ) {
        fn try_all<F: Wire>(bytes: &[u8]) {
            let mut decoder = FrameDecoder::<F>::new();
            decoder.handle_bytes(bytes);
            while let Ok(Some(_)) = decoder.poll() {}
            assert!(decoder.held_bytes() <= bytes.len());
        }
        let sets = [
            bytes_of(&box_frames()), bytes_of(&space_frames()),
            bytes_of(&box_notes()), bytes_of(&space_notes()),
        ];
        for mut bytes in sets {
            let index = at.index(bytes.len());
            bytes[index] ^= flip;
            bytes.truncate(cut.index(bytes.len()) + 1);
            try_all::<BoxFrame>(&bytes);
            try_all::<SpaceFrame>(&bytes);
            try_all::<BoxNote>(&bytes);
            try_all::<SpaceNote>(&bytes);
        }
    }
}
