//! The machine against the sequences of the protocol's test kit, its limits, and its record.

mod documents;
mod model;

use super::message::Envelope;
use super::*;
use crate::contract::tests::TestSigner;
use crate::signature::TrustedKeys;
use guan_model::{ClockQuality, Now, Signer, WallTime};
use serde_json::{Value, json};
use std::time::Duration;

const CONSUMER_PID: &str = "urn:uuid:c-1";
const PROVIDER_PID: &str = "urn:uuid:p-1";
const START: i64 = 1_800_000_000;

fn at(seconds: u64) -> Now {
    let wall = WallTime::from_seconds(START + i64::try_from(seconds).unwrap());
    Now { wall, monotonic: Duration::from_secs(1000 + seconds), quality: ClockQuality::Ntp }
}

fn pid(role: Role) -> Pid {
    Pid::parse(if role == Role::Consumer { CONSUMER_PID } else { PROVIDER_PID }).unwrap()
}

fn parties(role: Role) -> Parties {
    let peer = role.other().name();
    Parties::new(role, pid(role), peer, "https://example.org/dsp").unwrap()
}

fn limits(change: impl FnOnce(&mut LimitSettings)) -> Limits {
    let mut settings = LimitSettings::default();
    change(&mut settings);
    Limits::new(settings).unwrap()
}

fn terms_value(kind: &str, step: u32) -> Value {
    json!({
        "@id": format!("urn:contract:C-{step}"), "@type": kind, "target": "vessel-bus",
        "permission": [{"action": "use", "constraint": [
            {"leftOperand": "dateTime", "operator": "lteq", "rightOperand": format!("20{}-01-01T00:00:00Z", 30 + step)},
        ]}],
    })
}

fn offer(step: u32) -> Terms {
    Terms::read(terms_value("Offer", step).to_string().as_bytes()).unwrap()
}

/// The agreement to what is on the table.
fn agreement_to(offer: &Terms) -> Terms {
    let mut value = offer.value().clone();
    value["@type"] = json!("Agreement");
    value["timestamp"] = json!("2027-01-15T08:00:00Z");
    (value["assigner"], value["assignee"]) = (json!("depot-7"), json!("space-1"));
    Terms::read(value.to_string().as_bytes()).unwrap()
}

/// What the other end says, with an id of its own as the test kit does.
fn message(sender: Role, kind: MessageKind, number: u32, is_first: bool, terms: &Terms) -> Message {
    let peer = Some(pid(sender.other())).filter(|_| !is_first);
    let own = Some(pid(sender));
    let (consumer_pid, provider_pid) =
        if sender == Role::Consumer { (own, peer) } else { (peer, own) };
    let callback = is_first.then(|| "https://example.com/callback".to_owned());
    let id = Some(format!("urn:uuid:m-{number}"));
    let body = match kind {
        MessageKind::Request => Body::Request(terms.clone()),
        MessageKind::Offer => Body::Offer(terms.clone()),
        MessageKind::Accepted => Body::Accepted,
        MessageKind::Agreement => {
            Body::Agreement { terms: agreement_to(terms), signatures: Signatures::none() }
        }
        MessageKind::Verification => Body::Verification(Signatures::none()),
        MessageKind::Finalized => Body::Finalized,
        MessageKind::Termination => {
            Body::Termination { code: Some("1".to_owned()), reasons: vec!["enough".to_owned()] }
        }
    };
    let message = Message::new(Envelope { id, consumer_pid, provider_pid, callback }, body);
    Message::read(message.to_json()).unwrap()
}

fn kind(word: &str) -> MessageKind {
    let words = [
        ("request", MessageKind::Request),
        ("offer", MessageKind::Offer),
        ("accepted", MessageKind::Accepted),
        ("agreement", MessageKind::Agreement),
        ("verification", MessageKind::Verification),
        ("finalized", MessageKind::Finalized),
        ("termination", MessageKind::Termination),
    ];
    words.into_iter().find(|(known, _)| *known == word).expect("a word of the table").1
}

