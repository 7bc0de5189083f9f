//! Handshakes of box and space over QUIC on the loopback interface: who gets in, and who does not.
#![expect(clippy::unwrap_used, reason = "a test may panic; clippy sees only its #[test] functions")]

use guan_identity::{
    KeyFile, SmallCa, Tier, TimeCell, certificate_request, client_config, peer_identity,
    read_certificates, server_config,
};
use guan_model::{BoxId, PublicKey, SignFault, Signer, WallTime};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ALPN: &[u8] = b"guan/1";
const NOW: WallTime = WallTime(1_800_000_000_000_000_000);
const BOX_DAYS: u32 = 30;
const SERVER_DAYS: u32 = 90;
type Certificates = Vec<CertificateDer<'static>>;

/// A key file that counts how often it was asked to sign.
struct CountingKey {
    key: KeyFile,
    signatures: AtomicUsize,
}

impl CountingKey {
    fn new(name: &str) -> Arc<Self> {
        let (key, _) = KeyFile::generate(name).unwrap();
        Arc::new(Self { key, signatures: AtomicUsize::new(0) })
    }

    fn signatures(&self) -> usize {
        self.signatures.load(Ordering::SeqCst)
    }
}

impl Signer for CountingKey {
    fn name(&self) -> &str {
        self.key.name()
    }
    fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.signatures.fetch_add(1, Ordering::SeqCst);
        self.key.sign(message)
    }
}

/// One end: its key, its chain, whom it trusts, and what time it believes.
#[derive(Clone)]
struct End {
    key: Arc<CountingKey>,
    chain: Certificates,
    roots: Certificates,
    now: WallTime,
}

fn authority(name: &str) -> SmallCa {
    SmallCa::create(name, Arc::new(KeyFile::generate("ca").unwrap().0), NOW, 3650).unwrap()
}

fn box_of(ca: &SmallCa, trusts: &SmallCa) -> End {
    let key = CountingKey::new("box");
    let id = BoxId::parse("depot-7").unwrap();
    let request = certificate_request(key.clone(), &id).unwrap();
    let pem = ca.issue_box(&request, &id, Tier::Unattested, NOW, BOX_DAYS).unwrap();
    key.signatures.store(0, Ordering::SeqCst);
    let roots = vec![trusts.certificate().clone()];
    End { key, chain: read_certificates(&pem).unwrap(), roots, now: NOW }
}

fn space_of(ca: &SmallCa, trusts: &SmallCa) -> End {
    let key = CountingKey::new("space");
    let names = ["space.example", "127.0.0.1"];
    let pem = ca.issue_server(&names, &key.public_key(), NOW, SERVER_DAYS).unwrap();
    let roots = vec![trusts.certificate().clone()];
    End { key, chain: read_certificates(&pem).unwrap(), roots, now: NOW }
}

fn client_tls(end: &End) -> rustls::ClientConfig {
    let time = Arc::new(TimeCell::new(end.now));
    client_config(end.chain.clone(), end.key.clone(), end.roots.clone(), ALPN, time).unwrap()
}

fn server_tls(end: &End) -> rustls::ServerConfig {
    let time = Arc::new(TimeCell::new(end.now));
    server_config(end.chain.clone(), end.key.clone(), end.roots.clone(), ALPN, time).unwrap()
}

/// A space that answers one byte on the first stream of each connection that gets in, and ends after
/// `connections` tries. It returns the leaf certificate of the last peer, or why it was refused.
async fn serve(
    tls: rustls::ServerConfig,
    connections: usize,
) -> (SocketAddr, tokio::task::JoinHandle<Result<Vec<u8>, String>>) {
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut last = Err("nobody came".to_owned());
        for _ in 0..connections {
            let incoming = endpoint.accept().await.unwrap();
            last = async {
                let connection = incoming.await.map_err(|fault| fault.to_string())?;
                let (mut send, _) =
                    connection.accept_bi().await.map_err(|fault| fault.to_string())?;
                send.write_all(b"!").await.map_err(|fault| fault.to_string())?;
                send.finish().unwrap();
                let handshake = connection.handshake_data().unwrap();
                let handshake = handshake.downcast::<HandshakeData>().unwrap();
                assert_eq!(handshake.protocol.as_deref(), Some(ALPN));
                let identity = connection.peer_identity().unwrap();
                let chain = identity.downcast::<Certificates>().unwrap();
                connection.closed().await;
                Ok(chain[0].to_vec())
            }
            .await;
        }
        endpoint.wait_idle().await;
        last
    });
    (address, task)
}

/// Connects and reads the space's byte; a refusal may come only then (TLS 1.3's order of messages).
async fn call(endpoint: &Endpoint, address: SocketAddr, name: &str) -> Result<(), String> {
    let connecting = endpoint.connect(address, name).map_err(|fault| fault.to_string())?;
    let connection = connecting.await.map_err(|fault| fault.to_string())?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|fault| fault.to_string())?;
    send.write_all(b"?").await.map_err(|fault| fault.to_string())?;
    let answer = receive.read_to_end(1).await.map_err(|fault| format!("{fault:?}"))?;
    assert_eq!(answer, b"!");
    connection.close(0_u8.into(), b"done");
    Ok(())
}

fn caller(tls: rustls::ClientConfig) -> Endpoint {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    endpoint.set_default_client_config(ClientConfig::new(config));
    endpoint
}

