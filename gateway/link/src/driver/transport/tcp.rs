//! TCP with TLS 1.3 both ways, and the streams of [`crate::mux`] over it.
//!
//! One task moves bytes between socket and mux; sessions talk to the mux behind a lock that is held for moments only
//! and never while anybody waits.

use super::Stats;
use super::counted::{Counted, Counts};
use crate::ALPN;
use crate::driver::CLOSE_WAIT;
use crate::driver::fault::LinkFault;
use crate::driver::tuning::LinkTuning;
use crate::frame::CloseCode;
use crate::mux::{
    HEAD_BYTES, Mux, MuxClose, MuxFault, OUT_BYTES_MAX, RECORD_BYTES_MAX, STREAMS, WINDOW_BYTES,
};
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Bytes read from TLS at once.
const READ_BYTES: usize = 16 << 10;
/// What TLS holds before the socket takes it: one record of the mux, as what it holds goes before all that comes later.
const TLS_BYTES_MAX: usize = HEAD_BYTES + RECORD_BYTES_MAX;
/// What the kernel takes beyond what it has sent: a record of the mux, so that the socket never runs dry. What waits there
/// goes before all that is urgent, so it takes no more.
const NOTSENT_BYTES_MAX: u32 = 16 << 10;
/// Of an other end that does not stop after the last words, so much is still read.
const AFTERMATH_BYTES_MAX: usize = STREAMS * WINDOW_BYTES as usize;

type Socket = TlsStream<Counted<TcpStream>>;

/// Why there is no connection any more.
#[derive(Debug, Clone)]
enum End {
    Closed(MuxClose),
    Mux(MuxFault),
    Socket(Arc<io::Error>),
    /// This end has closed.
    Done,
}

impl From<MuxFault> for End {
    fn from(fault: MuxFault) -> Self {
        Self::Mux(fault)
    }
}

impl From<io::Error> for End {
    fn from(fault: io::Error) -> Self {
        Self::Socket(Arc::new(fault))
    }
}

impl From<End> for LinkFault {
    fn from(end: End) -> Self {
        match end {
            End::Closed(MuxClose { code, text }) => {
                let code = CloseCode::from_code(code);
                Self::Closed { code, text, retry_after: Duration::ZERO }
            }
            End::Mux(fault) => Self::Mux(fault),
            End::Socket(fault) => Self::Broken(fault),
            End::Done => Self::Broken(Arc::new(io::ErrorKind::NotConnected.into())),
        }
    }
}

struct Inner {
    mux: Mux,
    /// `None`: closed.
    socket: Option<Socket>,
    /// Of a record, what the socket has not taken yet.
    writing: Bytes,
    /// Of the task that moves the bytes.
    mover: Option<Waker>,
    end: Option<End>,
    /// When the socket goes, whether or not the last words have left; `None`: this end has not closed.
    leave_at: Option<Instant>,
}

struct Shared {
    inner: Mutex<Inner>,
    started: Instant,
    readable: [Notify; STREAMS],
    writable: [Notify; STREAMS],
    begun: Notify,
    gone: watch::Sender<bool>,
    opened: AtomicUsize,
    address: SocketAddr,
    chain: Option<Vec<CertificateDer<'static>>>,
    counts: Arc<Counts>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn close(&self, code: CloseCode, text: &str) {
        let mut inner = self.lock();
        inner.mux.handle_close(code.code(), text);
        inner.end.get_or_insert(End::Done);
        inner.leave_at.get_or_insert_with(|| Instant::now() + CLOSE_WAIT);
        inner.wake();
        drop(inner);
        self.wake_all();
    }

    fn wake_all(&self) {
        let each = self.readable.iter().chain(&self.writable);
        each.chain([&self.begun]).for_each(Notify::notify_one);
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(mover) = self.mover.take() {
            mover.wake();
        }
    }

    fn is_closed_here(&self) -> bool {
        self.leave_at.is_some()
    }

    /// Moves what can be moved now.
    fn step(&mut self, context: &mut Context<'_>, shared: &Shared) -> Result<(), End> {
        let now = shared.now();
        self.write(context, now)?;
        if self.mux.is_done() && self.writing.is_empty() {
            return Err(End::Done);
        }
        self.read(context, now)?;
        // What was read may have made room, or something to say.
        self.write(context, now)?;
        shared.wake_all();
        Ok(())
    }

