//! Answers of an authority of time stamps, changed: what a box takes over HTTP says the time that was stamped, or nothing.

use super::{Dice, mutate};
use guan_evidence::timestamp::{Authority, Token};
use guan_model::Digest;

/// Of strangers: whoever answers the box's request.
const MUTATIONS: usize = 200_000;
const HEAD: &str = "guan/box-7\n3\nNCXPYOwDCWJLWqFsYMcQE3JQjvyD2oYkzBv1J8uG0Q0=\n";
const ANSWER: &str = include_str!("../../gateway/evidence/tests/golden/timestamp-p256-v1.tsr.hex");
const OTHER: &str = include_str!("../../gateway/evidence/tests/golden/timestamp-rsa-v1.tsr.hex");
const AUTHORITY: &str = include_str!("../../gateway/evidence/tests/golden/timestamp-p256-v1.pem");

#[test]
fn changed_answers_say_no_other_time() {
    let authority = Authority::from_pem(AUTHORITY).unwrap();
    let corpus = [ANSWER, OTHER].map(|text| hex::decode(text.trim()).unwrap());
    let digest = Digest::of(HEAD.as_bytes());
    let right = Token::parse(&corpus[0]).unwrap().verify(&digest, &authority).unwrap();
    let more = std::env::var("GUAN_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let count: usize = more.unwrap_or(MUTATIONS);
    let (mut dice, mut read, mut held) = (Dice(17), 0, 0);
    for _ in 0..count {
        let bytes = mutate(&mut dice, &corpus);
        let Ok(token) = Token::parse(&bytes) else { continue };
        read += 1;
        let _ = token.check_request(&digest, [7; 8]);
        if let Ok(seconds) = token.verify(&digest, &authority) {
            held += 1;
            assert_eq!(seconds, right);
        }
    }
    println!("stamps: {count} answers, {read} are read, {held} of them hold");
    assert!(read > 0 && held > 0, "what nobody signs may be another one");
}
