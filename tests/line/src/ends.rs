//! Box and space with certificates of one authority, over a modelled link.

use crate::model::{Counts, Shape};
use crate::net::{Net, VirtualTime};
use guan_identity::{
    KeyFile, SmallCa, Tier, TimeCell, certificate_request, client_config, read_certificates,
    server_config,
};
use guan_link::driver::LinkTuning;
use guan_model::{BoxId, Signer, WallTime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const NOW: WallTime = WallTime(1_800_000_000_000_000_000);
pub const SPACE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4433);
pub const BOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 5000);

/// TLS of both ends.
#[derive(Clone)]
pub struct Tls {
    box_end: rustls::ClientConfig,
    space_end: rustls::ServerConfig,
}

impl Tls {
    pub fn generate() -> Self {
        let key = |name: &str| -> Arc<dyn Signer> { Arc::new(KeyFile::generate(name).unwrap().0) };
        let time = Arc::new(TimeCell::new(NOW));
        let ca = SmallCa::create("line", key("ca"), NOW, 365).unwrap();
        let roots = vec![ca.certificate().clone()];
        let space = key("space");
        let chain = ca.issue_server(&["space"], &space.public_key(), NOW, 90).unwrap();
        let chain = read_certificates(&chain).unwrap();
        let alpn = guan_link::ALPN;
        let space_end = server_config(chain, space, roots.clone(), alpn, time.clone()).unwrap();
        let (id, own) = (BoxId::parse("box-1").unwrap(), key("box-1"));
        let request = certificate_request(own.clone(), &id).unwrap();
        let chain = ca.issue_box(&request, &id, Tier::Unattested, NOW, 90).unwrap();
        let chain = read_certificates(&chain).unwrap();
        let box_end = client_config(chain, own, roots, alpn, time).unwrap();
        Self { box_end, space_end }
    }

    pub fn configs(&self, tuning: LinkTuning) -> (quinn::ClientConfig, quinn::ServerConfig) {
        let client = tuning.client(self.box_end.clone()).unwrap();
        (client, tuning.server(self.space_end.clone()).unwrap())
    }
}

fn endpoint(
    net: &Arc<Net>,
    address: SocketAddr,
    server: Option<quinn::ServerConfig>,
) -> quinn::Endpoint {
    let socket = net.socket(address);
    let config = quinn::EndpointConfig::default();
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(VirtualTime))
        .unwrap()
}

/// Both endpoints on one link.
pub struct Pair {
    pub net: Arc<Net>,
    pub box_end: quinn::Endpoint,
    pub space_end: quinn::Endpoint,
    pub client: quinn::ClientConfig,
}

impl Pair {
    pub fn new(tls: &Tls, tuning: LinkTuning, shape: Shape, seed: u64) -> Self {
        let (client, server) = tls.configs(tuning);
        let net = Net::new(shape, seed, SPACE);
        let space_end = endpoint(&net, SPACE, Some(server));
        let box_end = endpoint(&net, BOX, None);
        Self { net, box_end, space_end, client }
    }

    /// The box is somewhere else from now on; what is sent to its old address gets nowhere.
    pub fn rebind(&self, address: SocketAddr) {
        let socket = self.net.socket(address);
        self.net.leave(BOX);
        self.box_end.rebind_abstract(socket).unwrap();
    }

    pub async fn connect(&self) -> (quinn::Connection, quinn::Connection) {
        let connecting = self.box_end.connect_with(self.client.clone(), SPACE, "space").unwrap();
        let accepting = async { self.space_end.accept().await.unwrap().await.unwrap() };
        let (connected, accepted) = tokio::join!(connecting, accepting);
        (connected.unwrap(), accepted)
    }
}

/// What a bulk transfer came to.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub took: Duration,
    pub up: Counts,
    pub down: Counts,
    pub lost_spuriously: u64,
}

/// Sends so many bytes on one stream, from the connected state to the last byte read.
pub async fn transfer(
    tls: &Tls,
    tuning: LinkTuning,
    shape: Shape,
    seed: u64,
    bytes: u64,
) -> Transfer {
    let pair = Pair::new(tls, tuning, shape, seed);
    let (box_side, space_side) = pair.connect().await;
    let before = pair.net.counts();
    let started = tokio::time::Instant::now();
    let writing = async {
        let (mut out, input) = box_side.open_bi().await.unwrap();
        let piece = vec![7; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left.min(piece.len() as u64)).unwrap();
            out.write_all(&piece[..length]).await.unwrap();
            left -= length as u64;
        }
        out.finish().unwrap();
        (out, input)
    };
    let reading = async {
        let (out, mut input) = space_side.accept_bi().await.unwrap();
        let mut count = 0;
        while let Some(chunk) = input.read_chunk(64 << 10, true).await.unwrap() {
            count += chunk.bytes.len() as u64;
        }
        assert_eq!(count, bytes);
        (started.elapsed(), out)
    };
    let (_open, (took, _out)) = tokio::join!(writing, reading);
    let after = pair.net.counts();
    let lost = box_side.stats().path.lost_packets;
    let up = after.0.since(before.0);
    let gone = up.lost_packets + up.dropped_packets;
    box_side.close(0_u8.into(), b"");
    Transfer { took, up, down: after.1.since(before.1), lost_spuriously: lost.saturating_sub(gone) }
}
