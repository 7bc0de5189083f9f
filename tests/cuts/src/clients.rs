//! MQTT 3.1.1 clients that number their messages and finish each, whatever happens to the gateway (QoS 2).
//!
//! A client's session outlives its connections: after a crash it sends again what has no PUBREC, as a
//! duplicate and under the same id, and releases again what has no PUBCOMP. So each number must arrive
//! exactly once, in the order in which it was first sent.

use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const TOPIC: &str = "vehicle/gnss/nmea";
/// Messages of one client on their way.
const WINDOW: usize = 64;
const READ_WAIT: Duration = Duration::from_millis(10);
const RECONNECT_WAIT: Duration = Duration::from_millis(5);
/// Without an acknowledgement for so long a client gives up.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
const KEEP_ALIVE_S: u16 = 300;

/// What a client may send, and what became of it.
#[derive(Default)]
pub struct Progress {
    /// Numbers below this may be sent.
    pub goal: AtomicU64,
    /// The goal is raised no more.
    pub is_last: AtomicBool,
    /// Completed, from the first number on.
    pub completed: AtomicU64,
    /// Connections after which the gateway did not know the session any more.
    pub sessions_lost: AtomicU64,
}

/// Payload of a message.
pub fn payload(client: u64, number: u64) -> String {
    format!("{client}:{number}")
}

