//! quinn over modelled lines, in virtual time: two sockets, a line each way, at quinn's own traits.

use crate::model::{Counts, HEADERS, Line, Shape};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::sync::Notify;

/// A datagram and where it says that it comes from.
type Packet = (SocketAddr, Vec<u8>);

#[derive(Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    waker: Option<Waker>,
}

/// One direction.
struct Way {
    line: Mutex<Line<(SocketAddr, Packet)>>,
    changed: Notify,
}

/// A link between a box and a space. Dropped lines deliver nothing more.
pub struct Net {
    started: tokio::time::Instant,
    up: Way,
    down: Way,
    inboxes: Mutex<Vec<(SocketAddr, Arc<Mutex<Inbox>>)>>,
    space: SocketAddr,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    pub fn new(shape: Shape, seed: u64, space: SocketAddr) -> Arc<Self> {
        let way = |seed| Way { line: Mutex::new(Line::new(shape, seed)), changed: Notify::new() };
        let this = Arc::new(Self {
            started: tokio::time::Instant::now(),
            up: way(seed),
            down: way(seed ^ 0x5A5A),
            inboxes: Mutex::default(),
            space,
        });
        tokio::spawn(this.clone().carry(true));
        tokio::spawn(this.clone().carry(false));
        this
    }

    /// Bytes from the box to the space, and back.
    pub fn counts(&self) -> (Counts, Counts) {
        (self.up.line.lock().unwrap().counts(), self.down.line.lock().unwrap().counts())
    }

    pub fn set_shape(&self, shape: Shape) {
        self.up.line.lock().unwrap().set_shape(shape);
        self.down.line.lock().unwrap().set_shape(shape);
    }

    pub fn socket(self: &Arc<Self>, address: SocketAddr) -> Arc<Socket> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let mut inboxes = self.inboxes.lock().unwrap();
        inboxes.retain(|(known, _)| *known != address);
        inboxes.push((address, inbox.clone()));
        Arc::new(Socket { net: self.clone(), address, inbox })
    }

    /// Nobody is at this address any more.
    pub fn leave(&self, address: SocketAddr) {
        self.inboxes.lock().unwrap().retain(|(known, _)| *known != address);
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, contents: &[u8]) {
        let way = if to == self.space { &self.up } else { &self.down };
        let bytes = contents.len() as u64 + HEADERS;
        let now = self.started.elapsed();
        way.line.lock().unwrap().handle_packet(now, bytes, (to, (from, contents.to_vec())));
        way.changed.notify_one();
    }

    async fn carry(self: Arc<Self>, is_up: bool) {
        let way = if is_up { &self.up } else { &self.down };
        loop {
            let due = way.line.lock().unwrap().poll_timeout();
            match due {
                // A packet that comes later arrives later, so nothing is missed meanwhile.
                Some(due) => tokio::time::sleep_until(self.started + due).await,
                None => way.changed.notified().await,
            }
            let now = self.started.elapsed();
            while let Some((to, packet)) = {
                let mut line = way.line.lock().unwrap();
                line.poll(now)
            } {
                self.deliver(to, packet);
            }
        }
    }

    fn deliver(&self, to: SocketAddr, packet: Packet) {
        let inboxes = self.inboxes.lock().unwrap();
        let Some((_, inbox)) = inboxes.iter().find(|(address, _)| *address == to) else { return };
        let mut inbox = inbox.lock().unwrap();
        inbox.packets.push_back(packet);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// One end's socket.
pub struct Socket {
    net: Arc<Net>,
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.address)
    }
}

/// The queue drops what does not fit; the sender never waits for it.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.net.send(self.address, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap();
        match inbox.packets.pop_front() {
            Some((addr, bytes)) => {
                let len = bytes.len();
                buffers[0][..len].copy_from_slice(&bytes);
                meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                Poll::Ready(Ok(1))
            }
            None => {
                inbox.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Timers and tasks of a paused tokio runtime.
#[derive(Debug)]
pub struct VirtualTime;

#[derive(Debug)]
struct Timer(Pin<Box<tokio::time::Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

impl Runtime for VirtualTime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "there are no real sockets"))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Runs a future on a clock that jumps over the waits.
pub fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}
