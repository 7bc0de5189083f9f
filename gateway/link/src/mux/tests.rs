//! Streams survive any pieces, limits hold, hostile records are faults.

use super::*;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);

fn mux() -> Mux {
    Mux::new(Duration::ZERO, S * 15, S * 30)
}

/// Moves what one has to say to the other, in pieces of one size.
fn pass(from: &mut Mux, to: &mut Mux, piece: usize) {
    let said: Vec<Bytes> = std::iter::from_fn(|| from.poll_bytes(Duration::ZERO)).collect();
    for part in said.concat().chunks(piece) {
        to.handle_bytes(Duration::ZERO, part).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is pushed on three streams arrives on them in order, while nothing exceeds its limit.
    #[test]
    fn streams_survive(
        pushes in prop::collection::vec((0..STREAMS, 1_usize..100_000, any::<u8>()), 1..40),
        piece in prop_oneof![1_usize..40, 1000_usize..70_000],
        read in 5_000_usize..100_000,
    ) {
        let (mut one, mut other) = (mux(), mux());
        one.set_priority(1, 2);
        let mut wanted: [Vec<u8>; STREAMS] = Default::default();
        let mut found: [Vec<u8>; STREAMS] = Default::default();
        let mut waiting = VecDeque::from(pushes);
        for _ in 0..10_000 {
            while let Some((stream, _, _)) = waiting.front().copied()
                && one.has_room(stream)
            {
                let (stream, length, byte) = waiting.pop_front().unwrap();
                one.push(stream, vec![byte; length].into());
                wanted[stream].extend(vec![byte; length]);
            }
            pass(&mut one, &mut other, piece);
            pass(&mut other, &mut one, piece);
            for (stream, found) in found.iter_mut().enumerate() {
                prop_assert!(other.streams[stream].arrived.len() <= WINDOW_BYTES as usize);
                found.extend(other.take(stream, read).unwrap_or_default());
            }
            if waiting.is_empty() && wanted == found {
                let begun: Vec<usize> = std::iter::from_fn(|| other.poll_begun()).collect();
                let used = (0..STREAMS).filter(|stream| !wanted[*stream].is_empty()).count();
                prop_assert_eq!(begun.len(), used);
                return Ok(());
            }
        }
        prop_assert!(false, "not everything arrives");
    }

    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>) {
        let mut mux = mux();
        let _ = mux.handle_bytes(Duration::ZERO, &bytes);
        prop_assert!(mux.incoming.len() <= bytes.len());
    }
}

#[test]
fn version_one_stays_as_it_is() {
    let mut mux = mux();
    mux.push(1, Bytes::from_static(b"ab"));
    let hex = |record: Option<Bytes>| -> String {
        record.iter().flatten().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(hex(mux.poll_bytes(Duration::ZERO)), "000102006162");
    assert_eq!(hex(mux.poll_bytes(Duration::ZERO)), "");
    assert_eq!(hex(mux.poll_bytes(S * 15)), "02000000");
    mux.handle_bytes(S, &record(DATA, 2, &[7; RECORD_BYTES_MAX])).unwrap();
    for _ in 0..8 {
        mux.handle_bytes(S, &record(DATA, 2, &[7; 15_000])).unwrap();
    }
    while mux.take(2, usize::MAX).is_some() {}
    assert_eq!(hex(mux.poll_bytes(S)), "01020400bc140200");
    mux.handle_close(5, "bye");
    assert_eq!(hex(mux.poll_bytes(S)), "0300040005627965");
    assert!(mux.is_done());
}

#[test]
fn what_cannot_be_is_a_fault() {
    let check = |bytes: &[u8], fault: MuxFault| {
        assert_eq!(mux().handle_bytes(Duration::ZERO, bytes), Err(fault), "{bytes:02x?}");
    };
    check(&[4, 0, 0, 0], MuxFault::Kind { kind: 4 });
    check(&[DATA, 3, 1, 0], MuxFault::Stream { stream: 3 });
    check(&[CLOSE, 1, 1, 0], MuxFault::Stream { stream: 1 });
    check(&[DATA, 0, 0, 0], MuxFault::Length { kind: DATA, length: 0 });
    check(&[DATA, 0, 0xFD, 0x3F], MuxFault::Length { kind: DATA, length: RECORD_BYTES_MAX + 1 });
    check(&[PING, 0, 1, 0], MuxFault::Length { kind: PING, length: 1 });
    check(&[CREDIT, 0, 3, 0], MuxFault::Length { kind: CREDIT, length: 3 });
    check(&[CLOSE, 0, 0, 0], MuxFault::Length { kind: CLOSE, length: 0 });
    let full = record(CREDIT, 1, &(u32::MAX - WINDOW_BYTES).to_le_bytes());
    mux().handle_bytes(Duration::ZERO, &full).unwrap();
    check(&record(CREDIT, 1, &u32::MAX.to_le_bytes()), MuxFault::CreditTooLarge { stream: 1 });
}

#[test]
fn a_stream_may_have_its_window_and_no_more() {
    let mut mux = mux();
    let window = WINDOW_BYTES as usize;
    for _ in 0..window / (8 << 10) {
        mux.handle_bytes(Duration::ZERO, &record(DATA, 0, &[0; 8 << 10])).unwrap();
    }
    let more = mux.handle_bytes(Duration::ZERO, &record(DATA, 0, &[0]));
    assert_eq!(more, Err(MuxFault::Credit { stream: 0, length: 1, allowed: 0 }));
    mux.handle_bytes(Duration::ZERO, &record(DATA, 1, &[0])).unwrap();
}

#[test]
fn a_stream_without_credit_does_not_hold_up_another() {
    let mut mux = mux();
    mux.push(0, vec![0; 1 << 20].into());
    let mut sent = 0;
    while let Some(record) = mux.poll_bytes(Duration::ZERO) {
        sent += record.len() - HEAD_BYTES;
    }
    assert_eq!(sent, WINDOW_BYTES as usize);
    assert!(!mux.has_room(0) && mux.has_room(1));
    mux.push(1, Bytes::from_static(b"note"));
    assert_eq!(mux.poll_bytes(Duration::ZERO), Some(record(DATA, 1, b"note")));
}

#[test]
fn a_silent_path_is_dead_and_a_kept_one_is_not() {
    let (mut one, mut other) = (mux(), mux());
    for round in 1..10 {
        let now = S * 15 * round;
        assert_eq!(one.handle_timeout(now), Ok(()));
        let ping = one.poll_bytes(now).expect("it is time to say something");
        other.handle_bytes(now, &ping).unwrap();
        let ping = other.poll_bytes(now).expect("likewise");
        one.handle_bytes(now, &ping).unwrap();
    }
    assert_eq!(one.handle_timeout(S * 164), Ok(()));
    assert_eq!(one.handle_timeout(S * 165), Err(MuxFault::Silent { limit: S * 30 }));
}