    fn write(&mut self, context: &mut Context<'_>, now: Duration) -> Result<(), End> {
        let socket = self.socket.as_mut().expect("it is there until the end");
        loop {
            if self.writing.is_empty() {
                match self.mux.poll_bytes(now) {
                    Some(record) => self.writing = record,
                    None => break,
                }
            }
            match Pin::new(&mut *socket).poll_write(context, &self.writing) {
                Poll::Ready(written) => drop(self.writing.split_to(written?)),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(socket).poll_flush(context) {
            Poll::Ready(flushed) => Ok(flushed?),
            Poll::Pending => Ok(()),
        }
    }

    fn read(&mut self, context: &mut Context<'_>, now: Duration) -> Result<(), End> {
        let socket = self.socket.as_mut().expect("it is there until the end");
        let mut bytes = [0; READ_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *socket).poll_read(context, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => return Ok(()),
            }
            if buffer.filled().is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.mux.handle_bytes(now, buffer.filled())?;
            if let Some(close) = self.mux.closed() {
                return Err(End::Closed(close.clone()));
            }
        }
    }
}

/// Moves bytes until the connection ends.
async fn run(shared: Arc<Shared>) {
    let mut timer = Box::pin(sleep_until(shared.started));
    let end = poll_fn(|context| {
        let mut inner = shared.lock();
        inner.mover = Some(context.waker().clone());
        loop {
            if let Err(end) = inner.step(context, &shared) {
                return Poll::Ready(end);
            }
            let due = shared.started + inner.mux.poll_timeout();
            timer.as_mut().reset(inner.leave_at.map_or(due, |leave_at| leave_at.min(due)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if inner.leave_at.is_some_and(|leave_at| leave_at <= Instant::now()) {
                return Poll::Ready(End::Done);
            }
            if let Err(fault) = inner.mux.handle_timeout(shared.now()) {
                return Poll::Ready(fault.into());
            }
        }
    })
    .await;
    let (socket, leave_at) = {
        let mut inner = shared.lock();
        inner.end.get_or_insert(end);
        (inner.socket.take(), inner.leave_at)
    };
    shared.gone.send_replace(true);
    shared.wake_all();
    if let Some(socket) = socket {
        let leave_at = leave_at.unwrap_or_else(|| Instant::now() + CLOSE_WAIT);
        let _ = timeout_at(leave_at, leave(socket)).await;
    }
}

/// Ends the stream and waits for the other end to do so: a socket that is closed with unread bytes takes its last
/// words back.
async fn leave(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    let (mut bytes, mut left) = ([0; READ_BYTES], AFTERMATH_BYTES_MAX);
    while left > 0 {
        match socket.read(&mut bytes).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// What the handles of a connection share: with the last of them the connection closes.
struct Handle(Arc<Shared>);

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(CloseCode::Done, "");
    }
}

/// Closes when it and its streams are dropped.
#[derive(Clone)]
pub(in crate::driver) struct TcpConnection(Arc<Handle>);

/// Connects and shows its certificate.
pub(in crate::driver) async fn connect(
    address: SocketAddr,
    server_name: &str,
    tls: Arc<rustls::ClientConfig>,
    tuning: &LinkTuning,
) -> io::Result<TcpConnection> {
    let name = ServerName::try_from(server_name.to_owned());
    let name = name.map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
    let socket = TcpStream::connect(address).await?;
    set_up(&socket)?;
    let counts = Arc::new(Counts::default());
    let socket = Counted::new(socket, counts.clone());
    let socket = TlsConnector::from(tls).connect(name, socket).await?;
    begin(TlsStream::Client(socket), address, counts, tuning)
}

/// The space's end of [`connect`].
pub(in crate::driver) async fn secure(
    socket: TcpStream,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    tuning: &LinkTuning,
) -> io::Result<TcpConnection> {
    set_up(&socket)?;
    let counts = Arc::new(Counts::default());
    let socket = Counted::new(socket, counts.clone());
    let socket = TlsAcceptor::from(tls).accept(socket).await?;
    begin(TlsStream::Server(socket), address, counts, tuning)
}

/// What is written leaves at once, and waits here rather than in the kernel.
fn set_up(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // Without it the link is later to change its mind, and works.
    if let Err(fault) = SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_BYTES_MAX) {
        tracing::debug!(%fault, "the kernel does not bound what it holds unsent");
    }
    Ok(())
}

fn begin(
    mut socket: Socket,
    address: SocketAddr,
    counts: Arc<Counts>,
    tuning: &LinkTuning,
) -> io::Result<TcpConnection> {
    match &mut socket {
        TlsStream::Client(socket) => socket.get_mut().1.set_buffer_limit(Some(TLS_BYTES_MAX)),
        TlsStream::Server(socket) => socket.get_mut().1.set_buffer_limit(Some(TLS_BYTES_MAX)),
    }
    let (_, tls) = socket.get_ref();
    if tls.alpn_protocol() != Some(ALPN) {
        let text = "the other end speaks another protocol here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let chain = tls.peer_certificates();
    let chain = chain.map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
    let mux = Mux::new(Duration::ZERO, tuning.keep_alive, tuning.idle_timeout);
    let inner = Inner {
        mux,
        socket: Some(socket),
        writing: Bytes::new(),
        mover: None,
        end: None,
        leave_at: None,
    };
    let shared = Arc::new(Shared {
        inner: Mutex::new(inner),
        started: Instant::now(),
        readable: Default::default(),
        writable: Default::default(),
        begun: Notify::new(),
        gone: watch::channel(false).0,
        opened: AtomicUsize::new(0),
        address,
        chain,
        counts,
    });
    tokio::spawn(run(shared.clone()));
    Ok(TcpConnection(Arc::new(Handle(shared))))
}

impl TcpConnection {
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.0.chain.clone()
    }

    /// Over for this end at once: nothing more is read or written. The last words have [`CLOSE_WAIT`] to leave, behind
    /// what the socket has taken; then it goes.
    pub(super) fn close(&self, code: CloseCode, text: &str) {
        self.0.close(code, text);
    }

    pub(super) async fn closed(&self) {
        // The sender lives in what is shared.
        let _ = self.0.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// For ever, once all streams are open.
    pub(super) async fn open_bi(&self) -> (TcpSend, TcpRecv) {
        match self.0.opened.fetch_add(1, Relaxed) {
            stream if stream < STREAMS => self.halves(stream),
            _ => pending().await,
        }
    }

    pub(super) async fn accept_bi(&self) -> Result<(TcpSend, TcpRecv), LinkFault> {
        loop {
            {
                let mut inner = self.0.lock();
                // What came before the other end closed still counts.
                if !inner.is_closed_here()
                    && let Some(stream) = inner.mux.poll_begun()
                {
                    return Ok(self.halves(stream));
                }
                if let Some(end) = &inner.end {
                    return Err(end.clone().into());
                }
            }
            self.0.begun.notified().await;
        }
    }

    fn halves(&self, stream: usize) -> (TcpSend, TcpRecv) {
        let shared = self.0.clone();
        (TcpSend { shared: shared.clone(), stream }, TcpRecv { shared, stream })
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            rtt: None,
            window_bytes: OUT_BYTES_MAX as u64,
            is_lossy: false,
            bytes_sent: self.0.counts.sent.load(Relaxed),
            bytes_received: self.0.counts.received.load(Relaxed),
        }
    }

    pub(super) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Option<()> {
        let inner = self.0.lock();
        let exported = match inner.socket.as_ref()? {
            TlsStream::Client(socket) => {
                socket.get_ref().1.export_keying_material(out, label, Some(context))
            }
            TlsStream::Server(socket) => {
                socket.get_ref().1.export_keying_material(out, label, Some(context))
            }
        };
        exported.ok().map(|_| ())
    }
}

pub(in crate::driver) struct TcpSend {
    shared: Arc<Handle>,
    stream: usize,
}

impl TcpSend {
    pub(super) fn set_priority(&self, priority: i32) {
        self.shared.lock().mux.set_priority(self.stream, priority);
    }

    pub(super) async fn write_chunks(
        &self,
        pieces: &mut [Bytes],
    ) -> Result<(usize, usize), LinkFault> {
        loop {
            {
                let mut inner = self.shared.lock();
                if let Some(end) = &inner.end {
                    return Err(end.clone().into());
                }
                let (mut chunks, mut bytes) = (0, 0);
                for piece in &mut *pieces {
                    if !inner.mux.has_room(self.stream) {
                        break;
                    }
                    let part = piece.split_to(piece.len().min(RECORD_BYTES_MAX));
                    bytes += part.len();
                    inner.mux.push(self.stream, part);
                    if !piece.is_empty() {
                        break;
                    }
                    chunks += 1;
                }
                if bytes > 0 || pieces.is_empty() {
                    inner.wake();
                    return Ok((chunks, bytes));
                }
            }
            self.shared.writable[self.stream].notified().await;
        }
    }
}

pub(in crate::driver) struct TcpRecv {
    shared: Arc<Handle>,
    stream: usize,
}

impl TcpRecv {
    pub(super) async fn read_chunk(&self, bytes_max: usize) -> Result<Bytes, LinkFault> {
        loop {
            {
                let mut inner = self.shared.lock();
                if !inner.is_closed_here()
                    && let Some(bytes) = inner.mux.take(self.stream, bytes_max)
                {
                    // There may be credit to give.
                    inner.wake();
                    return Ok(bytes);
                }
                if let Some(end) = &inner.end {
                    return Err(end.clone().into());
                }
            }
            self.shared.readable[self.stream].notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
