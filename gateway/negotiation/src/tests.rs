//! Two desks over a way that loses letters and ends that forget all but their disks.

use crate::{Conduct, Desk, FINISHED_MAX, Ledger, LedgerFault, OPEN_MAX, Parcel};
use guan_model::{ClockQuality, Now, WallTime};
use guan_policy::negotiation::{
    Body, CommandFault, Message, Negotiation, Role, Signatures, State, Terms,
};
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;

/// Agrees, verifies and finalizes whatever comes, and counts what was concluded.
#[derive(Default)]
struct Yes {
    concluded: usize,
}

impl Conduct for &mut Yes {
    fn act(&mut self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault> {
        match (negotiation.role(), negotiation.state()) {
            (Role::Provider, Some(State::Requested | State::Accepted)) => {
                let terms = negotiation.proposal().unwrap().to_agreement();
                negotiation.agree(now, terms, Signatures::none())
            }
            (Role::Consumer, Some(State::Offered)) => negotiation.accept(now),
            (Role::Consumer, Some(State::Agreed)) => negotiation.verify(now, Signatures::none()),
            (Role::Provider, Some(State::Verified)) => negotiation.finalize(now),
            _ => Ok(()),
        }
    }

    fn conclude(&mut self, _: Now, negotiation: &Negotiation) {
        assert_eq!(negotiation.state(), Some(State::Finalized));
        self.concluded += 1;
    }
}

fn at(seconds: u64) -> Now {
    let wall =
        WallTime(1_700_000_000_000_000_000 + i64::try_from(seconds).unwrap() * 1_000_000_000);
    Now { monotonic: Duration::from_secs(seconds), wall, quality: ClockQuality::Ntp }
}

fn offer(number: usize) -> Terms {
    let offer = json!({"@type": "Offer", "@id": format!("urn:offer:{number}"), "target": "d"});
    Terms::read(offer.to_string().as_bytes()).unwrap()
}

fn ledgers(dir: &TempDir) -> [Ledger; 2] {
    [("consumer", Role::Consumer), ("provider", Role::Provider)].map(|(name, role)| {
        let peer = if role == Role::Consumer { "box-1" } else { "space" };
        Ledger::new(&dir.path().join(name), role, peer, &format!("urn:guankou:link:{name}"))
    })
}

fn states(ledger: &Ledger, now: Now) -> Vec<Option<State>> {
    let opened = ledger.open().unwrap();
    opened.all(now).unwrap().iter().map(|found| found.negotiation.state()).collect()
}

/// Hands parcels over; gives what comes back. `lost` says which parcel of all never arrives.
fn exchange(
    desks: &mut [Desk<&mut Yes>; 2],
    now: Now,
    sent: &mut usize,
    lost: impl Fn(usize) -> bool,
) {
    for place in 0..2 {
        for parcel in desks[place].poll(now, true).unwrap() {
            assert!(parcel.is_message);
            *sent += 1;
            if lost(*sent) {
                continue;
            }
            let answer = desks[1 - place].handle_message(now, parcel.ticket, &parcel.json).unwrap();
            let Parcel { ticket, json, .. } = answer;
            *sent += 1;
            if !lost(*sent) {
                desks[place].handle_answer(now, ticket, &json).unwrap();
            }
        }
    }
}

/// Runs until both ends are done; every third second both programs start anew when `restarts`.
fn check(lost: impl Fn(usize) -> bool, restarts: bool, expect: State) {
    let dir = TempDir::new().unwrap();
    let ledgers = ledgers(&dir);
    ledgers[0].open().unwrap().propose(at(0), offer(0)).unwrap();
    let mut conducts = [Yes::default(), Yes::default()];
    let (mut sent, mut second) = (0, 0);
    while second < 400_000 {
        let [one, other] = &mut conducts;
        let mut desks = [Desk::new(ledgers[0].clone(), one), Desk::new(ledgers[1].clone(), other)];
        for _ in 0..if restarts { 3 } else { 400_000 } {
            second += 1;
            exchange(&mut desks, at(second), &mut sent, &lost);
            // The first letter may have been lost, and then the provider knows of nothing.
            if ledgers.iter().all(|ledger| states(ledger, at(second)) == [Some(expect)]) {
                break;
            }
        }
        if ledgers.iter().all(|ledger| states(ledger, at(second)) == [Some(expect)]) {
            break;
        }
    }
    for ledger in &ledgers {
        assert_eq!(states(ledger, at(second)), [Some(expect)], "after {sent} letters");
    }
    if expect == State::Finalized {
        // After a restart it is concluded again, never less than once.
        assert!(conducts.iter().all(|yes| yes.concluded >= 1));
        assert!(restarts || conducts.iter().all(|yes| yes.concluded == 1));
    }
}

#[test]
fn an_offer_becomes_an_agreement_whatever_is_lost() {
    check(|_| false, false, State::Finalized);
    check(|_| false, true, State::Finalized);
    // A third is lost, by a fixed draw for each seed.
    for seed in 0..6_u64 {
        let is_lost = |letter: usize| {
            let mixed = (letter as u64 + 1).wrapping_add(seed << 32);
            mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33 & 0xff < 85
        };
        check(is_lost, false, State::Finalized);
        check(is_lost, true, State::Finalized);
    }
    for one in 1..12 {
        check(|letter| letter == one, true, State::Finalized);
    }
}

#[test]
fn the_command_line_and_the_daemon_share_the_records() {
    let dir = TempDir::new().unwrap();
    let [ledger, _] = ledgers(&dir);
    let mut yes = Yes::default();
    let mut desk = Desk::new(ledger.clone(), &mut yes);
    assert_eq!(desk.poll(at(1), true).unwrap(), [], "there is no folder yet");
    let pid = ledger.open().unwrap().propose(at(1), offer(0)).unwrap();
    assert_eq!(desk.poll(at(2), false).unwrap(), [], "nobody is there to hear");
    let parcels = desk.poll(at(2), true).unwrap();
    assert_eq!(parcels.len(), 1);
    let message = Message::read(&parcels[0].json).unwrap();
    assert_eq!(message.body(), &Body::Request(offer(0)));
    assert_eq!(desk.poll(at(3), true).unwrap(), [], "its answer is waited for");
    let end = |now| {
        let opened = ledger.open().unwrap();
        opened.command(now, pid.as_str(), |one| one.terminate(now, None, Vec::new()))
    };
    assert_eq!(end(at(4)).unwrap().state(), Some(State::Terminated));
    assert!(matches!(end(at(4)), Err(LedgerFault::Command(_))), "it is over");
    assert_eq!(desk.poll(at(100), true).unwrap(), [], "the peer never named it");
    let opened = ledger.open().unwrap();
    assert!(matches!(opened.load(at(100), "urn:uuid:nobody0"), Err(LedgerFault::Unknown { .. })));
    assert_eq!(opened.load(at(100), &pid.as_str()[9..19]).unwrap().pid, pid);
}

#[test]
fn what_makes_no_sense_is_answered_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let [_, ledger] = ledgers(&dir);
    let mut yes = Yes::default();
    let mut desk = Desk::new(ledger.clone(), &mut yes);
    let pids = r#""consumerPid":"urn:uuid:1","providerPid":"urn:uuid:2""#;
    let context = r#""@context":["https://w3id.org/dspace/2025/1/context.jsonld"]"#;
    let unknown = format!(
        r#"{{{context},"@type":"ContractNegotiationEventMessage",{pids},"eventType":"ACCEPTED"}}"#
    );
    for (json, code) in [("no", "bad-message"), (&unknown, "unknown-negotiation")] {
        let answer = desk.handle_message(at(1), 7, json.as_bytes()).unwrap();
        let text = String::from_utf8(answer.json).unwrap();
        assert!(!answer.is_message && answer.ticket == 7 && text.contains(code), "{text}");
    }
    desk.handle_answer(at(1), 99, b"never asked").unwrap();
    assert_eq!(states(&ledger, at(1)), []);
}

