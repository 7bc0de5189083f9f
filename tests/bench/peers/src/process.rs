//! What the kernel knows about a process.

use anyhow::{Context, Result};
use std::fs;

/// Bytes that were handed to the storage, by `/proc/PID/io`.
pub(crate) fn write_bytes(process: u32) -> Result<u64> {
    field(&format!("/proc/{process}/io"), "write_bytes:")
}

/// Resident memory now, in megabytes.
pub(crate) fn resident_mb(process: u32) -> Result<f64> {
    Ok(megabytes(field(&format!("/proc/{process}/status"), "VmRSS:")?))
}

/// The most that was resident at any time.
pub(crate) fn resident_peak_mb(process: u32) -> Result<f64> {
    Ok(megabytes(field(&format!("/proc/{process}/status"), "VmHWM:")?))
}

/// Seconds of CPU so far, user and system.
pub(crate) fn cpu_s(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("stat has a name in brackets")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u32> {
        Ok(fields.get(index).context("stat has this field")?.parse()?)
    };
    // A tick is a hundredth of a second on every Linux that we know.
    Ok(f64::from(ticks(11)? + ticks(12)?) / 100.0)
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.with_context(|| format!("{path} has no {name}"))?.parse()?)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^53")]
fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 * 1024.0 / 1e6
}
