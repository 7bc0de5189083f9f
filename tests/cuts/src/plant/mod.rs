//! What is struck: a program that takes messages, and one far from it that gets them.

mod guan;
mod mosquitto;

pub use guan::Guan;
pub use mosquitto::Mosquitto;

use anyhow::{Result, bail};
use guan_demo::stage::Running;

/// What the far end has, when nothing is on its way any more.
#[derive(Debug, Clone, Default)]
pub struct Arrived {
    /// Payloads, in the order in which they were taken.
    pub rows: Vec<Vec<u8>>,
    pub is_log_verified: bool,
    /// Two histories of the log, as the far end saw them.
    pub forks: u64,
    pub gaps: u64,
    /// Streams that rows came in: the sides of lanes that were in play.
    pub streams: usize,
}

/// Two programs and how to deal with them.
pub trait Plant {
    /// Where clients connect.
    fn port(&self) -> u16;
    /// The program that takes messages; it may not be ready when this returns.
    fn start_near(&self) -> Result<Running>;
    fn start_far(&self) -> Result<Running>;
    /// The near program does not start on what a cut has left. An operator may know a way out.
    fn rescue(&self, status: i32) -> Result<()> {
        bail!("the program ended by itself, with status {status}, while its disk had power")
    }
    /// Waits until everything has arrived. All clients are done, and nothing is struck any more.
    fn collect(&self, near: Running) -> Result<Arrived>;
}

pub(crate) fn free_tcp_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
