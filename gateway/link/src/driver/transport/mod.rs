//! What a session needs of a connection, whichever transport carries it.

mod counted;
mod tcp;

pub(super) use tcp::{TcpConnection, connect as connect_tcp, secure as secure_tcp};

use super::fault::LinkFault;
use crate::frame::CloseCode;
use crate::route::Transport;
use bytes::Bytes;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection whose other end has shown its certificate.
#[derive(Clone)]
pub(super) enum Connection {
    Quic(quinn::Connection),
    Tcp(TcpConnection),
}

/// A path that loses more than one packet of so many is lossy: below that, holes are rare.
const LOSSY_OF: u64 = 200;

/// What a connection has come to so far.
pub(super) struct Stats {
    /// `None`: the transport does not tell.
    pub(super) rtt: Option<Duration>,
    /// Bytes that may be on the way.
    pub(super) window_bytes: u64,
    /// It has lost more than one packet of [`LOSSY_OF`].
    pub(super) is_lossy: bool,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl Connection {
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tcp(_) => Transport::Tcp,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(quic) => quic.remote_address(),
            Self::Tcp(tcp) => tcp.address(),
        }
    }

    /// Over for this end at once. The other end is told why if it reads soon: what a TCP socket holds goes before it.
    pub(super) fn close(&self, code: CloseCode, text: &str) {
        match self {
            Self::Quic(quic) => quic.close(VarInt::from_u32(code.code().into()), text.as_bytes()),
            Self::Tcp(tcp) => tcp.close(code, text),
        }
    }

    /// Waits until the connection is no more.
    pub(super) async fn closed(&self) {
        match self {
            Self::Quic(quic) => drop(quic.closed().await),
            Self::Tcp(tcp) => tcp.closed().await,
        }
    }

    /// Waits while the other end allows no more streams.
    pub(super) async fn open_bi(&self) -> Result<(SendStream, RecvStream), LinkFault> {
        Ok(match self {
            Self::Quic(quic) => {
                let (out, input) = quic.open_bi().await?;
                (SendStream::Quic(out), RecvStream::Quic(input))
            }
            Self::Tcp(tcp) => {
                let (out, input) = tcp.open_bi().await;
                (SendStream::Tcp(out), RecvStream::Tcp(input))
            }
        })
    }

    /// The next stream that the other end has begun.
    pub(super) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), LinkFault> {
        Ok(match self {
            Self::Quic(quic) => {
                let (out, input) = quic.accept_bi().await?;
                (SendStream::Quic(out), RecvStream::Quic(input))
            }
            Self::Tcp(tcp) => {
                let (out, input) = tcp.accept_bi().await?;
                (SendStream::Tcp(out), RecvStream::Tcp(input))
            }
        })
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Quic(quic) => {
                let stats = quic.stats();
                Stats {
                    rtt: Some(stats.path.rtt),
                    window_bytes: stats.path.cwnd,
                    is_lossy: stats.path.lost_packets * LOSSY_OF > stats.path.sent_packets,
                    bytes_sent: stats.udp_tx.bytes,
                    bytes_received: stats.udp_rx.bytes,
                }
            }
            Self::Tcp(tcp) => tcp.stats(),
        }
    }

    /// Bytes that the transport may hold. TCP's buffers are the kernel's.
    pub(super) fn set_send_window(&self, bytes: u64) {
        if let Self::Quic(quic) = self {
            quic.set_send_window(bytes);
        }
    }

    /// A secret of this TLS session alone (RFC 5705); `None`: there is none any more.
    pub(super) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Option<()> {
        match self {
            Self::Quic(quic) => quic.export_keying_material(out, label, context).ok(),
            Self::Tcp(tcp) => tcp.export(out, label, context),
        }
    }

    /// Certificates of the other end, its own first.
    pub(super) fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        match self {
            Self::Quic(quic) => quic.peer_identity()?.downcast().ok().map(|chain| *chain),
            Self::Tcp(tcp) => tcp.chain(),
        }
    }
}

pub(super) enum SendStream {
    Quic(quinn::SendStream),
    Tcp(tcp::TcpSend),
}

impl SendStream {
    /// A hint: a stream of higher priority goes first.
    pub(super) fn set_priority(&self, priority: i32) {
        match self {
            // A stream that is gone shows at the next write.
            Self::Quic(quic) => drop(quic.set_priority(priority)),
            Self::Tcp(tcp) => tcp.set_priority(priority),
        }
    }

    /// Takes whole pieces from the front, and part of another; gives how many whole ones, and the bytes of all.
    /// Dropped before it is done, it has taken none.
    pub(super) async fn write_chunks(
        &mut self,
        pieces: &mut [Bytes],
    ) -> Result<(usize, usize), LinkFault> {
        match self {
            Self::Quic(quic) => {
                let written = quic.write_chunks(pieces).await?;
                Ok((written.chunks, written.bytes))
            }
            Self::Tcp(tcp) => tcp.write_chunks(pieces).await,
        }
    }

    /// Nothing more comes on it.
    pub(super) fn finish(&mut self) {
        if let Self::Quic(quic) = self {
            // Already closed is as good as closed.
            let _ = quic.finish();
        }
    }
}

pub(super) enum RecvStream {
    Quic(quinn::RecvStream),
    Tcp(tcp::TcpRecv),
}

impl RecvStream {
    /// Waits for bytes; `None` at the end of the stream. Dropped before it is done, it has taken none.
    pub(super) async fn read_chunk(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, LinkFault> {
        match self {
            Self::Quic(quic) => {
                let chunk = quic.read_chunk(bytes_max, true).await?;
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            Self::Tcp(tcp) => tcp.read_chunk(bytes_max).await.map(Some),
        }
    }
}