fn command(end: &mut Negotiation, now: Now, kind: MessageKind) -> Result<(), CommandFault> {
    let step = end.proposals() + 1;
    match kind {
        MessageKind::Request => end.request(now, offer(step)),
        MessageKind::Offer => end.offer(now, offer(step)),
        MessageKind::Accepted => end.accept(now),
        MessageKind::Agreement => {
            let terms = end.proposal().map_or_else(|| offer(step), Clone::clone);
            end.agree(now, agreement_to(&terms), Signatures::none())
        }
        MessageKind::Verification => end.verify(now, Signatures::none()),
        MessageKind::Finalized => end.finalize(now),
        MessageKind::Termination => end.terminate(now, None, vec!["changed our mind".to_owned()]),
    }
}

/// Sends what is due, through the wire form, and has it acknowledged.
fn deliver(end: &mut Negotiation, now: Now, expect: MessageKind) {
    let sent = end.poll_message(now).expect("a command makes a message");
    let read = Message::read(sent.message.to_json()).unwrap();
    assert_eq!((&read, read.kind()), (&sent.message, expect));
    let state = next_state(end.state(), end.role(), expect).unwrap_or(State::Terminated);
    let ack = Ack { consumer_pid: pid(Role::Consumer), provider_pid: pid(Role::Provider), state };
    let answer = Answer::read(&ack.to_json()).unwrap();
    end.handle_answer(now, sent.sequence, &answer).unwrap();
}

fn restart(end: Negotiation, now: Now) -> Negotiation {
    let read = Negotiation::from_record(now, &end.to_record(now), end.limits).unwrap();
    assert_eq!(read, end, "the record keeps everything");
    read
}

/// Plays a sequence: `<x` comes from the other end and is acknowledged, `<x!` is refused, `>x` is sent.
/// After every step the program is started anew. Every message that was followed is then repeated.
fn play(role: Role, limits: Limits, steps: &str) -> Negotiation {
    let mut end: Option<Negotiation> = None;
    let mut followed: Vec<(Message, Ack)> = Vec::new();
    for (number, step) in (0..).zip(steps.split(' ')) {
        let now = at(u64::from(number));
        let is_refused = step.ends_with('!');
        let kind = kind(step.trim_matches(['<', '>', '!']));
        if step.starts_with('<') {
            let terms = match end.as_ref().filter(|_| !kind.is_proposal()) {
                Some(end) => end.proposal().cloned().expect("something was proposed"),
                None => offer(number),
            };
            let message = message(role.other(), kind, number, end.is_none(), &terms);
            let Some(end) = &mut end else {
                let (begun, ack) =
                    Negotiation::begin(now, parties(role), &message, limits).unwrap();
                followed.push((message, ack));
                end = Some(begun);
                continue;
            };
            let before = end.clone();
            match end.handle_message(now, &message) {
                Ok(ack) => {
                    assert!(!is_refused, "{steps}: {step} must be refused");
                    assert_eq!(Some(ack.state), end.state());
                    followed.push((message, ack));
                }
                Err(refusal) => {
                    assert!(is_refused, "{steps}: {step}: {refusal}");
                    assert_eq!(*end, before, "a refused message changes nothing");
                }
            }
        } else if let Some(end) = &mut end {
            command(end, now, kind).unwrap();
            deliver(end, now, kind);
        } else {
            let mut begun = Negotiation::open(now, parties(role), offer(number), limits).unwrap();
            begun = restart(begun, now);
            deliver(&mut begun, now, kind);
            end = Some(begun);
        }
        end = end.map(|end| restart(end, now));
    }
    let mut end = end.expect("a sequence has a step");
    let before = end.clone();
    for (message, ack) in followed {
        assert_eq!(end.handle_message(at(100), &message), Ok(ack), "{steps}: repeated");
    }
    assert_eq!(end, before, "{steps}: what was followed is not followed again");
    end
}

