//! Spool, batches, log, link and contracts.

use super::parse_host_port;
use super::timestamps::{self, TimestampConfig};
use super::use_of_link::{self, UseConfig};
use crate::schema::{Kind, Node};
use guan_model::{BoxId, ByteCount, PublicKey, ROWS_PER_BATCH_MAX, StreamId};
use std::path::PathBuf;
use std::time::Duration;

/// Most streams of a box.
const STREAMS_MAX: usize = 8;
const TRUSTED_KEYS_MAX: usize = 64;
/// A log that goes on after a loss has six characters more, and a head names at most 128.
const ORIGIN_BYTES_MAX: usize = 122;

/// What survives on disk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpoolConfig {
    pub segment_size_bytes: u64,
    pub size_bytes_max: u64,
    pub streams: Vec<StreamConfig>,
}

/// One stream; its priority is its id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamConfig {
    pub id: StreamId,
    pub name: String,
    pub size_bytes_max: u64,
    pub age_max: Option<Duration>,
    pub when_full: WhenFull,
}

/// What a stream does at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Refuse,
    DropOldest,
}

/// How readings become batches.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BatchConfig {
    pub rows_max: usize,
    pub commit_window: Duration,
}

/// The signed log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EvidenceConfig {
    pub origin: String,
    pub checkpoint_interval: Duration,
    pub checkpoint_leaves_max: u64,
    /// How often the TPM quotes the heads, and how often one joins its chain over all boots.
    pub anchor_interval: Duration,
    pub chain_interval: Duration,
    pub witness_interval: Duration,
    pub log_bytes_max: ByteCount,
    /// `None`: the key changes only when somebody asks for it.
    pub key_days_max: Option<u32>,
    pub on_log_full: OnLogFull,
    /// How often sealed bundles are read again; `None`: only when somebody asks for it.
    pub scrub_interval: Option<Duration>,
    /// `None`: nobody is asked for time stamps.
    pub timestamps: Option<TimestampConfig>,
}

/// What becomes of messages while the disk has no room for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLogFull {
    StopCollecting,
    Continue,
}

/// The way to the space.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkConfig {
    pub is_enabled: bool,
    /// `None`: not known.
    pub is_metered: Option<bool>,
    pub host: String,
    pub port: u16,
    pub transport: TransportName,
    /// Where the space listens for TCP; `None`: at `port`.
    pub tcp_port: Option<u16>,
    /// Name in the space's certificate.
    pub server_name: String,
    pub keep_alive: Duration,
    pub idle_timeout: Duration,
    pub use_of_link: UseConfig,
}

/// Which transport carries the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportName {
    /// QUIC; TCP where it does not get through.
    Auto,
    Quic,
    Tcp,
}

/// Contracts and who may sign them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContractsConfig {
    pub directory: PathBuf,
    /// Whose contract sets count; `None`: the box knows its space in another way.
    pub space: Option<String>,
    pub reload: Duration,
    pub single_signature: bool,
    pub mandate_file: Option<PathBuf>,
    pub party_key_file: Option<PathBuf>,
    pub trusted_keys: Vec<TrustedKeyConfig>,
}

/// A party whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustedKeyConfig {
    pub party: String,
    pub key: PublicKey,
}

pub(super) fn read_spool(root: &Node<'_>) -> Option<SpoolConfig> {
    let node = root.table("spool");
    let about = "Size of one segment file. A power cut costs at most the time to read one.";
    let segment_size_bytes =
        node.integer("segment_size_bytes", about, 64 << 10..=256 << 20, Some(16 << 20));
    let about = "Size of all segment files together.";
    // The spool keeps 1 MiB for leaves and cursors; with no more than that it would refuse all data.
    let size_bytes_max = node.integer("size_bytes_max", about, 2 << 20..=1 << 42, Some(4 << 30));
    if size_bytes_max < 4 * segment_size_bytes {
        node.fault("size_bytes_max", "must be at least four segments (spool.segment_size_bytes)");
    }
    let mut streams: Vec<StreamConfig> = Vec::new();
    for stream in node.tables("stream", STREAMS_MAX) {
        let Some(read) = read_stream(&stream, size_bytes_max) else { continue };
        if read.size_bytes_max < segment_size_bytes {
            let text = format!("is below spool.segment_size_bytes = {segment_size_bytes}");
            stream.fault("size_bytes_max", text);
        }
        if streams.iter().any(|other| other.name == read.name) {
            stream.fault("name", format!("{} is there twice", read.name));
        }
        if streams.iter().any(|other| other.id == read.id) {
            stream.fault("priority", format!("{} is there twice", read.id));
        }
        streams.push(read);
    }
    let sum: u64 = streams.iter().map(|stream| stream.size_bytes_max).sum();
    // One stream alone was compared when it was read.
    if streams.len() > 1 && sum > size_bytes_max {
        let text = format!(
            "= {size_bytes_max}: the streams may take {sum} together; give each stream a \
             size_bytes_max so that the sum fits"
        );
        node.fault("size_bytes_max", text);
    }
    if streams.is_empty() {
        streams.push(StreamConfig {
            id: StreamId(1),
            name: "data".to_owned(),
            size_bytes_max,
            age_max: None,
            when_full: WhenFull::Refuse,
        });
    }
    node.finish();
    Some(SpoolConfig { segment_size_bytes, size_bytes_max, streams })
}

