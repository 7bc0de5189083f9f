//! What this machine can do at all: no product is faster than its disk, its memory and its ciphers.

use anyhow::{Context, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(700);
const PAGE_BYTES: usize = 4096;
const COPY_BYTES: usize = 64 << 20;
const HASH_BYTES: usize = 1 << 20;
/// What a QUIC packet carries.
const PACKET_BYTES: usize = 1200;

/// The machine's own figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) fsync_per_s: f64,
    pub(crate) copy_gb_per_s: f64,
    pub(crate) crc_gb_per_s: f64,
    pub(crate) aead_gb_per_s: f64,
}

impl Limits {
    pub(crate) fn measure(folder: &Path) -> Result<Self> {
        Ok(Self {
            fsync_per_s: fsync_per_s(folder)?,
            copy_gb_per_s: copy_gb_per_s(),
            crc_gb_per_s: crc_gb_per_s(),
            aead_gb_per_s: aead_gb_per_s()?,
        })
    }
}

/// Appends of one page, each made durable.
pub(crate) fn fsync_per_s(folder: &Path) -> Result<f64> {
    let path = folder.join("fsync.probe");
    let mut file = File::create(&path).context("the disk's own rate cannot be measured")?;
    let page = [0x5a; PAGE_BYTES];
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < LOOK {
        file.write_all(&page)?;
        rustix::fs::fdatasync(&file)?;
        count += 1;
    }
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Gigabytes a second of something that handles `bytes` each time.
fn rate(bytes: usize, mut handle: impl FnMut()) -> f64 {
    handle();
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < LOOK {
        handle();
        count += 1;
    }
    let megabytes = f64::from(u32::try_from(bytes).expect("a few megabytes")) / 1e6;
    f64::from(count) * megabytes / 1e3 / started.elapsed().as_secs_f64()
}

fn copy_gb_per_s() -> f64 {
    let from = vec![1_u8; COPY_BYTES];
    let mut to = vec![0_u8; COPY_BYTES];
    rate(COPY_BYTES, || black_box(&mut to[..]).copy_from_slice(black_box(&from)))
}

fn crc_gb_per_s() -> f64 {
    let bytes = vec![1_u8; HASH_BYTES];
    rate(HASH_BYTES, || {
        black_box(crc32c::crc32c(black_box(&bytes)));
    })
}

fn aead_gb_per_s() -> Result<f64> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("a key of 32 bytes")?;
    let key = LessSafeKey::new(key);
    let mut bytes = vec![0_u8; PACKET_BYTES];
    Ok(rate(PACKET_BYTES, || {
        let nonce = Nonce::assume_unique_for_key([1; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(&mut bytes));
        black_box(tag.is_ok());
    }))
}
