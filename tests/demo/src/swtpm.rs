//! A TPM emulated by swtpm, with an endorsement certificate of a test CA.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const START_WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// Ports of emulators, below those that the system hands out to everybody else: a port that was free when one
/// looked may be somebody's outgoing connection when the emulator starts.
const PORT_FIRST: u16 = 20_000;
const PORT_LAST: u16 = 31_998;

/// An emulator and its state.
pub struct Swtpm {
    folder: PathBuf,
    ca: PathBuf,
    port: u16,
    /// Held as long as the ports are ours; `None` when the caller chose them.
    _ports: Option<File>,
    child: Option<Child>,
}

impl Swtpm {
    /// Whether the emulator is installed.
    pub fn is_installed() -> bool {
        ["swtpm", "swtpm_setup", "swtpm_ioctl"].iter().all(|name| which(name))
    }

    /// Makes a new TPM whose maker is the test CA in `ca` (made at first use), and starts it.
    pub fn make(folder: &Path, ca: &Path) -> Result<Self> {
        let (port, lock) = free_pair()?;
        Self::make_with(folder, ca, (port, Some(lock)))
    }

    /// As [`make`](Self::make), at this port and the next.
    pub fn make_at(folder: &Path, ca: &Path, port: u16) -> Result<Self> {
        Self::make_with(folder, ca, (port, None))
    }

    fn make_with(folder: &Path, ca: &Path, (port, lock): (u16, Option<File>)) -> Result<Self> {
        fs::create_dir_all(folder.join("state"))?;
        fs::create_dir_all(ca)?;
        let (folder, ca) = (folder.to_path_buf(), ca.to_path_buf());
        let mut swtpm = Self { folder, ca, port, _ports: lock, child: None };
        swtpm.set_up()?;
        swtpm.start()?;
        Ok(swtpm)
    }

    /// Another emulator with the state of this one, which must be stopped: what a virtual TPM allows.
    pub fn copy(&self, folder: &Path) -> Result<Self> {
        let (port, lock) = free_pair()?;
        fs::create_dir_all(folder.join("state"))?;
        for file in fs::read_dir(self.folder.join("state"))? {
            let file = file?;
            fs::copy(file.path(), folder.join("state").join(file.file_name()))?;
        }
        let (folder, ca) = (folder.to_path_buf(), self.ca.clone());
        let mut swtpm = Self { folder, ca, port, _ports: Some(lock), child: None };
        swtpm.start()?;
        Ok(swtpm)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn set_up(&self) -> Result<()> {
        let (ca, path) = (self.ca.display(), |name: &str| self.folder.join(name));
        let localca = which_path("swtpm_localca").context("swtpm_localca is not installed")?;
        let settings = format!(
            "statedir={ca}\nsigningkey={ca}/signkey.pem\nissuercert={ca}/issuercert.pem\n\
             certserial={ca}/certserial\n"
        );
        fs::write(path("localca.conf"), settings)?;
        let platform =
            "--platform-manufacturer Guankou\n--platform-version 1.0\n--platform-model box\n";
        fs::write(path("localca.options"), platform)?;
        let setup = format!(
            "create_certs_tool={}\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\n\
             active_pcr_banks=sha256\n",
            localca.display(),
            path("localca.conf").display(),
            path("localca.options").display()
        );
        fs::write(path("setup.conf"), setup)?;
        let output = Command::new("swtpm_setup")
            .args(["--tpm2", "--createek", "--create-ek-cert", "--create-platform-cert"])
            .args(["--lock-nvram", "--pcr-banks", "sha256", "--overwrite", "--tpmstate"])
            .arg(path("state"))
            .arg("--config")
            .arg(path("setup.conf"))
            .output()?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!("swtpm_setup failed: {}", String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// Starts the emulator over its state, at the port that it had before.
    pub fn start(&mut self) -> Result<()> {
        let (port, control) = (self.port, self.port + 1);
        let log = File::create(self.folder.join("swtpm.log"))?;
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.join("state").display()))
            .arg("--server")
            .arg(format!("type=tcp,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,port={control}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("swtpm cannot be started")?;
        self.child = Some(child);
        let deadline = Instant::now() + START_WAIT;
        while TcpStream::connect(("127.0.0.1", control)).is_err() {
            let has_ended =
                self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if has_ended || Instant::now() > deadline {
                bail!("swtpm does not listen; see {}/swtpm.log", self.folder.display());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Without warning, as a power cut.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops answering without closing anything, or goes on.
    pub fn freeze(&self, is_frozen: bool) -> Result<()> {
        let child = self.child.as_ref().context("the emulator does not run")?;
        let signal = if is_frozen { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill {signal} failed") }
    }

    /// In order: the TPM is told first, else it counts a wrong password.
    pub fn stop(&mut self) -> Result<()> {
        let quietly =
            |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        quietly(Command::new("tpm2_shutdown").args(["-c", "-T", &self.tcti()]))?;
        let control = format!("127.0.0.1:{}", self.port + 1);
        quietly(Command::new("swtpm_ioctl").args(["--tcp", &control, "-s"]))?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Where clients find it.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// PEM files of the test CA: its root, and the intermediate that signs.
    pub fn makers(&self) -> [PathBuf; 2] {
        [self.ca.join("swtpm-localca-rootca-cert.pem"), self.ca.join("issuercert.pem")]
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

fn which_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.exists())
}

fn which(name: &str) -> bool {
    which_path(name).is_some()
}

/// A port whose next one, the control port, is free too, and the lock that keeps both ours: tests of several
/// programs run beside each other.
fn free_pair() -> Result<(u16, File)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let pairs = (PORT_LAST - PORT_FIRST) / 2;
    // Programs begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(pairs)).expect("pairs are few");
    let folder = std::env::temp_dir().join("guankou-swtpm-ports");
    fs::create_dir_all(&folder)?;
    for _ in 0..pairs {
        let place =
            (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(pairs);
        let port = PORT_FIRST + 2 * u16::try_from(place).expect("pairs are few");
        let lock = File::create(folder.join(port.to_string()))?;
        let is_ours = lock.try_lock().is_ok();
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_ours && is_free(port) && is_free(port + 1) {
            return Ok((port, lock));
        }
    }
    bail!("there are no two free ports beside each other")
}