#[test]
fn sequences_of_the_test_kit() {
    use Role::{Consumer, Provider};
    use State::*;
    let mut count = 0;
    let mut check = |name: &str, role, steps: &str, expect| {
        count += 1;
        assert_eq!(play(role, Limits::default(), steps).state(), Some(expect), "{name}: {steps}");
    };
    check("CN:01-01", Provider, "<request >offer <termination", Terminated);
    check("CN:01-02", Provider, "<request >offer <request >termination", Terminated);
    let steps = "<request >offer <accepted >agreement <verification >finalized";
    check("CN:01-03", Provider, steps, Finalized);
    check("CN:01-04", Provider, "<request >agreement <verification >finalized", Finalized);
    check("CN:02-01", Provider, "<request >termination", Terminated);
    check("CN:02-02", Provider, "<request <termination", Terminated);
    check("CN:02-03", Provider, "<request >agreement <termination", Terminated);
    check("CN:02-04", Provider, "<request >offer <termination", Terminated);
    check("CN:02-05", Provider, "<request >offer >termination", Terminated);
    check("CN:02-06", Provider, "<request >offer <accepted >termination", Terminated);
    check("CN:02-07", Provider, "<request >agreement <verification >termination", Terminated);
    let steps = "<request >agreement <verification >finalized <termination!";
    check("CN:03-01", Provider, steps, Finalized);
    check("CN:03-02", Provider, "<request >offer <verification!", Offered);
    check("CN:03-03", Provider, "<request >offer <accepted <verification!", Accepted);
    check("CN:03-04", Provider, "<request >offer <request <request!", Requested);
    let steps = ">request <offer >accepted <agreement >verification <finalized";
    check("CN_C:01-01", Consumer, steps, Finalized);
    check("CN_C:01-02", Consumer, ">request <offer >request <termination", Terminated);
    check("CN_C:01-03", Consumer, ">request <offer >termination", Terminated);
    check("CN_C:01-04", Consumer, ">request <agreement >verification <finalized", Finalized);
    check("CN_C:02-01", Consumer, ">request <termination", Terminated);
    check("CN_C:02-02", Consumer, ">request >termination", Terminated);
    check("CN_C:02-03", Consumer, ">request <agreement >termination", Terminated);
    check("CN_C:02-04", Consumer, ">request <offer <termination", Terminated);
    check("CN_C:02-05", Consumer, ">request <offer >accepted <termination", Terminated);
    check("CN_C:02-06", Consumer, ">request <agreement >verification <termination", Terminated);
    check("CN_C:03-01", Consumer, ">request <finalized!", Requested);
    check("CN_C:03-02", Consumer, ">request <offer <agreement!", Offered);
    check("CN_C:03-03", Consumer, ">request <offer <finalized!", Offered);
    check("CN_C:03-04", Consumer, ">request <offer >accepted <finalized!", Accepted);
    check("CN_C:03-05", Consumer, ">request <offer >accepted <offer!", Accepted);
    check("CN_C:03-06", Consumer, ">request <offer >accepted <agreement <finalized!", Agreed);
    assert_eq!(count, 31, "fifteen sequences of CN and sixteen of CN_C");
}

/// The kit has none of these; the protocol allows them.
#[test]
fn negotiations_that_a_provider_opens() {
    let check = |role, steps: &str, expect| {
        assert_eq!(play(role, Limits::default(), steps).state(), Some(expect), "{steps}");
    };
    let steps = ">offer <accepted >agreement <verification >finalized";
    check(Role::Provider, steps, State::Finalized);
    let steps = "<offer >request <offer >accepted <agreement >verification <finalized";
    check(Role::Consumer, steps, State::Finalized);
    check(Role::Consumer, "<offer <termination", State::Terminated);
}

