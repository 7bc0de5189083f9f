//! How many callers may be between their first packet and a known name.
//!
//! Each transport has its own number, so that callers of one do not lock out the boxes of the other. Never here: the
//! handshakes themselves, and how long they may take.

use crate::route::Transport;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections of each transport that are between their first packet and a known name.
pub const HANDSHAKES_MAX: usize = 128;
/// The same from one address over TCP, where calling and saying nothing costs a caller little. Of more
/// boxes behind one address that call at once, some call again.
pub const TCP_HANDSHAKES_PER_ADDRESS_MAX: usize = 16;

/// A caller that has to come again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakesFault {
    #[error("more than {limit} handshakes over {} at once", transport.as_str())]
    Transport { transport: Transport, limit: usize },
    #[error("more than {limit} handshakes over TCP at once from its address")]
    Address { limit: usize },
}

/// Callers of each address that has any; at most [`HANDSHAKES_MAX`] addresses.
type Callers = Mutex<BTreeMap<IpAddr, usize>>;

pub(super) struct Handshakes {
    quic: Arc<Semaphore>,
    tcp: Arc<Semaphore>,
    tcp_callers: Arc<Callers>,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        let permits = || Arc::new(Semaphore::new(HANDSHAKES_MAX));
        Self { quic: permits(), tcp: permits(), tcp_callers: Arc::default() }
    }

    pub(super) fn begin(
        &self,
        transport: Transport,
        address: IpAddr,
    ) -> Result<Handshake, HandshakesFault> {
        let permits = match transport {
            Transport::Quic => &self.quic,
            Transport::Tcp => &self.tcp,
        };
        let limit = HANDSHAKES_MAX;
        let permit = permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| HandshakesFault::Transport { transport, limit })?;
        let caller = match transport {
            // An address is not proven, and a box that is refused comes again with a packet.
            Transport::Quic => None,
            Transport::Tcp => Some(Caller::new(&self.tcp_callers, address.to_canonical())?),
        };
        Ok(Handshake { _permit: permit, _caller: caller })
    }
}

/// Makes room when it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    _permit: OwnedSemaphorePermit,
    _caller: Option<Caller>,
}

#[derive(Debug)]
struct Caller {
    callers: Arc<Callers>,
    address: IpAddr,
}

impl Caller {
    fn new(callers: &Arc<Callers>, address: IpAddr) -> Result<Self, HandshakesFault> {
        let limit = TCP_HANDSHAKES_PER_ADDRESS_MAX;
        let mut counts = lock(callers);
        let count = counts.get(&address).copied().unwrap_or(0);
        if count == limit {
            return Err(HandshakesFault::Address { limit });
        }
        counts.insert(address, count + 1);
        drop(counts);
        Ok(Self { callers: callers.clone(), address })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut counts = lock(&self.callers);
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.address)),
        }
    }
}

fn lock(callers: &Callers) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn address(index: usize) -> IpAddr {
        Ipv4Addr::from(u32::try_from(index).unwrap()).into()
    }

    #[test]
    fn callers_over_tcp_do_not_lock_out_quic() {
        let handshakes = Handshakes::new();
        let begin = |transport, index| handshakes.begin(transport, address(index));
        let mut held: Vec<_> =
            (0..HANDSHAKES_MAX).map(|index| begin(Transport::Tcp, index).unwrap()).collect();
        let full = begin(Transport::Tcp, HANDSHAKES_MAX).unwrap_err();
        let (transport, limit) = (Transport::Tcp, HANDSHAKES_MAX);
        assert_eq!(full, HandshakesFault::Transport { transport, limit });
        held.extend((0..HANDSHAKES_MAX).map(|_| begin(Transport::Quic, 0).unwrap()));
        begin(Transport::Quic, 0).unwrap_err();
        drop(held);
        begin(Transport::Tcp, 0).unwrap();
        assert!(lock(&handshakes.tcp_callers).is_empty(), "nothing is kept of who is done");
    }

    #[test]
    fn one_address_has_a_part_of_tcp_only() {
        let handshakes = Handshakes::new();
        let mapped = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        let begin = |address| handshakes.begin(Transport::Tcp, address);
        let limit = TCP_HANDSHAKES_PER_ADDRESS_MAX;
        let mut held: Vec<_> = (0..limit).map(|_| begin(mapped).unwrap()).collect();
        let plain = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(begin(plain).unwrap_err(), HandshakesFault::Address { limit });
        begin(Ipv6Addr::LOCALHOST.into()).unwrap();
        held.pop();
        begin(plain).unwrap();
    }
}
