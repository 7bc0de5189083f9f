//! Box and space as an operator sets them up, with the programs' own commands: real processes, QUIC between
//! them, identity from a key file (tier `unattested`).

use crate::far::Far;
use anyhow::{Context, Result, ensure};
use guan_demo::stage::{Running, Stage};
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EDGE: &str = include_str!("../edge.toml");
const CONTRACT: &str = include_str!("../contract.json");
const LOOK: Duration = Duration::from_millis(20);
const START_WAIT: Duration = Duration::from_secs(30);
/// A store that gets nothing for so long will get nothing more.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// What is set up.
pub(crate) struct Setting<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) far: &'a Far,
    /// Names of points by dataset of the benchmark; the n-th has id FIRST + n.
    pub(crate) points: &'a [String],
    pub(crate) rows_max: usize,
    pub(crate) window_ms: u64,
}

/// A running pair.
pub(crate) struct Ours {
    pub(crate) stage: Stage,
    space: Option<Running>,
    guan: Option<Running>,
}

impl Ours {
    /// Makes keys, certificates and contract; nothing runs yet.
    pub(crate) fn set_up(folder: &Path, setting: &Setting<'_>) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let (launchers, configs) = (folder.join("programs"), folder.join("configs"));
        for made in [&launchers, &configs.join("demo"), &configs.join("contracts")] {
            fs::create_dir_all(made)?;
        }
        setting.far.write_launcher(&launchers, &setting.programs.join("guan-space"))?;
        std::os::unix::fs::symlink(setting.programs.join("guan"), launchers.join("guan"))?;
        fs::write(configs.join("contracts/bench.json"), CONTRACT)?;
        let points = points(setting.points);
        let edge = EDGE
            .replace("ROWS_MAX", &setting.rows_max.to_string())
            .replace("WINDOW_MS", &setting.window_ms.to_string());
        fs::write(configs.join("demo/edge.toml"), edge + &points)?;
        let mqtt = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let space = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let stage = Stage::new(folder.to_path_buf(), launchers, configs, [mqtt, space, space]);
        let far = format!("space = \"{}:{space}\"", setting.far.host());
        let near = format!("space = \"127.0.0.1:{space}\"");
        stage.set_up_with(&["bench"], |text| text.replace(&near, &far))?;
        let listen = fs::read_to_string(stage.space_config())?;
        let listen = listen.replace(&format!("127.0.0.1:{space}"), &format!("0.0.0.0:{space}"));
        fs::write(stage.space_config(), listen)?;
        Ok(Self { stage, space: None, guan: None })
    }

    /// Starts both, and returns when the contract is in force and the link is up.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_space()?;
        self.start_guan()?;
        self.wait("the link is not up", |status| status["link"]["state"] == "connected")
    }

    pub(crate) fn start_space(&mut self) -> Result<()> {
        self.space = Some(self.stage.start_space()?);
        Ok(())
    }

    /// Returns when the contract is in force.
    pub(crate) fn start_guan(&mut self) -> Result<()> {
        self.guan = Some(self.stage.start_guan()?);
        self.wait("the contract is not in force", |status| {
            status["contracts"].as_array().is_some_and(|contracts| !contracts.is_empty())
        })
    }

    /// Without a chance to write anything.
    pub(crate) fn kill_guan(&mut self) -> Result<()> {
        self.guan.take().map_or(Ok(()), Running::kill)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.guan.take().map_or(Ok(()), Running::stop)?;
        self.space.take().map_or(Ok(()), Running::stop)
    }

    pub(crate) fn mqtt(&self) -> String {
        format!("127.0.0.1:{}", self.stage.mqtt_port)
    }

    /// Process id of `guan`.
    pub(crate) fn guan(&self) -> Result<u32> {
        Ok(self.guan.as_ref().context("guan does not run")?.id())
    }

    /// Process id of `guan-space`.
    pub(crate) fn space(&self) -> Result<u32> {
        Ok(self.space.as_ref().context("guan-space does not run")?.id())
    }

    /// What the box says of itself.
    pub(crate) fn status(&self) -> Result<Value> {
        read(&self.stage.folder.join("box/state/status.json"))
    }

    fn wait(&self, what: &'static str, is_met: impl Fn(&Value) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            // The file is not there at first, or comes from the process before.
            if let Ok(status) = self.status()
                && status["process"] == self.guan()?
                && is_met(&status)
            {
                return Ok(());
            }
            ensure!(started.elapsed() < START_WAIT, "{what}; see {}", self.stage.folder.display());
            std::thread::sleep(LOOK);
        }
    }

    /// Readings that the space has stored durably, and when it said so, in milliseconds.
    pub(crate) fn stored(&self) -> Result<(u64, u64)> {
        let status = read(&self.stage.folder.join("space/state/status.json"))?;
        let written = status["written_ms"].as_u64().context("the status has a time")?;
        let datasets = status["datasets"].as_array().context("the status has datasets")?;
        let rows = datasets.iter().filter_map(|dataset| dataset["rows"].as_u64()).sum();
        Ok((written, rows))
    }

    /// The next time the space says how much it has.
    pub(crate) fn next_stored(&self) -> Result<(u64, u64)> {
        let (before, _) = self.stored()?;
        let started = Instant::now();
        loop {
            let (written, rows) = self.stored()?;
            if written > before {
                return Ok((written, rows));
            }
            ensure!(started.elapsed() < START_WAIT, "the space writes no status");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the space has so many readings, no more and no less.
    pub(crate) fn wait_stored(&self, wanted: u64) -> Result<()> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let (_, rows) = self.next_stored()?;
            if rows >= wanted {
                ensure!(rows == wanted, "the space has {rows} readings of {wanted}: too many");
                return Ok(());
            }
            if rows > last {
                (last, moved) = (rows, Instant::now());
            }
            ensure!(moved.elapsed() < STANDSTILL_MAX, "the space has {rows} readings of {wanted}");
        }
    }
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Points by their names; values of the bus are bytes.
fn points(names: &[String]) -> String {
    let one = |(number, name): (usize, &String)| {
        let kind = if name.starts_with("n2k.") { "bytes" } else { "f64" };
        let id = 1000 + number;
        format!(
            "\n[[point]]\nid = {id}\nname = \"{name}\"\ntype = \"{kind}\"\ndataset = \"bench\"\n"
        )
    };
    names.iter().enumerate().map(one).collect()
}
