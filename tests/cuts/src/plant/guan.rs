//! `guan` and `guan-space`, set up by their own commands.

use super::{Arrived, Plant, free_tcp_port};
use crate::disk::Volume;
use crate::oracle;
use anyhow::{Context, Result, ensure};
use guan_demo::stage::{Running, Stage};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DRAIN_MAX: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// A box and a space.
pub struct Guan(Stage);

impl Guan {
    /// With what each keeps on a disk of its own.
    pub fn set_up(
        folder: &Path,
        programs: &Path,
        configs: &Path,
        (near, far): (&Volume, &Volume),
    ) -> Result<Self> {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let ports = [free_tcp_port()?, udp, udp];
        let stage = Stage::new(folder.join("run"), programs.to_owned(), configs.to_owned(), ports);
        let state = near.path().join("state");
        stage.set_up_with(&["gnss"], |text| {
            text.replace("state_dir = \"state\"", &format!("state_dir = {state:?}"))
                .replace("commit_window_ms = 100", "commit_window_ms = 2")
                // What one cut leaves is a backlog after the next, so that both sides of a lane are cut.
                .replace("[link]\n", "[link]\nlive_after_s = 1\n")
        })?;
        move_state(&stage.space_config(), &far.path().join("state"))?;
        Ok(Self(stage))
    }
}

impl Plant for Guan {
    fn port(&self) -> u16 {
        self.0.mqtt_port
    }

    fn start_near(&self) -> Result<Running> {
        self.0.begin_guan()
    }

    fn start_far(&self) -> Result<Running> {
        self.0.start_space()
    }

    fn collect(&self, near: Running) -> Result<Arrived> {
        let stage = &self.0;
        let status = wait_until_drained(stage)?;
        near.stop()?;
        let log = stage.guan_json(&["log", "verify"])?;
        let logs = stage.space_json(&["log", "boxes"])?;
        let logs = logs["logs"].as_array().context("the space knows no log")?;
        let out = stage.folder.join("parquet");
        stage.space_json(&["export", "--out", &out.display().to_string()])?;
        Ok(Arrived {
            rows: oracle::rows(&out.join("gnss-nmea.parquet"))?,
            is_log_verified: log["verified"] == true,
            forks: logs.iter().filter_map(|log| log["forks"].as_u64()).sum(),
            gaps: status["gaps"].as_array().map_or(0, |gaps| gaps.len() as u64),
        })
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
        std::thread::sleep(LOOK);
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
