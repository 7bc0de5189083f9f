//! What the listener owes its subscribers: nothing is promised before the store has it, and what was
//! promised is there after a restart.

use super::*;
use crate::mqtt::store::{Record, SessionStore};
use crate::submission::RefuseReason;
use std::sync::Mutex;

/// A disk under the test's hand.
struct Disk {
    records: Mutex<Vec<Vec<u8>>>,
    submitted: watch::Sender<u64>,
    committed: Mutex<Option<watch::Sender<u64>>>,
    seen: watch::Receiver<u64>,
    backlog: AtomicU64,
}

impl Disk {
    fn new() -> Arc<Self> {
        let (committed, seen) = watch::channel(0);
        Arc::new(Self {
            records: Mutex::default(),
            submitted: watch::Sender::new(0),
            committed: Mutex::new(Some(committed)),
            seen,
            backlog: AtomicU64::new(0),
        })
    }

    /// Waits until so many records have come.
    async fn submitted(&self, number: u64) {
        self.submitted.subscribe().wait_for(|count| *count >= number).await.unwrap();
    }

    fn commit(&self, number: u64) {
        self.committed.lock().unwrap().as_ref().unwrap().send_replace(number);
    }

    /// The disk fails for good.
    fn fail(&self) {
        drop(self.committed.lock().unwrap().take());
    }

    /// What a restart would find: what was committed, and nothing else.
    fn left(&self) -> Vec<Vec<u8>> {
        let committed = usize::try_from(*self.seen.borrow()).unwrap();
        self.records.lock().unwrap()[..committed].to_vec()
    }
}

impl SessionStore for Disk {
    fn wants_snapshot(&self) -> bool {
        false
    }

    fn submit(&self, record: Record) -> u64 {
        let mut records = self.records.lock().unwrap();
        records.push(record.bytes);
        let number = u64::try_from(records.len()).unwrap();
        self.submitted.send_replace(number);
        number
    }

    fn committed(&self) -> watch::Receiver<u64> {
        self.seen.clone()
    }

    fn backlog_bytes(&self) -> usize {
        usize::try_from(self.backlog.load(Ordering::Acquire)).unwrap()
    }
}

async fn bench_on(disk: &Arc<Disk>, records: Vec<Vec<u8>>) -> Bench {
    let (config, submissions) = config(ListenerLimits::default());
    start(ListenerConfig { store: disk.clone(), records, ..config }, submissions).await
}

/// SUBSCRIBE of `a/#` at a QoS.
fn subscribe_at(level: u8, qos: u8) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9][..], properties, &text(b"a/#"), &[qos]].concat())
}

/// A client of version 3.1.1 whose session is kept, once the disk has it.
async fn kept(bench: &mut Bench, disk: &Disk, is_present: bool) -> Client<TcpStream> {
    let mut client = bench.dial().await;
    client.send(&connect(4, "reader", false)).await;
    bench.open_session("reader", false, SessionState { present: is_present, held: vec![] }).await;
    if !is_present {
        disk.submitted(1).await;
        disk.commit(1);
    }
    assert_eq!(client.packet().await, [0x20, 2, u8::from(is_present), 0]);
    client
}

/// A kept session that is subscribed to `a/#` at QoS 1, on the disk and acknowledged.
async fn subscribed(disk: &Arc<Disk>) -> (Bench, Client<TcpStream>) {
    let mut bench = bench_on(disk, Vec::new()).await;
    let mut reader = kept(&mut bench, disk, false).await;
    reader.send(&subscribe_at(4, 1)).await;
    disk.submitted(2).await;
    disk.commit(2);
    assert_eq!(reader.packet().await, [0x90, 3, 0, 9, 1], "SUBACK");
    (bench, reader)
}

