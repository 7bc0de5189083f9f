//! The rules as tables; in `hostile`, any bytes that a client may send.

mod hostile;

use super::*;
use crate::mqtt::exchange::Opened;
use crate::mqtt::filter::TopicFilter;
use crate::mqtt::limits::TOPIC_ALIASES_MAX;
use crate::mqtt::packet::{Publish, RetainHandling, SubscriptionOptions, Wish};

const WAITING_BYTES_MAX: usize = 1000;

fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn session_with(version: Version, held: Vec<NonZeroU16>) -> Session {
    let rights = Rights {
        publish: vec![TopicFilter::parse("a/#").unwrap()],
        subscribe: vec![TopicFilter::parse("a/#").unwrap()],
    };
    let config = SessionConfig {
        version,
        rights: Arc::new(rights),
        receive_maximum: 3,
        keep_alive: Some(Duration::from_secs(10)),
        held,
        opened: Opened::default(),
        waiting_bytes_max: WAITING_BYTES_MAX,
        out_aliases_max: 0,
    };
    Session::new(Duration::ZERO, config)
}

fn publish(topic: &str, qos: QoS, packet_id: Option<u16>) -> Inbound {
    Inbound::Publish(Publish {
        topic: Arc::from(topic),
        alias: None,
        payload: Bytes::from_static(b"x"),
        qos,
        packet_id: packet_id.map(id),
        retain: false,
        properties: None,
        expiry_s: None,
    })
}

/// Hands on what is durable, to nobody, and returns the topics.
fn pass_on(session: &mut Session) -> Vec<Arc<str>> {
    let mut topics = Vec::new();
    while let Some(durable) = session.poll_durable() {
        topics.push(durable.message.topic);
        session.handle_passed_on(None);
    }
    topics
}

fn packets(session: &mut Session) -> Vec<Outbound> {
    pass_on(session);
    std::iter::from_fn(|| session.poll_packet()).collect()
}

fn tickets(session: &mut Session) -> Vec<u64> {
    std::iter::from_fn(|| session.poll_request())
        .map(|request| match request {
            Request::Publish { ticket, .. } | Request::Release { ticket, .. } => ticket,
        })
        .collect()
}

fn refused(reason: RefuseReason) -> Outcome {
    Outcome::Refused { reason, text: "no".to_owned() }
}

#[test]
fn acknowledgements_wait_for_their_outcome_and_keep_their_order() {
    let mut session = session_with(Version::V5, vec![]);
    for number in 1..=3 {
        session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtLeastOnce, Some(number)));
    }
    let tickets = tickets(&mut session);
    assert!(packets(&mut session).is_empty(), "nothing before the outcome");
    session.handle_outcome(tickets[2], Outcome::Durable);
    session.handle_outcome(tickets[1], Outcome::Durable);
    assert!(packets(&mut session).is_empty(), "the first one is still on its way");
    session.handle_outcome(tickets[0], Outcome::Durable);
    let expect: Vec<_> = (1..=3).map(|number| Outbound::Acknowledge(id(number), None)).collect();
    assert_eq!(packets(&mut session), expect);
}

#[test]
fn refusals_are_told_or_end_the_connection() {
    use RefuseReason::{PayloadInvalid, Quota};
    let check = |version, qos, outcome: Outcome, expect: Option<Outbound>| {
        let mut session = session_with(version, vec![]);
        session.handle_packet(Duration::ZERO, publish("a/b", qos, Some(1)));
        let ticket = tickets(&mut session)[0];
        session.handle_outcome(ticket, outcome.clone());
        let packets = packets(&mut session);
        match expect {
            Some(packet) => assert_eq!(packets, [packet], "{version:?} {qos:?} {outcome:?}"),
            None => {
                assert!(session.ended().is_some(), "{version:?} {qos:?} {outcome:?}");
                assert!(matches!(packets[..], [Outbound::Goodbye(_)]));
            }
        }
    };
    let no = |reason| Some((reason, "no".to_owned()));
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let (v3, v5) = (Version::V3, Version::V5);
    check(v5, one, refused(Quota), Some(Outbound::Acknowledge(id(1), no(Quota))));
    check(v5, two, refused(Quota), Some(Outbound::Received(id(1), no(Quota))));
    check(v3, one, refused(Quota), None);
    check(v3, two, refused(Quota), None);
    let invalid = no(PayloadInvalid);
    check(v3, one, refused(PayloadInvalid), Some(Outbound::Acknowledge(id(1), invalid.clone())));
    check(v3, two, refused(PayloadInvalid), Some(Outbound::Received(id(1), invalid)));
    check(v5, one, Outcome::Lost, None);
    check(v3, two, Outcome::Lost, None);
}

