//! Programs that we did not write check what a run left: sha256sum, tpm2_checkquote, OpenSSL, scitt-cose, and Go's
//! `sumdb/note` and `sumdb/tlog`. Each is shown a changed copy, too, and must refuse it.
//!
//! Nothing has to run: the commands read what is on the disk.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the checks are, and whose Python runs scitt-cose.
pub struct Outsiders {
    /// `tests/verifiers`.
    pub verifiers: PathBuf,
    pub python: Option<PathBuf>,
}

/// Runs a program; `None` when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.success(), text))
}

fn skip(what: &str) -> Result<()> {
    println!("SKIP: {what}; cargo verify installs it");
    Ok(())
}

impl Outsiders {
    /// Bundle and tiles of the box's log.
    pub fn check(&self, stage: &Stage) -> Result<()> {
        let bundle = self.bundle(stage)?;
        check_sums(&bundle)?;
        check_quote(&bundle)?;
        check_head(&bundle)?;
        self.check_receipt(&bundle)?;
        self.check_tiles(stage)
    }

    /// All entries, unpacked.
    fn bundle(&self, stage: &Stage) -> Result<PathBuf> {
        let (tar, folder) = (stage.folder.join("all.tar"), stage.folder.join("all"));
        let out = tar.display().to_string();
        let made = stage.guan_json(&["log", "export", "--out", &out, "--by", "a test"])?;
        ensure!(made["receipts"] == true, "no receipts: {made}");
        fs::create_dir(&folder)?;
        let unpacked = run("tar", &["-xf", &out, "-C", &folder.display().to_string()]);
        ensure!(unpacked.context("tar is not installed")?.0, "the bundle cannot be unpacked");
        Ok(folder)
    }

    /// scitt-cose reads the COSE receipt of an entry.
    fn check_receipt(&self, bundle: &Path) -> Result<()> {
        let Some(python) = self.python.as_ref().map(|path| path.display().to_string()) else {
            return skip("there is no Python with scitt-cose");
        };
        let file = |name: &str| bundle.join(name).display().to_string();
        let script = self.verifiers.join("receipt.py").display().to_string();
        let (receipt, leaf, other) =
            (file("receipts/3.cbor"), file("entries/3.cbor"), file("entries/4.cbor"));
        let key = log_key(bundle)?;
        let (holds, text) =
            run(&python, &[&script, &receipt, &leaf, &key]).context("Python does not start")?;
        ensure!(holds, "scitt-cose refuses a receipt: {text}");
        let (holds, _) =
            run(&python, &[&script, &receipt, &other, &key]).context("Python does not start")?;
        ensure!(!holds, "scitt-cose takes another entry");
        Ok(())
    }

    /// Go's sumdb reads the whole log.
    fn check_tiles(&self, stage: &Stage) -> Result<()> {
        let path = |name: &str| stage.folder.join(name).display().to_string();
        let (tiles, tool) = (path("tiles"), path("tlog"));
        stage.guan_json(&["log", "export", "--tiles", &tiles])?;
        let key = fs::read_to_string(format!("{tiles}/log.vkey"))?;
        let built = Command::new("go")
            .args(["build", "-o", &tool])
            .arg(self.verifiers.join("tlog.go"))
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")])
            .env("GOCACHE", path("go-cache"))
            .output();
        let Ok(built) = built else { return skip("Go is not there") };
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let verify = || run(&tool, &[&tiles, key.trim()]).context("it was just built");
        let (holds, text) = verify()?;
        ensure!(holds, "sumdb refuses the log: {text}");
        let partial = fs::read_dir(format!("{tiles}/tile/entries/000.p"));
        let partial = partial.map(|mut files| files.next());
        let entries = match partial {
            Ok(Some(file)) => file?.path(),
            _ => PathBuf::from(format!("{tiles}/tile/entries/000")),
        };
        let mut bytes = fs::read(&entries)?;
        *bytes.last_mut().context("a tile without entries")? ^= 1;
        fs::write(&entries, bytes)?;
        ensure!(!verify()?.0, "sumdb takes a changed entry");
        Ok(())
    }
}

