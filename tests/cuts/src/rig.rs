//! Two programs under load, each on a disk of its own; the power of one is cut, or its program is killed, at
//! random moments, its start included.

use crate::clients::{self, Progress};
use crate::disk::Volume;
use crate::oracle::{self, Findings};
use crate::plant::Plant;
use anyhow::{Context, Result, bail};
use fastrand::Rng;
use guan_demo::stage::Running;
use std::path::Path;
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

/// A round whose messages take longer is struck all the same.
const SHARE_WAIT_MAX: Duration = Duration::from_secs(10);

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
    /// Of ten rounds, so many strike the far side.
    pub far_of_ten: u8,
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
    pub near_rounds: u32,
    pub far_rounds: u32,
    /// Blows before the program took connections: recovery itself was struck.
    pub in_recovery: u32,
    /// Times that the near program did not start on what a cut had left.
    pub refused: u32,
    /// Connections after which the program did not know the client's session any more.
    pub sessions_lost: u64,
    pub completed: u64,
    pub is_log_verified: bool,
    pub forks: u64,
    pub gaps: u64,
    /// Streams in which the messages came: two are the sides of the one lane.
    pub streams: usize,
    pub seconds: f64,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        let counts = [self.sessions_lost, self.forks, self.gaps, u64::from(self.refused)];
        self.findings.is_good() && self.is_log_verified && counts.iter().all(|count| *count == 0)
    }
}

/// One program, on its disk. It ends before its disk is unmounted.
struct Side {
    running: Option<Running>,
    volume: Volume,
}

/// The disks of both sides.
pub struct Disks {
    pub near: Volume,
    pub far: Volume,
}

impl Disks {
    pub fn mount(folder: &Path) -> Result<Self> {
        let disk = |name: &str| -> Result<Volume> {
            let path = folder.join(name);
            std::fs::create_dir_all(&path)?;
            Volume::mount(&path)
        };
        Ok(Self { near: disk("near-disk")?, far: disk("far-disk")? })
    }
}

/// Everything of one run.
pub struct Rig<P> {
    near: Side,
    far: Side,
    plant: P,
    dice: Rng,
    order: Order,
    progress: Vec<Arc<Progress>>,
    clients: Vec<JoinHandle<Result<()>>>,
    in_recovery: u32,
    refused: u32,
}

fn end_of(client: JoinHandle<Result<()>>) -> Result<()> {
    client.join().unwrap_or_else(|_| bail!("a client panicked"))
}

impl<P: Plant> Rig<P> {
    /// What lies on the disks now is durable.
    pub fn new(plant: P, disks: Disks, order: Order) -> Self {
        let Disks { near, far } = disks;
        [&near, &far].into_iter().for_each(|volume| volume.image().sync_all());
        let side = |volume| Side { running: None, volume };
        Self {
            near: side(near),
            far: side(far),
            plant,
            dice: Rng::with_seed(order.seed),
            order,
            progress: Vec::new(),
            clients: Vec::new(),
            in_recovery: 0,
            refused: 0,
        }
    }