#[test]
fn the_open_ones_and_the_ended_ones_have_limits() {
    let dir = TempDir::new().unwrap();
    let [ledger, provider] = ledgers(&dir);
    let opened = ledger.open().unwrap();
    let mut pids = Vec::new();
    for number in 0..OPEN_MAX {
        pids.push(opened.propose(at(number as u64), offer(number)).unwrap());
    }
    let full = opened.propose(at(99), offer(99));
    assert!(matches!(full, Err(LedgerFault::Full { .. })), "{full:?}");
    for number in 0..=FINISHED_MAX {
        let end = |one: &mut Negotiation| one.terminate(at(100), None, Vec::new());
        opened.command(at(100), pids[0].as_str(), end).unwrap();
        pids.remove(0);
        pids.push(opened.propose(at(100), offer(number)).unwrap());
    }
    assert_eq!(opened.all(at(100)).unwrap().len(), OPEN_MAX + FINISHED_MAX);
    drop(opened);
    // A peer that opens more than it may is told so.
    let (mut yes, mut no) = (Yes::default(), Yes::default());
    let mut consumer = Desk::new(ledger, &mut yes);
    let mut desk = Desk::new(provider.clone(), &mut no);
    for parcel in consumer.poll(at(101), true).unwrap() {
        desk.handle_message(at(101), parcel.ticket, &parcel.json).unwrap();
    }
    assert_eq!(states(&provider, at(101)).len(), OPEN_MAX);
    let message = Message::read(&consumer.poll(at(110), true).unwrap()[0].json).unwrap();
    let other = String::from_utf8(message.to_json().to_vec()).unwrap();
    let pid = message.pid(Role::Consumer).unwrap().as_str();
    let other = other.replace(pid, "urn:uuid:another");
    let answer = desk.handle_message(at(110), 1, other.as_bytes()).unwrap();
    let text = String::from_utf8(answer.json).unwrap();
    assert!(text.contains("too-many-negotiations"), "{text}");
}

#[test]
fn a_damaged_record_leaves_the_others_alone() {
    let dir = TempDir::new().unwrap();
    let [ledger, _] = ledgers(&dir);
    let opened = ledger.open().unwrap();
    let pid = opened.propose(at(1), offer(0)).unwrap();
    opened.propose(at(1), offer(1)).unwrap();
    let name = format!("{}.negotiation", &pid.as_str()[9..]);
    std::fs::write(dir.path().join("consumer").join(name), b"\xa1").unwrap();
    assert_eq!(opened.all(at(1)).unwrap().len(), 1);
    let fault = opened.load(at(1), pid.as_str());
    assert!(matches!(fault, Err(LedgerFault::Record { .. })), "{fault:?}");
}
