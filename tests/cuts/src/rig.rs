//! Box and space under load, each on a disk of its own; the power of one is cut, or its program is killed, at
//! random moments, with the link up or down.

use crate::clients::{self, Progress};
use crate::disk::Volume;
use crate::oracle::{self, Findings};
use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use guan_demo::stage::{Running, Stage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at something that another process does.
const LOOK: Duration = Duration::from_millis(2);
/// A side that changes nothing for so long, or too little to use up its changes, is struck as it is.
const QUIET_MAX: Duration = Duration::from_millis(400);
const ROUND_MAX: Duration = Duration::from_secs(2);
/// A program is killed within this time of its start.
const KILL_WAIT_MAX_US: u64 = 500_000;
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// How a side is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Blow {
    /// The disk loses what was not flushed, and the program with it.
    Power,
    /// SIGKILL; the disk keeps everything.
    Kill,
}

/// What a run does.
#[derive(Debug, Clone)]
pub struct Order {
    pub blow: Blow,
    pub rounds: u32,
    /// Of ten rounds, so many strike the space.
    pub space_of_ten: u8,
    pub clients: u64,
    /// All messages of all clients.
    pub messages: u64,
    /// Changes of the disk after which the power goes, at most.
    pub changes_max: u64,
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub findings: Findings,
    pub box_rounds: u32,
    pub space_rounds: u32,
    /// Blows before the program was ready: recovery itself was struck.
    pub in_recovery: u32,
    pub sessions_lost: u64,
    pub completed: u64,
    pub log_verified: bool,
    /// Two histories of the box's log, as the space's witness saw them.
    pub forks: u64,
    pub gaps: u64,
    pub seconds: f64,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        let counts = [self.sessions_lost, self.forks, self.gaps];
        self.findings.is_good() && self.log_verified && counts.iter().all(|count| *count == 0)
    }
}

/// One program, on its disk.
struct Side {
    volume: Volume,
    running: Option<Running>,
}

/// Everything of one run.
pub struct Rig {
    stage: Stage,
    edge: Side,
    space: Side,
    dice: Rng,
    order: Order,
    progress: Vec<Arc<Progress>>,
    clients: Vec<JoinHandle<Result<()>>>,
    in_recovery: u32,
}

impl Rig {
    /// Sets both up with their own commands. `folder` must be empty.
    pub fn set_up(folder: &Path, programs: &Path, configs: &Path, order: Order) -> Result<Self> {
        let disk = |name: &str| -> Result<Volume> {
            let path = folder.join(name);
            std::fs::create_dir_all(&path)?;
            Volume::mount(&path)
        };
        let (edge, space) = (disk("box-disk")?, disk("space-disk")?);
        let ports = [free_tcp_port()?, free_udp_port()?, 0];
        let ports = [ports[0], ports[1], ports[1]];
        let run = folder.join("run");
        let stage = Stage::new(run, programs.to_owned(), configs.to_owned(), ports);
        let state = edge.path().join("state");
        stage.set_up_with(&["gnss"], |text| {
            text.replace("state_dir = \"state\"", &format!("state_dir = {state:?}"))
                .replace("commit_window_ms = 100", "commit_window_ms = 2")
        })?;
        move_state(&stage.space_config(), &space.path().join("state"))?;
        [&edge, &space].into_iter().for_each(|volume| volume.image().sync_all());
        let dice = Rng::with_seed(order.seed);
        let side = |volume| Side { volume, running: None };
        Ok(Self {
            stage,
            edge: side(edge),
            space: side(space),
            dice,
            order,
            progress: Vec::new(),
            clients: Vec::new(),
            in_recovery: 0,
        })
    }

    /// All rounds, then a quiet end. `tell` hears of each round.
    pub fn run(mut self, mut tell: impl FnMut(u32, u64)) -> Result<Outcome> {
        let started = Instant::now();
        self.space.running = Some(self.stage.start_space()?);
        self.edge.running = Some(self.stage.start_guan()?);
        for number in 0..self.order.clients {
            let progress = Arc::new(Progress::default());
            self.clients.push(clients::start(number, self.stage.mqtt_port, progress.clone()));
            self.progress.push(progress);
        }
        let mut space_rounds = 0;
        for round in 0..self.order.rounds {
            self.raise_goals(round + 1);
            let is_space = self.dice.u8(0..10) < self.order.space_of_ten;
            space_rounds += u32::from(is_space);
            self.strike(is_space).with_context(|| {
                format!("round {round}, {}", if is_space { "the space" } else { "the box" })
            })?;
            tell(round + 1, self.completed());
        }
        self.raise_goals(self.order.rounds + 1);
        for progress in &self.progress {
            progress.is_last.store(true, Ordering::Release);
        }
        for client in self.clients.drain(..) {
            match client.join() {
                Ok(end) => end?,
                Err(_) => bail!("a client panicked"),
            }
        }
        let (box_rounds, seconds) = (self.order.rounds - space_rounds, started.elapsed());
        let mut outcome = self.examine()?;
        outcome.box_rounds = box_rounds;
        outcome.space_rounds = space_rounds;
        outcome.seconds = seconds.as_secs_f64();
        Ok(outcome)
    }