#[test]
fn every_state_refuses_all_but_its_messages() {
    let ways = [
        (Role::Provider, "<request", State::Requested),
        (Role::Provider, "<request >offer", State::Offered),
        (Role::Provider, "<request >offer <accepted", State::Accepted),
        (Role::Provider, "<request >agreement", State::Agreed),
        (Role::Provider, "<request >agreement <verification", State::Verified),
        (Role::Provider, "<request >agreement <verification >finalized", State::Finalized),
        (Role::Provider, "<request >termination", State::Terminated),
        (Role::Consumer, ">request", State::Requested),
        (Role::Consumer, ">request <offer", State::Offered),
        (Role::Consumer, ">request <offer >accepted", State::Accepted),
        (Role::Consumer, ">request <agreement", State::Agreed),
        (Role::Consumer, ">request <agreement >verification", State::Verified),
        (Role::Consumer, ">request <agreement >verification <finalized", State::Finalized),
        (Role::Consumer, ">request <termination", State::Terminated),
    ];
    for (role, steps, state) in ways {
        let end = play(role, Limits::default(), steps);
        assert_eq!(end.state(), Some(state));
        let terms = end.proposal().cloned().unwrap();
        for kind in MessageKind::ALL {
            let is_legal = |sender| next_state(Some(state), sender, kind).is_some();
            let message = message(role.other(), kind, 999, false, &terms);
            let mut other = end.clone();
            let refusal = other.handle_message(at(100), &message).err();
            assert_eq!(refusal.is_none(), is_legal(role.other()), "{steps} then {kind}");
            if let Some(refusal) = refusal {
                let sender = role.other();
                let allowed = allowed(Some(state), sender);
                let message = kind;
                let state = Some(state);
                assert_eq!(refusal, Refusal::IllegalTransition { state, sender, message, allowed });
                assert_eq!(other, end);
            }
            let mut other = end.clone();
            let fault = command(&mut other, at(100), kind).err();
            assert_eq!(fault.is_none(), is_legal(role), "{steps}, command {kind}: {fault:?}");
            assert!(fault.is_none() || other == end, "a refused command changes nothing");
        }
    }
}

#[test]
fn refusals_name_the_state_and_what_is_allowed() {
    let mut end = play(Role::Provider, Limits::default(), "<request >offer");
    let verification = message(Role::Consumer, MessageKind::Verification, 9, false, &offer(0));
    let refusal = end.handle_message(at(9), &verification).unwrap_err();
    let expect = "ContractAgreementVerificationMessage of the consumer must not come in OFFERED; \
        the consumer may send ContractRequestMessage or ContractNegotiationEventMessage ACCEPTED or \
        ContractNegotiationTerminationMessage";
    assert_eq!(refusal.to_string(), expect);
    let json = Rejection::from(&refusal).to_json(&pid(Role::Consumer), &pid(Role::Provider));
    let rejection = Rejection {
        code: Some("illegal-transition".to_owned()),
        reasons: vec![expect.chars().take(256).collect()],
    };
    assert_eq!(Answer::read(&json), Ok(Answer::Refused(Some(rejection))));
    let fault = end.finalize(at(9)).unwrap_err();
    let expect = "ContractNegotiationEventMessage FINALIZED cannot be sent in OFFERED; the provider may \
        send ContractNegotiationTerminationMessage";
    assert_eq!(fault.to_string(), expect);
    let mut end = play(Role::Provider, Limits::default(), "<request >termination");
    let refusal = end.handle_message(at(9), &verification).unwrap_err();
    assert!(
        refusal.to_string().ends_with("may send nothing; begin a new negotiation"),
        "{refusal}"
    );
}