#[tokio::test]
async fn nothing_is_promised_before_the_disk_has_it() {
    let disk = Disk::new();
    let mut bench = bench_on(&disk, Vec::new()).await;
    let mut reader = kept(&mut bench, &disk, false).await;
    reader.send(&subscribe_at(4, 2)).await;
    disk.submitted(2).await;
    reader.says_nothing().await;
    disk.commit(2);
    assert_eq!(reader.packet().await, [0x90, 3, 0, 9, 2], "SUBACK");
    let mut press = bench.connect(4, "press").await;
    press.send(&publish(4, 2, 7, b"x")).await;
    bench.publication().await.reply.settle(Outcome::Durable);
    disk.submitted(3).await;
    press.says_nothing().await;
    // The subscriber need not wait: its copy is safe with it.
    let copy = reader.packet().await;
    assert_eq!((copy[0], copy.last()), (0x34, Some(&b'x')));
    let id = [copy[7], copy[8]];
    reader.send(&[0x50, 2, id[0], id[1]]).await;
    disk.submitted(4).await;
    reader.says_nothing().await;
    disk.commit(4);
    check_answer(&press.packet().await, 0x50, 7);
    assert_eq!(reader.packet().await, [0x62, 2, id[0], id[1]], "PUBREL");
    reader.send(&[0x70, 2, id[0], id[1]]).await;
    disk.submitted(5).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let disk = Disk::new();
    let (mut bench, mut reader) = subscribed(&disk).await;
    reader.send(&[0xE0, 0]).await;
    assert!(reader.last_words().await.is_empty());
    let mut press = bench.connect(4, "press").await;
    let retained = |bytes: Vec<u8>| [&[bytes[0] | 1], &bytes[1..]].concat();
    press.send(&retained(publish(4, 1, 1, b"one"))).await;
    bench.publication().await.reply.settle(Outcome::Durable);
    disk.submitted(3).await;
    disk.commit(3);
    check_answer(&press.packet().await, 0x40, 1);
    press.send(&publish(4, 1, 2, b"two")).await;
    bench.publication().await.reply.settle(Outcome::Durable);
    disk.submitted(4).await;
    press.says_nothing().await;
    // Killed before the disk had the second one, which nobody was promised.
    let (config, submissions) = config(ListenerLimits::default());
    let records = disk.left();
    let mut bench = start(ListenerConfig { records, ..config }, submissions).await;
    let mut reader = kept(&mut bench, &disk, true).await;
    let copy = reader.packet().await;
    assert_eq!((copy[0], &copy[9..]), (0x3A, &b"one"[..]), "again, as it may have been sent");
    reader.send(&[0x40, 2, copy[7], copy[8]]).await;
    reader.says_nothing().await;
    let mut other = bench.connect(5, "other").await;
    other.send(&subscribe_at(5, 0)).await;
    other.packet().await;
    let kept = other.packet().await;
    assert_eq!((kept[0], &kept[8..]), (0x31, &b"one"[..]), "retained");
}

