//! Box and space over real QUIC and TCP on loopback: everything arrives once, whoever goes away.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "the test plays the programs around the link")]

/// Runs each test over either transport.
macro_rules! over_both {
    ($($name:ident),*) => {
        mod over_quic {
            $(#[tokio::test] async fn $name() { super::$name(super::Transport::Quic).await; })*
        }
        mod over_tcp {
            $(#[tokio::test] async fn $name() { super::$name(super::Transport::Tcp).await; })*
        }
    };
}

#[path = "driver/attest.rs"]
mod attest;
#[path = "driver/carried.rs"]
mod carried;

use bytes::Bytes;
use guan_link::driver::{
    Admit, Appraise, Attest, BatchSource, BoxInputs, BoxLink, BoxOutputs, ClientTls, Inbox,
    InboxFault, LinkEvent, LinkStatus, LinkTuning, Paths, Peers, ReadFault, Receipt, Refusal,
    Released, SpaceLink, TcpListen,
};
use guan_link::text::{CheckpointText, ReportJson};
use guan_link::{
    Cursor, EncodedBatch, Item, LETTER_BYTES_MAX, LETTERS_MAX, Letter, Offer, RefuseReason, Route,
    StreamRange, Topic, Transport, TransportChoice,
};
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest, SpoolId, StreamId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const STREAM: StreamId = StreamId(1);
const OTHER: StreamId = StreamId(9);
const SPOOL: SpoolId = SpoolId([7; 16]);

struct Stored {
    through: BatchSeq,
    items: Vec<BatchSeq>,
    tables: Vec<Bytes>,
    checkpoint: Option<String>,
    report: Option<String>,
}

impl Default for Stored {
    fn default() -> Self {
        let through = BatchSeq::ZERO;
        Self { through, items: vec![], tables: vec![], checkpoint: None, report: None }
    }
}

/// Durable at once; refuses one place for good, and fails once when told to.
#[derive(Clone, Default)]
struct Memory {
    stored: Arc<Mutex<Stored>>,
    refuse: Option<BatchSeq>,
    refuses_tables: bool,
    fail_at: Arc<Mutex<Option<BatchSeq>>>,
    /// Sends back what comes, as an answer.
    echo: Arc<Mutex<Option<mpsc::Sender<Letter>>>>,
}

impl Memory {
    fn through(&self) -> BatchSeq {
        self.stored.lock().unwrap().through
    }
}

impl Inbox for Memory {
    async fn cursors(&self, _: &BoxId, offer: &Offer) -> Result<Vec<Cursor>, InboxFault> {
        assert_eq!(offer.spool(), SPOOL);
        // Of another stream, too, which is not always offered.
        let through = self.through();
        Ok([STREAM, OTHER].map(|stream| Cursor { stream, through }).to_vec())
    }

    async fn describe(&self, _: &BoxId, table: Bytes) -> Result<Result<(), String>, InboxFault> {
        if self.refuses_tables {
            return Ok(Err("it is none".to_owned()));
        }
        self.stored.lock().unwrap().tables.push(table);
        Ok(Ok(()))
    }

    async fn checkpoint(
        &self,
        _: &BoxId,
        text: CheckpointText,
    ) -> Result<Result<u64, String>, InboxFault> {
        self.stored.lock().unwrap().checkpoint = Some(text.to_string());
        Ok(Ok(9))
    }

    fn letters(&self, _: &BoxId) -> Option<mpsc::Receiver<Letter>> {
        let (sender, receiver) = mpsc::channel(LETTERS_MAX);
        *self.echo.lock().unwrap() = Some(sender);
        Some(receiver)
    }

    async fn letter(&self, _: &BoxId, letter: Letter) -> Result<(), String> {
        let echo = self.echo.lock().unwrap().clone().unwrap();
        match letter.topic {
            Topic::Negotiation => {
                let letter = Letter { topic: Topic::NegotiationAnswer, ..letter };
                echo.send(letter).await.map_err(|fault| fault.to_string())
            }
            _ => Err("only negotiations here".to_owned()),
        }
    }

    fn report(&self, _: &BoxId, json: ReportJson) {
        self.stored.lock().unwrap().report = Some(json.to_string());
    }

    async fn store(
        &self,
        _: &BoxId,
        _: SpoolId,
        _: StreamId,
        item: Item,
        receipt: Receipt,
    ) -> Result<Result<(), Refusal>, InboxFault> {
        if self.refuse == Some(item.from()) && matches!(item, Item::Batch(_)) {
            return Ok(Err(receipt.refuse(RefuseReason::BadDigest, "no".to_owned())));
        }
        if self.fail_at.lock().unwrap().take_if(|at| *at == item.from()).is_some() {
            receipt.failed("the disk is gone");
            return Ok(Ok(()));
        }
        let mut stored = self.stored.lock().unwrap();
        assert!(item.from() >= stored.through.next(), "nothing twice");
        // As the store does: what followed one that failed may have been read already.
        if item.from() > stored.through.next() {
            receipt.failed("batches between are missing");
            return Ok(Ok(()));
        }
        stored.through = item.through();
        if let Item::Batch(batch) = &item {
            stored.items.push(batch.seq);
        }
        receipt.durable();
        Ok(Ok(()))
    }
}

#[derive(Clone)]
struct Everyone(bool);

impl Admit for Everyone {
    async fn admit(&self, chain: Vec<CertificateDer<'static>>) -> Result<BoxId, String> {
        assert_eq!(chain.len(), 1);
        self.0.then(|| BoxId::parse("box-1").unwrap()).ok_or_else(|| "not enrolled".to_owned())
    }
}

struct Source {
    newest: Arc<Mutex<BatchSeq>>,
    released: watch::Receiver<Released>,
}

impl BatchSource for Source {
    fn spool(&self) -> SpoolId {
        SPOOL
    }

    fn streams(&mut self) -> Result<Vec<StreamRange>, ReadFault> {
        let released = self.released.borrow().get(&STREAM).copied().unwrap_or(BatchSeq::ZERO);
        let newest = *self.newest.lock().unwrap();
        Ok(vec![StreamRange { id: STREAM, oldest_unreleased: released.next(), newest }])
    }

    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        Ok(vec![Bytes::from_static(b"table")])
    }

    fn next(&mut self, _: StreamId, after: BatchSeq) -> Result<Option<Item>, ReadFault> {
        let seq = after.next();
        let bytes = Bytes::from(vec![u8::try_from(seq.0 % 251).unwrap(); 20_000]);
        Ok((seq <= *self.newest.lock().unwrap()).then(|| {
            Item::Batch(EncodedBatch {
                seq,
                dataset: DatasetId::parse("d").unwrap(),
                contract: ContractId::parse("c").unwrap(),
                rows: 1,
                digest: Digest::of(&bytes),
                bytes,
            })
        }))
    }
}

struct Certificates {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    transport: Transport,
}

impl Certificates {
    /// One certificate below one authority; it serves both ends here.
    fn new(transport: Transport) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap().der().clone();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["space".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { chain: vec![leaf.der().clone()], key, roots: Arc::new(roots), transport }
    }

    fn server(&self) -> rustls::ServerConfig {
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), ring.clone());
        rustls::ServerConfig::builder_with_provider(ring)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap()
    }

    fn client(&self) -> ClientTls {
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(ring)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        let tuning = LinkTuning::default();
        let tcp = Some(tuning.tcp_client(tls.clone()));
        ClientTls { quic: tuning.client(tls).unwrap(), tcp }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A running space.
struct Space {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    peers: watch::Receiver<Peers>,
    task: JoinHandle<()>,
}

impl Space {
    fn start(certificates: &Certificates, inbox: Memory, admit: bool, at: SocketAddr) -> Self {
        Self::start_with(certificates, inbox, admit, at, None)
    }

    fn start_with(
        certificates: &Certificates,
        inbox: Memory,
        admit: bool,
        at: SocketAddr,
        appraise: Option<Arc<dyn Appraise>>,
    ) -> Self {
        // The transport that is not asked for is somewhere else.
        let (udp, tcp) = match certificates.transport {
            Transport::Quic => (at, loopback()),
            Transport::Tcp => (loopback(), at),
        };
        let (tls, tuning) = (certificates.server(), LinkTuning::default());
        let listener = std::net::TcpListener::bind(tcp).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let endpoint = quinn::Endpoint::server(tuning.server(tls.clone()).unwrap(), udp).unwrap();
        let address = match certificates.transport {
            Transport::Quic => endpoint.local_addr().unwrap(),
            Transport::Tcp => listener.local_addr().unwrap(),
        };
        let tcp = Some(TcpListen { listener, tls: tuning.tcp_server(tls), tuning });
        let (stop, stopping) = watch::channel(false);
        let (peers, shown) = watch::channel(BTreeMap::new());
        let admit = Everyone(admit);
        let link = SpaceLink {
            endpoint,
            tcp,
            inbox,
            admit,
            appraise,
            peers_max: 4,
            peers,
            stop: stopping,
        };
        Self { address, stop, peers: shown, task: tokio::spawn(link.run()) }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// A running box and its owner's ends.
struct Edge {
    newest: Arc<Mutex<BatchSeq>>,
    committed: watch::Sender<u64>,
    _checkpoint: watch::Sender<Option<CheckpointText>>,
    _report: watch::Sender<Option<ReportJson>>,
    letters: mpsc::Sender<Letter>,
    stop: watch::Sender<bool>,
    released: watch::Receiver<Released>,
    events: mpsc::Receiver<LinkEvent>,
    status: watch::Receiver<LinkStatus>,
    task: JoinHandle<()>,
}

impl Edge {
    fn start(certificates: &Certificates, space: SocketAddr) -> Self {
        Self::start_with(certificates, space, None)
    }

    fn start_with(
        certificates: &Certificates,
        space: SocketAddr,
        attest: Option<Arc<dyn Attest>>,
    ) -> Self {
        let choice = match certificates.transport {
            Transport::Quic => TransportChoice::Quic,
            Transport::Tcp => TransportChoice::Tcp,
        };
        let paths = Paths { route: Route::new(choice), ..Paths::default() };
        Self::start_along(certificates, space, paths, attest)
    }

    fn start_along(
        certificates: &Certificates,
        space: SocketAddr,
        paths: Paths,
        attest: Option<Arc<dyn Attest>>,
    ) -> Self {
        let newest = Arc::new(Mutex::new(BatchSeq::ZERO));
        let (committed, committed_in) = watch::channel(0);
        let (checkpoint, checkpoint_in) =
            watch::channel(Some(CheckpointText::parse("head").unwrap()));
        let (report, report_in) = watch::channel(Some(ReportJson::parse("{}").unwrap()));
        let (letters, letters_in) = mpsc::channel(LETTERS_MAX);
        let (stop, stop_in) = watch::channel(false);
        let (released, released_out) = watch::channel(Released::new());
        let (events, events_out) = mpsc::channel(64);
        let (status, status_out) = watch::channel(LinkStatus::default());
        let link = BoxLink {
            endpoint: quinn::Endpoint::client(loopback()).unwrap(),
            credentials: {
                let config = certificates.client();
                Box::new(move || config.clone())
            },
            locate: vec![space],
            paths,
            server_name: "space".to_owned(),
            source: Source { newest: newest.clone(), released: released_out.clone() },
            inputs: BoxInputs {
                committed: committed_in,
                checkpoint: checkpoint_in,
                report: report_in,
                wanted: watch::channel(Vec::new()).1,
                letters: letters_in,
                permit: watch::channel(guan_link::driver::Permit::Open).1,
                stop: stop_in,
            },
            outputs: BoxOutputs { released, events, status },
            attest,
            backlog_percent: guan_link::sender::BACKLOG_PERCENT,
            rate_bytes_per_s_max: None,
            random: Box::new(|| 0),
        };
        let task = tokio::spawn(link.run());
        let (released, events, status) = (released_out, events_out, status_out);
        let (_checkpoint, _report) = (checkpoint, report);
        Self {
            newest,
            committed,
            _checkpoint,
            _report,
            letters,
            stop,
            released,
            events,
            status,
            task,
        }
    }

    fn commit(&self, count: u64) {
        self.newest.lock().unwrap().0 += count;
        self.committed.send_modify(|version| *version += 1);
    }

    async fn released(&mut self, through: u64) {
        let done = |released: &Released| {
            released.get(&STREAM).is_some_and(|seq| *seq >= BatchSeq(through))
        };
        self.released.wait_for(done).await.unwrap();
    }

    /// The next event of interest; others are passed over.
    async fn event<T>(&mut self, pick: impl Fn(LinkEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.events.recv().await.unwrap()) {
                return found;
            }
        }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

fn disconnected(event: LinkEvent) -> Option<String> {
    match event {
        LinkEvent::Disconnected { fault, .. } => Some(fault.to_string()),
        _ => None,
    }
}

async fn batches_notes_and_tables_arrive_and_are_released(transport: Transport) {
    let certificates = Certificates::new(transport);
    let inbox = Memory::default();
    let space = Space::start(&certificates, inbox.clone(), true, loopback());
    let mut edge = Edge::start(&certificates, space.address);
    edge.commit(300);
    edge.released(300).await;
    edge.commit(1);
    edge.released(301).await;
    let seen = edge.event(|event| match event {
        LinkEvent::CheckpointSeen { size } => Some(size),
        _ => None,
    });
    assert_eq!(seen.await, 9);
    assert_eq!(space.peers.borrow().len(), 1);
    let status = edge.status.borrow().clone();
    assert_eq!((status.batches_sent, status.transport), (301, Some(transport)));
    assert_eq!(status.dataset_bytes[&DatasetId::parse("d").unwrap()], 301 * 20_000);
    assert!(status.path_bytes_sent > status.stream_bytes_sent, "{status:?}");
    edge.stop().await;
    space.stop().await;
    let stored = inbox.stored.lock().unwrap();
    assert_eq!(stored.items, (1..=301).map(BatchSeq).collect::<Vec<_>>());
    assert_eq!(stored.tables, [Bytes::from_static(b"table")]);
    assert_eq!(stored.checkpoint.as_deref(), Some("head"));
}

async fn letters_go_both_ways_and_a_wrong_one_ends_the_session(transport: Transport) {
    let certificates = Certificates::new(transport);
    let space = Space::start(&certificates, Memory::default(), true, loopback());
    let mut edge = Edge::start(&certificates, space.address);
    // The longest, and the empty one.
    for (ticket, length) in [(1, LETTER_BYTES_MAX), (2, 0)] {
        let letter =
            Letter { topic: Topic::Negotiation, ticket, body: Bytes::from(vec![b'l'; length]) };
        edge.letters.send(letter.clone()).await.unwrap();
        let answer = edge.event(|event| match event {
            LinkEvent::Letter(letter) => Some(letter),
            _ => None,
        });
        let expect = Letter { topic: Topic::NegotiationAnswer, ..letter };
        assert!(answer.await == expect, "ticket {ticket}");
    }
    let letter = Letter { topic: Topic::Catalogue, ticket: 3, body: Bytes::new() };
    edge.letters.send(letter).await.unwrap();
    let text = edge.event(disconnected).await;
    assert!(text.contains("only negotiations here"), "{text}");
    edge.stop().await;
    space.stop().await;
}

async fn a_space_that_restarts_gets_the_rest_and_nothing_twice(transport: Transport) {
    let certificates = Certificates::new(transport);
    let inbox = Memory::default();
    let space = Space::start(&certificates, inbox.clone(), true, loopback());
    let address = space.address;
    let mut edge = Edge::start(&certificates, address);
    edge.commit(50);
    edge.released(50).await;
    space.stop().await;
    let text = edge.event(disconnected).await;
    assert!(text.contains("the space stops"), "{text}");
    edge.commit(50);
    let space = Space::start(&certificates, inbox.clone(), true, address);
    edge.released(100).await;
    edge.stop().await;
    space.stop().await;
    assert_eq!(inbox.stored.lock().unwrap().items.len(), 100);
}

async fn a_store_that_fails_is_tried_again(transport: Transport) {
    let certificates = Certificates::new(transport);
    let inbox = Memory::default();
    *inbox.fail_at.lock().unwrap() = Some(BatchSeq(10));
    let space = Space::start(&certificates, inbox.clone(), true, loopback());
    let mut edge = Edge::start(&certificates, space.address);
    edge.commit(20);
    let text = edge.event(disconnected).await;
    assert!(text.contains("the disk is gone"), "{text}");
    edge.released(20).await;
    edge.stop().await;
    space.stop().await;
}

async fn a_batch_that_is_refused_for_good_becomes_a_gap(transport: Transport) {
    let certificates = Certificates::new(transport);
    let inbox = Memory { refuse: Some(BatchSeq(5)), ..Memory::default() };
    let space = Space::start(&certificates, inbox.clone(), true, loopback());
    let mut edge = Edge::start(&certificates, space.address);
    edge.commit(8);
    edge.released(8).await;
    let seq = edge
        .event(|event| match event {
            LinkEvent::Refused { seq, .. } => Some(seq),
            _ => None,
        })
        .await;
    assert_eq!(seq, BatchSeq(5));
    edge.stop().await;
    space.stop().await;
    let stored = inbox.stored.lock().unwrap();
    assert_eq!(stored.items.iter().map(|seq| seq.0).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7, 8]);
}

async fn a_box_that_is_not_admitted_is_told_why(transport: Transport) {
    let certificates = Certificates::new(transport);
    let space = Space::start(&certificates, Memory::default(), false, loopback());
    let mut edge = Edge::start(&certificates, space.address);
    let text = edge.event(disconnected).await;
    assert!(text.contains("Unauthorized") && text.contains("not enrolled"), "{text}");
    edge.stop().await;
    space.stop().await;
}

/// UDP goes nowhere at first; after the space has come back with it, the next session is over QUIC.
#[tokio::test]
async fn tcp_comes_in_where_udp_is_blocked_and_quic_comes_back() {
    let certificates = Certificates::new(Transport::Tcp);
    let inbox = Memory::default();
    let space = Space::start(&certificates, inbox.clone(), true, loopback());
    let address = space.address;
    let connect_wait = Duration::from_millis(300);
    let paths = Paths { connect_wait, ..Paths::default() };
    let mut edge = Edge::start_along(&certificates, address, paths, None);
    let connected = |event| match event {
        LinkEvent::Connected { transport, .. } => Some(transport),
        _ => None,
    };
    assert_eq!(edge.event(connected).await, Transport::Tcp);
    assert_eq!(edge.status.borrow().failures, 1, "QUIC was tried twice");
    edge.commit(3);
    edge.released(3).await;
    space.stop().await;
    let certificates = Certificates { transport: Transport::Quic, ..certificates };
    let space = Space::start(&certificates, inbox.clone(), true, address);
    assert_eq!(edge.event(connected).await, Transport::Quic);
    edge.commit(2);
    edge.released(5).await;
    edge.stop().await;
    space.stop().await;
    assert_eq!(inbox.stored.lock().unwrap().through, BatchSeq(5));
}

/// UDP goes nowhere, and nobody listens for TCP.
#[tokio::test]
async fn what_failed_of_either_transport_is_told() {
    let certificates = Certificates::new(Transport::Tcp);
    let silent = quinn::Endpoint::client(loopback()).unwrap();
    let connect_wait = Duration::from_millis(300);
    let paths = Paths { connect_wait, ..Paths::default() };
    let address = silent.local_addr().unwrap();
    let mut edge = Edge::start_along(&certificates, address, paths, None);
    let text = edge.event(disconnected).await;
    assert!(!text.contains("TCP connection"), "QUIC alone is tried at first: {text}");
    let text = edge.event(disconnected).await;
    assert!(text.contains("over QUIC: no answer"), "{text}");
    assert!(text.contains("over TCP: no TCP connection"), "{text}");
    edge.stop().await;
}

/// What knocks and is no box does not hold others up.
#[tokio::test]
async fn a_caller_that_says_nothing_and_one_that_speaks_something_else_are_left_alone() {
    let certificates = Certificates::new(Transport::Tcp);
    let inbox = Memory::default();
    let space = Space::start(&certificates, inbox, true, loopback());
    let _silent = tokio::net::TcpStream::connect(space.address).await.unwrap();
    let mut other = tokio::net::TcpStream::connect(space.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = other.read_to_end(&mut answer).await;
    assert!(answer.len() < 100, "an alert at most: {answer:02x?}");
    let mut edge = Edge::start(&certificates, space.address);
    edge.commit(1);
    edge.released(1).await;
    edge.stop().await;
    space.stop().await;
}

over_both!(
    batches_notes_and_tables_arrive_and_are_released,
    letters_go_both_ways_and_a_wrong_one_ends_the_session,
    a_space_that_restarts_gets_the_rest_and_nothing_twice,
    a_store_that_fails_is_tried_again,
    a_batch_that_is_refused_for_good_becomes_a_gap,
    a_box_that_is_not_admitted_is_told_why
);