#[test]
fn exactly_once_is_submitted_once() {
    let mut session = session_with(Version::V3, vec![id(9)]);
    let two = |number| publish("a/b", QoS::ExactlyOnce, Some(number));
    session.handle_packet(Duration::ZERO, two(9));
    assert_eq!(packets(&mut session), [Outbound::Received(id(9), None)], "held from before");
    session.handle_packet(Duration::ZERO, two(1));
    session.handle_packet(Duration::ZERO, two(1));
    let submitted = tickets(&mut session);
    assert_eq!(submitted.len(), 1);
    session.handle_outcome(submitted[0], Outcome::Durable);
    pass_on(&mut session);
    session.handle_packet(Duration::ZERO, two(1));
    assert!(tickets(&mut session).is_empty());
    let received = Outbound::Received(id(1), None);
    assert_eq!(packets(&mut session), [received.clone(), received]);
    session.handle_packet(Duration::ZERO, Inbound::Release(id(1)));
    session.handle_packet(Duration::ZERO, Inbound::Release(id(1)));
    let release = tickets(&mut session);
    assert_eq!(release.len(), 1);
    assert!(packets(&mut session).is_empty(), "a release waits for the disk too");
    session.handle_outcome(release[0], Outcome::Durable);
    let complete = |is_known| Outbound::Complete { packet_id: id(1), is_known };
    assert_eq!(packets(&mut session), [complete(true)]);
    session.handle_packet(Duration::ZERO, Inbound::Release(id(1)));
    assert_eq!(packets(&mut session), [complete(false)]);
    session.handle_packet(Duration::ZERO, two(1));
    assert_eq!(tickets(&mut session).len(), 1, "a released id is a new message");
}

#[test]
fn the_receive_maximum_is_exact_and_of_this_connection() {
    let mut session = session_with(Version::V5, vec![id(100), id(101), id(102)]);
    let one = |number| publish("a/b", QoS::AtLeastOnce, Some(number));
    for number in 1..=2 {
        session.handle_packet(Duration::ZERO, one(number));
    }
    // Repeated here, a message from before counts here.
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::ExactlyOnce, Some(100)));
    assert_eq!(packets(&mut session), [Outbound::Received(id(100), None)]);
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtMostOnce, None));
    assert!(session.ended().is_none(), "QoS 0 does not count");
    session.handle_packet(Duration::ZERO, one(3));
    assert_eq!(packets(&mut session), [Outbound::Goodbye(Goodbye::ReceiveMaximum)]);
}

#[test]
fn a_client_that_was_told_no_maximum_is_held_back() {
    let mut session = session_with(Version::V3, vec![id(100)]);
    for number in 1..=2 {
        session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtLeastOnce, Some(number)));
    }
    assert!(session.has_room());
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::ExactlyOnce, Some(3)));
    assert!(!session.has_room() && session.ended().is_none());
    for ticket in tickets(&mut session) {
        session.handle_outcome(ticket, Outcome::Durable);
    }
    pass_on(&mut session);
    assert!(session.has_room(), "a message that waits for its release must not hold it up");
    for number in 4..=6 {
        session.handle_packet(Duration::ZERO, publish("a/b", QoS::ExactlyOnce, Some(number)));
    }
    assert!(session.ended().is_none());
}

#[test]
fn what_becomes_durable_after_the_client_left_is_passed_on() {
    let mut session = session_with(Version::V3, vec![]);
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtMostOnce, None));
    let goodbye = Inbound::Disconnect { with_will: false, session_expiry_s: None };
    session.handle_packet(Duration::ZERO, goodbye);
    assert!(session.is_waiting() && pass_on(&mut session).is_empty());
    let ticket = tickets(&mut session)[0];
    session.handle_outcome(ticket, Outcome::Durable);
    assert_eq!(pass_on(&mut session), [Arc::from("a/b")]);
    assert!(!session.is_waiting() && packets(&mut session).is_empty());
}

