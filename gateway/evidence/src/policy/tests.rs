use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::{append_lines, cosign};
use guan_model::{Digest, WallTime};
use proptest::prelude::*;

const ORIGIN: &str = "guan/box-7";
const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

fn log() -> TestSigner {
    TestSigner::new(ORIGIN, 9)
}

fn witness(number: u8) -> TestSigner {
    TestSigner::new(&format!("w{number}.example"), number)
}

fn log_line() -> String {
    format!("log {}\n", VerifierKey::of(&log()).unwrap())
}

fn witness_line(name: &str, number: u8) -> String {
    format!("witness {name} {}\n", CosignatureKey::of(&witness(number)).unwrap())
}

/// A checkpoint that these witnesses cosigned.
pub(crate) fn cosigned_by(numbers: &[u8]) -> String {
    let note = Checkpoint::sign(ORIGIN, 7, &Digest([5; 32]), &log()).unwrap();
    let text = Note::parse(&note).unwrap().text().to_owned();
    numbers.iter().fold(note, |note, number| {
        append_lines(&note, &cosign(&text, NOW, &witness(*number)).unwrap()).unwrap()
    })
}

/// The example of the specification: two of X and one of Y.
fn example() -> String {
    let mut text = log_line();
    for number in 1..=3 {
        text += &witness_line(&format!("X{number}"), number);
        text += &witness_line(&format!("Y{number}"), number + 3);
    }
    text + "group X-witnesses 2 X1 X2 X3\n\
            group Y-witnesses any Y1 Y2 Y3\n\
            group X-and-Y all X-witnesses Y-witnesses\n\
            quorum X-and-Y\n"
}

#[test]
fn quorum_of_the_example() {
    let policy = Policy::parse(&example()).unwrap();
    let check = |numbers: &[u8], trusted: bool| {
        let outcome = policy.check(&cosigned_by(numbers));
        assert_eq!(outcome.is_ok(), trusted, "{numbers:?}: {outcome:?}");
        match outcome {
            Ok(found) => {
                assert_eq!(found.cosigned.len(), numbers.iter().filter(|n| **n < 7).count())
            }
            Err(fault) => assert!(matches!(fault, Distrust::Quorum { .. })),
        }
    };
    check(&[1, 2, 4], true);
    check(&[1, 3, 6], true);
    check(&[1, 2, 3, 4, 5, 6, 7], true);
    check(&[], false);
    check(&[1, 4], false);
    check(&[1, 2, 3], false);
    check(&[4, 5, 6], false);
    check(&[1, 4, 7, 8], false);
}

#[test]
fn simple_quorums() {
    let check = |rest: &str, numbers: &[u8], trusted: bool| {
        let policy = Policy::parse(&(log_line() + &witness_line("a", 1) + rest)).unwrap();
        assert_eq!(policy.check(&cosigned_by(numbers)).is_ok(), trusted, "{rest} {numbers:?}");
    };
    check("quorum none\n", &[], true);
    check("quorum none\n", &[1], true);
    check("quorum a\n", &[], false);
    check("quorum a\n", &[1], true);
    check("quorum a", &[1], true);
    check("# one\n \t \n\tgroup  g\tany a \nquorum g\n", &[1], true);
}

#[test]
fn forged_and_foreign_checkpoints_are_distrusted() {
    let policy = Policy::parse(&(log_line() + &witness_line("a", 1) + "quorum a\n")).unwrap();
    let good = cosigned_by(&[1]);
    let fault = policy.check(&good.replace("\n7\n", "\n8\n")).unwrap_err();
    let expect: Distrust = NoteFault::Forged { key: ORIGIN.to_owned() }.into();
    assert_eq!(fault, expect);
    let other = Checkpoint::sign("guan/box-8", 7, &Digest([5; 32]), &log()).unwrap();
    let fault = policy.check(&other).unwrap_err();
    assert_eq!(fault, Distrust::UnknownLog { origin: "guan/box-8".to_owned() });
    // A known log may not sign for another origin.
    let renamed = Checkpoint::sign("guan/box-8", 7, &Digest([5; 32]), &TestSigner::new(ORIGIN, 9));
    assert!(policy.check(&renamed.unwrap()).is_err());
    let stranger = Checkpoint::sign(ORIGIN, 7, &Digest([5; 32]), &TestSigner::new(ORIGIN, 8));
    let fault = policy.check(&stranger.unwrap()).unwrap_err();
    assert!(matches!(
        fault,
        Distrust::Checkpoint(CheckpointError::Note(NoteFault::OtherKeys { .. }))
    ));
    let length = CHECKPOINT_BYTES_MAX + 1;
    let expect = Distrust::Checkpoint(CheckpointError::TooLong { length });
    assert_eq!(policy.check(&"x".repeat(length)), Err(expect));
}

