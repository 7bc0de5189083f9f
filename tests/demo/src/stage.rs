//! Sets box and space up as an operator would, with the programs' own commands, and runs them.

use crate::swtpm::Swtpm;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY_WAIT: Duration = Duration::from_secs(20);
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Folder, programs and ports of one run.
pub struct Stage {
    pub folder: PathBuf,
    programs: PathBuf,
    configs: PathBuf,
    pub mqtt_port: u16,
    pub relay_port: u16,
    pub space_port: u16,
    /// Environment of `guan`, beside that of this program.
    pub guan_environment: Vec<(String, String)>,
    /// The same of `guan-space`.
    pub space_environment: Vec<(String, String)>,
    /// The box's TPM; without one its key is a file.
    pub tpm: Option<Swtpm>,
    join_port: u16,
}

/// A running program, killed when it is dropped.
pub struct Running {
    child: Child,
    name: &'static str,
}

impl Stage {
    pub fn new(folder: PathBuf, programs: PathBuf, configs: PathBuf, ports: [u16; 3]) -> Self {
        let [mqtt_port, relay_port, space_port] = ports;
        let (guan_environment, space_environment) = (Vec::new(), Vec::new());
        let (tpm, join_port) = (None, 0);
        Self {
            folder,
            programs,
            configs,
            mqtt_port,
            relay_port,
            space_port,
            guan_environment,
            space_environment,
            tpm,
            join_port,
        }
    }

    /// Gives the box an emulated TPM, whose test CA the space will believe. Before `set_up`.
    pub fn add_tpm(&mut self) -> Result<()> {
        let (tpm, ca) = (self.folder.join("tpm"), self.folder.join("tpm-ca"));
        self.tpm = Some(Swtpm::make(&tpm, &ca)?);
        self.join_port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(())
    }

    pub fn space_config(&self) -> PathBuf {
        self.folder.join("space/space.toml")
    }

    pub fn box_config(&self) -> PathBuf {
        self.folder.join("box/edge.toml")
    }

    /// Authority, keys, enrolment, contracts, and the demo's configuration.
    pub fn set_up(&self, contracts: &[&str]) -> Result<()> {
        self.set_up_with(contracts, |configuration| configuration)
    }

    /// As [`set_up`](Self::set_up), with a configuration that is changed first.
    pub fn set_up_with(
        &self,
        contracts: &[&str],
        change: impl FnOnce(String) -> String,
    ) -> Result<()> {
        let (space, edge) = (self.folder.join("space"), self.folder.join("box"));
        std::fs::create_dir_all(edge.join("contracts"))?;
        let listen = format!("127.0.0.1:{}", self.space_port);
        let dir = space.display().to_string();
        let init = ["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"];
        self.space(&[&init[..], &["--listen", &listen]].concat())?;
        let key = self.space_json(&["contract", "key"])?;
        let key = key["ed25519"].as_str().context("contract key prints ed25519")?;
        let sample = self.configs.join("demo/edge.toml");
        let text = std::fs::read_to_string(&sample)
            .with_context(|| format!("{} cannot be read", sample.display()))?
            .replace("127.0.0.1:18830", &format!("127.0.0.1:{}", self.mqtt_port))
            .replace("127.0.0.1:14433", &format!("127.0.0.1:{}", self.relay_port))
            .replace(&"0".repeat(64), key);
        let text = match &self.tpm {
            Some(tpm) => {
                let named = format!("tier = \"emulated\"\ntpm = \"{}\"", tpm.tcti());
                text.replace("tier = \"unattested\"", &named)
            }
            None => text,
        };
        std::fs::write(self.box_config(), change(text))?;
        match &self.tpm {
            Some(tpm) => self.believe(tpm)?,
            None => self.enrol()?,
        }
        for name in contracts {
            let input = self.configs.join(format!("contracts/{name}.json")).display().to_string();
            let output = edge.join(format!("contracts/{name}.json")).display().to_string();
            self.space_json(&["contract", "sign", "--in", &input, "--out", &output])?;
        }
        self.guan_json(&["contract", "check"])?;
        Ok(())
    }

    /// Gives each party a key, and lets the box and the space trust it.
    pub fn add_parties(&self, parties: &[&str]) -> Result<()> {
        let folder = self.folder.join("parties");
        std::fs::create_dir_all(&folder)?;
        let mut text = std::fs::read_to_string(self.box_config())?;
        for party in parties {
            let lines = self.make_party(party)?;
            text.push_str(&format!("\n{lines}"));
        }
        Ok(std::fs::write(self.box_config(), text)?)
    }

    /// A party that only the space knows; gives the lines for a box that is to trust it.
    pub fn make_party(&self, party: &str) -> Result<String> {
        let public = self.folder.join(format!("space/parties/{party}.pub.pem"));
        let (file, public) = (self.key_of(party), public.display().to_string());
        let keygen = ["contract", "keygen", "--party", party, "--out", &file];
        self.space(&[&keygen[..], &["--public", &public]].concat())
    }

    fn key_of(&self, party: &str) -> String {
        self.folder.join(format!("parties/{party}.pem")).display().to_string()
    }