struct Outcome {
    at_box: Result<(), String>,
    at_space: Result<Vec<u8>, String>,
}

async fn meet(client: &End, server: &End, name: &str) -> Outcome {
    let (address, task) = serve(server_tls(server), 1).await;
    let endpoint = caller(client_tls(client));
    let limit = Duration::from_secs(20);
    let at_box = tokio::time::timeout(limit, call(&endpoint, address, name)).await.unwrap();
    let at_space = tokio::time::timeout(limit, task).await.unwrap().unwrap();
    Outcome { at_box, at_space }
}

/// Neither end gets through, and the end that objects names the reason.
async fn check_refused(client: &End, server: &End, name: &str, who: &str, why: &str) {
    let outcome = meet(client, server, name).await;
    let (at_box, at_space) = (outcome.at_box.unwrap_err(), outcome.at_space.unwrap_err());
    let objection = if who == "box" { &at_box } else { &at_space };
    assert!(objection.contains(why), "{who} said {objection:?}, not {why:?}");
}

#[tokio::test]
async fn box_and_space_of_one_authority_meet() {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    for name in ["space.example", "127.0.0.1"] {
        let outcome = meet(&client, &server, name).await;
        outcome.at_box.unwrap();
        let (id, tier) = peer_identity(&outcome.at_space.unwrap()).unwrap();
        assert_eq!((id.as_str(), tier), ("depot-7", Tier::Unattested));
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let (ours, theirs) = (authority("a"), authority("a"));
    let (client, server) = (box_of(&ours, &ours), space_of(&ours, &ours));
    let foreign_box = box_of(&theirs, &ours);
    check_refused(&foreign_box, &server, "space.example", "space", "BadSignature").await;
    let foreign_space = space_of(&theirs, &ours);
    check_refused(&client, &foreign_space, "space.example", "box", "BadSignature").await;
    let other = authority("another name");
    let foreign_box = box_of(&other, &ours);
    check_refused(&foreign_box, &server, "space.example", "space", "UnknownIssuer").await;
    let name = "not valid for name";
    check_refused(&client, &server, "other.example", "box", name).await;
}

#[tokio::test]
async fn nobody_poses_as_the_other_kind() {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    let purpose = "certificate does not allow extended key usage";
    check_refused(&server, &server, "space.example", "space", purpose).await;
    check_refused(&client, &client, "space.example", "box", purpose).await;
}

#[tokio::test]
async fn time_is_judged_by_the_given_clock() {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    let name = "space.example";
    let at = |end: &End, seconds: i64| End {
        now: WallTime(NOW.0 + seconds * 1_000_000_000),
        ..end.clone()
    };
    let (box_end, server_end) = (i64::from(BOX_DAYS) * 86_400, i64::from(SERVER_DAYS) * 86_400);

    let last = meet(&at(&client, server_end), &at(&server, box_end), name).await;
    last.at_box.unwrap();
    check_refused(&client, &at(&server, box_end + 1), name, "space", "certificate expired").await;
    check_refused(&at(&client, server_end + 1), &server, name, "box", "certificate expired").await;

    meet(&client, &at(&server, -3600), name).await.at_box.unwrap();
    let early = "certificate not valid yet";
    check_refused(&client, &at(&server, -3601), name, "space", early).await;
    // A box with a flat clock battery wakes up at the beginning of time and must still get through.
    let woken = End { now: guan_model::time::EARLIEST, ..client.clone() };
    meet(&woken, &server, name).await.at_box.unwrap();
    let unset = End { now: WallTime(-1), ..client };
    check_refused(&unset, &server, name, "box", "failed to get current time").await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    let (address, task) = serve(server_tls(&server), 1).await;
    let mut tls = client_tls(&client);
    tls.client_auth_cert_resolver = Arc::new(Nobody);
    assert!(call(&caller(tls), address, "space.example").await.is_err());
    let refusal = task.await.unwrap().unwrap_err();
    assert!(refusal.contains("peer sent no certificates"), "{refusal}");
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    let (address, task) = serve(server_tls(&server), 1).await;
    let mut tls = client_tls(&client);
    tls.alpn_protocols = vec![b"guan/2".to_vec()];
    assert!(call(&caller(tls), address, "space.example").await.is_err());
    assert!(task.await.unwrap().is_err());
}

/// How many client signatures two connections in a row need.
async fn signatures_of_two(resuming_box: bool, resuming_space: bool) -> usize {
    let ca = authority("a");
    let (client, server) = (box_of(&ca, &ca), space_of(&ca, &ca));
    let (mut client_tls, mut server_tls) = (client_tls(&client), server_tls(&server));
    if resuming_box {
        client_tls.resumption = rustls::client::Resumption::in_memory_sessions(8);
    }
    if resuming_space {
        server_tls.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
        server_tls.send_tls13_tickets = 2;
    }
    let (address, task) = serve(server_tls, 2).await;
    let endpoint = caller(client_tls);
    for _ in 0..2 {
        call(&endpoint, address, "space.example").await.unwrap();
    }
    task.await.unwrap().unwrap();
    client.key.signatures()
}

#[tokio::test]
async fn no_session_is_resumed_even_if_the_peer_would() {
    assert_eq!(signatures_of_two(true, true).await, 1, "this is what resumption looks like");
    assert_eq!(signatures_of_two(false, false).await, 2);
    assert_eq!(signatures_of_two(true, false).await, 2);
    assert_eq!(signatures_of_two(false, true).await, 2);
}