#[test]
fn malformed_policies_name_the_line() {
    let check = |text: String, expect: PolicyFault| {
        assert_eq!(Policy::parse(&text), Err(expect), "for {text}");
    };
    let two = witness_line("a", 1) + &witness_line("b", 2);
    let name = |name: &str| name.to_owned();
    check(String::new(), PolicyFault::NoQuorum);
    check("quorum x\n".to_owned(), PolicyFault::Unknown { line: 1, name: name("x") });
    check("quorum none\nquorum none\n".to_owned(), PolicyFault::QuorumTwice { line: 2 });
    check("quorum none extra\n".to_owned(), PolicyFault::Form { line: 1 });
    check("quorum none\r\n".to_owned(), PolicyFault::Control { line: 1 });
    check("logs x\n".to_owned(), PolicyFault::Form { line: 1 });
    check("log x\n".to_owned(), PolicyFault::Key { line: 1, source: KeyFault::Form });
    let as_log = witness_line("", 1).replace("witness ", "log");
    check(as_log, PolicyFault::Key { line: 1, source: KeyFault::Algorithm { found: 4 } });
    check(log_line() + &log_line(), PolicyFault::KeyTwice { line: 2 });
    let renamed = format!("log {}\n", VerifierKey::of(&TestSigner::new("other", 9)).unwrap());
    check(log_line() + &renamed, PolicyFault::KeyTwice { line: 2 });
    let repeated = witness_line("a", 1) + &witness_line("b", 1);
    check(repeated, PolicyFault::KeyTwice { line: 2 });
    let taken = witness_line("a", 1) + &witness_line("a", 2);
    check(taken, PolicyFault::Name { line: 2, name: name("a") });
    check(witness_line("none", 1), PolicyFault::Name { line: 1, name: name("none") });
    check(two.clone() + "group a any b\n", PolicyFault::Name { line: 3, name: name("a") });
    check(two.clone() + "group g any g\n", PolicyFault::Unknown { line: 3, name: name("g") });
    check(two.clone() + "group g any none\n", PolicyFault::Unknown { line: 3, name: name("none") });
    check(two.clone() + "group g any\n", PolicyFault::Form { line: 3 });
    let twice = PolicyFault::MemberTwice { line: 3, name: name("a") };
    check(two.clone() + "group g any a a\n", twice);
    let twice = PolicyFault::MemberTwice { line: 4, name: name("a") };
    check(two.clone() + "group g any a\ngroup h any a\n", twice);
    for found in ["0", "3", "01", "+1", "some", "-1"] {
        let found = found.to_owned();
        let text = two.clone() + &format!("group g {found} a b\n");
        check(text, PolicyFault::Threshold { line: 3, found, members: 2 });
    }
}

fn numbered_log(number: usize) -> String {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    format!("log {}\n", VerifierKey::new("o", key).unwrap())
}

#[test]
fn limits_are_exact() {
    let check = |text: String, expect: Option<PolicyFault>| {
        assert_eq!(Policy::parse(&text).err(), expect);
    };
    let too_many = |max: usize, what| Some(PolicyFault::TooMany { line: max + 1, what, max });
    let logs = |count: usize| (0..count).map(numbered_log).collect::<String>() + "quorum none\n";
    check(logs(POLICY_LOGS_MAX), None);
    check(logs(POLICY_LOGS_MAX + 1), too_many(POLICY_LOGS_MAX, "log"));
    let witnesses = |count: usize| -> String {
        let line = |n: usize| witness_line(&format!("w{n}"), u8::try_from(n).unwrap());
        (0..count).map(line).collect::<String>() + "quorum none\n"
    };
    check(witnesses(POLICY_WITNESSES_MAX), None);
    check(witnesses(POLICY_WITNESSES_MAX + 1), too_many(POLICY_WITNESSES_MAX, "witness"));
    let groups = |count: usize| -> String {
        let line = |n: usize| {
            format!("group g{} any {}\n", n + 1, if n == 0 { "a".into() } else { format!("g{n}") })
        };
        witness_line("a", 1) + &(0..count).map(line).collect::<String>() + "quorum none\n"
    };
    check(groups(POLICY_GROUPS_MAX), None);
    let (line, max) = (POLICY_GROUPS_MAX + 2, POLICY_GROUPS_MAX);
    check(groups(max + 1), Some(PolicyFault::TooMany { line, what: "group", max }));
    let name = "n".repeat(POLICY_NAME_BYTES_MAX);
    check(witness_line(&name, 1) + "quorum none\n", None);
    let name = "n".repeat(POLICY_NAME_BYTES_MAX + 1);
    check(witness_line(&name, 1), Some(PolicyFault::Name { line: 1, name }));
    let long = format!("quorum none\n#{}", "x".repeat(POLICY_BYTES_MAX - 13));
    check(long.clone(), None);
    let length = POLICY_BYTES_MAX + 1;
    check(long + "x", Some(PolicyFault::TooLong { length }));
}

#[test]
fn policies_print_and_parse() {
    let text = log_line().replace('\n', " https://box-7.example/log\n")
        + &witness_line("名", 1).replace('\n', " https://w1.example/\n")
        + "group g all 名\nquorum g\n";
    let policy = Policy::parse(&text).unwrap();
    assert_eq!(policy.to_string(), text.replace(" all ", " 1 "));
    assert_eq!(Policy::parse(&policy.to_string()), Ok(policy.clone()));
    assert_eq!(policy.log_keys().count(), 1);
    let (name, key, url) = policy.witnesses().next().unwrap();
    assert_eq!((name, url), ("名", Some("https://w1.example/")));
    assert_eq!(*key, CosignatureKey::of(&witness(1)).unwrap());
    let example = Policy::parse(&example()).unwrap();
    assert_eq!(Policy::parse(&example.to_string()), Ok(example));
    let alone = Policy::of_logs(&[VerifierKey::of(&log()).unwrap()]).unwrap();
    assert_eq!(alone.to_string(), log_line() + "quorum none\n");
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text: String, rest in "(group|quorum|log|witness)[ a-z0-9]{0,20}") {
        let _ = Policy::parse(&text);
        if let Ok(policy) = Policy::parse(&(example() + &rest)) {
            prop_assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
        }
    }
}