#[test]
fn proposals_are_counted_up_to_their_limit() {
    let three = limits(|l| l.proposals_max = 3);
    let end = play(Role::Provider, three, "<request >offer <request");
    let mut other = end.clone();
    let fault = other.offer(at(9), offer(9)).unwrap_err();
    assert_eq!(fault, CommandFault::TooManyProposals { limit: 3 });
    let mut other = end;
    command(&mut other, at(9), MessageKind::Agreement).unwrap();
    let mut end = play(Role::Provider, three, "<request >offer");
    let counter = |number| message(Role::Consumer, MessageKind::Request, number, false, &offer(1));
    assert_eq!(end.handle_message(at(9), &counter(9)).unwrap().state, State::Requested);
    let two = limits(|l| l.proposals_max = 2);
    let mut end = play(Role::Provider, two, "<request >offer");
    let refusal = end.handle_message(at(9), &counter(9)).unwrap_err();
    assert_eq!(refusal, Refusal::TooManyProposals { limit: 2 });
    assert_eq!(end.state(), Some(State::Offered));
    let accepted = message(Role::Consumer, MessageKind::Accepted, 10, false, &offer(1));
    assert_eq!(end.handle_message(at(9), &accepted).unwrap().state, State::Accepted);
}

#[test]
fn each_state_ends_at_its_deadline() {
    let check = |role, steps: &str, span: Duration| {
        let mut end = play(role, Limits::default(), steps);
        let state = end.state();
        let since = u64::try_from(steps.split(' ').count()).unwrap() - 1;
        let deadline = end.poll_timeout().unwrap();
        assert_eq!(deadline, at(since).monotonic + span, "{steps}");
        let before = end.clone();
        end.handle_timeout(at(since + span.as_secs() - 1));
        assert_eq!(end, before, "{steps}: too early");
        end.handle_timeout(at(since + span.as_secs()));
        assert_eq!(end.state(), Some(State::Terminated), "{steps}");
        assert_eq!(end.end(), Some(&EndCause::Deadline { state, in_doubt: false }));
        assert_eq!(end.in_flight(), Some(MessageKind::Termination));
    };
    let deadlines = Deadlines::default();
    check(Role::Provider, "<request", deadlines.requested);
    check(Role::Provider, "<request >offer", deadlines.offered);
    check(Role::Provider, "<request >offer <accepted", deadlines.accepted);
    check(Role::Provider, "<request >agreement", deadlines.agreed);
    check(Role::Consumer, ">request <agreement >verification", deadlines.verified);
    let mut end =
        Negotiation::open(at(0), parties(Role::Consumer), offer(0), Limits::default()).unwrap();
    end.handle_timeout(at(deadlines.opening.as_secs()));
    assert_eq!(end.end(), Some(&EndCause::Deadline { state: None, in_doubt: false }));
    assert!(end.is_done(), "there is nobody to tell");
}

#[test]
fn attempts_are_counted_up_to_their_limit() {
    let limits = limits(|l| (l.attempts_max, l.retry_longest) = (3, Duration::from_secs(8)));
    let mut end = Negotiation::open(at(0), parties(Role::Consumer), offer(0), limits).unwrap();
    let sent: Vec<u64> = (0..60).filter(|second| end.poll_message(at(*second)).is_some()).collect();
    assert_eq!(sent, [0, 5, 13], "five seconds, then eight");
    assert_eq!(end.poll_attempt(), None);
    assert_eq!(end.poll_timeout(), Some(at(21).monotonic));
    end.handle_timeout(at(20));
    assert_eq!(end.state(), None);
    end.handle_timeout(at(21));
    let message = MessageKind::Request;
    assert_eq!(end.end(), Some(&EndCause::AttemptsSpent { message }));
    // The first answer comes late: the other end is told that nobody waits any more.
    let ack = Ack {
        consumer_pid: pid(Role::Consumer),
        provider_pid: pid(Role::Provider),
        state: State::Requested,
    };
    end.handle_answer(at(30), 1, &Answer::Accepted(Some(ack))).unwrap();
    let notice = end.poll_message(at(30)).unwrap();
    assert_eq!(notice.message.kind(), MessageKind::Termination);
    assert_eq!(notice.message.pid(Role::Provider), Some(&pid(Role::Provider)));
    end.handle_answer(at(30), notice.sequence, &Answer::Refused(None)).unwrap();
    assert!(end.is_done());
}

