//! Who gets what, what survives a restart, and every limit exactly at it.

use super::*;
use crate::mqtt::limits::{ENTRY_COST, KEPT_SESSIONS_MAX, OUTBOX_MESSAGES_MAX, WAITING_WILLS_MAX};
use crate::mqtt::packet::Will;
use bytes::Bytes;
use proptest::prelude::*;

const FOREVER: u32 = u32::MAX;

fn at(seconds: i64) -> WallTime {
    WallTime::from_seconds(seconds)
}

fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn rights(filters: &[&str]) -> Arc<Rights> {
    let subscribe = filters.iter().map(|text| TopicFilter::parse(text).unwrap()).collect();
    Arc::new(Rights { publish: Vec::new(), subscribe })
}

fn opening(expiry_s: u32) -> Opening {
    Opening {
        connection: 1,
        rights: rights(&["#"]),
        expiry_s,
        window: 8,
        news: Arc::default(),
        held: BTreeSet::new(),
    }
}

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    }
}

fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    let (topic, payload) = (topic.into(), Bytes::copy_from_slice(payload.as_bytes()));
    Message { topic, payload, qos, retain: false, properties: None, expiry_s: None }
}

/// An exchange with clients that are connected, and a few words to drive it.
#[derive(Default)]
struct Bench {
    exchange: Exchange,
    records: Vec<Vec<u8>>,
}

impl Bench {
    fn open(&mut self, client: &str, expiry_s: u32) {
        self.exchange.open(&Arc::from(client), true, opening(expiry_s)).unwrap();
    }

    fn close(&mut self, client: &str, expiry_s: u32, now: i64) {
        self.exchange.close(client, 1, expiry_s, at(now));
    }

    fn subscribe_with(&mut self, client: &str, name: &str, options: SubscriptionOptions) {
        let (filter, group) = TopicFilter::parse_shared(name).unwrap();
        let identifier = NonZeroU32::new(u32::try_from(name.len()).unwrap());
        let wanted = Ok(Subscription { filter, group, options, identifier, last_turn: 0 });
        let granted =
            self.exchange.subscribe(&Arc::from(client), vec![(name.into(), wanted)], at(0));
        assert_eq!(granted, [Ok(options.qos)]);
    }

    fn subscribe(&mut self, client: &str, name: &str, qos: QoS) {
        self.subscribe_with(client, name, options(qos));
    }

    fn publish(&mut self, message: &Message) {
        self.exchange.publish("press", None, message, at(0));
    }

