//! The network between box and space: counts UDP payload, and can be cut.

use anyhow::Result;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UdpSocket;

/// Longest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Switch and counters of a relay that runs in the background.
#[derive(Clone, Default)]
pub struct Relay {
    is_cut: Arc<AtomicBool>,
    to_space: Arc<AtomicU64>,
    to_box: Arc<AtomicU64>,
}

impl Relay {
    /// Forwards between whoever sends to `socket` and the space.
    pub fn start(socket: UdpSocket, space: SocketAddr) -> Self {
        let relay = Self::default();
        tokio::spawn(relay.clone().run(Arc::new(socket), space));
        relay
    }

    pub fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Payload that box and space have sent, whether it arrived or not.
    pub fn bytes(&self) -> (u64, u64) {
        (self.to_space.load(Ordering::Relaxed), self.to_box.load(Ordering::Relaxed))
    }

    async fn run(self, socket: Arc<UdpSocket>, space: SocketAddr) {
        let mut upstreams: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // A closed port at the other end is reported here; the datagram is lost, as in any network.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            self.to_space.fetch_add(length as u64, Ordering::Relaxed);
            let upstream = match upstreams.get(&from) {
                Some(upstream) => upstream.clone(),
                None => match self.connect(&socket, from, space).await {
                    Ok(upstream) => {
                        upstreams.insert(from, upstream.clone());
                        upstream
                    }
                    Err(_) => continue,
                },
            };
            if !self.is_cut.load(Ordering::Relaxed) {
                let _ = upstream.send(&buffer[..length]).await;
            }
        }
    }

    async fn connect(
        &self,
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        space: SocketAddr,
    ) -> Result<Arc<UdpSocket>> {
        let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        upstream.connect(space).await?;
        let (relay, socket, back) = (self.clone(), socket.clone(), upstream.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                let Ok(length) = back.recv(&mut buffer).await else { continue };
                relay.to_box.fetch_add(length as u64, Ordering::Relaxed);
                if !relay.is_cut.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&buffer[..length], client).await;
                }
            }
        });
        Ok(upstream)
    }
}