/// The reverse; `None` for what no client has sent.
pub fn parse(payload: &[u8]) -> Option<(u64, u64)> {
    let (client, number) = std::str::from_utf8(payload).ok()?.split_once(':')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

struct Flight {
    id: u16,
    number: u64,
    is_released: bool,
}

struct Client {
    number: u64,
    port: u16,
    progress: Arc<Progress>,
    flights: VecDeque<Flight>,
    next: u64,
    next_id: u16,
    was_connected: bool,
    moved: Instant,
}

/// Runs until everything up to the last goal is completed.
pub fn start(number: u64, port: u16, progress: Arc<Progress>) -> JoinHandle<Result<()>> {
    let client = Client {
        number,
        port,
        progress,
        flights: VecDeque::new(),
        next: 0,
        next_id: 1,
        was_connected: false,
        moved: Instant::now(),
    };
    std::thread::spawn(move || client.run())
}

impl Client {
    fn run(mut self) -> Result<()> {
        while !self.is_done() {
            // Whatever ended it: the gateway may have been killed.
            let end = self.converse();
            if let Err(fault) = end
                && fault.is::<Broken>()
            {
                return Err(fault).with_context(|| format!("client {}", self.number));
            }
            let is_idle = self.flights.is_empty() && self.next >= self.goal();
            if is_idle {
                self.moved = Instant::now();
            }
            ensure!(
                self.moved.elapsed() < STANDSTILL_MAX,
                "client {} gets nothing acknowledged for {} s",
                self.number,
                STANDSTILL_MAX.as_secs()
            );
            std::thread::sleep(RECONNECT_WAIT);
        }
        Ok(())
    }

    fn goal(&self) -> u64 {
        self.progress.goal.load(Ordering::Acquire)
    }

    fn is_done(&self) -> bool {
        self.progress.is_last.load(Ordering::Acquire)
            && self.flights.is_empty()
            && self.next >= self.goal()
    }

    fn converse(&mut self) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_WAIT))?;
        stream.write_all(&self.connect())?;
        let mut received = Vec::new();
        let mut out = Vec::new();
        let mut is_connected = false;
        while !self.is_done() {
            if is_connected {
                self.send_new(&mut out);
            }
            stream.write_all(&out)?;
            out.clear();
            if !read_some(&mut stream, &mut received)? {
                ensure!(self.moved.elapsed() < STANDSTILL_MAX, "nothing comes");
                continue;
            }
            while let Some((kind, body)) = packet(&mut received)? {
                match kind >> 4 {
                    2 => {
                        self.connected(&body, &mut out)?;
                        is_connected = true;
                    }
                    5 => self.receive(&body, &mut out)?,
                    7 => self.complete(&body)?,
                    other => bail!(Broken(format!("a packet of kind {other} came"))),
                }
            }
        }
        stream.write_all(&[0xe0, 0])?;
        Ok(())
    }

    fn connect(&self) -> Vec<u8> {
        let id = format!("cuts-{}", self.number);
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0];
        body.extend(KEEP_ALIVE_S.to_be_bytes());
        body.extend(u16::try_from(id.len()).expect("a short name").to_be_bytes());
        body.extend(id.as_bytes());
        framed(0x10, &body)
    }

    /// The gateway has taken the connection: everything unfinished is sent again, in its order.
    fn connected(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        ensure!(body.len() == 2 && body[1] == 0, "the connection is refused: {body:?}");
        let is_known = body[0] & 1 == 1;
        if self.was_connected && !is_known {
            self.progress.sessions_lost.fetch_add(1, Ordering::Relaxed);
        }
        self.was_connected = true;
        for flight in &self.flights {
            match flight.is_released {
                true => out.extend(framed(0x62, &flight.id.to_be_bytes())),
                false => out.extend(self.publish(flight, 0x3c)),
            }
        }
        Ok(())
    }

    fn publish(&self, flight: &Flight, kind: u8) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(u16::try_from(TOPIC.len()).expect("a short topic").to_be_bytes());
        body.extend(TOPIC.as_bytes());
        body.extend(flight.id.to_be_bytes());
        body.extend(payload(self.number, flight.number).as_bytes());
        framed(kind, &body)
    }

    fn send_new(&mut self, out: &mut Vec<u8>) {
        while self.flights.len() < WINDOW && self.next < self.goal() {
            let flight = Flight { id: self.next_id, number: self.next, is_released: false };
            out.extend(self.publish(&flight, 0x34));
            self.flights.push_back(flight);
            self.next += 1;
            // An id is free again long before it comes round.
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
    }

    /// PUBREC: the gateway answers for the message from here on.
    fn receive(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let id = id(body)?;
        self.moved = Instant::now();
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.is_released = true;
        }
        out.extend(framed(0x62, &id.to_be_bytes()));
        Ok(())
    }

    fn complete(&mut self, body: &[u8]) -> Result<()> {
        let id = id(body)?;
        self.moved = Instant::now();
        if let Some(place) = self.flights.iter().position(|flight| flight.id == id) {
            let flight = self.flights.remove(place).expect("it was just found");
            ensure!(
                flight.is_released,
                Broken(format!("message {} is completed without a PUBREC", flight.number))
            );
            self.progress.completed.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

/// The gateway breaks the protocol: a crash does not excuse that.
#[derive(Debug)]
struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the gateway breaks MQTT: {}", self.0)
    }
}

impl std::error::Error for Broken {}

fn id(body: &[u8]) -> Result<u16> {
    let bytes: [u8; 2] = body.try_into().ok().context("an acknowledgement without an id")?;
    Ok(u16::from_be_bytes(bytes))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 128);
    let mut packet = vec![kind, length.expect("all packets here are short")];
    packet.extend(body);
    packet
}

/// Whether anything came; the end of the stream is a fault.
fn read_some(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => bail!("the gateway closed the connection"),
        Ok(length) => {
            received.extend(&buffer[..length]);
            Ok(true)
        }
        Err(fault) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&fault.kind()) => {
            Ok(false)
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Takes one whole packet out of what has come.
fn packet(received: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>> {
    let [kind, length, ..] = received[..] else { return Ok(None) };
    ensure!(length < 128, "a packet of {length} bytes or more came; none here is so long");
    let end = 2 + usize::from(length);
    if received.len() < end {
        return Ok(None);
    }
    let body = received[2..end].to_vec();
    received.drain(..end);
    Ok(Some((kind, body)))
}
