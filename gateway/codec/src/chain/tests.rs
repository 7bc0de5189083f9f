//! Pieces survive in order, within their limits; hostile ones are faults.

use super::*;
use guan_model::bytes_io::Reader;
use proptest::prelude::*;

/// Noise, and text that repeats itself and what came before.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        (0_u32..50, 0_usize..2000).prop_map(|(number, count)| {
            format!("reading {number} of the vessel;").into_bytes().repeat(count)
        }),
    ]
}

proptest! {
    #[test]
    fn pieces_survive_in_order(
        plains in prop::collection::vec(plain(), 1..40),
        squeeze in prop_oneof![Just(Squeeze::Usual), Just(Squeeze::Hard)],
    ) {
        let (mut writer, mut reader) = (ChainWriter::new(squeeze), ChainReader::new());
        for plain in &plains {
            let piece = writer.write(plain);
            prop_assert_eq!(&reader.read(&piece, plain.len()).unwrap(), plain);
        }
        let taken: usize = plains.iter().map(Vec::len).sum();
        prop_assert_eq!(writer.taken_bytes(), taken as u64);
    }

    #[test]
    fn damaged_pieces_give_an_answer(
        at in any::<prop::sample::Index>(), flip in 1..=u8::MAX, cut in any::<prop::sample::Index>(),
    ) {
        let plains = sample();
        let mut writer = ChainWriter::new(Squeeze::Usual);
        let mut pieces: Vec<Vec<u8>> = plains.iter().map(|plain| writer.write(plain)).collect();
        let damaged = at.index(pieces.len());
        let piece = &mut pieces[damaged];
        let index = at.index(piece.len());
        piece[index] ^= flip;
        piece.truncate(cut.index(piece.len()) + 1);
        let mut reader = ChainReader::new();
        for (piece, plain) in pieces.iter().zip(&plains) {
            match reader.read(piece, plain.len()) {
                Ok(read) => prop_assert_eq!(read.len(), plain.len()),
                Err(_) => break,
            }
        }
    }
}

/// Four pieces, of which the later ones are mostly known.
fn sample() -> Vec<Vec<u8>> {
    let line = |piece: u32, line: u32| format!("{piece} {} vessel/speed good\n", line * line);
    (0..4).map(|piece| (0..40).map(|at| line(piece, at)).collect::<String>().into_bytes()).collect()
}

#[test]
fn version_one_stays_readable() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chain-1.bin");
    let golden = std::fs::read(path).unwrap();
    let (mut bytes, mut reader) = (Reader::new(&golden), ChainReader::new());
    for plain in sample() {
        let length = usize::try_from(bytes.varint().unwrap()).unwrap();
        let piece = bytes.raw(length).unwrap();
        assert_eq!(reader.read(piece, plain.len()).unwrap(), plain);
    }
    bytes.end().unwrap();
}

#[test]
fn later_pieces_take_little() {
    let mut writer = ChainWriter::new(Squeeze::Usual);
    let lengths: Vec<usize> = sample().iter().map(|plain| writer.write(plain).len()).collect();
    assert!(lengths[1..].iter().all(|length| *length * 3 < lengths[0] * 2), "{lengths:?}");
}

#[test]
fn lengths_are_kept_to() {
    let piece = |length: usize| ChainWriter::new(Squeeze::Usual).write(&vec![7; length]);
    let check = |length: usize, announced: usize, fault: Option<ChainFault>| {
        let read = ChainReader::new().read(&piece(length), announced);
        assert_eq!(read.err(), fault, "{length} announced as {announced}");
    };
    check(0, 0, None);
    check(1000, 1000, None);
    check(1000, 999, Some(ChainFault::Surplus { announced: 999 }));
    check(1000, 0, Some(ChainFault::Surplus { announced: 0 }));
    check(1000, 1001, Some(ChainFault::Length { announced: 1001, found: 1000 }));
    check(PIECE_BYTES_MAX, PIECE_BYTES_MAX, None);
    let length = PIECE_BYTES_MAX + 1;
    check(10, length, Some(ChainFault::TooLong { length }));
}

/// The reader's memory does not depend on what the writer asks for.
#[test]
fn a_larger_window_is_refused() {
    let check = |window_log: u32, good: bool| {
        let mut encoder = Encoder::new(3).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        let mut piece = vec![0; 1 << 10];
        let (mut input, mut output) =
            (InBuffer::around(&[7; 100]), OutBuffer::around(&mut piece[..]));
        encoder.run(&mut input, &mut output).unwrap();
        encoder.flush(&mut output).unwrap();
        let length = output.pos();
        assert_eq!(ChainReader::new().read(&piece[..length], 100).is_ok(), good, "{window_log}");
    };
    check(WINDOW_LOG, true);
    check(WINDOW_LOG + 1, false);
    check(27, false);
}

/// A piece without those before it is refused, or other bytes of the same length: the link compares digests.
#[test]
fn a_piece_left_out_is_not_passed_over() {
    let plains = sample();
    let mut writer = ChainWriter::new(Squeeze::Usual);
    let pieces: Vec<Vec<u8>> = plains.iter().map(|plain| writer.write(plain)).collect();
    let mut reader = ChainReader::new();
    reader.read(&pieces[0], plains[0].len()).unwrap();
    let read = reader.read(&pieces[2], plains[2].len());
    assert_ne!(read.as_ref(), Ok(&plains[2]), "{read:?}");
    assert_eq!(ChainReader::new().read(&pieces[1], plains[1].len()), Err(ChainFault::Inflate));
}