#[test]
fn a_lost_acknowledgement_is_seen_in_what_comes_next() {
    let mut end = play(Role::Consumer, Limits::default(), ">request <offer");
    end.accept(at(5)).unwrap();
    let agreement =
        message(Role::Provider, MessageKind::Agreement, 9, false, end.proposal().unwrap());
    let mut unsent = end.clone();
    assert!(unsent.handle_message(at(6), &agreement).is_err(), "our acceptance was not sent");
    let sequence = end.poll_message(at(5)).unwrap().sequence;
    assert_eq!(end.handle_message(at(6), &agreement).unwrap().state, State::Agreed);
    assert_eq!(end.in_flight(), None);
    end.verify(at(7), Signatures::none()).unwrap();
    end.handle_answer(at(8), sequence, &Answer::Refused(None)).unwrap();
    assert_eq!(end.in_flight(), Some(MessageKind::Verification), "a late answer means nothing");
}

/// A provider that comes back to its first terms says something new, and is not taken for an echo.
#[test]
fn equal_terms_can_be_offered_twice() {
    let mut provider = play(Role::Provider, Limits::default(), "<request");
    let mut consumer = play(Role::Consumer, Limits::default(), ">request");
    for round in [5, 6] {
        provider.offer(at(round), offer(7)).unwrap();
        let sent = provider.poll_message(at(round)).unwrap();
        let ack = consumer.handle_message(at(round), &sent.message).unwrap();
        assert_eq!(consumer.state(), Some(State::Offered), "round {round}");
        provider.handle_answer(at(round), sent.sequence, &Answer::Accepted(Some(ack))).unwrap();
        consumer.request(at(round), offer(8)).unwrap();
        let sent = consumer.poll_message(at(round)).unwrap();
        let ack = provider.handle_message(at(round), &sent.message).unwrap();
        assert_eq!(provider.state(), Some(State::Requested), "round {round}");
        consumer.handle_answer(at(round), sent.sequence, &Answer::Accepted(Some(ack))).unwrap();
    }
}

#[test]
fn what_the_other_end_refuses() {
    let check = |role, steps: &str, kind: MessageKind, expect: Option<State>| {
        let mut end = play(role, Limits::default(), steps);
        command(&mut end, at(50), kind).unwrap();
        let sequence = end.poll_message(at(50)).unwrap().sequence;
        let reasons = vec!["no".to_owned()];
        let rejection = Rejection { code: None, reasons: reasons.clone() };
        end.handle_answer(at(50), sequence, &Answer::Refused(Some(rejection))).unwrap();
        assert_eq!(end.state(), expect, "{steps} then {kind}");
        if expect == Some(State::Terminated) {
            assert_eq!(end.end(), Some(&EndCause::RefusedByPeer { message: kind, reasons }));
            assert_eq!(end.in_flight(), Some(MessageKind::Termination));
        }
    };
    // A proposal may be declined; a refused step means that the two ends differ.
    check(Role::Consumer, ">request <offer", MessageKind::Request, Some(State::Offered));
    check(Role::Provider, "<request", MessageKind::Offer, Some(State::Requested));
    check(Role::Consumer, ">request <offer", MessageKind::Accepted, Some(State::Terminated));
    check(Role::Provider, "<request", MessageKind::Agreement, Some(State::Terminated));
}

#[test]
fn an_agreement_to_other_terms_is_neither_sent_nor_confirmed() {
    let mut end = play(Role::Provider, Limits::default(), "<request");
    let other = agreement_to(&offer(7));
    let fault = end.agree(at(5), other, Signatures::none()).unwrap_err();
    assert_eq!(fault, CommandFault::OtherTerms);
    let bare = end.proposal().cloned().unwrap();
    let fault = end.agree(at(5), bare, Signatures::none()).unwrap_err();
    assert_eq!(fault, CommandFault::OtherTerms, "an offer is no agreement");
    let mut end = play(Role::Consumer, Limits::default(), ">request");
    let bait = message(Role::Provider, MessageKind::Agreement, 9, false, &offer(7));
    end.handle_message(at(5), &bait).unwrap();
    assert_eq!(end.verify(at(5), Signatures::none()), Err(CommandFault::OtherTerms));
    assert_eq!(end.terminate(at(5), None, Vec::new()), Ok(()));
}

