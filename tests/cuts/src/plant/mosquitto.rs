//! The peer: mosquitto with a bridge to another mosquitto, and its own client that writes down what arrives.
//!
//! It is given its best: unlimited queues, a persistent session of the bridge, and its state saved on every
//! change. Its far end is never struck.

use super::{Arrived, Plant, free_tcp_port};
use crate::clients::TOPIC;
use crate::disk::Volume;
use anyhow::{Context, Result, bail};
use guan_demo::stage::Running;
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/mosquitto";
const QUIET: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
const LISTEN_MAX: Duration = Duration::from_secs(10);

/// Two brokers and a reader.
pub struct Mosquitto {
    port: u16,
    far_port: u16,
    folder: PathBuf,
    store: PathBuf,
    reader: RefCell<Option<Running>>,
}

impl Mosquitto {
    /// `saves`: on how many changes it saves; 1 is each.
    pub fn set_up(folder: &Path, (near, far): (&Volume, &Volume), saves: u32) -> Result<Self> {
        let (port, far_port) = (free_tcp_port()?, free_tcp_port()?);
        let store = near.path().join("mosquitto.db");
        let common = |port: u16, volume: &Volume| {
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
                 persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 0\n\
                 autosave_on_changes true\nautosave_interval {saves}\nlog_type error\n",
                volume.path().display()
            )
        };
        let bridge = format!(
            "connection far\naddress 127.0.0.1:{far_port}\ntopic # out 2\ncleansession false\n\
             bridge_protocol_version mqttv311\nrestart_timeout 1\n"
        );
        std::fs::write(folder.join("near.conf"), common(port, near) + &bridge)?;
        std::fs::write(folder.join("far.conf"), common(far_port, far))?;
        let folder = folder.to_owned();
        Ok(Self { port, far_port, folder, store, reader: RefCell::default() })
    }

    fn broker(&self, name: &str) -> Result<Running> {
        let log =
            File::options().create(true).append(true).open(self.folder.join("brokers.log"))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.folder.join(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Running::spawn("mosquitto", &mut command)
    }

    fn received(&self) -> PathBuf {
        self.folder.join("received.txt")
    }

    fn read(&self) -> Result<Running> {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &self.far_port.to_string(), "-i", "reader", "-c", "-q", "2"]);
        command.args(["-V", "mqttv311", "-t", TOPIC, "-F", "%p"]);
        command.stdin(Stdio::null()).stdout(File::create(self.received())?);
        Running::spawn("mosquitto_sub", &mut command)
    }
}

impl Plant for Mosquitto {
    fn port(&self) -> u16 {
        self.port
    }

    fn start_near(&self) -> Result<Running> {
        self.broker("near.conf")
    }

    fn start_far(&self) -> Result<Running> {
        let far = self.broker("far.conf")?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.far_port)).is_err() {
            if started.elapsed() > LISTEN_MAX {
                bail!("the far broker does not listen");
            }
            std::thread::sleep(LOOK);
        }
        let reader = self.read()?;
        self.reader.replace(Some(reader));
        Ok(far)
    }

    /// What an operator would have to do.
    fn rescue(&self, _status: i32) -> Result<()> {
        Ok(std::fs::remove_file(&self.store)?)
    }

    fn collect(&self, near: Running) -> Result<Arrived> {
        let mut known = (0, Instant::now());
        while known.1.elapsed() < QUIET {
            let length = std::fs::metadata(self.received())?.len();
            if length != known.0 {
                known = (length, Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        let text = std::fs::read_to_string(self.received()).context("what the reader wrote")?;
        drop(near);
        let rows = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        Ok(Arrived { rows, is_log_verified: true, ..Arrived::default() })
    }
}
