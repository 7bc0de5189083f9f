//! Answers of OpenSSL 3.0 (`openssl ts -reply`) with keys of two kinds, golden, and what is left of them when changed.

use super::*;
use proptest::prelude::*;

const HEAD: &str = "guan/box-7\n3\nNCXPYOwDCWJLWqFsYMcQE3JQjvyD2oYkzBv1J8uG0Q0=\n";
const P256: [&str; 2] = [
    include_str!("../../tests/golden/timestamp-p256-v1.tsr.hex"),
    include_str!("../../tests/golden/timestamp-p256-v1.pem"),
];
const RSA_2048: [&str; 2] = [
    include_str!("../../tests/golden/timestamp-rsa-v1.tsr.hex"),
    include_str!("../../tests/golden/timestamp-rsa-v1.pem"),
];

fn hex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn digest() -> Digest {
    Digest::of(HEAD.as_bytes())
}

fn check(answer: &[u8], authority: &Authority) -> Result<i64, TimestampFault> {
    Token::parse(answer)?.verify(&digest(), authority)
}

#[test]
fn golden_answers_hold_by_their_own_certificate() {
    for ([answer, pem], [_, other]) in [(P256, RSA_2048), (RSA_2048, P256)] {
        let (answer, own) = (hex(answer), Authority::from_pem(pem).unwrap());
        let seconds = check(&answer, &own).unwrap();
        assert!((1_795_000_000..1_796_000_000).contains(&seconds), "{seconds}");
        let fault = check(&answer, &Authority::from_pem(other).unwrap()).unwrap_err();
        assert_eq!(fault, TimestampFault::Signature);
        let token = Token::parse(&answer).unwrap();
        assert_eq!(token.verify(&Digest([1; 32]), &own), Err(TimestampFault::OtherDigest));
        let late = Authority { not_before_s: seconds + 1, ..own.clone() };
        assert_eq!(check(&answer, &late), Err(TimestampFault::Expired));
        let early = Authority { not_after_s: seconds - 1, ..own };
        assert_eq!(check(&answer, &early), Err(TimestampFault::Expired));
    }
}

/// No byte that is about digest, time or signature can be another one; the rest is the authority's own business.
#[test]
fn no_changed_answer_says_another_time() {
    for [answer, pem] in [P256, RSA_2048] {
        let (whole, own) = (hex(answer), Authority::from_pem(pem).unwrap());
        let expect = check(&whole, &own);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = check(&bytes, &own);
            assert!(found.is_err() || found == expect, "bit {bit}: {found:?}");
        }
        for length in 0..whole.len() {
            assert!(check(&whole[..length], &own).is_err(), "cut at {length}");
        }
        assert!(check(&[&whole[..], &[0]].concat(), &own).is_err());
    }
}

#[test]
fn an_answer_is_to_one_request_only() {
    let theirs: [&[u8]; 2] = [
        &[0, 0x88, 0xA7, 0xA7, 0xD0, 0xF9, 0x2A, 0x3C],
        &[0x27, 0xF9, 0x63, 0x86, 0x30, 0x1B, 0xC4, 0x3D],
    ];
    for ([answer, _], theirs) in [P256, RSA_2048].into_iter().zip(theirs) {
        let answer = hex(answer);
        let token = Token::parse(&answer).unwrap();
        assert_eq!(token.nonce, Some(theirs));
        let nonce = [0x81, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(token.check_request(&digest(), nonce), Err(TimestampFault::OtherNonce));
        let asked = request(&digest(), nonce);
        let at = asked.len() - 3 - nonce.len();
        let token = Token { nonce: Some(&asked[at..at + nonce.len()]), ..token };
        assert_eq!(token.check_request(&digest(), nonce), Ok(()));
        let fault = token.check_request(&Digest([1; 32]), nonce);
        assert_eq!(fault, Err(TimestampFault::OtherDigest));
        let without = Token { nonce: None, ..token };
        assert_eq!(without.check_request(&digest(), nonce), Err(TimestampFault::OtherNonce));
    }
}

#[test]
fn a_refusal_is_told() {
    // PKIStatusInfo with the status `rejection` alone.
    let refused = [0x30, 5, 0x30, 3, 2, 1, 2];
    assert_eq!(Token::parse(&refused).unwrap_err(), TimestampFault::Refused { status: 2 });
}

#[test]
fn a_certificate_must_be_for_time_stamps() {
    let pem = P256[1];
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(body).unwrap();
    let place = der.windows(8).position(|window| window == TIME_STAMPING).unwrap();
    // Another use in its place: that of servers.
    der[place + 7] = 1;
    assert_eq!(Authority::parse(&der), Err(TimestampFault::Usage));
    for length in 0..der.len() {
        assert!(Authority::parse(&der[..length]).is_err());
    }
    assert_eq!(Authority::from_pem("nothing"), Err(TimestampFault::Certificate));
}

#[test]
fn limits_are_exact() {
    let over = |max: usize| TimestampFault::TooLong { length: max + 1, max };
    assert_eq!(Token::parse(&vec![0; TOKEN_BYTES_MAX + 1]).unwrap_err(), over(TOKEN_BYTES_MAX));
    assert!(matches!(Token::parse(&vec![0; TOKEN_BYTES_MAX]), Err(TimestampFault::Form { .. })));
    let max = CERTIFICATE_BYTES_MAX;
    assert_eq!(Authority::parse(&vec![0; max + 1]), Err(over(max)));
    assert_eq!(Authority::parse(&vec![0; max]), Err(TimestampFault::Certificate));
}

#[test]
fn a_request_has_the_form_of_the_standard() {
    let made = request(&digest(), [0xFF; 8]);
    // Version 1, the imprint, the nonce, and the wish for the certificate, which is what OpenSSL asks for.
    let head = [0x30, 0x43, 2, 1, 1, 0x30, 0x31, 0x30, 0x0D, 6, 9];
    assert_eq!(made[..head.len()], head);
    assert!(made.windows(32).any(|window| window == digest().0));
    assert_eq!(made[made.len() - 13..], [2, 8, 0x7F, 255, 255, 255, 255, 255, 255, 255, 1, 1, 255]);
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>) {
        let _ = Token::parse(&bytes);
        let _ = Authority::parse(&bytes);
    }
}