#[test]
fn messages_of_another_negotiation() {
    let mut end = play(Role::Provider, Limits::default(), "<request >offer");
    let mut accepted = message(Role::Consumer, MessageKind::Accepted, 9, false, &offer(0));
    accepted.envelope.provider_pid = Some(Pid::parse("urn:uuid:p-2").unwrap());
    let accepted = Message::new(accepted.envelope, accepted.body);
    let refusal = end.handle_message(at(5), &accepted).unwrap_err();
    let (found, expected) = ("urn:uuid:p-2".to_owned(), PROVIDER_PID.to_owned());
    assert_eq!(refusal, Refusal::OtherNegotiation { role: Role::Provider, found, expected });
    let unnamed = message(Role::Consumer, MessageKind::Request, 9, true, &offer(0));
    assert!(end.handle_message(at(5), &unnamed).is_err(), "a first message comes once");
    let mut end =
        Negotiation::open(at(0), parties(Role::Consumer), offer(0), Limits::default()).unwrap();
    let sent = end.poll_message(at(0)).unwrap();
    assert_eq!(
        end.handle_answer(at(0), sent.sequence, &Answer::Accepted(None)),
        Err(AnswerFault::NoPid)
    );
    let unnamed = message(Role::Provider, MessageKind::Offer, 9, true, &offer(0));
    assert!(end.handle_message(at(1), &unnamed).is_err(), "it does not answer our request");
}

#[test]
fn a_finalization_on_its_way_cannot_be_taken_back() {
    let mut end = play(Role::Provider, Limits::default(), "<request >agreement <verification");
    end.finalize(at(5)).unwrap();
    let mut unsent = end.clone();
    assert_eq!(unsent.terminate(at(5), None, Vec::new()), Ok(()));
    end.poll_message(at(5)).unwrap();
    let message = MessageKind::Finalized;
    let fault = end.terminate(at(5), None, Vec::new());
    assert_eq!(fault, Err(CommandFault::InFlight { message }));
    assert_eq!(end.state(), Some(State::Verified), "nothing is released yet");
    let late = at(5 + Deadlines::default().verified.as_secs());
    end.handle_timeout(late);
    let state = Some(State::Verified);
    assert_eq!(end.end(), Some(&EndCause::Deadline { state, in_doubt: true }));
}

#[test]
fn deadlines_go_on_while_the_power_is_off() {
    let end = play(Role::Provider, Limits::default(), "<request");
    let left =
        |end: &Negotiation, now: Now| end.poll_timeout().unwrap().saturating_sub(now.monotonic);
    let record = end.to_record(at(100));
    let rebooted =
        |seconds: u64, quality| Now { monotonic: Duration::ZERO, quality, ..at(seconds) };
    let check = |now: Now, expect: u64| {
        let read = Negotiation::from_record(now, &record, Limits::default()).unwrap();
        assert_eq!(left(&read, now).as_secs(), expect);
    };
    let week = Deadlines::default().requested.as_secs();
    check(rebooted(100, ClockQuality::Ntp), week - 100);
    check(rebooted(700, ClockQuality::Rtc), week - 700);
    check(rebooted(10, ClockQuality::Ntp), week - 100);
    check(rebooted(700, ClockQuality::Unset), week - 100);
    check(rebooted(week + 1, ClockQuality::Ntp), 0);
}

fn golden_negotiation() -> Negotiation {
    let mut end = play(Role::Provider, Limits::default(), "<request >offer <accepted");
    command(&mut end, at(10), MessageKind::Agreement).unwrap();
    end.poll_message(at(10)).unwrap();
    end
}

