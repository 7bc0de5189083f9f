//! Configuration of a box.

mod catalogue;
mod filter;
mod intake;
mod mapping;
mod points;
mod storage;
mod surroundings;
mod timestamps;
mod use_of_link;

pub use catalogue::{CatalogueConfig, ExpectationConfig};
pub use intake::{BrokerConfig, MqttConfig, MqttTlsConfig, RightsConfig, UserConfig};
pub use mapping::{
    EncodingName, FieldConfig, FormatConfig, MappingConfig, TimeFormatName, UndecodableConfig,
};
pub use points::{DATASETS_MAX, DatasetConfig};
pub use storage::{
    BatchConfig, ContractsConfig, EvidenceConfig, LinkConfig, OnLogFull, SpoolConfig, StreamConfig,
    TransportName, TrustedKeyConfig, WhenFull,
};

pub use surroundings::SurroundingsConfig;
pub use timestamps::{AuthorityUrl, TimestampConfig};
pub use use_of_link::{BudgetConfig, CongestionName, ContractBudgetConfig, UseConfig};

use crate::fault::ConfigFaults;
use crate::schema::{self, Effective, KeyReference, Kind, Node};
use crate::space::{TIERS, Tier};
use guan_model::{BoxId, DescriptorTable, PointId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that a box is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EdgeConfig {
    pub box_id: BoxId,
    pub state_dir: PathBuf,
    pub identity: IdentityConfig,
    pub mqtt: Option<MqttConfig>,
    pub brokers: Vec<BrokerConfig>,
    pub spool: SpoolConfig,
    pub batch: BatchConfig,
    pub evidence: EvidenceConfig,
    pub link: LinkConfig,
    pub contracts: ContractsConfig,
    pub surroundings: SurroundingsConfig,
    pub catalogue: CatalogueConfig,
    pub datasets: Vec<DatasetConfig>,
    pub descriptors: Arc<DescriptorTable>,
    /// Of points of which something is expected.
    pub expectations: BTreeMap<PointId, ExpectationConfig>,
    pub mappings: Vec<MappingConfig>,
    effective: Vec<Effective>,
    file: String,
}

/// A TPM and its folder.
#[derive(Debug, Clone)]
pub struct TpmConfig {
    /// As the TSS names it: `device:/dev/tpmrm0` or `swtpm:host=...,port=...`.
    pub tcti: String,
    /// Keys that only this TPM can open.
    pub folder: PathBuf,
}

/// Keys and certificates, as paths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IdentityConfig {
    pub tier: Tier,
    /// Where the box's key lives; `None` for the tier `unattested` only.
    pub tpm: Option<TpmConfig>,
    /// The log's key lies under one that the TPM gives out to signed firmware only.
    pub seal: Option<SealConfig>,
    /// Name of the firmware release that runs.
    pub release: String,
    pub key_file: PathBuf,
    pub certificate_file: PathBuf,
    pub space_ca_file: PathBuf,
    pub log_key_file: PathBuf,
}

/// Under which firmware the TPM opens the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealConfig {
    /// Folder of signed policies.
    pub policies_dir: PathBuf,
    /// Public key that signs them (P-256, PEM).
    pub key_file: PathBuf,
}

/// What is read before the parts are put together.
struct Parts {
    box_id: BoxId,
    state_dir: PathBuf,
    identity: IdentityConfig,
    mqtt: Option<MqttConfig>,
    brokers: Vec<BrokerConfig>,
    spool: SpoolConfig,
    batch: BatchConfig,
    evidence: EvidenceConfig,
    link: LinkConfig,
    contracts: ContractsConfig,
    surroundings: SurroundingsConfig,
    catalogue: CatalogueConfig,
    datasets: Vec<DatasetConfig>,
    descriptors: Arc<DescriptorTable>,
    expectations: BTreeMap<PointId, ExpectationConfig>,
    mappings: Vec<MappingConfig>,
}