    fn completed(&self) -> u64 {
        self.progress.iter().map(|one| one.completed.load(Ordering::Acquire)).sum()
    }

    /// The messages are shared out over rounds and clients.
    fn raise_goals(&self, rounds: u32) {
        let all = u64::from(self.order.rounds) + 1;
        let each = self.order.messages / self.order.clients;
        let goal = each * u64::from(rounds) / all;
        for progress in &self.progress {
            progress.goal.store(goal, Ordering::Release);
        }
    }

    /// Strikes a side that runs, and starts it again.
    fn strike(&mut self, is_space: bool) -> Result<()> {
        // Mostly soon: then what is struck is the start itself.
        let mut soon = |most: u64| {
            let most = self.dice.u64(1..=most);
            self.dice.u64(1..=most)
        };
        let changes = soon(self.order.changes_max);
        let wait = Duration::from_micros(soon(KILL_WAIT_MAX_US));
        let seed = self.dice.u64(..);
        let port = self.stage.mqtt_port;
        let side = if is_space { &mut self.space } else { &mut self.edge };
        match self.order.blow {
            Blow::Power => {
                side.volume.image().arm(changes);
                await_death(side)?;
            }
            Blow::Kill => std::thread::sleep(wait),
        }
        let is_ready = is_space || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        self.in_recovery += u32::from(!is_ready);
        let running = side.running.take().context("the side runs")?;
        running.kill()?;
        if self.order.blow == Blow::Power {
            side.volume.image().recover(&mut Rng::with_seed(seed));
        }
        // It may be struck again before it is ready, so nobody waits for that.
        side.running = Some(match is_space {
            true => self.stage.start_space()?,
            false => self.stage.begin_guan()?,
        });
        Ok(())
    }

    /// Nothing is struck any more: everything must arrive.
    fn examine(mut self) -> Result<Outcome> {
        let completed: Vec<u64> =
            self.progress.iter().map(|one| one.completed.load(Ordering::Acquire)).collect();
        let status = wait_until_drained(&self.stage)?;
        let sessions_lost =
            self.progress.iter().map(|one| one.sessions_lost.load(Ordering::Relaxed)).sum();
        if let Some(running) = self.edge.running.take() {
            running.stop()?;
        }
        let log = self.stage.guan_json(&["log", "verify"])?;
        let logs = self.stage.space_json(&["log", "boxes"])?;
        let logs = logs["logs"].as_array().context("the space knows no log")?;
        let forks = logs.iter().filter_map(|log| log["forks"].as_u64()).sum();
        let out = self.stage.folder.join("parquet");
        self.stage.space_json(&["export", "--out", &out.display().to_string()])?;
        let rows = oracle::rows(&out.join("gnss-nmea.parquet"))?;
        Ok(Outcome {
            findings: oracle::judge(rows.iter().map(Vec::as_slice), &completed),
            box_rounds: 0,
            space_rounds: 0,
            in_recovery: self.in_recovery,
            sessions_lost,
            completed: completed.iter().sum(),
            log_verified: log["verified"] == true,
            forks,
            gaps: status["gaps"].as_array().map_or(0, |gaps| gaps.len() as u64),
            seconds: 0.0,
        })
    }
}

/// Waits until the power went; a program that has nothing to write is struck all the same.
fn await_death(side: &mut Side) -> Result<()> {
    let started = Instant::now();
    let mut known = (side.volume.image().changes(), Instant::now());
    loop {
        let (is_dead, changes) = {
            let image = side.volume.image();
            (image.is_dead(), image.changes())
        };
        if is_dead {
            return Ok(());
        }
        if changes != known.0 {
            known = (changes, Instant::now());
        }
        let running = side.running.as_mut().context("the side runs")?;
        if let Some(code) = running.ended()? {
            bail!("the program ended by itself, with status {code}, while its disk had power");
        }
        if known.1.elapsed() > QUIET_MAX || started.elapsed() > ROUND_MAX {
            side.volume.image().kill();
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Nothing waits any more, by a status that was written after the last message.
fn wait_until_drained(stage: &Stage) -> Result<Value> {
    let started = Instant::now();
    let mut first = None;
    loop {
        let status = stage.guan_json(&["status"]).unwrap_or_default();
        let written = status["written_ms"].as_i64();
        first = first.or(written);
        let is_new = written.zip(first).is_some_and(|(written, first)| written > first + 1500);
        if is_new && status["queued_batches"] == 0 {
            return Ok(status);
        }
        ensure!(started.elapsed() < DRAIN_MAX, "the queue does not drain: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Moves what the space has set up to its disk.
fn move_state(config: &Path, to: &Path) -> Result<()> {
    let from = config.parent().context("it lies in a folder")?.join("state");
    copy(&from, to)?;
    let text = std::fs::read_to_string(config)?;
    let moved = text.replace("state_dir = \"state\"", &format!("state_dir = {to:?}"));
    ensure!(text != moved, "the space's configuration names another state_dir");
    Ok(std::fs::write(config, moved)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).into_iter().flatten() {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

fn free_tcp_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn free_udp_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}