/// Written by the first program that had records; it is read for ever and never written again.
#[test]
fn golden_record() {
    let golden = include_str!("../../tests/golden/negotiation-v1.hex");
    let byte = |place: usize| u8::from_str_radix(&golden[place..place + 2], 16).unwrap();
    let record: Vec<u8> = (0..golden.trim_end().len()).step_by(2).map(byte).collect();
    let read = Negotiation::from_record(at(12), &record, Limits::default()).unwrap();
    assert_eq!(read, golden_negotiation());
    assert_eq!(read.to_record(at(12)), record, "schema 1 has one form");
}

#[test]
fn damaged_records_are_refused_or_obey_the_rules() {
    let end = golden_negotiation();
    let record = end.to_record(at(12));
    for place in 0..record.len() {
        for flip in [1_u8, 0x80, 0xFF] {
            let mut other = record.clone();
            other[place] ^= flip;
            let Ok(mut read) = Negotiation::from_record(at(12), &other, Limits::default()) else {
                continue;
            };
            read.poll_message(at(20));
            let terms = read.proposal().cloned().unwrap_or_else(|| offer(1));
            for kind in MessageKind::ALL {
                let _ =
                    read.handle_message(at(20), &message(Role::Consumer, kind, 77, false, &terms));
            }
            read.handle_timeout(at(u64::from(u32::MAX)));
            read.handle_timeout(at(2 * u64::from(u32::MAX)));
        }
        assert!(Negotiation::from_record(at(12), &record[..place], Limits::default()).is_err());
    }
    let newer = [&record[..2], &[2], &record[3..]].concat();
    let fault = Negotiation::from_record(at(12), &newer, Limits::default()).unwrap_err();
    assert_eq!(fault, RecordFault::Schema { found: 2 });
    let long = vec![0; RECORD_BYTES_MAX + 1];
    let fault = Negotiation::from_record(at(12), &long, Limits::default()).unwrap_err();
    assert_eq!(fault, RecordFault::TooLong { length: RECORD_BYTES_MAX + 1 });
}

/// The whole way of a real contract: drafted, judged, agreed, signed at both ends, in force.
#[test]
fn an_offer_becomes_a_contract_that_both_have_signed() {
    let agreement = crate::contract::odrl::tests::agreement();
    let mut offered = agreement.clone();
    offered["@type"] = json!("Offer");
    let offered = Terms::read(offered.to_string().as_bytes()).unwrap();
    let agreed = Terms::read(agreement.to_string().as_bytes()).unwrap();
    assert!(crate::Contract::draft(&offered.to_json()).is_ok());
    let (provider, consumer) = (TestSigner::new(31), TestSigner::new(32));
    let signatures = |file: &[u8], party: &str, signer: &TestSigner| {
        Signatures::of_file(&crate::sign(file, party, signer).unwrap()).unwrap()
    };
    let first = message(Role::Consumer, MessageKind::Request, 1, true, &offered);
    let (mut end, _) =
        Negotiation::begin(at(0), parties(Role::Provider), &first, Limits::default()).unwrap();
    assert_eq!(end.contract_file(), None);
    let signed = signatures(&agreed.to_json(), "depot-7", &provider);
    end.agree(at(5), agreed, signed).unwrap();
    deliver(&mut end, at(5), MessageKind::Agreement);
    let keys = [("depot-7", &provider), ("insurer-1", &consumer)]
        .map(|(party, signer)| (party.to_owned(), signer.public_key()));
    let keys = TrustedKeys::new(keys.to_vec()).unwrap();
    let half = end.contract_file().unwrap();
    assert!(crate::Contract::parse(&half, &keys).is_err(), "the consumer has not signed");
    let verification = message(Role::Consumer, MessageKind::Verification, 9, false, &offered);
    let body = Body::Verification(signatures(&half, "insurer-1", &consumer));
    let verification = Message::new(verification.envelope, body);
    end.handle_message(at(6), &Message::read(verification.to_json()).unwrap()).unwrap();
    end = restart(end, at(6));
    let contract = crate::Contract::parse(&end.contract_file().unwrap(), &keys).unwrap();
    assert_eq!((contract.provider(), contract.consumer()), ("depot-7", "insurer-1"));
}