impl EdgeConfig {
    /// `file` names the text in faults and origins; relative paths count from `base`.
    pub fn parse(text: &str, file: &str, base: &Path) -> Result<Self, ConfigFaults> {
        let parsed = schema::parse(text, file, base, read)?;
        let parts = parsed.config;
        Ok(Self {
            box_id: parts.box_id,
            state_dir: parts.state_dir,
            identity: parts.identity,
            mqtt: parts.mqtt,
            brokers: parts.brokers,
            spool: parts.spool,
            batch: parts.batch,
            evidence: parts.evidence,
            link: parts.link,
            contracts: parts.contracts,
            surroundings: parts.surroundings,
            datasets: parts.datasets,
            descriptors: parts.descriptors,
            expectations: parts.expectations,
            catalogue: parts.catalogue,
            mappings: parts.mappings,
            effective: parsed.effective,
            file: file.to_owned(),
        })
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

fn read(root: &Node<'_>) -> Option<Parts> {
    let own = root.table("box");
    let name = Kind { name: "name", accepted: "1 to 64 of letters, digits, '.', '-' and '_'" };
    let box_id = own.text("id", "Name of this box in the space.", &name, None, |text| {
        BoxId::parse(text).map_err(|fault| fault.to_string())
    });
    let state_dir =
        own.path("state_dir", "Folder of spool, log and keys; on a disk that lasts.", None);
    own.finish();
    let identity = read_identity(root);
    let mqtt = root.optional_table("mqtt").and_then(|node| intake::read_mqtt(&node));
    let brokers = intake::read_brokers(root);
    let spool = storage::read_spool(root);
    let batch = storage::read_batch(root);
    let evidence = storage::read_evidence(root, box_id.as_ref());
    let link = storage::read_link(root);
    let contracts = storage::read_contracts(root);
    let streams: &[StreamConfig] = spool.as_ref().map_or(&[], |spool| &spool.streams);
    let datasets = points::read_datasets(root, streams);
    let catalogue = catalogue::read_catalogue(root, box_id.as_ref());
    let (descriptors, expectations) = points::read_points(root, &datasets);
    let surroundings = surroundings::read_surroundings(root, descriptors.as_deref());
    let mappings = mapping::read_mappings(root);
    Some(Parts {
        box_id: box_id?,
        state_dir: state_dir?,
        identity: identity?,
        mqtt,
        brokers,
        spool: spool?,
        batch,
        evidence: evidence?,
        link: link?,
        contracts: contracts?,
        surroundings,
        datasets,
        descriptors: descriptors?,
        expectations,
        catalogue: catalogue?,
        mappings,
    })
}

fn read_identity(root: &Node<'_>) -> Option<IdentityConfig> {
    let node = root.table("identity");
    let about = "What vouches for the key: a TPM of a maker (`hardware`), an emulator of one \
                 (`emulated`), or nothing (`unattested`, a key file).";
    // Has no default on purpose: whoever runs without a TPM must have said so.
    let tier = node.choice("tier", about, &TIERS, None);
    let tpm = read_tpm(&node, tier);
    let seal = read_seal(&node, tier);
    let about = "Name of the firmware release; the space has reference values by it.";
    let kind = Kind { name: "string", accepted: "1 to 64 characters" };
    let release = node.text("release", about, &kind, Some("unknown"), |text| {
        match (1..=64).contains(&text.len()) {
            true => Ok(text.to_owned()),
            false => Err("must have 1 to 64 bytes".to_owned()),
        }
    });
    let about = "Private key of a box of tier `unattested` (P-256, PEM).";
    let key_file = node.path("key_file", about, Some("identity/key.pem"));
    let certificate_file = node.path(
        "certificate_file",
        "Certificate that the space issued.",
        Some("identity/certificate.pem"),
    );
    let space_ca_file = node.path(
        "space_ca_file",
        "Certificate of the space's authority.",
        Some("identity/space-ca.pem"),
    );
    let log_key_file = node.path(
        "log_key_file",
        "Private key that signs the log (Ed25519, PEM).",
        Some("identity/log-key.pem"),
    );
    node.finish();
    Some(IdentityConfig {
        tier: tier?,
        tpm: tpm?,
        seal: seal?,
        release: release?,
        key_file: key_file?,
        certificate_file: certificate_file?,
        space_ca_file: space_ca_file?,
        log_key_file: log_key_file?,
    })
}

/// The outer `None` is a fault that was reported.
#[expect(clippy::option_option, reason = "a fault, and a TPM that is not there")]
fn read_tpm(node: &Node<'_>, tier: Option<Tier>) -> Option<Option<TpmConfig>> {
    let about = "Where the TPM is; must be given for the tiers `hardware` and `emulated`.";
    let accepted = "device:/dev/tpmrm0, or swtpm:host=127.0.0.1,port=2321";
    let kind = Kind { name: "string", accepted };
    let tcti = node.optional_text("tpm", about, &kind, |text| {
        let is_known = text.starts_with("device:/dev/tpmrm") || text.starts_with("swtpm:host=");
        is_known.then(|| text.to_owned()).ok_or_else(|| format!("must be {accepted}"))
    });
    let about = "Folder of the keys that only the TPM can open.";
    let folder = node.path("tpm_dir", about, Some("identity/tpm"));
    match (tier, tcti) {
        (Some(Tier::Unattested), Some(_)) => {
            node.fault("tpm", "is given, and tier is \"unattested\": remove one of the two");
            None
        }
        (Some(Tier::Emulated | Tier::Hardware), None) if !node.has("tpm") => {
            node.fault("tpm", format!("must be given for this tier: {accepted}"));
            None
        }
        (_, tcti) => Some(tcti.zip(folder).map(|(tcti, folder)| TpmConfig { tcti, folder })),
    }
}

/// The outer `None` is a fault that was reported.
#[expect(clippy::option_option, reason = "a fault, and a store that is not sealed")]
fn read_seal(node: &Node<'_>, tier: Option<Tier>) -> Option<Option<SealConfig>> {
    let about = "Folder of signed policies: the firmware under which the TPM opens the log's key. Without it \
                 that key is a plain file.";
    let policies_dir = node.optional_path("store_policies", about);
    let about = "Public key that signs the policies (P-256, PEM); goes with `store_policies`.";
    let key_file = node.optional_path("store_policy_key", about);
    match (policies_dir, key_file) {
        (None, None) => Some(None),
        (Some(_), Some(_)) if tier == Some(Tier::Unattested) => {
            node.fault("store_policies", "is given, and tier is \"unattested\": only a TPM seals");
            None
        }
        (Some(policies_dir), Some(key_file)) => Some(Some(SealConfig { policies_dir, key_file })),
        (Some(_), None) => {
            node.fault("store_policy_key", "must be given with store_policies");
            None
        }
        (None, Some(_)) => {
            node.fault("store_policies", "must be given with store_policy_key");
            None
        }
    }
}

/// `host:port`, an IPv6 host in brackets.
fn parse_host_port(text: &str) -> Result<(String, u16), String> {
    let fault =
        || "must be host:port, such as space.example.org:4433 or [2001:db8::1]:4433".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
    let port: u16 = port.parse().map_err(|_| fault())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let is_v6 = bare.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    match port != 0 && (is_plain || is_v6) {
        true => Ok((bare.unwrap_or(host).to_owned(), port)),
        false => Err(fault()),
    }
}