fn read_stream(node: &Node<'_>, total: u64) -> Option<StreamConfig> {
    let kind = Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };
    let name = node.text("name", "Name that datasets refer to.", &kind, None, |text| {
        BoxId::parse(text)
            .map(|_| text.to_owned())
            .map_err(|_| format!("must be {}", kind.accepted))
    });
    let about = "Lower goes first. Also the stream's number on the wire: do not change it while \
                 batches wait.";
    let priority = node.integer("priority", about, 0..=7, None);
    let about = "Bytes of batches that may wait for the space.";
    let size_bytes_max = node.integer("size_bytes_max", about, 1 << 16..=1 << 42, Some(total));
    if size_bytes_max > total {
        node.fault("size_bytes_max", format!("is above spool.size_bytes_max = {total}"));
    }
    let about = "Batches that have waited longer are dropped, with a recorded gap.";
    let age_s_max = node.optional_integer("age_s_max", about, 1..=315_576_000);
    let choices = [("refuse", WhenFull::Refuse), ("drop-oldest", WhenFull::DropOldest)];
    let about =
        "At the limit: refuse new messages, or drop the oldest batches with a recorded gap.";
    let when_full = node.choice("when_full", about, &choices, Some("refuse"));
    node.finish();
    let id = StreamId(u16::try_from(priority).expect("within its range"));
    let age_max = age_s_max.map(Duration::from_secs);
    Some(StreamConfig { id, name: name?, size_bytes_max, age_max, when_full: when_full? })
}

pub(super) fn read_batch(root: &Node<'_>) -> BatchConfig {
    let node = root.table("batch");
    let about = "Readings that close a batch.";
    let rows_max = node.integer("rows_max", about, 1..=ROWS_PER_BATCH_MAX as u64, Some(4096));
    let about = "How long a message may wait for others before both are made durable together.";
    let window = node.integer("commit_window_ms", about, 0..=1000, Some(20));
    node.finish();
    let rows_max = usize::try_from(rows_max).expect("within its range");
    BatchConfig { rows_max, commit_window: Duration::from_millis(window) }
}

