//! Configuration of a space.

use crate::fault::ConfigFaults;
use crate::nearest;
use crate::schema::{self, Effective, KeyReference, Kind, Node};
use guan_model::{BoxId, Digest};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What vouches for a box's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// A key file: nothing.
    Unattested,
    /// A TPM in software, of a test CA.
    Emulated,
    /// A TPM of a maker.
    Hardware,
}

/// A maker of TPMs.
#[derive(Debug, Clone)]
pub struct MakerConfig {
    pub name: String,
    /// What its TPMs are worth; never `unattested`.
    pub tier: Tier,
    /// Roots and intermediates, PEM.
    pub certificates_file: PathBuf,
}

/// What a box must show beside its certificate.
#[derive(Debug, Clone)]
pub struct AttestationConfig {
    /// Folder of signed reference values; `None`: none are demanded.
    pub references_dir: Option<PathBuf>,
    /// Keys that sign them.
    pub release_keys: Vec<[u8; 32]>,
    /// Least counter of a release.
    pub counter_min: u64,
    /// Firmware versions of TPMs with known flaws.
    pub refused_firmware: Vec<u64>,
}

/// Most makers.
pub const MAKERS_MAX: usize = 32;
/// Most keys that sign releases.
pub const RELEASE_KEYS_MAX: usize = 8;
const FIRMWARE_MAX: usize = 64;

/// Everything that a space is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpaceConfig {
    pub id: BoxId,
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    /// Where boxes connect whose network lets no UDP through; `None`: nowhere.
    pub tcp_listen: Option<SocketAddr>,
    pub peers_max: usize,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub ca_certificate_file: PathBuf,
    pub ca_key_file: PathBuf,
    pub accept_tiers: Vec<Tier>,
    /// Where boxes join; `None`: they cannot.
    pub join_listen: Option<SocketAddr>,
    pub makers: Vec<MakerConfig>,
    pub attestation: AttestationConfig,
    pub segment_size_bytes: u64,
    pub contract_key_file: PathBuf,
    pub party_keys_dir: Option<PathBuf>,
    /// Where catalogues can be read over HTTP, on this machine only; `None`: nowhere.
    pub catalogue_listen: Option<SocketAddr>,
    effective: Vec<Effective>,
    file: String,
}

impl SpaceConfig {
    /// `file` names the text in faults and origins; relative paths count from `base`.
    pub fn parse(text: &str, file: &str, base: &Path) -> Result<Self, ConfigFaults> {
        let parsed = schema::parse(text, file, base, read)?;
        Ok(Self { effective: parsed.effective, file: file.to_owned(), ..parsed.config })
    }

    /// Every value in force, with its origin.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// The effective configuration as TOML with an origin behind each value.
    pub fn to_toml(&self) -> String {
        schema::to_toml(&self.effective, &self.file)
    }

    /// All keys of the file.
    pub fn reference() -> Vec<KeyReference> {
        schema::describe(read)
    }
}

/// What vouches for a key, by name.
pub(crate) const TIERS: [(&str, Tier); 3] =
    [("unattested", Tier::Unattested), ("emulated", Tier::Emulated), ("hardware", Tier::Hardware)];
const TIER_NAMES: &str = "unattested, emulated or hardware";

pub(crate) fn parse_tier(text: &str) -> Result<Tier, String> {
    let found = TIERS.iter().find(|(name, _)| *name == text);
    let hint = || nearest::hint(text, TIERS.iter().map(|(name, _)| *name));
    found.map(|(_, tier)| *tier).ok_or_else(|| format!("must be {TIER_NAMES}{}", hint()))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address and port, such as 0.0.0.0:4433".to_owned())
}

fn parse_local_address(text: &str) -> Result<SocketAddr, String> {
    let address = parse_address(text)?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(
            "must be of this machine, such as 127.0.0.1:8480: it is plain HTTP for everybody who \
                      can reach it; put a proxy with TLS and log-in before it for others"
                .to_owned(),
        ),
    }
}

fn read_makers(boxes: &Node<'_>) -> Vec<MakerConfig> {
    let makers = boxes.tables("maker", MAKERS_MAX).into_iter().filter_map(|node| {
        let kind = Kind { name: "string", accepted: "1 to 64 characters" };
        let name =
            node.text("name", "Name of the maker, for people.", &kind, None, |text| {
                match (1..=64).contains(&text.chars().count()) {
                    true => Ok(text.to_owned()),
                    false => Err("must have 1 to 64 characters".to_owned()),
                }
            });
        let about = "What its TPMs are worth: `emulated` for the CA of an emulator.";
        let tier = node.choice("tier", about, &TIERS[1..], None);
        let about = "Its root certificates, and intermediates that boxes may not carry (PEM).";
        let certificates_file = node.path("certificates_file", about, None);
        node.finish();
        Some(MakerConfig { name: name?, tier: tier?, certificates_file: certificates_file? })
    });
    makers.collect()
}