    /// Everything that is due to a client, as text: `payload/QoS`, `*` if retained, `!` if repeated.
    fn heard(&mut self, client: &str, now: i64) -> Vec<String> {
        let next = || self.exchange.next(client, at(now));
        std::iter::from_fn(next)
            .map(|said| match said {
                Outbound::Message(one) => format!(
                    "{}/{}{}{}",
                    String::from_utf8_lossy(&one.message.payload),
                    crate::mqtt::message::code(one.qos),
                    if one.retain { "*" } else { "" },
                    if one.is_repeated { "!" } else { "" },
                ),
                Outbound::Release { packet_id, .. } => format!("release {packet_id}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// A restart from the records so far, or from a snapshot.
    fn restart(&mut self, from_snapshot: bool, now: i64) {
        self.records.extend(self.exchange.poll_record());
        if from_snapshot {
            self.records = vec![self.exchange.snapshot()];
        }
        self.exchange = Exchange::recover(&self.records, at(now)).unwrap();
    }
}

const ZERO: QoS = QoS::AtMostOnce;
const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    let mut bench = Bench::default();
    bench.open("a", 0);
    bench.subscribe("a", "x/+", ONE);
    bench.subscribe("a", "x/#/".trim_end_matches('/'), TWO);
    bench.subscribe("a", "y/much/longer", TWO);
    bench.publish(&message("x/y", "m", TWO));
    let Some(Outbound::Message(delivery)) = bench.exchange.next("a", at(0)) else { panic!() };
    assert_eq!(delivery.qos, TWO);
    assert_eq!(delivery.identifiers, [3, 3].map(|id| NonZeroU32::new(id).unwrap()));
    bench.publish(&message("x/y", "n", ONE));
    assert_eq!(bench.heard("a", 0), ["n/1"], "never above what was published");
}

#[test]
fn options_are_kept() {
    let mut bench = Bench::default();
    bench.open("press", 0);
    bench.open("b", 0);
    bench.subscribe_with("press", "x", SubscriptionOptions { no_local: true, ..options(ONE) });
    let as_published = SubscriptionOptions { retain_as_published: true, ..options(ONE) };
    bench.subscribe_with("b", "x", as_published);
    bench.publish(&Message { retain: true, ..message("x", "m", ONE) });
    assert!(bench.heard("press", 0).is_empty(), "no local messages");
    assert_eq!(bench.heard("b", 0), ["m/1*"]);
    let check = |bench: &mut Bench, retain_handling, expect: &[&str]| {
        bench.subscribe_with("b", "x", SubscriptionOptions { retain_handling, ..options(ONE) });
        assert_eq!(bench.heard("b", 0), expect, "{retain_handling:?}");
    };
    check(&mut bench, RetainHandling::OnlyNew, &[]);
    check(&mut bench, RetainHandling::Never, &[]);
    check(&mut bench, RetainHandling::Always, &["m/1*"]);
    assert_eq!(bench.exchange.unsubscribe("b", &["x".into(), "x".into()]), [true, false]);
    check(&mut bench, RetainHandling::OnlyNew, &["m/1*"]);
    assert_eq!(bench.exchange.listeners(), 2);
}

#[test]
fn a_group_shares_in_turn_and_prefers_who_is_there() {
    let mut bench = Bench::default();
    for client in ["a", "b", "c"] {
        bench.open(client, FOREVER);
        bench.subscribe(client, "$share/g/x", ONE);
    }
    bench.subscribe("a", "$share/other/x", ONE);
    bench.close("c", FOREVER, 0);
    for number in 0..4 {
        bench.publish(&message("x", &number.to_string(), ONE));
    }
    let (a, b) = (bench.heard("a", 0), bench.heard("b", 0));
    assert_eq!(a.len() + b.len(), 8, "each group gets each message once: {a:?} {b:?}");
    assert_eq!((a.len(), b.len()), (6, 2), "in turn, and a alone in the other group");
    bench.close("a", FOREVER, 0);
    bench.close("b", FOREVER, 0);
    bench.publish(&message("x", "late", ONE));
    let mut late = 0;
    for client in ["a", "b", "c"] {
        bench.open(client, FOREVER);
        late += bench.heard(client, 0).iter().filter(|text| *text == "late/1").count();
    }
    assert_eq!(late, 2, "once for each group, though nobody was there");
}

#[test]
fn who_may_not_read_gets_nothing() {
    let mut bench = Bench::default();
    let narrow = Opening { rights: rights(&["open/#"]), ..opening(FOREVER) };
    bench.exchange.open(&Arc::from("a"), true, narrow).unwrap();
    bench.subscribe("a", "#", ONE);
    for topic in ["open/x", "closed/x"] {
        bench.publish(&Message { retain: true, ..message(topic, topic, ONE) });
    }
    assert_eq!(bench.heard("a", 0), ["open/x/1"]);
    // After a restart nobody knows the rights before the client is back.
    bench.restart(true, 0);
    bench.publish(&message("closed/y", "secret", ONE));
    let narrow = Opening { rights: rights(&["open/#"]), ..opening(FOREVER) };
    bench.exchange.open(&Arc::from("a"), true, narrow).unwrap();
    assert_eq!(bench.heard("a", 0), ["open/x/1!"]);
    bench.subscribe("a", "#", ONE);
    assert_eq!(bench.heard("a", 0), ["open/x/1*"]);
}

#[test]
fn a_session_that_is_kept_survives_a_restart_with_all_it_owes() {
    for from_snapshot in [false, true] {
        let mut bench = Bench::default();
        bench.open("a", FOREVER);
        bench.open("short", 0);
        bench.subscribe("a", "x/#", TWO);
        bench.subscribe("a", "gone", TWO);
        bench.exchange.unsubscribe("a", &["gone".into()]);
        bench.subscribe("short", "x/#", TWO);
        for (payload, qos) in [("0", ZERO), ("1", ONE), ("2", TWO), ("3", ONE), ("4", TWO)] {
            bench.publish(&message("x/y", payload, qos));
        }
        bench.publish(&Message { retain: true, ..message("r", "kept", ONE) });
        bench.publish(&Message { retain: true, ..message("s", "removed", ONE) });
        bench.publish(&Message { retain: true, ..message("s", "", ONE) });
        assert_eq!(bench.heard("a", 0), ["0/0", "1/1", "2/2", "3/1", "4/2"]);
        bench.exchange.acknowledge("a", id(1));
        assert!(bench.exchange.receive("a", id(2)), "message 2 is with the client");
        assert!(bench.exchange.receive("a", id(4)));
        bench.exchange.complete("a", id(4));
        bench.restart(from_snapshot, 0);
        assert!(!bench.exchange.subscribers.contains_key("short"));
        bench.publish(&message("x/z", "5", ONE));
        bench.publish(&message("gone", "6", ONE));
        bench.open("a", FOREVER);
        assert_eq!(bench.heard("a", 0), ["release 2", "3/1!", "5/1"], "snapshot {from_snapshot}");
        bench.subscribe("a", "#", ZERO);
        assert_eq!(bench.heard("a", 0), ["kept/0*"]);
    }
}

#[test]
fn a_message_ends_with_its_life_and_says_what_is_left_of_it() {
    let mut bench = Bench::default();
    bench.open("a", FOREVER);
    bench.subscribe("a", "x", ONE);
    bench.close("a", FOREVER, 0);
    for (payload, expiry_s) in [("short", 5), ("long", 60)] {
        bench.publish(&Message { expiry_s: Some(expiry_s), ..message("x", payload, ONE) });
    }
    bench.restart(false, 0);
    bench.open("a", FOREVER);
    // After a restart it may have been sent, and must be finished then.
    let Some(Outbound::Message(first)) = bench.exchange.next("a", at(20)) else { panic!() };
    assert_eq!((first.message.payload, first.expiry_s), (Bytes::from("short"), Some(1)));
    let Some(Outbound::Message(second)) = bench.exchange.next("a", at(20)) else { panic!() };
    assert_eq!((second.message.payload, second.expiry_s), (Bytes::from("long"), Some(40)));
}

#[test]
fn sessions_end_when_their_time_is_over() {
    let mut bench = Bench::default();
    for (client, expiry_s) in [("a", 5), ("b", 9), ("c", FOREVER), ("d", 0)] {
        bench.open(client, expiry_s);
        bench.subscribe(client, "x", ONE);
        bench.close(client, expiry_s, 100);
    }
    assert_eq!(bench.exchange.listeners(), 3, "d ended with its connection");
    assert_eq!(bench.exchange.poll_timeout(), Some(at(105)));
    bench.exchange.handle_timeout(at(105));
    assert_eq!(bench.exchange.poll_ended().as_deref(), Some("a"));
    assert_eq!(bench.exchange.poll_ended(), None);
    assert!(!bench.exchange.has_ended("b", at(108)) && bench.exchange.has_ended("b", at(109)));
    assert_eq!(bench.exchange.poll_timeout(), None, "c stays for ever");
    // One that was connected when the power went ends as if it had left at the start.
    bench.open("e", 5);
    bench.restart(true, 200);
    assert_eq!(bench.exchange.poll_timeout(), Some(at(205)));
}

#[test]
fn a_will_waits_for_its_delay_its_session_or_its_client() {
    let will = |delay_s| Will { message: message("w", "gone", ONE), delay_s };
    let mut bench = Bench::default();
    let check = |bench: &mut Bench, delay_s, expiry_s, due: Option<i64>| {
        bench.exchange.leave_will(&Arc::from("a"), will(delay_s), expiry_s, at(0));
        assert_eq!(bench.exchange.poll_timeout(), due.map(at), "{delay_s} {expiry_s}");
        bench.exchange.handle_timeout(at(due.unwrap_or(0)));
        assert!(bench.exchange.poll_will().is_some(), "{delay_s} {expiry_s}");
    };
    check(&mut bench, 0, 60, None);
    check(&mut bench, 3, 60, Some(3));
    check(&mut bench, 9, 5, Some(5));
    check(&mut bench, 9, 0, None);
    for (is_present, is_due) in [(true, false), (false, true)] {
        bench.exchange.leave_will(&Arc::from("a"), will(9), FOREVER, at(0));
        bench.exchange.open(&Arc::from("a"), is_present, opening(FOREVER)).unwrap();
        assert_eq!(bench.exchange.poll_will().is_some(), is_due);
        assert_eq!(bench.exchange.poll_timeout(), None);
    }
    for number in 0..WAITING_WILLS_MAX {
        bench.exchange.leave_will(&Arc::from(number.to_string()), will(9), FOREVER, at(0));
    }
    assert!(bench.exchange.poll_will().is_none());
    bench.exchange.leave_will(&Arc::from("more"), will(9), FOREVER, at(0));
    assert_eq!(&*bench.exchange.poll_will().unwrap().0, "more", "no room to wait");
}

#[test]
fn a_full_queue_keeps_what_it_has_and_counts_the_rest() {
    let mut bench = Bench::default();
    bench.open("a", FOREVER);
    bench.subscribe("a", "x", ONE);
    bench.close("a", FOREVER, 0);
    for number in 0..=OUTBOX_MESSAGES_MAX {
        assert_eq!(bench.exchange.take_losses(), Losses::default(), "{number}");
        bench.publish(&message("x", &number.to_string(), ONE));
    }
    assert_eq!(bench.exchange.take_losses(), Losses { firm: 1, ..Losses::default() });
    bench.restart(true, 0);
    let window = Opening { window: u16::MAX, ..opening(FOREVER) };
    bench.exchange.open(&Arc::from("a"), true, window).unwrap();
    let heard = bench.heard("a", 0);
    assert_eq!((heard.len(), &*heard[0]), (OUTBOX_MESSAGES_MAX, "0/1!"));
}

#[test]
fn what_is_kept_of_all_sessions_fits_a_snapshot() {
    let mut bench = Bench::default();
    let large = "x".repeat(60_000);
    for number in 0..80 {
        let client = number.to_string();
        bench.open(&client, FOREVER);
        bench.subscribe(&client, "x", ONE);
        bench.close(&client, FOREVER, 0);
    }
    bench.publish(&message("x", &large, ONE));
    let cost = ENTRY_COST + large.len() + 1;
    let fit = KEPT_BYTES_MAX / cost;
    assert_eq!(bench.exchange.kept_bytes, fit * cost);
    assert_eq!(bench.exchange.take_losses().firm, 80 - fit as u64);
    assert!(bench.exchange.snapshot().len() <= 8 << 20);
    bench.restart(true, 0);
    assert_eq!(bench.exchange.kept_bytes, fit * cost);
}

#[test]
fn kept_sessions_are_limited_and_the_idle_one_gives_way() {
    let mut bench = Bench::default();
    for number in 0..KEPT_SESSIONS_MAX {
        bench.open(&number.to_string(), FOREVER);
    }
    let another = |bench: &mut Bench| {
        bench.exchange.open(&Arc::from("another"), true, opening(FOREVER)).map(|_| ())
    };
    assert_eq!(another(&mut bench), Err(Full), "all of them are connected");
    assert!(!bench.exchange.subscribers.contains_key("another"));
    bench.close("7", FOREVER, 0);
    assert_eq!(another(&mut bench), Ok(()));
    assert_eq!(bench.exchange.poll_ended().as_deref(), Some("7"));
    assert_eq!(bench.exchange.kept_sessions, KEPT_SESSIONS_MAX);
    assert!(bench.exchange.snapshot().len() < 1 << 20);
}

#[test]
fn subscriptions_are_limited_in_number_and_bytes() {
    let wanted = |name: &str| {
        let (filter, group) = TopicFilter::parse_shared(name).unwrap();
        (
            name.into(),
            Ok(Subscription {
                filter,
                group,
                options: options(ONE),
                identifier: None,
                last_turn: 0,
            }),
        )
    };
    let mut bench = Bench::default();
    bench.open("a", 0);
    let names: Vec<String> = (0..=SUBSCRIPTIONS_MAX).map(|number| number.to_string()).collect();
    let wishes = names.iter().map(|name| wanted(name)).collect();
    let granted = bench.exchange.subscribe(&Arc::from("a"), wishes, at(0));
    assert_eq!(granted.iter().filter(|one| one.is_ok()).count(), SUBSCRIPTIONS_MAX);
    assert_eq!(granted.last(), Some(&Err(SubscribeRefusal::Quota)));
    let again = bench.exchange.subscribe(&Arc::from("a"), vec![wanted("3")], at(0));
    assert_eq!(again, [Ok(ONE)], "it replaces one");
    let long = "x".repeat(1000);
    let mut refused = 0;
    for number in 0..20 {
        let client: Arc<str> = Arc::from(format!("kept-{number}"));
        bench.open(&client, FOREVER);
        let wishes = (0..SUBSCRIPTIONS_MAX).map(|number| wanted(&format!("{long}{number}")));
        let granted = bench.exchange.subscribe(&client, wishes.collect(), at(0));
        refused += granted.iter().filter(|one| one.is_err()).count();
        assert!(bench.exchange.session_bytes <= KEPT_SESSION_BYTES_MAX);
    }
    assert!(refused > 0, "the test subscribed to too little");
}

#[test]
fn marks_tell_after_a_restart_what_was_handed_on() {
    for from_snapshot in [false, true] {
        let mut bench = Bench::default();
        bench.open("press", FOREVER);
        bench.open("a", FOREVER);
        bench.subscribe("a", "x", TWO);
        for (number, topic) in [(1, "x"), (2, "nobody"), (3, "x")] {
            bench.exchange.publish("press", Some(id(number)), &message(topic, "m", TWO), at(0));
        }
        bench.exchange.unmark("press", id(3));
        bench.restart(from_snapshot, 0);
        let held: BTreeSet<_> = [1, 2, 4].map(id).into();
        let again = || Opening { held: held.clone(), ..opening(FOREVER) };
        let press: Arc<str> = Arc::from("press");
        let opened = bench.exchange.open(&press, true, again()).unwrap();
        let doubtful = |ids: &[u16]| ids.iter().copied().map(id).collect::<BTreeSet<_>>();
        assert_eq!(opened, Opened { doubtful: doubtful(&[2, 4]), marked: doubtful(&[1]) });
        bench.exchange.publish("press", Some(id(4)), &message("x", "n", TWO), at(0));
        // Another connection of the same process: only what is still in doubt.
        let opened = bench.exchange.open(&press, true, again()).unwrap();
        assert_eq!(opened, Opened { doubtful: doubtful(&[2]), marked: doubtful(&[1, 4]) });
    }
}

proptest! {
    #[test]
    fn any_record_gives_an_answer(record: Vec<u8>) {
        let _ = Exchange::recover(&[record], at(0));
    }

    /// A damaged record of our own is read or refused, and what was read can be stored again.
    #[test]
    fn a_damaged_record_gives_an_answer(at_byte: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut bench = Bench::default();
        bench.open("a", FOREVER);
        bench.subscribe("a", "$share/g/x", ONE);
        bench.subscribe("a", "x", TWO);
        bench.exchange.publish("a", Some(id(7)), &Message { retain: true, ..message("x", "m", TWO) }, at(0));
        bench.heard("a", 0);
        bench.exchange.receive("a", id(1));
        let mut record = bench.exchange.snapshot();
        let index = at_byte.index(record.len());
        record[index] = value;
        record.truncate(cut.index(record.len() * 4).max(1));
        if let Ok(exchange) = Exchange::recover(&[record], at(0)) {
            prop_assert!(Exchange::recover(&[exchange.snapshot()], at(0)).is_ok());
        }
    }

    /// Records one by one, and a snapshot, tell the same story; the sums of bytes stay exact.
    #[test]
    fn records_and_snapshots_agree(steps in prop::collection::vec((0_u8..9, 0_u8..3, 1_u16..5), 0..60)) {
        let mut bench = Bench::default();
        for (what, client, number) in steps {
            let client = format!("c{client}");
            let qos = [ZERO, ONE, TWO, TWO][usize::from(number) - 1];
            match what {
                0 => bench.open(&client, if number == 1 { 0 } else { FOREVER }),
                1 => bench.close(&client, FOREVER, 0),
                2 if bench.exchange.subscribers.contains_key(&*client) => {
                    bench.subscribe(&client, &format!("t/{number}"), qos);
                }
                3 => { bench.exchange.unsubscribe(&client, &[format!("t/{number}")]); }
                4 => bench.exchange.acknowledge(&client, id(number)),
                5 => { bench.exchange.receive(&client, id(number)); }
                6 => bench.exchange.complete(&client, id(number)),
                7 => { bench.heard(&client, 0); }
                _ => {
                    let message = message(&format!("t/{number}"), &client, qos);
                    let retain = number == 2;
                    bench.exchange.publish(&client, None, &Message { retain, ..message }, at(0));
                }
            }
            bench.records.extend(bench.exchange.poll_record());
            let sum = |all: &Exchange, keeps: bool| -> usize {
                let ours = all.subscribers.values().filter(|one| !keeps || one.keep.is_some());
                let entries = ours.flat_map(|one| one.outbox.entries());
                entries.filter(|one| !keeps || one.packet_id.is_some()).map(Entry::cost).sum()
            };
            prop_assert_eq!(bench.exchange.bytes, sum(&bench.exchange, false));
            prop_assert_eq!(bench.exchange.kept_bytes, sum(&bench.exchange, true));
        }
        let again = Exchange::recover(&bench.records, at(0)).unwrap();
        let whole = Exchange::recover(&[bench.exchange.snapshot()], at(0)).unwrap();
        prop_assert_eq!(again.kept_bytes, whole.kept_bytes);
        prop_assert_eq!(again.session_bytes, whole.session_bytes);
        let story = |exchange: &Exchange| -> Vec<String> {
            let told = |(name, one): (&Arc<str>, &Subscriber)| {
                let entries: Vec<_> = one.outbox.entries().cloned().collect();
                format!("{name} {:?} {:?} {entries:?}", one.subscriptions.keys(), one.keep)
            };
            let retained = exchange.retained.iter().map(|kept| format!("{kept:?}"));
            exchange.subscribers.iter().map(told).chain(retained).collect()
        };
        prop_assert_eq!(story(&again), story(&whole));
    }
}
