//! Where the hosts live: turmoil's network, which seeds break, or one modelled line, on which a month takes moments.

use crate::quinn_net::SimSocket;
use guan_line::{BOX, Net, SPACE};
use quinn::AsyncUdpSocket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Port of the space.
const PORT: u16 = 4433;

#[derive(Clone)]
pub(crate) enum Medium {
    Turmoil,
    Line { net: Arc<Net>, started: tokio::time::Instant },
}

impl Medium {
    /// Since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        match self {
            Self::Turmoil => turmoil::sim_elapsed().unwrap_or_default(),
            Self::Line { started, .. } => started.elapsed(),
        }
    }

    pub(crate) async fn box_socket(&self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(match self {
            Self::Turmoil => SimSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await?,
            Self::Line { net, .. } => net.socket(BOX),
        })
    }

    pub(crate) async fn space_socket(&self) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(match self {
            Self::Turmoil => SimSocket::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await?,
            Self::Line { net, .. } => net.socket(SPACE),
        })
    }

    pub(crate) fn space_address(&self) -> SocketAddr {
        match self {
            Self::Turmoil => SocketAddr::new(turmoil::lookup("space"), PORT),
            Self::Line { .. } => SPACE,
        }
    }
}
