//! The same bottleneck in real time: a relay on loopback UDP, real sockets, real timers.
//!
//! Then loopback without a relay, where a controller must not be what limits.
//!
//! `cargo bench -p guan-line --bench relay [-- --json]`. Says whether virtual time flatters; takes a minute and wants
//! a machine that is not busy. Bytes are counted as IP packets (UDP payload and 28).

use guan_line::{Counts, HEADERS, Line, Shape, Tls};
use guan_link::driver::{Congestion, LinkTuning};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 50,
    queue_bytes: 64_000,
};
const BYTES: usize = 1_000_000;
const DIRECT_PIECES: usize = 150;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A full packet with its headers, and what of it is payload.
const FULL: (f64, f64) = (1480.0, 1418.0);

type Shared = Arc<Mutex<Line<Vec<u8>>>>;

/// Takes packets from one socket, delivers them through the other when the line says so.
async fn carry(from: Arc<UdpSocket>, to: Arc<UdpSocket>, line: Shared, target: Target) {
    let started = Instant::now();
    let mut buffer = vec![0; 2048];
    loop {
        let due = line.lock().expect("no panic holds it").poll_timeout();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(started + due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            received = from.recv_from(&mut buffer) => {
                let Ok((length, source)) = received else { continue };
                target.learn(source);
                let bytes = length as u64 + HEADERS;
                let packet = buffer[..length].to_vec();
                let mut line = line.lock().expect("no panic holds it");
                line.handle_packet(started.elapsed(), bytes, packet);
            }
        }
        loop {
            let packet = line.lock().expect("no panic holds it").poll(started.elapsed());
            let (Some(packet), Some(address)) = (packet, target.get()) else { break };
            // What the socket does not take is lost, as on a line.
            let _ = to.try_send_to(&packet, address);
        }
    }
}

/// Where a direction ends: the space from the beginning, the box once it has sent something.
#[derive(Clone)]
enum Target {
    Space(SocketAddr, Arc<Mutex<Option<SocketAddr>>>),
    Box(Arc<Mutex<Option<SocketAddr>>>),
}

impl Target {
    fn learn(&self, source: SocketAddr) {
        if let Self::Space(_, seen) = self {
            *seen.lock().expect("no panic holds it") = Some(source);
        }
    }

    fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::Space(address, _) => Some(*address),
            Self::Box(seen) => *seen.lock().expect("no panic holds it"),
        }
    }
}

async fn run(tls: &Tls, congestion: Congestion) -> anyhow::Result<(Duration, Counts)> {
    let tuning = LinkTuning { congestion, ..LinkTuning::default() };
    let (client, server) = tls.configs(tuning);
    let space = quinn::Endpoint::server(server, LOOPBACK)?;
    let near = Arc::new(UdpSocket::bind(LOOPBACK).await?);
    let far = Arc::new(UdpSocket::bind(LOOPBACK).await?);
    let (up, down): (Shared, Shared) =
        (Arc::new(Mutex::new(Line::new(SHAPE, 1))), Arc::new(Mutex::new(Line::new(SHAPE, 2))));
    let seen = Arc::new(Mutex::new(None));
    let to_space = Target::Space(space.local_addr()?, seen.clone());
    let ways = [
        tokio::spawn(carry(near.clone(), far.clone(), up.clone(), to_space)),
        tokio::spawn(carry(far, near.clone(), down, Target::Box(seen))),
    ];
    let accepting = tokio::spawn(async move {
        let connection = space.accept().await.ok_or_else(|| anyhow::anyhow!("closed"))?.await?;
        let (_out, mut input) = connection.accept_bi().await?;
        let read = input.read_to_end(BYTES).await?.len();
        anyhow::Ok((Instant::now(), read, connection))
    });
    let box_end = quinn::Endpoint::client(LOOPBACK)?;
    let connection = box_end.connect_with(client, near.local_addr()?, "space")?.await?;
    let before = up.lock().expect("no panic holds it").counts();
    let started = Instant::now();
    let (mut out, _input) = connection.open_bi().await?;
    out.write_all(&vec![7; BYTES]).await?;
    out.finish()?;
    let (ended, read, _connection) = accepting.await??;
    anyhow::ensure!(read == BYTES, "{read} bytes arrived");
    let counts = up.lock().expect("no panic holds it").counts().since(before);
    ways.iter().for_each(tokio::task::JoinHandle::abort);
    Ok((ended - started, counts))
}

/// Megabytes a second with nothing between.
async fn direct(tls: &Tls, congestion: Congestion) -> anyhow::Result<f64> {
    let (client, server) = tls.configs(LinkTuning { congestion, ..LinkTuning::default() });
    let space = quinn::Endpoint::server(server, LOOPBACK)?;
    let address = space.local_addr()?;
    let accepting = tokio::spawn(async move {
        let connection = space.accept().await.ok_or_else(|| anyhow::anyhow!("closed"))?.await?;
        let (_out, mut input) = connection.accept_bi().await?;
        let mut read = 0;
        while let Some(chunk) = input.read_chunk(1 << 20, true).await? {
            read += chunk.bytes.len();
        }
        anyhow::Ok((read, connection))
    });
    let box_end = quinn::Endpoint::client(LOOPBACK)?;
    let connection = box_end.connect_with(client, address, "space")?.await?;
    let started = Instant::now();
    let (mut out, _input) = connection.open_bi().await?;
    let piece = vec![7; BYTES];
    for _ in 0..DIRECT_PIECES {
        out.write_all(&piece).await?;
    }
    out.finish()?;
    let (read, _connection) = accepting.await??;
    Ok(read as f64 / 1e6 / started.elapsed().as_secs_f64())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let is_json = std::env::args().any(|argument| argument == "--json");
    let tls = Tls::generate();
    let all =
        [("guan", Congestion::default()), ("cubic", Congestion::Cubic), ("bbr", Congestion::Bbr)];
    println!("1 Mbit/s, 100 ms, 5 % lost, 1 MB, in real time");
    let mut rows = Vec::new();
    for (name, congestion) in all {
        let (took, up) = run(&tls, congestion).await?;
        let goodput = BYTES as f64 * 8.0 / took.as_secs_f64() / SHAPE.rate_bits_per_s as f64;
        let extra = up.offered_bytes as f64 / (BYTES as f64 * FULL.0 / FULL.1) - 1.0;
        println!("{name:<8} goodput {:>5.1} %  extra {:>5.1} %", goodput * 100.0, extra * 100.0);
        rows.push(json!({"control": name, "goodput_share": goodput, "extra_share": extra}));
    }
    println!("loopback without a relay");
    for (name, congestion) in all {
        let rate = direct(&tls, congestion).await?;
        println!("{name:<8} {rate:>7.1} MB/s");
        rows.push(json!({"control": name, "loopback_mb_per_s": rate}));
    }
    if is_json {
        println!("{}", json!({"schema": 1, "rows": rows}));
    }
    Ok(())
}