#[test]
fn without_subscribers_only_what_is_retained_is_kept_for_them() {
    let mut session = session_with(Version::V3, vec![]);
    session.set_heard(false);
    let message = |number, retain| {
        let Inbound::Publish(message) = publish("a/b", QoS::AtLeastOnce, Some(number)) else {
            unreachable!()
        };
        Inbound::Publish(Publish { retain, ..message })
    };
    session.handle_packet(Duration::ZERO, message(1, false));
    session.handle_packet(Duration::ZERO, message(2, true));
    assert!(session.waiting_bytes > 0, "both count until they are settled");
    session.handle_settled(Settled { tickets: 0..2, outcome: Outcome::Durable });
    assert_eq!(session.waiting_bytes, 0);
    let first = Outbound::Acknowledge(id(1), None);
    assert_eq!(session.poll_packet(), Some(first), "it waits for no subscriber");
    assert_eq!(pass_on(&mut session), [Arc::from("a/b")], "the retained one");
    assert_eq!(session.poll_packet(), Some(Outbound::Acknowledge(id(2), None)));
    assert!(!session.is_waiting());
}

#[test]
fn refusals_are_counted() {
    let mut session = session_with(Version::V3, vec![]);
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtMostOnce, None));
    session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtLeastOnce, Some(1)));
    let tickets = tickets(&mut session);
    session.handle_outcome(tickets[0], refused(RefuseReason::Quota));
    session.handle_outcome(tickets[1], refused(RefuseReason::PayloadInvalid));
    let expect = Tally { denied: 0, refused_quota: 1, refused_payload: 1 };
    assert_eq!(session.take_tally(), expect);
    assert_eq!(session.take_tally(), Tally::default());
}

#[test]
fn faults_end_the_session_with_their_reason() {
    let check = |version, packet: Inbound, expect: Goodbye| {
        let mut session = session_with(version, vec![]);
        session.handle_packet(Duration::ZERO, packet);
        assert_eq!(packets(&mut session), [Outbound::Goodbye(expect)]);
        let ended = session.ended().unwrap();
        assert!(ended.with_will && !ended.why.is_empty());
    };
    let zero = QoS::AtMostOnce;
    let with = |alias| {
        let Inbound::Publish(mut message) = publish("", zero, None) else { unreachable!() };
        message.alias = NonZeroU16::new(alias);
        Inbound::Publish(message)
    };
    check(Version::V3, publish("a/+", zero, None), Goodbye::TopicName);
    check(Version::V3, publish("", zero, None), Goodbye::TopicName);
    check(Version::V3, publish("a/b", QoS::AtLeastOnce, None), Goodbye::Malformed);
    check(Version::V5, with(1), Goodbye::TopicAlias);
    check(Version::V5, with(TOPIC_ALIASES_MAX + 1), Goodbye::TopicAlias);
    check(Version::V3, Inbound::Unexpected("x"), Goodbye::Protocol);
    check(Version::V3, subscribe(&[], false), Goodbye::Protocol);
    check(Version::V5, subscribe(&["$share/g/a"], true), Goodbye::Protocol);
}

#[test]
fn a_client_without_the_right_is_told_and_counted() {
    let mut session = session_with(Version::V5, vec![]);
    session.handle_packet(Duration::ZERO, publish("b", QoS::AtLeastOnce, Some(1)));
    session.handle_packet(Duration::ZERO, publish("b", QoS::AtMostOnce, None));
    assert!(tickets(&mut session).is_empty());
    let packets = packets(&mut session);
    assert!(matches!(
        packets[..],
        [Outbound::Acknowledge(_, Some((RefuseReason::NotAuthorized, _)))]
    ));
    assert_eq!(session.take_tally().denied, 2);
}

#[test]
fn silence_ends_after_one_and_a_half_keep_alives() {
    let mut session = session_with(Version::V5, vec![]);
    session.handle_packet(Duration::from_secs(5), Inbound::Ping);
    session.handle_timeout(Duration::from_millis(19_999));
    assert!(session.ended().is_none());
    session.handle_timeout(Duration::from_secs(20));
    assert_eq!(packets(&mut session)[1], Outbound::Goodbye(Goodbye::KeepAlive));
}

fn subscribe(filters: &[&str], no_local: bool) -> Inbound {
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    let filters = filters.iter().map(|filter| Wish { filter: (*filter).to_owned(), options });
    Inbound::Subscribe { packet_id: id(1), filters: filters.collect(), identifier: None }
}

