//! Configuration of a space.

use crate::fault::ConfigFaults;
use crate::nearest;
use crate::schema::{self, Effective, KeyReference, Kind, Node};
use guan_model::BoxId;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What vouches for a box's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Unattested,
}

/// Everything that a space is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpaceConfig {
    pub id: BoxId,
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    pub peers_max: usize,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub ca_certificate_file: PathBuf,
    pub ca_key_file: PathBuf,
    pub accept_tiers: Vec<Tier>,
    pub segment_size_bytes: u64,
    pub contract_key_file: PathBuf,
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

/// Tiers that this release knows.
pub(crate) const TIERS: &str = "unattested";

pub(crate) fn parse_tier(text: &str) -> Result<Tier, String> {
    match text {
        "unattested" => Ok(Tier::Unattested),
        "emulated" | "hardware" => {
            Err(format!("is not built yet; this release knows only {TIERS}"))
        }
        _ => Err(format!("must be {TIERS}{}", nearest::hint(text, [TIERS]))),
    }
}

fn read(root: &Node<'_>) -> Option<SpaceConfig> {
    let own = root.table("space");
    let kind = Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };
    let id = own.text("id", "Name of the space, as contracts name it.", &kind, None, |text| {
        BoxId::parse(text).map_err(|fault| fault.to_string())
    });
    let state_dir = own.path("state_dir", "Folder of store and registry.", Some("state"));
    own.finish();
    let node = root.table("listen");
    let kind = Kind { name: "address", accepted: "IP address and port (UDP)" };
    let listen =
        node.text("address", "Where boxes connect.", &kind, Some("0.0.0.0:4433"), |text| {
            text.parse()
                .map_err(|_| "must be an IP address and port, such as 0.0.0.0:4433".to_owned())
        });
    let peers_max = node.integer("peers_max", "Boxes at the same time.", 1..=4096, Some(1024));
    node.finish();
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
    let accept_tiers = node.texts("accept_tiers", about, TIERS, 1..=3, parse_tier);
    node.finish();
    let node = root.table("store");
    let about = "Size of one segment file.";
    let segment_size_bytes =
        node.integer("segment_size_bytes", about, 1 << 20..=1 << 30, Some(64 << 20));
    node.finish();
    let node = root.table("contracts");
    let about = "Private key that signs contracts (Ed25519, PEM).";
    let contract_key_file = node.path("signing_key_file", about, Some("contract.key.pem"));
    node.finish();
    Some(SpaceConfig {
        id: id?,
        state_dir: state_dir?,
        listen: listen?,
        peers_max: usize::try_from(peers_max).expect("within its range"),
        certificate_file: certificate_file?,
        key_file: key_file?,
        ca_certificate_file: ca_certificate_file?,
        ca_key_file: ca_key_file?,
        accept_tiers,
        segment_size_bytes,
        contract_key_file: contract_key_file?,
        effective: Vec::new(),
        file: String::new(),
    })
}
