//! Where messages come from: our listener, and brokers that the site already has.

use super::filter::parse_filter;
use super::parse_host_port;
use crate::schema::{Kind, Node};
use std::net::SocketAddr;
use std::path::PathBuf;

const USERS_MAX: usize = 256;
const BROKERS_MAX: usize = 8;
const FILTERS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;

/// The MQTT listener.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MqttConfig {
    pub listen: SocketAddr,
    pub connections_max: usize,
    pub packet_bytes_max: usize,
    pub receive_maximum: u16,
    pub ingest_bytes_max: usize,
    pub keep_alive_max_s: u16,
    /// Rights of clients without a name; `None` turns them away.
    pub anonymous: Option<RightsConfig>,
    pub users: Vec<UserConfig>,
    pub tls: Option<MqttTlsConfig>,
}

/// TLS of the listener.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MqttTlsConfig {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Clients must show a certificate under it.
    pub client_ca_file: Option<PathBuf>,
}

/// A client that proves its name, by password or by certificate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UserConfig {
    pub name: String,
    /// First line is the password. `None`: only a certificate with this common name will do.
    pub password_file: Option<PathBuf>,
    pub rights: RightsConfig,
}

/// Topic filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RightsConfig {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
}

/// A broker of the site that we subscribe to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BrokerConfig {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub topics: Vec<String>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read_mqtt(node: &Node<'_>) -> Option<MqttConfig> {
    let address = Kind { name: "address", accepted: "IP address and port" };
    let about = "Where clients connect. Beyond the loopback address use [mqtt.tls].";
    let listen = node.text("listen", about, &address, Some("127.0.0.1:1883"), |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| "must be an IP address and port, such as 0.0.0.0:1883".to_owned())
    });
    let about = "Connections at the same time; later ones are turned away.";
    let connections_max = node.integer("connections_max", about, 1..=10_000, Some(1024));
    let about = "Longest MQTT packet, in bytes.";
    let packet_bytes_max =
        node.integer("packet_bytes_max", about, 1 << 10..=1 << 20, Some(256 << 10));
    let about = "Messages of one client that may wait for their acknowledgement.";
    let receive_maximum = node.integer("receive_maximum", about, 1..=65_535, Some(1024));
    let about = "Bytes of all messages that wait for the disk; then clients are no longer read.";
    let ingest_bytes_max =
        node.integer("ingest_bytes_max", about, 1 << 20..=1 << 30, Some(32 << 20));
    if ingest_bytes_max < packet_bytes_max {
        node.fault("ingest_bytes_max", "must be at least packet_bytes_max");
    }
    let about = "Longest keep-alive; clients of MQTT 5 that ask for more are told.";
    let keep_alive_max_s = node.integer("keep_alive_max_s", about, 5..=65_535, Some(3600));
    let about = "Whether clients without a name may connect, with the rights of [mqtt.anonymous].";
    let allow_anonymous = node.flag("allow_anonymous", about, false);
    let rights = node.table("anonymous");
    let anonymous = read_rights(&rights);
    rights.finish();
    let users = read_users(node);
    let tls = node.optional_table("tls").and_then(|tls| read_tls(&tls));
    if !allow_anonymous && users.is_empty() {
        let text = "is false and there is no [[mqtt.user]]: nobody could connect; add a user, \
                    or set it to true";
        node.fault("allow_anonymous", text);
    }
    let by_certificate = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    for user in users.iter().filter(|user| user.password_file.is_none() && !by_certificate) {
        let text = format!(
            "{} has no password_file, and [mqtt.tls] has no client_ca_file: give one of them",
            user.name
        );
        node.fault("user", text);
    }
    node.finish();
    Some(MqttConfig {
        listen: listen?,
        connections_max: usize::try_from(connections_max).expect("within its range"),
        packet_bytes_max: usize::try_from(packet_bytes_max).expect("within its range"),
        receive_maximum: u16::try_from(receive_maximum).expect("within its range"),
        ingest_bytes_max: usize::try_from(ingest_bytes_max).expect("within its range"),
        keep_alive_max_s: u16::try_from(keep_alive_max_s).expect("within its range"),
        anonymous: allow_anonymous.then_some(anonymous),
        users,
        tls,
    })
}

fn read_rights(node: &Node<'_>) -> RightsConfig {
    let accepted = "topic filters with + and #";
    let about = "Topics that may be published to.";
    let publish = node.texts("publish", about, accepted, 0..=FILTERS_MAX, parse_filter);
    let about = "Topics that may be read: copies of what was accepted. A filter that is wider gives these only.";
    let subscribe = node.texts("subscribe", about, accepted, 0..=FILTERS_MAX, parse_filter);
    RightsConfig { publish, subscribe }
}

fn read_users(node: &Node<'_>) -> Vec<UserConfig> {
    let mut users: Vec<UserConfig> = Vec::new();
    for user in node.tables("user", USERS_MAX) {
        let name = user.text(
            "name",
            "User name, or common name of the certificate.",
            &NAME,
            None,
            parse_name,
        );
        let about = "File whose first line is the password.";
        let password_file = user.optional_path("password_file", about);
        let rights = read_rights(&user);
        user.finish();
        let Some(name) = name else { continue };
        if users.iter().any(|other| other.name == name) {
            user.fault("name", format!("{name} is there twice"));
        }
        users.push(UserConfig { name, password_file, rights });
    }
    users
}

fn read_tls(node: &Node<'_>) -> Option<MqttTlsConfig> {
    let certificate_file =
        node.path("certificate_file", "Certificate chain of the listener (PEM).", None);
    let key_file = node.path("key_file", "Its private key (PEM).", None);
    let about = "Authority of client certificates; when set, each client must show one.";
    let client_ca_file = node.optional_path("client_ca_file", about);
    node.finish();
    Some(MqttTlsConfig { certificate_file: certificate_file?, key_file: key_file?, client_ca_file })
}

pub(super) fn read_brokers(root: &Node<'_>) -> Vec<BrokerConfig> {
    let mut brokers: Vec<BrokerConfig> = Vec::new();
    for node in root.tables("broker", BROKERS_MAX) {
        let name =
            node.text("name", "Name of the broker in logs and status.", &NAME, None, parse_name);
        let address = Kind { name: "address", accepted: "host:port" };
        let about = "Where the broker listens.";
        let host_port = node.text("address", about, &address, None, parse_host_port);
        let about = "Client id at the broker; its session there belongs to this box alone.";
        let client_id = node.text("client_id", about, &NAME, None, parse_name);
        let accepted = "1 to 64 topic filters with + and #";
        let about = "What is subscribed to, at QoS 1.";
        let topics = node.texts("topics", about, accepted, 1..=FILTERS_MAX, parse_filter);
        let username =
            node.optional_text("username", "User name at the broker.", &NAME, parse_name);
        let about = "File whose first line is the password.";
        let password_file = node.optional_path("password_file", about);
        let about = "Authority of the broker's certificate; when set, the connection uses TLS.";
        let ca_file = node.optional_path("ca_file", about);
        node.finish();
        let (Some(name), Some((host, port)), Some(client_id)) = (name, host_port, client_id) else {
            continue;
        };
        if brokers.iter().any(|other| other.name == name) {
            node.fault("name", format!("{name} is there twice"));
        }
        let broker =
            BrokerConfig { name, host, port, client_id, topics, username, password_file, ca_file };
        brokers.push(broker);
    }
    brokers
}

const NAME: Kind<'_> = Kind { name: "name", accepted: "1 to 128 printable ASCII characters" };

fn parse_name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    fits.then(|| text.to_owned()).ok_or_else(|| format!("must be {}", NAME.accepted))
}
