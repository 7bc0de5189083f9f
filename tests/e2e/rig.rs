//! A space and a box with the demo's configuration, in a folder of their own.

use guan_demo::data::Reading;
use guan_demo::delivered;
use guan_demo::stage::{Running, Stage};
use guan_demo::swtpm::Swtpm;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);
/// Between two looks at something that another process will do.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until it holds; a test that waits for ever says for what.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {} s for {what}", WAIT.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// Looks until it holds, or the time is over.
pub(crate) fn wait_for_at_most(seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap().to_path_buf();
    let guan = folder.join("guan");
    let built = guan.exists() && folder.join("guan-space").exists();
    assert!(built, "build the programs first: cargo build -p guan-edge -p guan-space");
    folder
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const LINK_OFF: &str = "[link]\nenabled = false";

/// Both programs, running.
pub(crate) struct Rig {
    pub(crate) stage: Stage,
    space: Option<Running>,
    guan: Option<Running>,
    _folder: tempfile::TempDir,
}

/// Heads are signed and shown to the space each second.
pub(crate) fn often(config: String) -> String {
    format!("{config}\n[evidence]\nwitness_interval_s = 1\ncheckpoint_interval_s = 1\n")
}

impl Rig {
    /// `change` edits the demo's configuration of the box.
    pub(crate) fn start(change: impl FnOnce(String) -> String) -> Self {
        Self::start_in(Vec::new(), change)
    }

    /// Everything set up, nothing running.
    pub(crate) fn prepare(change: impl FnOnce(String) -> String) -> Self {
        Self::set_up(false, change)
    }

    /// With an environment for `guan`.
    pub(crate) fn start_in(
        environment: Vec<(String, String)>,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let mut rig = Self::set_up(false, change);
        rig.stage.guan_environment = environment;
        rig.start_space();
        rig.start_guan();
        rig
    }

    /// A box with a TPM that has not joined; only the space runs. `None` without swtpm.
    pub(crate) fn with_tpm() -> Option<Self> {
        Self::with_tpm_and(|text| text)
    }

    /// As [`with_tpm`](Self::with_tpm), with a changed configuration of the box.
    pub(crate) fn with_tpm_and(change: impl FnOnce(String) -> String) -> Option<Self> {
        if !Swtpm::is_installed() {
            println!("SKIP: swtpm is not installed; cargo verify does it");
            return None;
        }
        let mut rig = Self::set_up(true, change);
        rig.start_space();
        Some(rig)
    }

    /// A box whose folder of contracts is empty, and that shows its log each second; nothing runs yet.
    pub(crate) fn without_contracts() -> Self {
        Self::set_up_for(false, &[], often)
    }

    /// The same, and the box never calls the space.
    pub(crate) fn without_link() -> Self {
        let change = |config: String| often(config).replace("[link]", LINK_OFF);
        Self::set_up_for(false, &[], change)
    }

    /// The box does not call the space from its next start on.
    pub(crate) fn take_link(&self) {
        let file = self.stage.box_config();
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("[link]", LINK_OFF)).unwrap();
    }

    /// The box calls the space from its next start on.
    pub(crate) fn give_link(&self) {
        let file = self.stage.box_config();
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace(LINK_OFF, "[link]")).unwrap();
    }

    fn set_up(has_tpm: bool, change: impl FnOnce(String) -> String) -> Self {
        Self::set_up_for(has_tpm, &["machine", "vessel", "gnss"], change)
    }

    fn set_up_for(
        has_tpm: bool,
        contracts: &[&str],
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        drop(udp);
        let ports = [free_port(), port, port];
        let mut stage = Stage::new(folder.path().join("run"), programs(), configs, ports);
        if has_tpm {
            stage.add_tpm().unwrap();
        }
        stage.set_up_with(contracts, change).unwrap();
        Self { stage, space: None, guan: None, _folder: folder }
    }

    pub(crate) fn start_guan(&mut self) {
        self.guan = Some(self.stage.start_guan().unwrap());
    }

    /// Starts it without waiting for its listener.
    pub(crate) fn begin_guan(&mut self) {
        self.guan = Some(self.stage.begin_guan().unwrap());
    }

    pub(crate) fn stop_guan(&mut self) {
        self.guan.take().unwrap().stop().unwrap();
    }

    /// Waits until it has ended by itself; its exit status.
    pub(crate) fn wait_for_guan(&mut self) -> Option<i32> {
        let mut guan = self.guan.take().unwrap();
        let mut code = None;
        wait_for("guan to end by itself", || {
            code = guan.ended().unwrap();
            code.is_some()
        });
        code
    }

    pub(crate) fn port(&self) -> u16 {
        self.stage.mqtt_port
    }

    pub(crate) fn stop_space(&mut self) {
        self.space.take().unwrap().stop().unwrap();
    }

    pub(crate) fn start_space(&mut self) {
        self.space = Some(self.stage.start_space().unwrap());
    }

    pub(crate) fn kill_guan(&mut self) {
        self.guan.take().unwrap().kill().unwrap();
    }

    pub(crate) fn kill_and_restart_guan(&mut self) {
        self.guan.take().unwrap().kill().unwrap();
        self.guan = Some(self.stage.start_guan().unwrap());
    }

    /// Status of the box; null while there is none.
    pub(crate) fn status(&self) -> Value {
        self.stage.guan_json(&["status"]).unwrap_or(Value::Null)
    }

    /// As [`status`](Self::status), though its moment is not that of this machine.
    pub(crate) fn stale_status(&self) -> Value {
        let path = self.stage.folder.join("box/state/status.json");
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or(Value::Null)
    }

    /// Waits until the space has stored so many readings of a dataset; more would be a fault.
    pub(crate) fn wait_for_rows(&self, dataset: &str, rows: u64) {
        let stored = || {
            let status = self.stage.space_json(&["status"]).ok()?;
            let one = status["datasets"].as_array()?.iter().find(|one| one["id"] == dataset)?;
            one["rows"].as_u64()
        };
        wait_for(&format!("{rows} readings of {dataset}"), || stored() >= Some(rows));
        assert_eq!(stored(), Some(rows));
    }

    pub(crate) fn check_log(&self) {
        wait_for("a signed head over a valid log", || {
            let log = self.stage.guan_json(&["log", "verify"]);
            log.is_ok_and(|log| log["verified"] == true)
        });
    }

    pub(crate) fn export(&self) -> PathBuf {
        let folder = self.stage.folder.join("parquet");
        self.stage.space_json(&["export", "--out", &folder.display().to_string()]).unwrap();
        folder
    }

    pub(crate) fn delivered(&self, dataset: &str) -> BTreeMap<Reading, i64> {
        delivered::read(&self.export().join(format!("{dataset}.parquet"))).unwrap()
    }
}

