//! The mirror gives leaves back to the box that lost them, and to no other.

use super::*;
use crate::logs::mirrors::{AskLetter, MIRROR_ASKS_PER_MINUTE_MAX, MirrorLetterFault};
use guan_link::LETTER_BYTES_MAX;

fn ask(first: u64, count: u32) -> AskLetter {
    AskLetter { origin: BASE.to_owned(), first, count }
}

impl Space {
    /// Index of the first and the leaves of an answer.
    fn give(&mut self, number: u32, ask: &AskLetter) -> (u64, Vec<Bytes>) {
        self.minutes += 1;
        let head = self.witnesses.head(&box_id(number), &ask.origin).unwrap();
        let now = now(self.minutes);
        let given = self.mirrors.give(&now, &box_id(number), ask, head.as_deref());
        let body = given.unwrap().unwrap();
        assert!(body.len() <= LETTER_BYTES_MAX);
        let (first, leaves) = body.split_first_chunk::<8>().unwrap();
        let leaves = bundle::decode(leaves).unwrap();
        (u64::from_be_bytes(*first), leaves.into_iter().map(Bytes::copy_from_slice).collect())
    }
}

/// A space that has so many leaves of a log.
fn mirrored(log: &Log) -> Space {
    let mut space = Space::new();
    let size = log.leaves.len();
    assert_eq!(space.witness(1, &log.letter(0, size as u64)).status, 200);
    let mut next = 0;
    while next < size {
        let end = (next + 256).min(size).min(next + 256 - next % 256);
        next = usize::try_from(space.mirror(1, &log.mirror_letter(next, end)).next).unwrap();
    }
    space
}

#[test]
fn lost_leaves_are_given_back_bundle_by_bundle() {
    let log = Log::new(BASE, &LOG).grown(700, "a");
    let mut space = mirrored(&log);
    assert_eq!(space.give(1, &ask(256, 256)), (256, log.leaves[256..512].to_vec()));
    assert_eq!(space.give(1, &ask(300, 1000)), (300, log.leaves[300..512].to_vec()));
    assert_eq!(space.give(1, &ask(300, 3)), (300, log.leaves[300..303].to_vec()));
    assert_eq!(space.give(1, &ask(600, 1000)), (600, log.leaves[600..700].to_vec()));
    for nothing in [ask(700, 1), ask(5000, 1), ask(3, 0)] {
        assert_eq!(space.give(1, &nothing), (nothing.first, vec![]));
    }
    // Another box, and a log that nobody knows: nothing, and no folder is made for them.
    assert_eq!(space.give(2, &ask(0, 5)), (0, vec![]));
    assert_eq!(space.give(1, &AskLetter { origin: "guan/x".to_owned(), ..ask(0, 5) }), (0, vec![]));
    assert_eq!(space.folders.list(&[MIRROR_DIR]).unwrap(), ["box-1"]);
}

/// Two letters for the longest leaves of a bundle: what comes is as much as fits.
#[test]
fn an_answer_keeps_the_limit_of_a_letter() {
    let mut log = Log::new(BASE, &LOG);
    log.leaves = (0..=255_u8).map(|number| Bytes::from(vec![number; LEAF_BYTES_MAX])).collect();
    let mut space = Space::new();
    assert_eq!(space.witness(1, &log.letter(0, 256)).status, 200);
    space.mirror(1, &log.mirror_letter(0, 150));
    assert_eq!(space.mirror(1, &log.mirror_letter(150, 256)).next, 256);
    let fit = (LETTER_BYTES_MAX - 8) / (LEAF_BYTES_MAX + 2);
    assert_eq!(space.give(1, &ask(0, 256)), (0, log.leaves[..fit].to_vec()));
    let rest = u32::try_from(256 - fit).unwrap();
    assert_eq!(space.give(1, &ask(fit as u64, rest)), (fit as u64, log.leaves[fit..].to_vec()));
}

#[test]
fn asking_is_rationed_and_damage_of_the_copy_is_told() {
    let log = Log::new(BASE, &LOG).grown(300, "a");
    let mut space = mirrored(&log);
    let head = space.witnesses.head(&box_id(1), BASE).unwrap();
    let now = now(space.minutes + 5);
    let give =
        |space: &mut Space| space.mirrors.give(&now, &box_id(1), &ask(0, 1), head.as_deref());
    for _ in 0..MIRROR_ASKS_PER_MINUTE_MAX {
        assert!(give(&mut space).unwrap().is_some());
    }
    assert!(give(&mut space).unwrap().is_none());
    space.minutes += 100;
    space
        .folders
        .disk(&[MIRROR_DIR, "box-1", &folder_of(BASE)])
        .flip_bit("entries-0000000000000000", 300);
    let head = space.witnesses.head(&box_id(1), BASE).unwrap();
    let later = super::now(space.minutes);
    let fault = space.mirrors.give(&later, &box_id(1), &ask(0, 1), head.as_deref()).unwrap_err();
    assert!(matches!(fault, MirrorFault::File(_)), "{fault}");
}

#[test]
fn hostile_questions_are_refused_by_name() {
    let body =
        |first: u64, count: &[u8]| [BASE.as_bytes(), b"\n", &first.to_be_bytes(), count].concat();
    let count = 7_u32.to_be_bytes();
    assert_eq!(AskLetter::parse(&body(5, &count)).unwrap(), ask(5, 7));
    let refused = |bytes: &[u8]| AskLetter::parse(bytes).unwrap_err();
    assert_eq!(refused(&body(5, &count[1..])), MirrorLetterFault::Count);
    assert_eq!(refused(&body(5, &[0; 5])), MirrorLetterFault::Count);
    let first = u64::from(u32::MAX) + 1;
    assert_eq!(refused(&body(first, &count)), MirrorLetterFault::Beyond { first });
    assert_eq!(refused(b"guan/box-1\n1234567"), MirrorLetterFault::First);
    assert_eq!(refused(b"guan/box-1"), MirrorLetterFault::Origin);
    assert_eq!(refused(&[0xFF, b'\n']), MirrorLetterFault::Origin);
}
