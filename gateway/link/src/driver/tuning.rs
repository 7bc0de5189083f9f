//! Transport settings of both ends.

use super::congestion::Congestion;
use crate::ALPN;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// Streams that a box may open: data, control and live.
const BIDI_STREAMS_MAX: u32 = 3;

/// What differs between links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTuning {
    /// Smaller than the idle timeout, and than the time for which a NAT keeps a UDP mapping.
    pub keep_alive: Duration,
    /// A path that is silent for so long is dead.
    pub idle_timeout: Duration,
    /// Bytes that wait in this end for an acknowledgement of the transport. Memory of the box.
    pub send_window_bytes: u32,
    /// Bytes that the other end may send ahead of what was read. Memory of the space, each box.
    pub receive_window_bytes: u32,
    /// What decides how much is on the way.
    pub congestion: Congestion,
    /// Whether the box looks for longer packets than 1,200 bytes: saves 1 % in bulk, and costs 7 kB a connection,
    /// which is most of a short one.
    pub is_probing_size: bool,
}

impl Default for LinkTuning {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            send_window_bytes: 2 << 20,
            receive_window_bytes: 2 << 20,
            congestion: Congestion::default(),
            is_probing_size: true,
        }
    }
}

/// The settings do not make a link; the operator or a bug is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TuningFault {
    #[error("keep-alive {keep_alive:?} must be below the idle timeout {idle_timeout:?}")]
    KeepAlive { keep_alive: Duration, idle_timeout: Duration },
    #[error("idle timeout {idle_timeout:?} is longer than QUIC can say; use at most a day")]
    IdleTimeout { idle_timeout: Duration },
    #[error("the TLS configuration cannot start a QUIC connection; please report this as a bug")]
    CipherSuite(#[from] NoInitialCipherSuite),
}

impl LinkTuning {
    /// Configuration of the box. Protocol name, and resumption and 0-RTT off, are set here whatever
    /// `tls` says: a resumed session would skip the check of the client's certificate.
    pub fn client(
        &self,
        mut tls: rustls::ClientConfig,
    ) -> Result<quinn::ClientConfig, TuningFault> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        tls.enable_early_data = false;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = self.transport()?;
        if !self.is_probing_size {
            transport.mtu_discovery_config(None);
        }
        config.transport_config(Arc::new(transport));
        Ok(config)
    }

    /// Configuration of the space, with the same switches off.
    pub fn server(
        &self,
        mut tls: rustls::ServerConfig,
    ) -> Result<quinn::ServerConfig, TuningFault> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        tls.max_early_data_size = 0;
        let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config.migration(true);
        let mut transport = self.transport()?;
        transport.max_concurrent_bidi_streams(BIDI_STREAMS_MAX.into());
        // What it sends is short.
        transport.mtu_discovery_config(None);
        config.transport_config(Arc::new(transport));
        Ok(config)
    }

    /// Configuration of the box for TCP, with the switches of [`client`](Self::client).
    pub fn tcp_client(&self, mut tls: rustls::ClientConfig) -> Arc<rustls::ClientConfig> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        tls.enable_early_data = false;
        Arc::new(tls)
    }

    /// Configuration of the space for TCP, with the switches of [`server`](Self::server).
    pub fn tcp_server(&self, mut tls: rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        tls.max_early_data_size = 0;
        Arc::new(tls)
    }

    /// Neither end may open a stream unless it is said otherwise, and nobody sends datagrams.
    fn transport(&self) -> Result<TransportConfig, TuningFault> {
        let Self { keep_alive, idle_timeout, .. } = *self;
        if keep_alive >= idle_timeout {
            return Err(TuningFault::KeepAlive { keep_alive, idle_timeout });
        }
        let idle = IdleTimeout::try_from(idle_timeout)
            .map_err(|_| TuningFault::IdleTimeout { idle_timeout })?;
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(keep_alive))
            .max_idle_timeout(Some(idle))
            .send_window(self.send_window_bytes.into())
            .stream_receive_window(self.receive_window_bytes.into())
            // Room for the control stream beside a full data stream.
            .receive_window(self.receive_window_bytes.saturating_mul(2).into())
            .congestion_controller_factory(self.congestion.factory());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_could_not_stay_up_is_refused() {
        let second = Duration::from_secs(1);
        let check = |keep_alive, idle_timeout, good| {
            let tuning = LinkTuning { keep_alive, idle_timeout, ..LinkTuning::default() };
            assert_eq!(tuning.transport().is_ok(), good, "{keep_alive:?} in {idle_timeout:?}");
        };
        check(second * 15, second * 30, true);
        check(second * 30, second * 30, false);
        check(second, Duration::MAX, false);
    }
}