/// What `mosquitto_pub` says; `None` when it is not installed.
pub(crate) fn mosquitto_output(port: u16, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("mosquitto_pub");
    let output = command.args(["-p", &port.to_string()]).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Whether it succeeded; `None` when it is not installed.
pub(crate) fn mosquitto_status(port: u16, arguments: &[&str]) -> Option<bool> {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", &port.to_string()]).args(arguments);
    let output = command.output().ok()?;
    Some(output.status.success())
}

/// `false` when it is not installed; a failure ends the test.
pub(crate) fn mosquitto_pub(port: u16, arguments: &[&str]) -> bool {
    let Some(success) = mosquitto_status(port, arguments) else { return false };
    assert!(success, "mosquitto_pub {arguments:?} failed");
    true
}

/// The library that lies about the time.
pub(crate) fn faketime() -> Option<PathBuf> {
    let paths = ["x86_64", "aarch64"].map(|machine| {
        PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
    });
    paths.into_iter().find(|path| path.exists())
}

/// A Python with the peers of the tests.
pub(crate) fn python() -> Option<PathBuf> {
    std::env::var_os("GUAN_TEST_PYTHON").map(PathBuf::from).filter(|path| path.exists())
}

/// A mosquitto broker of "the site".
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Broker {
    /// `None` when mosquitto is not installed.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program.iter().find(|path| Path::new(path).exists())?;
        let (port, log) = (free_port(), folder.join("mosquitto.log"));
        let configuration = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nlog_type all\nlog_dest file {}\n\
             user root\n",
            log.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let broker = Self { child, port, log };
        wait_for("the broker", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(broker)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates of the MQTT listener, made for one test.
pub(crate) struct ListenerTls {
    pub(crate) ca: PathBuf,
}

impl ListenerTls {
    pub(crate) fn make(folder: &Path) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut leaf = CertificateParams::new(names).unwrap();
        // OpenSSL takes a certificate with the name of its issuer for a self-signed one.
        leaf.distinguished_name.push(DnType::CommonName, "listener");
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
        std::fs::write(folder.join("ca.pem"), root.pem()).unwrap();
        std::fs::write(folder.join("listener.pem"), leaf.pem()).unwrap();
        std::fs::write(folder.join("listener.key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("press-1.password"), "right\n").unwrap();
        Self { ca: folder.join("ca.pem") }
    }

    /// A user and TLS for the listener.
    pub(crate) fn configuration(&self, folder: &Path) -> String {
        let path = |name: &str| folder.join(name).display().to_string();
        format!(
            "\n[[mqtt.user]]\nname = \"press-1\"\npassword_file = \"{}\"\npublish = [\"factory/#\"]\n\
             \n[mqtt.tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
            path("press-1.password"),
            path("listener.pem"),
            path("listener.key.pem")
        )
    }
}
