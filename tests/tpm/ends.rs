//! Box and space over QUIC on loopback, with the key of the box wherever it lies.

use guan_identity::{
    KeyFile, SmallCa, Tier, TimeCell, certificate_request, client_config, read_certificates,
    server_config,
};
use guan_model::{BoxId, Signer, WallTime};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const ALPN: &[u8] = b"guan/1";
const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

/// A space that accepts, and a box that connects.
pub(crate) struct Ends {
    client: quinn::Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
}

impl Ends {
    /// Must run in a runtime; asks the key to sign a request first.
    pub(crate) fn new(signer: Arc<dyn Signer>) -> Self {
        let key = |name: &str| Arc::new(KeyFile::generate(name).unwrap().0);
        let ca = SmallCa::create("ca", key("ca"), NOW, 3650).unwrap();
        let roots = vec![ca.certificate().clone()];
        let id = BoxId::parse("depot-7").unwrap();
        let request = certificate_request(signer.clone(), &id).unwrap();
        let chain = ca.issue_box(&request, &id, Tier::Emulated, NOW, 30).unwrap();
        let chain = read_certificates(&chain).unwrap();
        let server_key = key("space");
        let server = ca.issue_server(&["space"], &server_key.public_key(), NOW, 90).unwrap();
        let server = read_certificates(&server).unwrap();
        let time = || Arc::new(TimeCell::new(NOW));
        let tls = server_config(server, server_key, roots.clone(), ALPN, time()).unwrap();
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let local = (Ipv4Addr::LOCALHOST, 0).into();
        let listen =
            quinn::Endpoint::server(quinn::ServerConfig::with_crypto(crypto), local).unwrap();
        let address = listen.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = listen.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        // The box may be gone before it is greeted.
                        if let Ok(mut out) = connection.open_uni().await {
                            let _ = out.write_all(b"!").await;
                            let _ = out.finish();
                        }
                        connection.closed().await;
                    }
                });
            }
        });
        let tls = client_config(chain, signer, roots, ALPN, time()).unwrap();
        let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
        let client = quinn::Endpoint::client(local).unwrap();
        Self { client, config: quinn::ClientConfig::new(crypto), address }
    }

    /// From the first packet to the space's greeting, which proves that it took the box's signature.
    pub(crate) async fn shake_hands(&self) -> Result<(), String> {
        self.connect().await?.close(0_u8.into(), b"");
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<quinn::Connection, String> {
        let connecting = self.client.connect_with(self.config.clone(), self.address, "space");
        let connection = connecting.unwrap().await.map_err(|fault| fault.to_string())?;
        let mut input = connection.accept_uni().await.map_err(|fault| fault.to_string())?;
        let mut byte = [0];
        input.read_exact(&mut byte).await.map_err(|fault| fault.to_string())?;
        Ok(connection)
    }
}
