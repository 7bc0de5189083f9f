//! The parts of the benchmark, in order: each prints its table and leaves its figures for JSON and plots.

use crate::bridge::Saving;
use crate::durable::{self, Acks};
use crate::far::Far;
use crate::limits::Limits;
use crate::plot::Bars;
use crate::statistics::median;
use crate::throughput::{Cell, Measured};
use crate::{Bench, ROWS_MAX, payloads, plot, throughput, weak, wire};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// A part: its name for `--only`, and what runs it.
pub(crate) type Part = (&'static str, fn(&Bench, &mut Report) -> Result<()>);

pub(crate) const PARTS: [Part; 8] = [
    ("limits", limits),
    ("throughput", throughput),
    ("wire", wire),
    ("device", device),
    ("open", open),
    ("memory", memory),
    ("drain", drain),
    ("weak", weak),
];

/// The other cells of the usual matrix: each axis through the main one.
const OTHERS: [(usize, usize); 5] = [(100, 200), (1000, 200), (1, 16), (1, 133), (1, 1024)];
const CLIENTS: [usize; 3] = [1, 100, 1000];
const SIZES: [usize; 4] = [16, 133, 200, 1024];
/// Runs of the main cell, each beside its peer; the median counts.
const RUNS: usize = 3;
const TRICKLE_PER_S: f64 = 100.0;

/// What was found so far.
#[derive(Default)]
pub(crate) struct Report {
    figures: Map<String, Value>,
    throughput: Bars,
    wire: Bars,
}

impl Report {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub(crate) fn json(&self) -> Value {
        Value::Object(self.figures.clone())
    }

    /// Draws what was measured.
    pub(crate) fn draw(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for (name, bars) in [("throughput", &self.throughput), ("wire", &self.wire)] {
            if !bars.groups.is_empty() {
                let path = folder.join(format!("{name}.svg"));
                let text = plot::draw(bars);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}

fn limits(bench: &Bench, report: &mut Report) -> Result<()> {
    let limits = Limits::measure(&bench.folder)?;
    println!(
        "machine: {:.0} fdatasync/s of 4 KiB, memcpy {:.1} GB/s, CRC32C {:.1} GB/s, AES-256-GCM {:.1} GB/s",
        limits.fsync_per_s, limits.copy_gb_per_s, limits.crc_gb_per_s, limits.aead_gb_per_s
    );
    report.put("fsync_per_s", limits.fsync_per_s);
    report.put("memcpy_gb_per_s", limits.copy_gb_per_s);
    report.put("crc32c_gb_per_s", limits.crc_gb_per_s);
    report.put("aead_gb_per_s", limits.aead_gb_per_s);
    Ok(())
}

fn label(cell: Cell) -> String {
    let plural = if cell.clients == 1 { "" } else { "s" };
    format!("{} client{plural}, {} B", cell.clients, cell.payload_bytes)
}

fn show(cell: Cell, name: &str, measured: &Measured) {
    println!(
        "{:>7} {:>6}  {name:<17} {:>9.0} {:>10.1} {:>8.1} {:>8.2} {:>8.2} {:>8.0}",
        cell.clients,
        cell.payload_bytes,
        measured.per_s,
        measured.wait_p99_ms,
        measured.resident_mb,
        measured.cpu_us,
        measured.far_cpu_us,
        measured.fsync_per_s
    );
}

fn throughput(bench: &Bench, report: &mut Report) -> Result<()> {
    println!(
        "\nsafe at the far end, messages a second (guan: fsync on both sides before each ack)"
    );
    println!(
        "clients  bytes  product               per s ack p99 ms  near MB  us near   us far  fsync/s"
    );
    let has_peer = bench.peer_missing.is_none();
    let (mut rates, mut peers, mut paced) = (Vec::new(), Vec::new(), Vec::new());
    let ratio = |ours: &[f64], peers: &[f64]| -> f64 {
        median(&ours.iter().zip(peers).map(|(ours, peer)| ours / peer).collect::<Vec<f64>>())
    };
    for _ in 0..if bench.is_short { 1 } else { RUNS } {
        let ours = throughput::ours(bench, bench.main)?;
        show(bench.main, "guan", &ours);
        rates.push(ours.per_s);
        if has_peer {
            let peer = throughput::bridge(bench, bench.main)?;
            show(bench.main, "mosquitto", &peer);
            peers.push(peer.per_s);
            let peer = throughput::bridge_paced(bench, bench.main, Saving::Default)?;
            show(bench.main, "mosquitto, paced", &peer);
            paced.push(peer.per_s);
        }
        report.put("ack_p99_ms", ours.wait_p99_ms);
    }
    let rate = median(&rates);
    report.put("throughput_per_s", rate);
    report.throughput = Bars {
        title: "Messages a second that are safe at the far end".to_owned(),
        names: ["guan, fsync before each ack", "mosquitto bridge, no fsync"]
            .map(str::to_owned)
            .into(),
        groups: vec![(
            label(bench.main),
            [&rates, &peers].iter().filter(|all| !all.is_empty()).map(|all| median(all)).collect(),
        )],
    };
    if has_peer {
        let saving = throughput::bridge_paced(bench, bench.main, Saving::EachChange)?;
        show(bench.main, "mosquitto, saving", &saving);
        let (same, best) = (ratio(&rates, &peers), ratio(&rates, &paced));
        let to_saving = rate / saving.per_s;
        println!(
            "ratio under the same load {same:.1}; to the peer at its best {best:.1}; to one that saves \
             each change {to_saving:.0}"
        );
        report.put("throughput_ratio", same);
        report.put("throughput_ratio_paced", best);
        report.put("throughput_ratio_saving_each_change", to_saving);
    }
    matrix(bench, report)
}

/// The other cells, once each.
fn matrix(bench: &Bench, report: &mut Report) -> Result<()> {
    let others: Vec<(usize, usize)> = match bench.is_full {
        _ if bench.is_short => Vec::new(),
        true => {
            let all = CLIENTS.iter().flat_map(|clients| SIZES.map(|size| (*clients, size)));
            all.filter(|cell| *cell != (bench.main.clients, bench.main.payload_bytes)).collect()
        }
        false => OTHERS.to_vec(),
    };
    let mut matrix = Map::new();
    for (clients, payload_bytes) in others {
        let cell = Cell { clients, payload_bytes };
        let ours = throughput::ours(bench, cell)?;
        show(cell, "guan", &ours);
        let mut rates = vec![ours.per_s];
        if bench.peer_missing.is_none() {
            let peer = throughput::bridge(bench, cell)?;
            show(cell, "mosquitto", &peer);
            rates.push(peer.per_s);
            let name = format!("{clients}x{payload_bytes}");
            matrix.insert(name, json!(ours.per_s / peer.per_s));
        }
        report.throughput.groups.push((label(cell), rates));
    }
    report.put("throughput_ratios", Value::Object(matrix));
    Ok(())
}

fn wire(bench: &Bench, report: &mut Report) -> Result<()> {
    if bench.far.bytes()?.is_none() {
        println!("\nSKIP wire: without a network namespace frames cannot be counted");
        return Ok(());
    }
    println!("\nbytes on the wire a reading, Ethernet frames to the far end + back");
    println!("data set               readings   guan                 mosquitto           ratio %");
    let mut ratios = Map::new();
    report.wire = Bars {
        title: "Bytes on the wire for a reading, both directions".to_owned(),
        names: ["guan", "mosquitto bridge"].map(str::to_owned).into(),
        groups: Vec::new(),
    };
    for set in payloads::wire_sets(&bench.datasets, ROWS_MAX)? {
        let ours = wire::ours(bench, &set)?;
        print!("{:<20} {:>10}   {:>7.2} + {:<7.2}", set.name, set.readings, ours.there, ours.back);
        let mut bars = vec![ours.sum()];
        if bench.peer_missing.is_none() {
            let peer = wire::bridge(bench, &set)?;
            let ratio = ours.sum() / peer.sum();
            print!("   {:>7.2} + {:<7.2}   {:>6.2}", peer.there, peer.back, ratio * 100.0);
            ratios.insert(set.name.to_owned(), json!(ratio));
            bars.push(peer.sum());
        }
        println!();
        report.wire.groups.push((set.name.replace('_', " "), bars));
    }
    report.put("wire_ratio", Value::Object(ratios));
    Ok(())
}

fn device(bench: &Bench, report: &mut Report) -> Result<()> {
    println!("\nbytes to the device for a byte of payload (200 B messages)");
    let prompt = durable::device_bytes(bench, Acks::Prompt)?;
    println!("{:<44} {prompt:.3}", "full rate, acks with the next flush");
    let with_batch = durable::device_bytes(bench, Acks::WithBatch)?;
    println!("{:<44} {with_batch:.3}", "full rate, acks that wait for the batch");
    let trickle = durable::device_bytes_of_trickle(bench, TRICKLE_PER_S)?;
    println!("{:<44} {trickle:.3}", "100 messages a second, window of 20 ms");
    report.put("device_bytes_ratio", prompt);
    report.put("device_bytes_ratio_with_batch", with_batch);
    report.put("device_bytes_ratio_trickle", trickle);
    Ok(())
}

fn open(bench: &Bench, report: &mut Report) -> Result<()> {
    let opened = durable::open(bench)?;
    println!(
        "\nstart after kill -9 with {:.2} GB spooled: first PUBACK after {:.0} ms, {:.1} MB resident",
        throughput::number(opened.spooled_bytes) / 1e9,
        opened.ms,
        opened.resident_mb
    );
    report.put("open_spooled_bytes", opened.spooled_bytes);
    report.put("open_ms", opened.ms);
    report.put("open_rss_mb", opened.resident_mb);
    Ok(())
}

fn memory(bench: &Bench, report: &mut Report) -> Result<()> {
    let (idle, full) = if bench.is_full { (60, 600) } else { (10, 60) };
    let memory = durable::memory(bench, Duration::from_secs(idle), Duration::from_secs(full))?;
    println!(
        "\nmemory of guan: idle {:.1} MB; after {full} s at full rate {:.1} MB, at most {:.1} MB; then {:.1} MB",
        memory.idle, memory.full, memory.full_peak, memory.after
    );
    report.put("rss_idle_mb", memory.idle);
    report.put("rss_full_mb", memory.full);
    report.put("rss_full_peak_mb", memory.full_peak);
    Ok(())
}

fn drain(bench: &Bench, report: &mut Report) -> Result<()> {
    let backlog = Duration::from_secs(if bench.is_full { 3600 } else { 600 });
    let drained = durable::drain(bench, backlog)?;
    println!(
        "\nafter an outage: {} readings leave at {:.0} a second; live acks p99 {:.1} ms before, {:.1} ms meanwhile",
        drained.readings, drained.per_s, drained.before_p99_ms, drained.meanwhile_p99_ms
    );
    report.put("drain_per_s", drained.per_s);
    report.put("drain_live_p99_ratio", drained.meanwhile_p99_ms / drained.before_p99_ms);
    Ok(())
}

fn weak(bench: &Bench, report: &mut Report) -> Result<()> {
    let quality = weak::QUALITY;
    println!(
        "\nover {:.1} Mbit/s with {} ms both ways, one packet of {} lost, payloads of 1 KiB that nothing makes smaller",
        f64::from(quality.bits_per_s) / 1e6,
        2 * quality.one_way.as_millis(),
        quality.lost_of
    );
    let far = match Far::weak(quality) {
        Ok(far) => far,
        Err(fault) => {
            println!("SKIP weak: no TUN devices or no namespace: {fault:#}");
            return Ok(());
        }
    };
    let window = Duration::from_secs(if bench.is_full { 120 } else { 40 });
    let ours = weak::ours(bench, &far, window)?;
    let show = |name: &str, used: &weak::Use| {
        println!(
            "{name:<18} {:>5.1} % of the line is payload, {:.3} bytes sent for a byte that arrives",
            used.goodput_percent, used.sent_per_byte
        );
    };
    show("guan", &ours);
    report.put("weak_goodput_percent", ours.goodput_percent);
    report.put("weak_sent_per_byte", ours.sent_per_byte);
    if bench.peer_missing.is_none() {
        let peer = weak::bridge(bench, &far, window)?;
        show("mosquitto", &peer);
        report.put("weak_goodput_percent_peer", peer.goodput_percent);
    }
    Ok(())
}
