//! Why a session ended, or did not come about.

use super::source::ReadFault;
use crate::fault::{PeerFault, PeerMisbehaved, SourceFault};
use crate::frame::{CloseCode, Goodbye, OfferFault};
use crate::gate::GateFault;
use crate::mux::MuxFault;
use quinn::{ConnectError, ConnectionError, ReadError, WriteError};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    #[error("the address of the space was not found; check its name and the network")]
    Locate(#[source] io::Error),
    #[error("the name of the space leads to no address; check it")]
    NoAddress,
    #[error("no connection to {address} can be tried; check address and server name")]
    Connect { address: SocketAddr, source: ConnectError },
    #[error("no connection to {address}")]
    Handshake { address: SocketAddr, source: ConnectionError },
    #[error("no answer from {address} within {} s; check that UDP gets through, or let the space listen for TCP", limit.as_secs())]
    Unreachable { address: SocketAddr, limit: Duration },
    #[error("the connection was lost")]
    Lost(#[source] ConnectionError),
    #[error(
        "no TCP connection to {address}; check link.tcp_port, and that the space has listen.tcp_address"
    )]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("no answer over TCP from {address} within {} s", limit.as_secs())]
    TcpUnreachable { address: SocketAddr, limit: Duration },
    #[error("over QUIC: {}; over TCP: {}", describe(quic), describe(tcp))]
    Both { quic: Box<LinkFault>, tcp: Box<LinkFault> },
    #[error("this box has no way to the space over TCP")]
    NoTcp,
    #[error("the connection was lost")]
    Broken(#[source] Arc<io::Error>),
    #[error("the connection cannot be followed any more")]
    Mux(#[source] MuxFault),
    #[error("the peer ended the session ({code:?}): {text}")]
    Closed { code: CloseCode, text: String, retry_after: Duration },
    #[error(transparent)]
    Peer(#[from] PeerFault),
    #[error(transparent)]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Source(#[from] SourceFault),
    #[error("the connection offers nothing that evidence could be bound to")]
    Unbound,
    #[error("the box cannot prove what it is: {detail}")]
    Attest { detail: String },
    #[error(transparent)]
    Gate(#[from] GateFault),
    #[error("the box comes again with another certificate")]
    Renewed,
    #[error("the spool offers streams that cannot be offered; please report this as a bug")]
    Offer(#[from] OfferFault),
}

impl LinkFault {
    /// How long the peer asked to be left alone.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Closed { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        }
    }

    /// What the other end is told.
    pub(super) fn close_code(&self) -> CloseCode {
        match self {
            Self::Peer(fault) => fault.close_code(),
            Self::Mux(MuxFault::Silent { .. }) => CloseCode::Silent,
            Self::Mux(_) => CloseCode::Misbehaved,
            Self::Gate(_) | Self::Unbound | Self::Attest { .. } => CloseCode::Unauthorized,
            Self::Read(_) | Self::Source(_) | Self::Offer(_) => CloseCode::Storage,
            _ => CloseCode::Done,
        }
    }
}

impl From<PeerMisbehaved> for LinkFault {
    fn from(fault: PeerMisbehaved) -> Self {
        Self::Peer(fault.into())
    }
}

impl From<Goodbye> for LinkFault {
    fn from(goodbye: Goodbye) -> Self {
        let Goodbye { code, text, retry_after } = goodbye;
        Self::Closed { code, text: text.to_string(), retry_after }
    }
}

impl From<ConnectionError> for LinkFault {
    fn from(fault: ConnectionError) -> Self {
        let ConnectionError::ApplicationClosed(close) = &fault else { return Self::Lost(fault) };
        let code = u64::from(close.error_code);
        let code = CloseCode::from_code(u8::try_from(code).unwrap_or(u8::MAX));
        let text = String::from_utf8_lossy(&close.reason).into_owned();
        Self::Closed { code, text, retry_after: Duration::ZERO }
    }
}

impl From<ReadError> for LinkFault {
    fn from(fault: ReadError) -> Self {
        match fault {
            ReadError::ConnectionLost(fault) => fault.into(),
            _ => PeerMisbehaved::StreamEnded.into(),
        }
    }
}

impl From<WriteError> for LinkFault {
    fn from(fault: WriteError) -> Self {
        match fault {
            WriteError::ConnectionLost(fault) => fault.into(),
            _ => PeerMisbehaved::StreamEnded.into(),
        }
    }
}

/// A fault and its causes in one line.
pub fn describe(fault: &dyn Error) -> String {
    let mut line = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line
}
