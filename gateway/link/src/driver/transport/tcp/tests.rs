//! How a connection ends when its other end does not help.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// A step that does not come is a fault.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of the sockets, so that they are soon full.
const SOCKET_BYTES: u32 = 8 << 10;

/// Nothing else shows that a socket is full: the kernel tries a small window again after 200 ms.
const FULL_AFTER: Duration = Duration::from_millis(700);

fn certificates() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap().der().clone();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["space".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(ring.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(ring)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tuning = LinkTuning::default();
    (tuning.tcp_server(server), tuning.tcp_client(client))
}

/// A connection, and its other end as a bare socket that does what a test says.
async fn pair() -> (TcpConnection, tokio_rustls::client::TlsStream<TcpStream>) {
    pair_with(SOCKET_BYTES).await
}

async fn pair_with(
    send_buffer_bytes: u32,
) -> (TcpConnection, tokio_rustls::client::TlsStream<TcpStream>) {
    let (server, client) = certificates();
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(send_buffer_bytes).unwrap();
    listener.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = listener.listen(1).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    let socket = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, address) = listener.accept().await.unwrap();
    // Silence is not what ends it here.
    let tuning = LinkTuning { idle_timeout: PATIENCE * 100, ..LinkTuning::default() };
    let secured = secure(accepted, address, server, &tuning);
    let name = ServerName::try_from("space").unwrap();
    let (ours, theirs) = tokio::join!(secured, TlsConnector::from(client).connect(name, socket));
    (ours.unwrap(), theirs.unwrap())
}

/// Writes until the stream takes nothing more, as nobody reads; gives the bytes that it took.
async fn fill(out: &TcpSend) -> usize {
    let mut taken = 0;
    loop {
        let mut pieces = [Bytes::from(vec![0; RECORD_BYTES_MAX])];
        match timeout(FULL_AFTER, out.write_chunks(&mut pieces)).await {
            Ok(written) => taken += written.unwrap().1,
            Err(_) => return taken,
        }
    }
}

/// Says that it is there until the socket is no more.
async fn ping_until_gone(mut socket: impl AsyncWrite + Unpin) {
    let ping = [2, 0, 0, 0];
    while socket.write_all(&ping).await.is_ok() && socket.flush().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_close_ends_the_connection_though_the_other_end_pings_and_does_not_read() {
    let (connection, other) = pair().await;
    let (out, input) = connection.open_bi().await;
    fill(&out).await;
    connection.close(CloseCode::Unauthorized, "revoked");
    out.write_chunks(&mut [Bytes::from_static(b"more")]).await.unwrap_err();
    input.read_chunk(1).await.unwrap_err();
    timeout(PATIENCE, ping_until_gone(other)).await.expect("the socket goes");
}

#[tokio::test]
async fn what_came_before_a_close_of_this_end_is_not_read_after_it() {
    let (connection, mut other) = pair().await;
    other.write_all(&[0, 0, 2, 0, b'a', b'b']).await.unwrap();
    other.flush().await.unwrap();
    let (_out, input) = connection.accept_bi().await.unwrap();
    assert_eq!(input.read_chunk(1).await.unwrap(), "a");
    connection.close(CloseCode::Unauthorized, "revoked");
    input.read_chunk(1).await.unwrap_err();
}

#[tokio::test]
async fn a_connection_that_is_dropped_is_closed() {
    let (connection, mut other) = pair().await;
    let second = connection.clone();
    let halves = connection.open_bi().await;
    drop((connection, second));
    assert!(halves.0.shared.lock().end.is_none(), "a stream holds it");
    drop(halves);
    let mut heard = Vec::new();
    let reading = timeout(PATIENCE, other.read_to_end(&mut heard)).await;
    reading.expect("it closes").unwrap();
    assert_eq!(heard, [3, 0, 1, 0, CloseCode::Done.code()]);
}

/// What TLS holds goes before the last words and all that is urgent.
#[tokio::test]
async fn tls_holds_one_record() {
    let (connection, _other) = pair().await;
    let sent_before = connection.stats().bytes_sent;
    let (out, _input) = connection.open_bi().await;
    let taken = fill(&out).await;
    let sent = usize::try_from(connection.stats().bytes_sent - sent_before).unwrap();
    let waiting_max = OUT_BYTES_MAX + RECORD_BYTES_MAX;
    // One record is on its way into TLS.
    assert!(taken <= waiting_max + 2 * TLS_BYTES_MAX + sent, "{taken} taken, {sent} sent");
    assert!(taken < WINDOW_BYTES as usize, "the socket was full");
}

/// However much the kernel would hold, what waits for a slow link waits where urgent bytes overtake it.
#[tokio::test]
async fn the_kernel_holds_little_more_than_is_on_the_way() {
    let (connection, _other) = pair_with(4 * WINDOW_BYTES).await;
    let sent_before = connection.stats().bytes_sent;
    let (out, _input) = connection.open_bi().await;
    let taken = fill(&out).await;
    let sent = connection.stats().bytes_sent - sent_before;
    println!("{taken} bytes taken, {sent} by the kernel");
    // The other end's window and what the kernel makes one packet of come on top.
    let held_max = u64::from(2 * SOCKET_BYTES + 2 * NOTSENT_BYTES_MAX);
    assert!(sent <= held_max, "{sent} of {taken} bytes");
}