fn check_sums(bundle: &Path) -> Result<()> {
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["-c", "--quiet", "manifest.sha256"]).current_dir(bundle).output()
    };
    ensure!(check()?.status.success(), "sha256sum refuses the bundle");
    let entry = bundle.join("entries/3.cbor");
    let whole = fs::read(&entry)?;
    let mut changed = whole.clone();
    changed[10] ^= 1;
    fs::write(&entry, changed)?;
    let is_taken = check()?.status.success();
    fs::write(&entry, whole)?;
    ensure!(!is_taken, "sha256sum takes a changed entry");
    Ok(())
}

/// tpm2-tools check a quote over a head; a box without TPM has none.
fn check_quote(bundle: &Path) -> Result<()> {
    let Ok(anchors) = fs::read_dir(bundle.join("anchors")) else { return Ok(()) };
    let names = anchors.flatten().filter_map(|file| file.file_name().into_string().ok());
    let anchor = names.filter_map(|name| name.strip_suffix(".msg").map(str::to_owned)).next();
    let anchor = anchor.context("a folder of anchors without any")?;
    let file =
        |ending: &str| bundle.join(format!("anchors/{anchor}.{ending}")).display().to_string();
    let (key, message) = (bundle.join("ak.pem").display().to_string(), file("msg"));
    let (signature, registers) = (file("sig"), file("pcrs"));
    let qualifying = fs::read_to_string(file("qualifying"))?;
    let quote = |qualifying: &str| {
        let arguments = [
            "-u", &key, "-m", &message, "-s", &signature, "-f", &registers, "-g", "sha256", "-q",
            qualifying,
        ];
        run("tpm2_checkquote", &arguments)
    };
    let Some((holds, text)) = quote(qualifying.trim()) else {
        return skip("tpm2-tools are not there");
    };
    ensure!(holds, "tpm2_checkquote refuses a quote: {text}");
    let other = quote(&format!("{:064x}", 7)).context("it was there just now")?;
    ensure!(!other.0, "tpm2_checkquote takes another head");
    Ok(())
}

fn log_key(bundle: &Path) -> Result<String> {
    let policy = fs::read_to_string(bundle.join("policy"))?;
    let key = policy.lines().find_map(|line| line.strip_prefix("log "));
    Ok(key.context("the policy names no log")?.to_owned())
}

/// OpenSSL checks the line of the log in the signed head, and no other text under it.
fn check_head(bundle: &Path) -> Result<()> {
    let (key, checkpoint) = (log_key(bundle)?, fs::read_to_string(bundle.join("checkpoint"))?);
    let encoded = key.splitn(3, '+').nth(2).context("a key without its bytes")?;
    let line = checkpoint.lines().find(|line| line.starts_with('\u{2014}'));
    let line = line.context("the head has no signature")?;
    let key = STANDARD.decode(encoded)?;
    let signature = STANDARD.decode(line.rsplit(' ').next().unwrap_or_default())?;
    let (text, _) = checkpoint.split_once("\n\n").context("the head has no end")?;
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410) before the 32 bytes.
    let spki = [&[0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0][..], &key[1..]].concat();
    let put = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = bundle.with_file_name(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let (key, signature) = (put("log.der", &spki)?, put("head.sig", &signature[4..])?);
    let verify = |text: &str| -> Result<Option<(bool, String)>> {
        let text = put("head.txt", text.as_bytes())?;
        let key = ["-verify", "-pubin", "-inkey", &key, "-keyform", "DER"];
        let rest = ["-rawin", "-in", &text, "-sigfile", &signature];
        Ok(run("openssl", &[&["pkeyutl"][..], &key, &rest].concat()))
    };
    let Some((holds, said)) = verify(&format!("{text}\n"))? else {
        return skip("OpenSSL is not there");
    };
    ensure!(holds, "OpenSSL refuses a head: {said}");
    let other = verify(&format!("{text}\n1\n"))?.context("it was there just now")?;
    ensure!(!other.0, "OpenSSL takes another head");
    Ok(())
}
