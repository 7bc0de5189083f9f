//! From configuration to what engine, drivers and link are told. The only place that knows both.

use crate::decode::{
    Decoder, Encoding, FieldSpec, FormatSpec, MappingSpec, TimeFormat, TimeSpec, Undecodable,
};
use crate::engine::{EngineConfig, OnLogFull, Surroundings};
use guan_configs::edge::{
    EncodingName, FieldConfig, FormatConfig, MappingConfig, RightsConfig, TimeFormatName,
    UndecodableConfig, WhenFull,
};
use guan_configs::{ConfigFault, ConfigFaults, EdgeConfig};
use guan_drivers::mqtt::{Authenticator, ListenerLimits, Rights, TopicFilter, User};
use guan_model::BootNumber;
use guan_policy::TrustedKeys;
use guan_spool::{SpoolConfig, StreamConfig, WhenFull as SpoolWhenFull};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest file with a password.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Why a file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WiringFault {
    #[error("{path} cannot be read: check that it exists and its rights")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no password in its first line")]
    Password { path: PathBuf },
    #[error("contracts.trusted_key: {0}")]
    Keys(String),
}

/// Compiles the mappings; their faults name the line in the configuration.
pub fn decoder(config: &EdgeConfig, file: &str) -> Result<Decoder, ConfigFaults> {
    let specs: Vec<MappingSpec> = config.mappings.iter().map(mapping).collect();
    Decoder::compile(&specs, &config.descriptors).map_err(|faults| {
        let fault = |fault: crate::decode::MappingFault| {
            let index = fault.mapping().saturating_sub(1);
            let line = config.mappings.get(index).map_or(0, |mapping| mapping.line);
            let (key, text) = (format!("mapping[{index}]"), fault.to_string());
            ConfigFault { line, key, text }
        };
        ConfigFaults { file: file.to_owned(), faults: faults.into_iter().map(fault).collect() }
    })
}

fn mapping(config: &MappingConfig) -> MappingSpec {
    let format = match &config.format {
        FormatConfig::Json(fields) => FormatSpec::Json(fields.iter().map(field).collect()),
        FormatConfig::Senml { prefix } => FormatSpec::Senml { prefix: prefix.clone() },
        FormatConfig::Raw { point } => FormatSpec::Raw { point: point.clone() },
    };
    let undecodable = match &config.undecodable {
        UndecodableConfig::Opaque(point) => Undecodable::Opaque(point.clone()),
        UndecodableConfig::Refuse => Undecodable::Refuse,
    };
    MappingSpec { filter: config.topic.clone(), format, undecodable }
}

fn field(config: &FieldConfig) -> FieldSpec {
    let format = match config.time_format {
        TimeFormatName::Auto => TimeFormat::Auto,
        TimeFormatName::Rfc3339 => TimeFormat::Rfc3339,
        TimeFormatName::EpochSeconds => TimeFormat::EpochSeconds,
        TimeFormatName::EpochMillis => TimeFormat::EpochMillis,
        TimeFormatName::EpochNanos => TimeFormat::EpochNanos,
    };
    let encoding = config.encoding.map(|encoding| match encoding {
        EncodingName::Hex => Encoding::Hex,
        EncodingName::Base64 => Encoding::Base64,
        EncodingName::Base64Url => Encoding::Base64Url,
    });
    FieldSpec {
        point: config.point.clone(),
        value: config.value.clone(),
        time: config.time.clone().map(|path| TimeSpec { path, format }),
        quality: config.quality.clone(),
        encoding,
    }
}

pub fn spool_config(config: &EdgeConfig) -> SpoolConfig {
    let streams = config.spool.streams.iter().map(|stream| StreamConfig {
        id: stream.id,
        name: stream.name.clone(),
        bytes_max: stream.size_bytes_max,
        age_max: stream.age_max,
        when_full: match stream.when_full {
            WhenFull::Refuse => SpoolWhenFull::Refuse,
            WhenFull::DropOldest => SpoolWhenFull::DropOldest,
        },
    });
    SpoolConfig {
        segment_bytes_max: config.spool.segment_size_bytes,
        total_bytes_max: config.spool.size_bytes_max,
        streams: streams.collect(),
    }
}

pub fn engine_config(config: &EdgeConfig, boot: BootNumber) -> EngineConfig {
    let streams = config.datasets.iter().map(|dataset| (dataset.id.clone(), dataset.stream));
    EngineConfig {
        boot,
        rows_max: config.batch.rows_max,
        commit_window: config.batch.commit_window,
        streams: streams.collect(),
        live_after: config.link.use_of_link.live_after,
        checkpoint_interval: config.evidence.checkpoint_interval,
        checkpoint_leaves_max: config.evidence.checkpoint_leaves_max,
        log_bytes_max: config.evidence.log_bytes_max.0,
        on_log_full: match config.evidence.on_log_full {
            guan_configs::edge::OnLogFull::StopCollecting => OnLogFull::StopCollecting,
            guan_configs::edge::OnLogFull::Continue => OnLogFull::Continue,
        },
        surroundings: surroundings(config),
    }
}

/// Points that tell where the box is and what happens around it.
pub fn surroundings(config: &EdgeConfig) -> Surroundings {
    Surroundings {
        position: config.surroundings.position,
        consent: config.surroundings.consent,
        vehicle_state: config.surroundings.vehicle_state,
    }
}

pub fn trusted_keys(config: &EdgeConfig) -> Result<TrustedKeys, WiringFault> {
    let keys = config.contracts.trusted_keys.iter();
    let keys = keys.map(|key| (key.party.clone(), key.key.clone())).collect();
    let single = config.contracts.single_signature;
    let keys = TrustedKeys::new(keys).map(|keys| keys.accepting_single(single));
    keys.map_err(|faults| {
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        WiringFault::Keys(texts.join("; "))
    })
}

pub fn listener_limits(config: &guan_configs::edge::MqttConfig) -> ListenerLimits {
    ListenerLimits {
        connections_max: config.connections_max,
        packet_bytes_max: config.packet_bytes_max,
        receive_maximum: config.receive_maximum,
        ingest_bytes_max: config.ingest_bytes_max,
        keep_alive_max_s: config.keep_alive_max_s,
    }
}

/// Reads the passwords; only their digests stay in memory.
pub fn authenticator(
    config: &guan_configs::edge::MqttConfig,
) -> Result<Authenticator, WiringFault> {
    let mut users = BTreeMap::new();
    for user in &config.users {
        let password = user.password_file.as_deref().map(password).transpose()?;
        let password = password.as_ref().map(|password| password.as_bytes());
        users.insert(user.name.clone(), User::new(password, rights(&user.rights)));
    }
    Ok(Authenticator::new(config.anonymous.as_ref().map(rights), users))
}

fn rights(config: &RightsConfig) -> Rights {
    let filters = |texts: &[String]| {
        let parse = |text: &String| {
            TopicFilter::parse(text).expect("the configuration checks filters by the same rules")
        };
        texts.iter().map(parse).collect()
    };
    Rights { publish: filters(&config.publish), subscribe: filters(&config.subscribe) }
}

/// The first line of a file.
pub fn password(path: &Path) -> Result<Zeroizing<String>, WiringFault> {
    let read = |source| WiringFault::Read { path: path.to_path_buf(), source };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text).map_err(read)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(WiringFault::Password { path: path.to_path_buf() }),
    }
}

/// A file of PEM blocks.
pub fn read_text(path: &Path) -> Result<String, WiringFault> {
    std::fs::read_to_string(path)
        .map_err(|source| WiringFault::Read { path: path.to_path_buf(), source })
}
