//! The consumer behind the second broker: counts what is delivered. Runs at the far end as a process of
//! its own (`guan-peers sink ADDRESS`) and prints its count whenever it has changed.

use crate::mqtt::{connect, packet, subscribe, write_puback};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TELL_INTERVAL: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 256 << 10;

/// The process itself.
pub(crate) async fn run(address: &str) -> Result<()> {
    let mut stream = connect(address, "sink").await?;
    subscribe(&mut stream).await?;
    println!("0");
    std::io::stdout().flush()?;
    let (mut buffer, mut filled, mut count) = (vec![0; READ_BYTES], 0, 0_u64);
    let (mut answers, mut told, mut told_at) = (Vec::new(), 0, Instant::now());
    loop {
        let read = stream.read(&mut buffer[filled..]);
        match tokio::time::timeout(TELL_INTERVAL, read).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(length) => filled += length?,
            Err(_) => {}
        }
        let mut at = 0;
        while let Some((length, id)) = packet(&buffer[at..filled]) {
            at += length;
            if let Some(id) = id {
                write_puback(id, &mut answers);
                count += 1;
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        stream.write_all(&answers).await?;
        answers.clear();
        if count > told && told_at.elapsed() >= TELL_INTERVAL {
            println!("{count}");
            std::io::stdout().flush()?;
            (told, told_at) = (count, Instant::now());
        }
    }
}

/// The process, seen from the benchmark.
pub(crate) struct Sink {
    child: Child,
    pub(crate) delivered: Arc<AtomicU64>,
}

impl Sink {
    /// Returns once it has subscribed.
    pub(crate) fn start(mut command: Command, address: &str) -> Result<Self> {
        // It is tried until the broker listens, and complains when that ends.
        let command = command.args(["sink", address]).stderr(Stdio::null());
        let spawned = command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.context("the sink cannot be started")?;
        let output = child.stdout.take().context("its output is piped")?;
        let delivered = Arc::new(AtomicU64::new(0));
        let (count, (ready, subscribed)) = (delivered.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                count.store(line.parse().unwrap_or(0), Relaxed);
                // Only the first line is waited for.
                let _ = ready.send(());
            }
        });
        subscribed.recv().context("the sink could not subscribe")?;
        Ok(Self { child, delivered })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