    /// Has parties sign a contract and gives it to the box.
    pub fn issue(&self, contract: &Value, signers: &[&str]) -> Result<()> {
        let file = self.folder.join("parties/contract.json");
        std::fs::write(&file, contract.to_string())?;
        let file = file.display().to_string();
        for party in signers {
            let by = ["--party", party, "--key", &self.key_of(party)];
            let sign = ["contract", "sign", "--in", &file, "--out", &file];
            self.space_json(&[&sign[..], &by[..]].concat())?;
        }
        self.space_json(&["contract", "issue", "--box", "demo-box", &file])?;
        Ok(())
    }

    /// The space pins the test CA as a maker, and lets boxes join.
    fn believe(&self, tpm: &Swtpm) -> Result<()> {
        let makers = self.folder.join("space/makers.pem");
        let certificates = tpm.makers().map(std::fs::read_to_string);
        let certificates: Result<Vec<_>, _> = certificates.into_iter().collect();
        std::fs::write(&makers, certificates?.concat())?;
        let join = format!("[listen]\njoin_address = \"127.0.0.1:{}\"", self.join_port);
        let maker = format!(
            "accept_tiers = [\"emulated\"]\n\n[[boxes.maker]]\nname = \"swtpm test CA\"\n\
             tier = \"emulated\"\ncertificates_file = \"{}\"",
            makers.display()
        );
        let text = std::fs::read_to_string(self.space_config())?;
        let text = text.replace("[listen]", &join);
        let text = text.replace("accept_tiers = [\"unattested\"]", &maker);
        Ok(std::fs::write(self.space_config(), text)?)
    }

    /// The box joins with a new token; the space must run. Nothing to do without a TPM.
    pub fn join(&self) -> Result<()> {
        if self.tpm.is_none() {
            return Ok(());
        }
        let token = self.token()?;
        self.join_with(&token).map(|_| ())
    }

    /// A one-time token for the box.
    pub fn token(&self) -> Result<String> {
        let token = self.space_json(&["token", "new", "--box", "demo-box"])?;
        Ok(token["token"].as_str().context("token new prints the token")?.to_owned())
    }

    pub fn join_with(&self, token: &str) -> Result<Value> {
        let space = format!("127.0.0.1:{}", self.join_port);
        self.guan_json(&["join", "--space", &space, "--token", token])
    }

    /// A key file, and a certificate that an operator carries over.
    fn enrol(&self) -> Result<()> {
        let (space, edge) = (self.folder.join("space"), self.folder.join("box"));
        let identity = self.guan_json(&["identity", "init"])?;
        let request =
            identity["request_file"].as_str().context("identity init names the request")?;
        let certificate = edge.join("identity/certificate.pem").display().to_string();
        let enrol = ["box", "enrol", "--box", "demo-box", "--csr", request];
        self.space_json(&[&enrol[..], &["--tier", "unattested", "--out", &certificate]].concat())?;
        std::fs::copy(space.join("ca.pem"), edge.join("identity/space-ca.pem"))?;
        Ok(())
    }

    /// Runs `guan-space` with these arguments and no others.
    pub fn space(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(self.programs.join("guan-space")).args(arguments))
    }

    pub fn space_json(&self, arguments: &[&str]) -> Result<Value> {
        let config = self.space_config().display().to_string();
        let text = self.space(&[arguments, &["--config", &config, "--json"]].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn guan_json(&self, arguments: &[&str]) -> Result<Value> {
        let config = self.box_config();
        let mut command = Command::new(self.programs.join("guan"));
        command.env("TSS2_LOG", "all+none");
        let text = output(command.args(arguments).arg("--config").arg(config).arg("--json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// What `guan check` exits with, and what it says.
    pub fn guan_check(&self) -> Result<(i32, Value)> {
        let mut command = Command::new(self.programs.join("guan"));
        command.env("TSS2_LOG", "all+none").args(["check", "--json", "--config"]);
        let output = command.arg(self.box_config()).output()?;
        let code = output.status.code().context("guan check was killed")?;
        Ok((code, serde_json::from_slice(&output.stdout)?))
    }

    pub fn start_space(&self) -> Result<Running> {
        self.start("guan-space", &self.space_config(), &self.space_environment)
    }

    /// Whatever it will do.
    pub fn begin_guan(&self) -> Result<Running> {
        self.start("guan", &self.box_config(), &self.guan_environment)
    }

    /// Returns when MQTT clients can connect.
    pub fn start_guan(&self) -> Result<Running> {
        let mut running = self.begin_guan()?;
        let deadline = Instant::now() + READY_WAIT;
        while TcpStream::connect(("127.0.0.1", self.mqtt_port)).is_err() {
            if let Some(status) = running.child.try_wait()? {
                bail!("guan ended at once ({status}); see {}", self.log("guan").display());
            }
            if Instant::now() > deadline {
                bail!("guan does not listen; see {}", self.log("guan").display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn start(
        &self,
        name: &'static str,
        config: &Path,
        environment: &[(String, String)],
    ) -> Result<Running> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let mut command = Command::new(self.programs.join(name));
        command
            .args(["run", "--config"])
            .arg(config)
            // The TSS libraries write to the standard error output by themselves.
            .env("TSS2_LOG", "all+none")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Running::spawn(name, &mut command)
    }
}

impl Running {
    pub fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { child, name })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended by itself.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.and_then(|status| status.code()))
    }

    /// SIGKILL: no chance to write anything.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn stop(mut self) -> Result<()> {
        output(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + STOP_WAIT;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}", self.name),
                None if Instant::now() > deadline => bail!("{} does not stop", self.name),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when it was stopped in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
