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
        let state = format!("state_dir = {state:?}");
        let changes = [
            ("state_dir = \"state\"", state.as_str()),
            ("commit_window_ms = 100", "commit_window_ms = 2"),
            // What one cut leaves is a backlog after the next, so that both sides of a lane are cut.
            ("[link]\n", "[link]\nlive_after_s = 1\n"),
        ];
        let mut changed = Ok(String::new());
        stage.set_up_with(&["gnss"], |text| {
            changed = changes.iter().try_fold(text, |text, change| changed_once(&text, *change));
            changed.as_deref().unwrap_or_default().to_owned()
        })?;
        changed?;
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
        let exported = oracle::rows(&out.join("gnss-nmea.parquet"))?;
        Ok(Arrived {
            rows: exported.rows,
            is_log_verified: log["verified"] == true,
            forks: logs.iter().filter_map(|log| log["forks"].as_u64()).sum(),
            gaps: status["gaps"].as_array().map_or(0, |gaps| gaps.len() as u64),
            streams: exported.streams,
        })
    }
}

/// A configuration that reads otherwise than this expects is a fault, and not the same rig without the change.
fn changed_once(text: &str, (from, to): (&str, &str)) -> Result<String> {
    let count = text.matches(from).count();
    ensure!(count == 1, "the box's configuration has {from:?} {count} times, and once is expected");
    Ok(text.replace(from, to))
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
    let moved = changed_once(&text, ("state_dir = \"state\"", &format!("state_dir = {to:?}")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_finds_nothing_or_too_much_is_a_fault() {
        let change = |text: &str| changed_once(text, ("[link]\n", "[link]\nlive_after_s = 1\n"));
        assert_eq!(change("a\n[link]\nb").unwrap(), "a\n[link]\nlive_after_s = 1\nb");
        for text in ["", "[link] # of the box\n", "[link]\n[link]\n"] {
            assert!(change(text).unwrap_err().to_string().contains("once is expected"), "{text}");
        }
    }
}