#[test]
fn wishes_are_checked_before_the_exchange_is_asked() {
    let mut session = session_with(Version::V5, vec![]);
    let filters = ["a/b", "#", "$share/g/a/+", "a/#/b", "$share/g", "b/#", "$share/g/b"];
    session.handle_packet(Duration::ZERO, subscribe(&filters, false));
    let Some(Ask::Subscribe { packet_id, wanted }) = session.poll_ask() else { panic!() };
    assert_eq!(packet_id, id(1));
    let found: Vec<_> = wanted
        .into_iter()
        .map(|(_, wanted)| wanted.map(|one| (one.filter.as_str().to_owned(), one.group)))
        .collect();
    use SubscribeRefusal::{Filter, NotAuthorized};
    let granted = |filter: &str, group: Option<&str>| Ok((filter.to_owned(), group.map(Box::from)));
    let expect = [
        granted("a/b", None),
        granted("#", None),
        granted("a/+", Some("g")),
        Err(Filter),
        Err(Filter),
        Err(NotAuthorized),
        Err(NotAuthorized),
    ];
    assert_eq!(found, expect);
}

#[test]
fn what_waits_for_a_record_is_said_after_it_and_in_order() {
    let mut session = session_with(Version::V5, vec![]);
    for number in 1..=3 {
        session.handle_packet(Duration::ZERO, publish("a/b", QoS::AtLeastOnce, Some(number)));
    }
    for ticket in tickets(&mut session) {
        session.handle_outcome(ticket, Outcome::Durable);
    }
    for record in [Some(7), None, Some(8)] {
        assert!(session.poll_durable().is_some());
        session.handle_passed_on(record);
    }
    assert!(session.poll_durable().is_none() && session.is_withholding());
    session.handle_answer(Outbound::Unsubscribed(id(9), vec![]), Some(8));
    session.handle_packet(Duration::ZERO, Inbound::Ping);
    assert_eq!(packets(&mut session), [Outbound::Pong], "nothing else before the record");
    session.handle_committed(6);
    assert!(packets(&mut session).is_empty());
    session.handle_committed(7);
    let puback = |number| Outbound::Acknowledge(id(number), None);
    assert_eq!(packets(&mut session), [puback(1), puback(2)]);
    session.handle_committed(8);
    assert_eq!(packets(&mut session), [puback(3), Outbound::Unsubscribed(id(9), vec![])]);
    assert!(!session.is_withholding());
}

#[test]
fn one_client_fills_its_share_and_no_more() {
    let mut session = session_with(Version::V5, vec![]);
    let large = |session: &mut Session, bytes: usize| {
        let Inbound::Publish(mut message) = publish("a/b", QoS::AtMostOnce, None) else { panic!() };
        message.payload = vec![0; bytes].into();
        session.handle_packet(Duration::ZERO, Inbound::Publish(message));
    };
    large(&mut session, WAITING_BYTES_MAX - "a/b".len() - 1);
    assert!(session.has_room());
    large(&mut session, 0);
    assert!(!session.has_room(), "the share is used up");
    let tickets = tickets(&mut session);
    session.handle_outcome(tickets[0], Outcome::Durable);
    assert!(session.has_room());
    large(&mut session, 10 * WAITING_BYTES_MAX);
    assert!(session.ended().is_none() && !session.has_room(), "one message is always taken");
}

#[test]
fn a_message_that_a_restart_left_in_doubt_is_handed_on_when_it_comes_again() {
    let held = vec![id(1), id(2)];
    let mut session = session_with(Version::V3, held.clone());
    session.config.opened.doubtful.insert(id(2));
    session.config.opened.marked.insert(id(1));
    let two = |number| publish("a/b", QoS::ExactlyOnce, Some(number));
    session.handle_packet(Duration::ZERO, two(1));
    assert!(session.poll_durable().is_none(), "the mark says that subscribers have it");
    assert_eq!(packets(&mut session), [Outbound::Received(id(1), None)]);
    session.handle_packet(Duration::ZERO, two(2));
    assert!(tickets(&mut session).is_empty(), "the engine has it");
    assert_eq!(session.poll_durable().unwrap().held, Some(id(2)));
    session.handle_passed_on(Some(5));
    session.handle_packet(Duration::ZERO, two(2));
    assert!(session.poll_durable().is_none() && packets(&mut session).is_empty());
    session.handle_committed(5);
    assert_eq!(packets(&mut session), [Outbound::Received(id(2), None)]);
    // The end of a mark is in the store before PUBCOMP.
    session.handle_packet(Duration::ZERO, Inbound::Release(id(2)));
    assert!(matches!(session.poll_ask(), Some(Ask::Released(released)) if released == id(2)));
    session.handle_unmarked(id(2), Some(6));
    let ticket = tickets(&mut session)[0];
    session.handle_outcome(ticket, Outcome::Durable);
    assert!(packets(&mut session).is_empty());
    session.handle_committed(6);
    assert_eq!(packets(&mut session), [Outbound::Complete { packet_id: id(2), is_known: true }]);
}
