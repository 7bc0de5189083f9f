//! Which transport the box tries: QUIC, and where it does not get through, TCP.

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// QUIC; TCP beside it once QUIC has failed [`QUIC_TRIES`] times in a row.
    #[default]
    Auto,
    Quic,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Quic,
    Tcp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// With the last of so many failures in a row TCP is tried.
pub const QUIC_TRIES: u32 = 2;

/// What was learnt about the path. QUIC comes first each time, so that the box returns to it with its next session.
#[derive(Debug, Clone, Default)]
pub struct Route {
    choice: TransportChoice,
    quic_failures: u32,
}

impl Route {
    pub fn new(choice: TransportChoice) -> Self {
        Self { choice, quic_failures: 0 }
    }

    /// What to try now, one after the other until one connects.
    pub fn poll_attempts(&self) -> &'static [Transport] {
        match self.choice {
            TransportChoice::Quic => &[Transport::Quic],
            TransportChoice::Tcp => &[Transport::Tcp],
            TransportChoice::Auto if self.quic_failures + 1 < QUIC_TRIES => &[Transport::Quic],
            TransportChoice::Auto => &[Transport::Quic, Transport::Tcp],
        }
    }

    /// Whether QUIC is tried only to see if it gets through again.
    pub fn is_probing(&self) -> bool {
        self.choice == TransportChoice::Auto && self.quic_failures >= QUIC_TRIES
    }

    pub fn handle_connected(&mut self, transport: Transport) {
        if transport == Transport::Quic {
            self.quic_failures = 0;
        }
    }

    pub fn handle_failure(&mut self, transport: Transport) {
        if transport == Transport::Quic {
            self.quic_failures = self.quic_failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Tcp};

    #[test]
    fn tcp_comes_in_after_failures_and_quic_stays_first() {
        let mut route = Route::new(TransportChoice::Auto);
        assert_eq!((route.poll_attempts(), route.is_probing()), (&[Quic][..], false));
        route.handle_failure(Quic);
        assert_eq!((route.poll_attempts(), route.is_probing()), (&[Quic, Tcp][..], false));
        route.handle_failure(Quic);
        route.handle_connected(Tcp);
        assert_eq!((route.poll_attempts(), route.is_probing()), (&[Quic, Tcp][..], true));
        route.handle_connected(Quic);
        assert_eq!((route.poll_attempts(), route.is_probing()), (&[Quic][..], false));
    }

    #[test]
    fn what_the_operator_excludes_is_not_tried() {
        for (choice, only) in [(TransportChoice::Quic, Quic), (TransportChoice::Tcp, Tcp)] {
            let mut route = Route::new(choice);
            for _ in 0..5 {
                assert_eq!((route.poll_attempts(), route.is_probing()), (&[only][..], false));
                route.handle_failure(only);
            }
        }
    }
}
