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
    /// TCP got through where QUIC did not; otherwise nothing says that QUIC is what is blocked.
    has_tcp_connected: bool,
}

impl Route {
    pub fn new(choice: TransportChoice) -> Self {
        Self { choice, quic_failures: 0, has_tcp_connected: false }
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

    /// Whether QUIC is tried only to see if it gets through again, and TCP does. A path on which both have failed is
    /// slow or down, and QUIC has its full time there.
    pub fn is_probing(&self) -> bool {
        self.choice == TransportChoice::Auto
            && self.quic_failures >= QUIC_TRIES
            && self.has_tcp_connected
    }

    pub fn handle_connected(&mut self, transport: Transport) {
        self.has_tcp_connected = transport == Transport::Tcp;
        if transport == Transport::Quic {
            self.quic_failures = 0;
        }
    }

    pub fn handle_failure(&mut self, transport: Transport) {
        match transport {
            Transport::Quic => self.quic_failures = self.quic_failures.saturating_add(1),
            Transport::Tcp => self.has_tcp_connected = false,
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

    /// Otherwise a slow path would never again have the time that QUIC's handshake takes there.
    #[test]
    fn quic_has_its_full_time_unless_tcp_gets_through() {
        let mut route = Route::new(TransportChoice::Auto);
        for _ in 0..3 {
            route.handle_failure(Quic);
            route.handle_failure(Tcp);
            assert!(!route.is_probing(), "an outage: neither gets through");
        }
        route.handle_connected(Tcp);
        assert!(route.is_probing());
        route.handle_failure(Quic);
        route.handle_failure(Tcp);
        assert!(!route.is_probing(), "TCP is gone, too");
        route.handle_connected(Tcp);
        route.handle_connected(Quic);
        for _ in 0..3 {
            route.handle_failure(Quic);
            assert!(!route.is_probing(), "that TCP got through is of another time");
        }
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