#[tokio::test]
async fn publishers_are_not_read_while_the_disk_is_behind() {
    let disk = Disk::new();
    let (mut bench, _reader) = subscribed(&disk).await;
    let limit = u64::try_from(crate::mqtt::STORE_BACKLOG_BYTES_MAX).unwrap();
    disk.backlog.store(limit, Ordering::Release);
    let mut press = bench.connect(4, "press").await;
    press.send(&publish(4, 0, 0, b"at the limit")).await;
    bench.publication().await.reply.settle(Outcome::Durable);
    disk.backlog.store(limit + 1, Ordering::Release);
    // The connection may have looked at the store before that, and takes one message more.
    let texts: Vec<Vec<u8>> = (0..5).map(|number| vec![b'0' + number]).collect();
    let messages: Vec<Vec<u8>> = texts.iter().map(|text| publish(4, 0, 0, text)).collect();
    press.send(&[&messages.concat()[..], PING].concat()).await;
    // Another client comes in and is told so meanwhile.
    let mut came = Vec::new();
    let mut third = bench.dial().await;
    third.send(&connect(4, "third", true)).await;
    loop {
        match bench.submissions.recv().await.unwrap() {
            Submission::Publish(publication) => came.push(publication),
            Submission::SessionOpened { reply, .. } => {
                break reply.send(SessionState::default()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    third.accepted(4).await;
    while let Ok(Submission::Publish(publication)) = bench.submissions.try_recv() {
        came.push(publication);
    }
    assert!(came.len() <= 1, "they were read");
    disk.backlog.store(0, Ordering::Release);
    disk.commit(3);
    while came.len() < texts.len() {
        came.push(bench.publication().await);
    }
    let payloads: Vec<&[u8]> = came.iter().map(|publication| &publication.payload[..]).collect();
    assert_eq!(payloads, texts, "all of them, in order");
    assert_eq!(press.packet().await, PONG);
}

#[tokio::test]
async fn a_disk_that_fails_ends_who_waits_for_it() {
    let disk = Disk::new();
    let mut bench = bench_on(&disk, Vec::new()).await;
    let mut reader = kept(&mut bench, &disk, false).await;
    reader.send(&subscribe_at(4, 1)).await;
    disk.submitted(2).await;
    disk.fail();
    assert!(reader.last_words().await.is_empty(), "no SUBACK");
    let mut again = bench.dial().await;
    again.send(&connect(5, "other", true)).await;
    bench.open_session("other", true, SessionState::default()).await;
    let words = again.last_words().await;
    assert_eq!((words[0], words[3]), (0x20, 0x89), "server busy");
}

#[tokio::test]
async fn a_removal_is_no_data_and_a_refused_message_is_not_retained() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut press = bench.connect(5, "press").await;
    let retained = |payload: &[u8]| {
        let bytes = publish(5, 1, 1, payload);
        [&[bytes[0] | 1], &bytes[1..]].concat()
    };
    press.send(&retained(b"x")).await;
    let publication = bench.publication().await;
    assert!(!publication.is_removal);
    let text = String::new();
    publication.reply.settle(Outcome::Refused { reason: RefuseReason::PayloadInvalid, text });
    press.packet().await;
    press.send(&subscribe_at(5, 1)).await;
    press.packet().await;
    press.says_nothing().await;
    press.send(&retained(b"")).await;
    let publication = bench.publication().await;
    assert!(publication.is_removal);
    publication.reply.settle(Outcome::Durable);
}

#[tokio::test]
async fn an_answer_to_nothing_is_no_reason_to_part() {
    for level in [4, 5] {
        let mut bench = bench(ListenerLimits::default()).await;
        let mut client = bench.connect(level, "press").await;
        client.send(&[0x40, 2, 0, 9]).await;
        client.send(&[0x70, 2, 0, 9]).await;
        client.says_nothing().await;
        client.send(&[0x50, 2, 0, 9]).await;
        let release = client.packet().await;
        match level {
            4 => assert_eq!(release, [0x62, 2, 0, 9]),
            _ => assert_eq!((release[0], release[4]), (0x62, 0x92), "packet id not found"),
        }
    }
}

#[tokio::test]
async fn who_is_told_goodbye_can_read_it_though_it_goes_on_sending() {
    let limits = ListenerLimits { receive_maximum: 1, ..ListenerLimits::default() };
    let mut bench = bench(limits).await;
    let mut client = bench.connect(5, "press").await;
    client.send(&[publish(5, 1, 1, b"x"), publish(5, 1, 2, b"x")].concat()).await;
    let goodbye = client.packet().await;
    assert_eq!((goodbye[0], goodbye[2]), (0xE0, 0x93));
    for _ in 0..100 {
        client.send(PING).await;
    }
    assert_eq!(client.stream.read(&mut [0; 8]).await.unwrap(), 0, "an orderly end");
}

#[tokio::test]
async fn a_message_longer_than_its_subscriber_takes_is_left_out() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut reader = bench.dial().await;
    // Maximum packet size 40, topic alias maximum 1, receive maximum 1.
    let properties = [0x27, 0, 0, 0, 40, 0x22, 0, 1, 0x21, 0, 1];
    let head = [&text(b"MQTT")[..], &[5, 2, 0, 10, 11], &properties, &text(b"reader")].concat();
    reader.send(&packet(0x10, &head)).await;
    bench.open_session("reader", true, SessionState::default()).await;
    reader.accepted(5).await;
    reader.send(&subscribe_at(5, 1)).await;
    reader.packet().await;
    let mut press = bench.connect(5, "press").await;
    for (number, payload) in [(1, &[b'x'; 60][..]), (2, b"a"), (3, b"b")] {
        press.send(&publish(5, 1, number, payload)).await;
        bench.publication().await.reply.settle(Outcome::Durable);
        press.packet().await;
    }
    let first = reader.packet().await;
    assert_eq!(&first[2..7], b"\0\x03a/b", "the name with its number");
    assert_eq!((&first[9..13], &first[13..]), (&[3, 0x23, 0, 1][..], &b"a"[..]));
    reader.says_nothing().await;
    reader.send(&[0x40, 2, first[7], first[8]]).await;
    let second = reader.packet().await;
    assert_eq!((&second[2..4], second.last()), (&[0, 0][..], Some(&b'b')), "the number alone");
}