pub(super) fn read_evidence(root: &Node<'_>, box_id: Option<&BoxId>) -> Option<EvidenceConfig> {
    let node = root.table("evidence");
    let about = "Longest time between two signed heads while the log grows.";
    let interval = node.integer("checkpoint_interval_s", about, 1..=86_400, Some(10));
    let about = "Entries after which a head is signed earlier.";
    let checkpoint_leaves_max =
        node.integer("checkpoint_leaves_max", about, 1..=1_000_000, Some(4096));
    let about = "Longest time between two quotes of the TPM over the heads, while the log grows.";
    let anchor = node.integer("anchor_interval_s", about, 1..=604_800, Some(3600));
    let about = "Longest time between two heads that the TPM keeps beyond a reboot. Each costs two writes \
                 of its memory, which wears: 6 hours are about 3,000 a year.";
    let chain = node.integer("chain_interval_s", about, 1..=2_592_000, Some(21_600));
    let about = "Longest time between two heads that the space cosigns, while the log grows.";
    let witness = node.integer("witness_interval_s", about, 1..=86_400, Some(60));
    let about = "Bytes that the log may take before the oldest entries that the space has mirrored are \
                 dropped. Their hashes stay.";
    let log_bytes_max = node.integer("log_bytes_max", about, 1 << 20..=1 << 40, Some(64 << 20));
    let about = "Days after which the log gets a new key, which the old one and the TPM hand it over to. Not set: \
                 `guan log rollover` only.";
    let key_days_max = node.optional_integer("key_days_max", about, 1..=3650);
    let key_days_max = key_days_max.map(|days| u32::try_from(days).expect("within its range"));
    let about = "Days from one scrub of the log to the next: its bundles are read again, at most about 1 MiB a second, \
                 and what is damaged is told and refilled from the space's mirror. 0: `guan log scrub` only.";
    let scrub_days = node.integer("scrub_interval_d", about, 0..=365, Some(7));
    let choices =
        [("stop-collecting", OnLogFull::StopCollecting), ("continue", OnLogFull::Continue)];
    let about = "While the disk has no room for a signed head or a bundle of the log: refuse messages, or take them \
                 as long as the spool has room, with nothing that vouches for them.";
    let on_log_full = node.choice("on_log_full", about, &choices, Some("stop-collecting"));
    let timestamps = timestamps::read_timestamps(&node);
    let kind = Kind {
        name: "name",
        accepted: "1 to 122 printable characters without blanks or +, and no /e2, /e3 ... at the end",
    };
    let about = "Name of the log in its signed heads. By default `guan/` and the id of the box.";
    let default = format!("guan/{}", box_id.map_or("", BoxId::as_str));
    let origin = node.text("origin", about, &kind, Some(&default), |text| {
        let fits = (1..=ORIGIN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
            && !is_epoch(text);
        fits.then(|| text.to_owned()).ok_or_else(|| format!("must be {}", kind.accepted))
    });
    node.finish();
    let checkpoint_interval = Duration::from_secs(interval);
    Some(EvidenceConfig {
        origin: origin?,
        checkpoint_interval,
        checkpoint_leaves_max,
        anchor_interval: Duration::from_secs(anchor),
        chain_interval: Duration::from_secs(chain),
        witness_interval: Duration::from_secs(witness),
        log_bytes_max: ByteCount(log_bytes_max),
        key_days_max,
        on_log_full: on_log_full?,
        scrub_interval: (scrub_days > 0).then(|| Duration::from_secs(scrub_days * 86_400)),
        timestamps,
    })
}

/// Whether a name says that the log is a later one of those that followed one another.
fn is_epoch(text: &str) -> bool {
    let number = text.rsplit_once("/e").map_or("", |(_, number)| number);
    !number.is_empty()
        && !number.starts_with('0')
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn read_link(root: &Node<'_>) -> Option<LinkConfig> {
    let node = root.table("link");
    let about = "Off: the box only collects and keeps.";
    let is_enabled = node.flag("enabled", about, true);
    let address = Kind { name: "address", accepted: "host:port" };
    let about = "Where the space listens (UDP).";
    let space = node.text("space", about, &address, None, parse_host_port);
    let kind = Kind { name: "name", accepted: "a DNS name or IP address" };
    let about = "Name that the space's certificate must carry; by default the host of link.space.";
    let host = space.as_ref().map_or("", |(host, _)| host.as_str());
    let server_name = node.text("server_name", about, &kind, Some(host), |text| {
        // Without a valid link.space there is no default, and its fault says enough.
        let fits = text.len() <= 253
            && !(text.is_empty() && node.has("server_name"))
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        fits.then(|| text.to_owned()).ok_or_else(|| format!("must be {}", kind.accepted))
    });
    let transports =
        [("auto", TransportName::Auto), ("quic", TransportName::Quic), ("tcp", TransportName::Tcp)];
    let about =
        "QUIC (UDP), TCP, or auto: QUIC first each time, and TCP where it fails twice in a row.";
    let transport = node.choice("transport", about, &transports, Some("auto"));
    let about = "Port of the space's listen.tcp_address; by default the port of link.space.";
    let tcp_port = node.optional_integer("tcp_port", about, 1..=65_535);
    let tcp_port = tcp_port.map(|port| u16::try_from(port).expect("within its range"));
    let about = "What a byte costs, for contracts that ask; not set: nobody knows.";
    let costs = [("metered", true), ("unmetered", false)];
    let is_metered = node.optional_choice("class", about, &costs);
    let about = "Sent when nothing else is: shorter than what NATs on the way remember.";
    let keep_alive = node.integer("keep_alive_s", about, 1..=300, Some(15));
    let about = "A silent space is given up after this.";
    let idle = node.integer("idle_timeout_s", about, 2..=600, Some(30));
    if keep_alive >= idle {
        node.fault("idle_timeout_s", "must be above keep_alive_s, or the link drops when idle");
    }
    let use_of_link = use_of_link::read_use(&node);
    node.finish();
    let (host, port) = space?;
    Some(LinkConfig {
        is_enabled,
        is_metered,
        host,
        port,
        transport: transport?,
        tcp_port,
        server_name: server_name?,
        keep_alive: Duration::from_secs(keep_alive),
        idle_timeout: Duration::from_secs(idle),
        use_of_link: use_of_link?,
    })
}

pub(super) fn read_contracts(root: &Node<'_>) -> Option<ContractsConfig> {
    let node = root.table("contracts");
    let about = "Folder of signed contracts, *.json. Without a contract nothing leaves the box.";
    let directory = node.path("directory", about, Some("contracts"));
    // Before the tables of keys, as keys of a table stand in a file.
    let space = read_space(&node);
    let about = "How often the folder is looked at.";
    let reload = node.integer("reload_s", about, 1..=3600, Some(5));
    let about = "Take contracts of schema 1 with the signature of one party: whoever has that key writes \
                 such contracts alone.";
    let single_signature = node.flag("single_signature", about, false);
    let about =
        "What this box may agree to alone, as JSON; not set: a person decides about each contract.";
    let mandate_file = node.optional_path("mandate_file", about);
    let about = "Key with which this box signs agreements for the owner of its data; `guan contract keygen` \
                 makes it. Not set: a person signs.";
    let party_key_file = node.optional_path("party_key_file", about);
    let mut trusted_keys: Vec<TrustedKeyConfig> = Vec::new();
    for key in node.tables("trusted_key", TRUSTED_KEYS_MAX) {
        let about = "Party whose contracts count.";
        let party = key.text("party", about, &PARTY, None, parse_party);
        let Some((party, public)) = party.zip(read_public(&key)) else { continue };
        let trusted = TrustedKeyConfig { party, key: public };
        if trusted_keys.contains(&trusted) {
            let name = if key.has("p256") { "p256" } else { "ed25519" };
            key.fault(name, "is there twice");
        }
        trusted_keys.push(trusted);
    }
    check_space(&node, space.as_deref(), &trusted_keys);
    node.finish();
    let reload = Duration::from_secs(reload);
    Some(ContractsConfig {
        directory: directory?,
        space,
        reload,
        single_signature,
        mandate_file,
        party_key_file,
        trusted_keys,
    })
}

const PARTY: Kind<'_> =
    Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };

fn parse_party(text: &str) -> Result<String, String> {
    let party = BoxId::parse(text).map_err(|_| format!("must be {}", PARTY.accepted))?;
    Ok(party.to_string())
}

/// Whose contract sets count.
fn read_space(node: &Node<'_>) -> Option<String> {
    let about = "The space of this box: contract sets that another party signs are refused. Not set: the space \
                 whose set the box took last, else the one whose authority enrolled it, else the first one that it \
                 meets over the link; a first set on a medium then needs this key or that authority.";
    node.optional_text("space", about, &PARTY, parse_party)
}

/// A name would count for nothing without its key.
fn check_space(node: &Node<'_>, space: Option<&str>, keys: &[TrustedKeyConfig]) {
    let Some(space) = space else { return };
    if keys.iter().all(|key| key.party != space) {
        let text = "names no party of a [[contracts.trusted_key]]; add the space's, which \
                    `guan-space contract key` prints";
        node.fault("space", format!("= {space:?}: {text}"));
    }
}

/// One key of either kind.
fn read_public(key: &Node<'_>) -> Option<PublicKey> {
    let kind = Kind { name: "key", accepted: "64 hex digits" };
    let fault = |kind: &Kind<'_>| format!("must be {}", kind.accepted);
    let about = "Its public Ed25519 key; `guan-space contract key` prints it.";
    let of_32 = |text: &str| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map(|()| PublicKey::Ed25519(bytes))
            .map_err(|_| fault(&kind))
    };
    // One of the two must be there; without the other, the usual one is asked for.
    let ed25519 = match key.has("p256") && !key.has("ed25519") {
        true => key.optional_text("ed25519", about, &kind, of_32),
        false => key.text("ed25519", about, &kind, None, of_32),
    };
    let kind = Kind { name: "key", accepted: "130 hex digits that begin with 04" };
    let about = "Its public P-256 key as an uncompressed point, in place of `ed25519`.";
    let p256 = key.optional_text("p256", about, &kind, |text| {
        let point = hex::decode(text).ok().filter(|point| point.len() == 65 && point[0] == 4);
        point.map(PublicKey::EcdsaP256).ok_or_else(|| fault(&kind))
    });
    if ed25519.is_some() && p256.is_some() {
        key.fault(
            "p256",
            "stands beside ed25519; give each key a [[contracts.trusted_key]] of its own",
        );
    }
    key.finish();
    ed25519.or(p256)
}
