//! The peer: mosquitto at the box, its bridge over mutual TLS 1.3, mosquitto at the far end, and a
//! subscriber behind it. Queues and messages in flight are unlimited, or it would drop messages silently.

use crate::far::Far;
use crate::sink::Sink;
use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/mosquitto";
const START_WAIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// When the brokers write what they hold to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saving {
    /// At the end, or every half hour: no fsync before an acknowledgement.
    Default,
    /// On every change.
    EachChange,
}

/// Both brokers and the subscriber.
pub(crate) struct Bridge {
    near: Child,
    far: Child,
    pub(crate) sink: Sink,
    near_port: u16,
}

/// Why there is nothing to compare with.
pub(crate) fn missing() -> Option<String> {
    match Path::new(PROGRAM).exists() {
        true => None,
        false => Some(format!("{PROGRAM} is missing: apt-get install mosquitto")),
    }
}

impl Bridge {
    /// Starts everything in an empty folder, and returns when a message can go all the way.
    pub(crate) fn start(folder: &Path, far: &Far, saving: Saving) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        certify(folder, &far.host())?;
        let port =
            || Ok::<_, anyhow::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (near_port, far_port, tls_port) = (port()?, port()?, port()?);
        let path = |name: &str| folder.join(name).display().to_string();
        let tls = format!(
            "listener {tls_port} 0.0.0.0\ncafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\ntls_version tlsv1.3\nlistener {far_port} 0.0.0.0\n",
            path("ca.pem"),
            path("far.pem"),
            path("far.key")
        );
        let bridge = format!(
            "listener {near_port} 127.0.0.1\nconnection up\naddress {}:{tls_port}\n\
             topic # out 1\ncleansession false\nbridge_cafile {}\nbridge_certfile {}\n\
             bridge_keyfile {}\nbridge_tls_version tlsv1.3\nnotifications false\n",
            far.host(),
            path("ca.pem"),
            path("near.pem"),
            path("near.key")
        );
        let far_config = write(folder, "far", saving, &tls)?;
        let near_config = write(folder, "near", saving, &bridge)?;
        let program = Path::new(PROGRAM);
        let far_broker = spawn(far.command(program), folder, &far_config)?;
        let this = std::env::current_exe()?;
        let address = format!("127.0.0.1:{far_port}");
        let sink = retry(|| Sink::start(far.command(&this), &address))?;
        let near_broker = spawn(Command::new(program), folder, &near_config)?;
        let bridge = Self { near: near_broker, far: far_broker, sink, near_port };
        retry(|| Ok(TcpStream::connect(("127.0.0.1", near_port))?))?;
        Ok(bridge)
    }

    pub(crate) fn mqtt(&self) -> String {
        format!("127.0.0.1:{}", self.near_port)
    }

    /// Process ids of the brokers, near and far.
    pub(crate) fn processes(&self) -> [u32; 2] {
        [self.near.id(), self.far.id()]
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for broker in [&mut self.near, &mut self.far] {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(fault) if started.elapsed() > START_WAIT => return Err(fault),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn spawn(mut command: Command, folder: &Path, config: &Path) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(folder.join("mosquitto.log"))?;
    let command = command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(log).spawn().context("mosquitto cannot be started")
}

fn write(folder: &Path, name: &str, saving: Saving, rest: &str) -> Result<PathBuf> {
    let saving = match saving {
        Saving::Default => "",
        Saving::EachChange => "autosave_on_changes true\nautosave_interval 1\n",
    };
    let text = format!(
        "user root\nallow_anonymous true\nper_listener_settings false\nmax_queued_messages 0\n\
         max_queued_bytes 0\nmax_inflight_messages 0\nmax_inflight_bytes 0\nset_tcp_nodelay true\n\
         log_type error\nlog_type warning\nlog_dest stderr\n\
         persistence true\npersistence_location {}/\npersistence_file {name}.db\n{saving}{rest}",
        folder.display()
    );
    let path = folder.join(format!("{name}.conf"));
    fs::write(&path, text)?;
    Ok(path)
}

/// An authority, and a certificate for each end.
fn certify(folder: &Path, host: &str) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "bench authority");
    fs::write(folder.join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    for (name, host) in [("far", host), ("near", "near")] {
        let key = KeyPair::generate()?;
        let mut certificate = CertificateParams::new(vec![host.to_owned()])?;
        certificate.distinguished_name.push(rcgen::DnType::CommonName, name);
        let signed = certificate.signed_by(&key, &issuer)?;
        fs::write(folder.join(format!("{name}.pem")), signed.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}