    /// All rounds, then a quiet end. `tell` hears of each round and of the messages that are completed.
    pub fn run(mut self, mut tell: impl FnMut(u32, u64)) -> Result<Outcome> {
        let started = Instant::now();
        self.far.running = Some(self.plant.start_far()?);
        self.near.running = Some(self.plant.start_near()?);
        for number in 0..self.order.clients {
            let progress = Arc::new(Progress::default());
            self.clients.push(clients::start(number, self.plant.port(), progress.clone()));
            self.progress.push(progress);
        }
        let mut far_rounds = 0;
        for round in 0..self.order.rounds {
            self.raise_goals(round + 1);
            let is_far = self.dice.u8(0..10) < self.order.far_of_ten;
            far_rounds += u32::from(is_far);
            self.strike(is_far).with_context(|| {
                format!("round {round}, {}", if is_far { "the far side" } else { "the near side" })
            })?;
            self.check_clients()?;
            tell(round + 1, self.completed().iter().sum());
        }
        self.raise_goals(self.order.rounds + 1);
        for progress in &self.progress {
            progress.is_last.store(true, Ordering::Release);
        }
        self.wait_for_clients()?;
        let completed = self.completed();
        let near = self.near.running.take().context("the near side runs")?;
        let arrived = self.plant.collect(near)?;
        let sessions_lost =
            self.progress.iter().map(|one| one.sessions_lost.load(Ordering::Relaxed));
        Ok(Outcome {
            findings: oracle::judge(arrived.rows.iter().map(Vec::as_slice), &completed),
            near_rounds: self.order.rounds - far_rounds,
            far_rounds,
            in_recovery: self.in_recovery,
            refused: self.refused,
            sessions_lost: sessions_lost.sum(),
            completed: completed.iter().sum(),
            is_log_verified: arrived.is_log_verified,
            forks: arrived.forks,
            gaps: arrived.gaps,
            streams: arrived.streams,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Until all have finished; the near side may still have to be helped.
    fn wait_for_clients(&mut self) -> Result<()> {
        while self.clients.iter().any(|client| !client.is_finished()) {
            self.rescue_near()?;
            std::thread::sleep(LOOK);
        }
        self.clients.drain(..).try_for_each(end_of)
    }

    /// Before its last goal a client ends only because it gave up; to strike on would prove nothing.
    fn check_clients(&mut self) -> Result<()> {
        match self.clients.iter().position(JoinHandle::is_finished) {
            Some(at) => end_of(self.clients.swap_remove(at)),
            None => Ok(()),
        }
    }

    fn completed(&self) -> Vec<u64> {
        self.progress.iter().map(|one| one.completed.load(Ordering::Acquire)).collect()
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
    fn strike(&mut self, is_far: bool) -> Result<()> {
        // Mostly soon: then what is struck is the start itself.
        let mut soon = |most: u64| {
            let most = self.dice.u64(1..=most);
            self.dice.u64(1..=most)
        };
        let changes = soon(self.order.changes_max);
        let wait = Duration::from_micros(soon(KILL_WAIT_MAX_US));
        let seed = self.dice.u64(..);
        match self.order.blow {
            Blow::Power => self.cut(is_far, changes)?,
            // At a start, or under load with the round's messages on their way.
            Blow::Kill if self.dice.bool() => std::thread::sleep(wait),
            Blow::Kill => self.wait_for_messages(),
        }
        let address = ("127.0.0.1", self.plant.port());
        let is_ready = is_far || std::net::TcpStream::connect(address).is_ok();
        self.in_recovery += u32::from(!is_ready);
        let side = if is_far { &mut self.far } else { &mut self.near };
        side.running.take().context("the side runs")?.kill()?;
        if self.order.blow == Blow::Power {
            side.volume.image().recover(&mut Rng::with_seed(seed));
        }
        // It may be struck again before it is ready, so nobody waits for that.
        side.running = Some(match is_far {
            true => self.plant.start_far()?,
            false => self.plant.start_near()?,
        });
        Ok(())
    }

    /// Until a random part of this round's messages is completed, and all of the rounds before.
    fn wait_for_messages(&mut self) {
        let goals = self.progress.iter().map(|one| one.goal.load(Ordering::Acquire));
        let share = self.order.messages / (u64::from(self.order.rounds) + 1);
        let target = goals.sum::<u64>().saturating_sub(self.dice.u64(0..=share));
        let deadline = Instant::now() + SHARE_WAIT_MAX;
        while self.completed().iter().sum::<u64>() < target && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the power went; a program that has nothing to write is struck all the same.
    fn cut(&mut self, is_far: bool, changes: u64) -> Result<()> {
        let of = |rig: &Self| {
            let side = if is_far { &rig.far } else { &rig.near };
            let image = side.volume.image();
            (image.is_dead(), image.changes())
        };
        let side = if is_far { &self.far } else { &self.near };
        side.volume.image().arm(changes);
        let started = Instant::now();
        let mut known = (of(self).1, started);
        loop {
            let (is_dead, changes) = of(self);
            if is_dead {
                return Ok(());
            }
            if changes != known.0 {
                known = (changes, Instant::now());
            }
            if known.1.elapsed() > QUIET_MAX || started.elapsed() > ROUND_MAX {
                let side = if is_far { &self.far } else { &self.near };
                side.volume.image().kill();
                return Ok(());
            }
            match is_far {
                true => self.check_far()?,
                false => self.rescue_near()?,
            }
            std::thread::sleep(LOOK);
        }
    }

    fn check_far(&mut self) -> Result<()> {
        let running = self.far.running.as_mut().context("the far side runs")?;
        match running.ended()? {
            Some(status) if !self.far.volume.image().is_dead() => {
                bail!("the program ended by itself, with status {status}, while its disk had power")
            }
            _ => Ok(()),
        }
    }

    /// Starts it again when it has ended by itself, if its operator knows how.
    fn rescue_near(&mut self) -> Result<()> {
        let running = self.near.running.as_mut().context("the near side runs")?;
        if let Some(status) = running.ended()?
            && !self.near.volume.image().is_dead()
        {
            self.plant.rescue(status)?;
            self.refused += 1;
            self.near.running = Some(self.plant.start_near()?);
        }
        Ok(())
    }
}
