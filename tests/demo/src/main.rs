//! The main job on real data: replay, cut, kill, heal, compare. `cargo demo` builds and starts it.
//!
//! Arguments: root of the repository, folder of the programs, folder to work in; then `--json`.

#![forbid(unsafe_code)]

mod recipients;
mod report;

use anyhow::{Context, Result, bail};
use guan_demo::data::{self, Dataset, Reading};
use guan_demo::relay::Relay;
use guan_demo::stage::{Running, Stage};
use guan_demo::{delivered, publish};
use report::{DatasetReport, Report};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// A queue that does not shrink for so long does not drain.
const DRAIN_STANDSTILL_MAX: Duration = Duration::from_secs(60);
const CONTRACTS_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// The link stays cut at least so long, whatever the machine's speed.
const CUT_MIN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("demo: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, programs, folder, options @ ..] = arguments.as_slice() else {
        bail!("give the root, the folder of the programs and a folder to work in");
    };
    let is_json = options.iter().any(|option| option == "--json");
    let started = Instant::now();
    let datasets = Arc::new(data::read(&Path::new(root).join("tests/data"))?);
    let folder = PathBuf::from(folder);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let relay_socket = UdpSocket::bind("127.0.0.1:0").await?;
    let ports = [free_tcp_port()?, relay_socket.local_addr()?.port(), free_udp_port()?];
    let configs = Path::new(root).join("configs");
    let mut stage = Stage::new(folder, PathBuf::from(programs), configs.clone(), ports);
    progress("making an emulated TPM with a certificate of its maker");
    stage.add_tpm()?;
    progress("setting up a space, a box, and contracts for three of the four datasets");
    stage.set_up(&["vessel", "gnss"])?;
    recipients::add_parties(&stage)?;
    let space_address = SocketAddr::from(([127, 0, 0, 1], stage.space_port));
    let relay = Relay::start(relay_socket, space_address);
    let space = stage.start_space()?;
    progress("joining: the space sees which TPM the box has, and gives it a certificate");
    stage.join()?;
    let guan = stage.start_guan()?;
    progress(
        "three recipients of the machine's data sign contracts; the space sends them to the box",
    );
    recipients::issue(&stage, &configs)?;
    wait_until_in_force(&stage).await?;
    let (acknowledged, guan) = perform(&stage, &relay, guan, datasets.clone()).await?;
    progress("waiting until the space has everything");
    wait_until_drained(&stage).await?;
    let wire_bytes = relay.bytes();
    guan.stop()?;
    let report = examine(&stage, &datasets, acknowledged, wire_bytes, started)?;
    space.stop()?;
    report.print(is_json);
    Ok(report.is_good())
}

fn progress(text: &str) {
    eprintln!("demo: {text}");
}

fn free_tcp_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn free_udp_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Replays the data; at a third cuts the link, at half kills the gateway, at three quarters heals.
async fn perform(
    stage: &Stage,
    relay: &Relay,
    guan: Running,
    datasets: Arc<Vec<Dataset>>,
) -> Result<(u64, Running)> {
    let total: u64 = datasets.iter().map(|dataset| dataset.messages.len() as u64).sum();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for index in 0..datasets.len() {
        let (datasets, count, port) = (datasets.clone(), acknowledged.clone(), stage.mqtt_port);
        clients.spawn(async move {
            let dataset = &datasets[index];
            publish::publish(dataset.id, port, &dataset.messages, count).await
        });
    }
    progress(&format!("publishing {total} real messages with QoS 2"));
    reach(&acknowledged, total, total / 3, &mut clients).await?;
    progress("cutting the link to the space");
    relay.cut(true);
    let cut_at = Instant::now();
    reach(&acknowledged, total, total / 2, &mut clients).await?;
    progress("killing guan with SIGKILL, and starting it again");
    guan.kill()?;
    let guan = stage.start_guan()?;
    reach(&acknowledged, total, total * 3 / 4, &mut clients).await?;
    tokio::time::sleep(CUT_MIN.saturating_sub(cut_at.elapsed())).await;
    progress("healing the link");
    relay.cut(false);
    while let Some(finished) = clients.join_next().await {
        finished??;
    }
    Ok((acknowledged.load(Ordering::Relaxed), guan))
}