fn read_attestation(root: &Node<'_>) -> AttestationConfig {
    let node = root.table("attestation");
    let about = "Folder of signed reference values, one file a release. Not set: what a box has booted is \
                 recorded and not judged.";
    let references_dir = node.optional_path("references_dir", about);
    let about = "Public keys that sign releases (Ed25519, 64 hex digits).";
    let accepted = "64 hex digits each";
    let release_keys = node.texts("release_keys", about, accepted, 0..=RELEASE_KEYS_MAX, |text| {
        let key = Digest::from_hex(text).ok_or_else(|| "must be 64 hex digits".to_owned());
        key.map(|key| key.0)
    });
    let about = "Least counter of a release: boxes that run an older one are restricted.";
    let counter_min = node.integer("counter_min", about, 0..=u64::from(u32::MAX), Some(0));
    let about = "Firmware versions of TPMs with known flaws: boxes that have one are restricted. \
                 `guan-space box show` tells the version.";
    let accepted = "16 hex digits each";
    let refused_firmware =
        node.texts("refused_firmware", about, accepted, 0..=FIRMWARE_MAX, |text| {
            let version = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
            version.ok_or_else(|| "must be 16 hex digits".to_owned())
        });
    if references_dir.is_some() && release_keys.is_empty() {
        node.fault("release_keys", "must name a key: references_dir is set");
    }
    node.finish();
    AttestationConfig { references_dir, release_keys, counter_min, refused_firmware }
}

/// Where the space listens.
struct Listen {
    quic: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    join: Option<SocketAddr>,
    peers_max: usize,
}

fn read_listen(root: &Node<'_>) -> Listen {
    let node = root.table("listen");
    let kind = Kind { name: "address", accepted: "IP address and port (UDP)" };
    let quic =
        node.text("address", "Where boxes connect.", &kind, Some("0.0.0.0:4433"), parse_address);
    let about =
        "Where boxes join (UDP), with tokens of `guan-space token new`. Not set: they cannot.";
    let join = node.optional_text("join_address", about, &kind, parse_address);
    let of_tcp = Kind { name: "address", accepted: "IP address and port (TCP)" };
    let about =
        "Where boxes connect over TCP, if their network lets no UDP through. Not set: nowhere.";
    let tcp = node.optional_text("tcp_address", about, &of_tcp, parse_address);
    let peers_max = node.integer("peers_max", "Boxes at the same time.", 1..=4096, Some(1024));
    node.finish();
    let peers_max = usize::try_from(peers_max).expect("within its range");
    Listen { quic, tcp, join, peers_max }
}

fn read(root: &Node<'_>) -> Option<SpaceConfig> {
    let own = root.table("space");
    let kind = Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };
    let id = own.text("id", "Name of the space, as contracts name it.", &kind, None, |text| {
        BoxId::parse(text).map_err(|fault| fault.to_string())
    });
    let state_dir = own.path("state_dir", "Folder of store and registry.", Some("state"));
    own.finish();
    let listen = read_listen(root);
    let node = root.table("tls");
    let certificate_file =
        node.path("certificate_file", "Certificate chain of this space.", Some("server.pem"));
    let key_file = node.path("key_file", "Its private key.", Some("server.key.pem"));
    let about = "Certificate of the authority that vouches for boxes.";
    let ca_certificate_file = node.path("ca_certificate_file", about, Some("ca.pem"));
    let about = "Its private key; only `box enrol` needs it, so it may lie elsewhere.";
    let ca_key_file = node.path("ca_key_file", about, Some("ca.key.pem"));
    node.finish();
    let node = root.table("boxes");
    let about = "Tiers of boxes that may deliver. Must be named: `unattested` proves nothing about \
                 the machine.";
    let accept_tiers = node.texts("accept_tiers", about, TIER_NAMES, 1..=3, parse_tier);
    let makers = read_makers(&node);
    node.finish();
    let attestation = read_attestation(root);
    let node = root.table("store");
    let about = "Size of one segment file.";
    let segment_size_bytes =
        node.integer("segment_size_bytes", about, 1 << 20..=1 << 30, Some(64 << 20));
    node.finish();
    let node = root.table("contracts");
    let about = "Private key that signs contracts (Ed25519, PEM).";
    let contract_key_file = node.path("signing_key_file", about, Some("contract.key.pem"));
    let about = "Folder of keys: PARTY.pem, with which this space signs for consumers (not there: they sign), and \
                 PARTY.pub.pem, with which it checks what parties have signed.";
    let party_keys_dir = node.optional_path("party_keys_dir", about);
    node.finish();
    let node = root.table("catalogue");
    let about = "Where catalogues can be read and searched over HTTP. Not set: only with `guan-space catalogue`.";
    let kind = Kind { name: "address", accepted: "loopback address and port (TCP)" };
    let catalogue_listen = node.optional_text("http_address", about, &kind, parse_local_address);
    node.finish();
    Some(SpaceConfig {
        id: id?,
        state_dir: state_dir?,
        listen: listen.quic?,
        tcp_listen: listen.tcp,
        peers_max: listen.peers_max,
        certificate_file: certificate_file?,
        key_file: key_file?,
        ca_certificate_file: ca_certificate_file?,
        ca_key_file: ca_key_file?,
        accept_tiers,
        join_listen: listen.join,
        makers,
        attestation,
        segment_size_bytes,
        contract_key_file: contract_key_file?,
        party_keys_dir,
        catalogue_listen,
        effective: Vec::new(),
        file: String::new(),
    })
}