async fn reach(
    count: &AtomicU64,
    total: u64,
    goal: u64,
    clients: &mut JoinSet<Result<u64>>,
) -> Result<()> {
    let mut shown = Instant::now();
    while count.load(Ordering::Relaxed) < goal {
        tokio::time::sleep(LOOK).await;
        while let Some(finished) = clients.try_join_next() {
            finished??;
        }
        if shown.elapsed() >= Duration::from_secs(2) {
            shown = Instant::now();
            progress(&format!("{} of {total} acknowledged", count.load(Ordering::Relaxed)));
        }
    }
    Ok(())
}

/// The contracts came over the link, and the box has compiled them.
async fn wait_until_in_force(stage: &Stage) -> Result<()> {
    let started = Instant::now();
    while !recipients::are_in_force(stage) {
        if started.elapsed() > CONTRACTS_WAIT {
            bail!("the contracts do not come into force: {}", stage.guan_json(&["status"])?);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// A status that was written after the last message must say that nothing waits.
async fn wait_until_drained(stage: &Stage) -> Result<()> {
    let first = stage.guan_json(&["status"])?["written_ms"].as_i64().context("written_ms")?;
    let (mut queued, mut moved) = (None, Instant::now());
    loop {
        let status = stage.guan_json(&["status"])?;
        if queued != status["queued_bytes"].as_u64() {
            (queued, moved) = (status["queued_bytes"].as_u64(), Instant::now());
        }
        let is_new = status["written_ms"].as_i64().is_some_and(|written| written > first + 1500);
        if is_new && status["queued_batches"] == 0 {
            return Ok(());
        }
        if moved.elapsed() > DRAIN_STANDSTILL_MAX {
            bail!("the queue does not shrink: {status}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn count_readings(dataset: &Dataset) -> BTreeMap<Reading, i64> {
    let mut readings = BTreeMap::new();
    for message in &dataset.messages {
        *readings.entry(message.reading.clone()).or_insert(0) += 1;
    }
    readings
}

fn examine(
    stage: &Stage,
    datasets: &[Dataset],
    acknowledged: u64,
    wire: (u64, u64),
    started: Instant,
) -> Result<Report> {
    progress("checking the log and the exported Parquet");
    let log = match stage.guan_json(&["log", "verify"]) {
        Ok(log) => log,
        Err(fault) => {
            progress(&format!("{fault:#}"));
            Value::Null
        }
    };
    let status = stage.space_json(&["status"])?;
    let parquet = stage.folder.join("parquet");
    let out = parquet.display().to_string();
    stage.space_json(&["export", "--by-contract", "--out", &out])?;
    let batch_bytes = |id: &str| {
        let all = status["datasets"].as_array().map_or(&[][..], Vec::as_slice);
        all.iter().find(|one| one["id"] == id).and_then(|one| one["batch_bytes"].as_u64())
    };
    let mut reports = Vec::new();
    for dataset in datasets {
        let path = parquet.join(dataset.contract).join(format!("{}.parquet", dataset.id));
        let delivered = match path.exists() {
            true => delivered::read(&path)?,
            false => BTreeMap::new(),
        };
        let published = match dataset.is_granted {
            true => count_readings(dataset),
            false => BTreeMap::new(),
        };
        let (lost, duplicated) = delivered::compare(&published, &delivered);
        reports.push(DatasetReport {
            id: dataset.id,
            published: dataset.messages.len() as u64,
            delivered: delivered.values().sum::<i64>().unsigned_abs(),
            lost,
            duplicated,
            denied: log["denied"][dataset.id]
                .as_object()
                .map_or(0, |reasons| reasons.values().filter_map(Value::as_u64).sum()),
            is_granted: dataset.is_granted,
            payload_bytes: dataset.messages.iter().map(|one| one.payload.len() as u64).sum(),
            batch_bytes: batch_bytes(dataset.id).unwrap_or(0),
        });
    }
    Ok(Report {
        recipients: recipients::examine(datasets, &parquet, &log)?,
        datasets: reports,
        acknowledged,
        wire_bytes: wire.0 + wire.1,
        log_entries: log["entries"].as_u64().unwrap_or(0),
        log_verified: log["verified"].as_bool().unwrap_or(false),
        parquet,
        seconds: started.elapsed().as_secs_f64(),
    })
}
