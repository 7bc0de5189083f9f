//! `guan log export` and `guan log prove` on a log that lies on the disk, with no daemon.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_edge::run::{COSIGNED_FILE, LOG_DIR, SPOOL_DIR};
use guan_evidence::dossier::{Believed, Dossier, Files};
use guan_evidence::receipt::Receipt;
use guan_evidence::{Checkpoint, Leaf, LeafBody, TlogProof, Tree, VerifierKey, leaf_hash};
use guan_identity::LogKeyFile;
use guan_log::{ACTS_DIR, ACTS_MAX, Act, Acts, Bundles, Epoch};
use guan_model::{BootNumber, ClockQuality, Digest, WallTime};
use guan_spool::OsDisk;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const ORIGIN: &str = "guan/demo-box";

struct Box {
    folder: tempfile::TempDir,
    config: String,
    leaves: Vec<Bytes>,
    key: LogKeyFile,
}

impl Box {
    /// A log of one full bundle, signed.
    fn new() -> Self {
        Self::of_epoch(Epoch::FIRST)
    }

    fn of_epoch(epoch: Epoch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/demo/edge.toml");
        let text = fs::read_to_string(sample).unwrap().replace(&"0".repeat(64), KEY);
        let config = folder.path().join("edge.toml");
        fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let made = Command::new(env!("CARGO_BIN_EXE_guan"))
            .args(["identity", "init", "--config", &config])
            .output()
            .unwrap();
        assert!(made.status.success());
        let key = LogKeyFile::load(&folder.path().join("identity/log-key.pem"), ORIGIN).unwrap();
        let leaves = (0..256).map(|seq| {
            let body = match seq % 2 {
                0 => LeafBody::Stop,
                _ => LeafBody::ClockStep {
                    from: WallTime::from_millis(0),
                    to: WallTime::from_millis(seq),
                },
            };
            let leaf = Leaf {
                seq: seq.unsigned_abs(),
                wall: WallTime::from_millis(1_800_000_000_000 + seq),
                boot: BootNumber(1),
                monotonic: Duration::from_millis(seq.unsigned_abs()),
                clock_quality: ClockQuality::Ntp,
                actor: None,
                body,
            };
            Bytes::from(leaf.encode())
        });
        let made = Self { leaves: leaves.collect(), folder, config, key };
        fs::create_dir_all(made.state(SPOOL_DIR)).unwrap();
        let disk = OsDisk::open_exclusive(&made.state(LOG_DIR)).unwrap();
        let bundles = Bundles::of(disk, epoch);
        bundles.seal(&mut bundles.recover_subtrees().unwrap(), &made.leaves).unwrap();
        let mut tree = Tree::new();
        made.leaves.iter().for_each(|leaf| _ = tree.append(leaf_hash(leaf)));
        let head = Checkpoint::sign(&epoch.origin(ORIGIN), 256, &tree.root(), &made.key);
        bundles.set_checkpoint(&head.unwrap()).unwrap();
        made
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("state").join(name)
    }

    /// As root can: the file of the oldest full bundle is gone.
    fn take_away(&self) {
        let files = fs::read_dir(self.state(LOG_DIR)).unwrap().map(|file| file.unwrap().path());
        let is_bundle =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("entries-");
        fs::remove_file(files.filter(is_bundle).min().unwrap()).unwrap();
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, arguments: &[&str], success: bool, part: &str) -> String {
        let guan = Command::new(env!("CARGO_BIN_EXE_guan"))
            .arg("log")
            .args(arguments)
            .args(["--config", &self.config])
            .output()
            .unwrap();
        let text = String::from_utf8([guan.stdout, guan.stderr].concat()).unwrap();
        assert_eq!(guan.status.success(), success, "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?} does not say {part}: {text}");
        text
    }
}

fn files(tar: &Path) -> Files {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn a_bundle_without_a_daemon() {
    let a_box = Box::new();
    let tar = a_box.out("b.tar");
    let out = tar.display().to_string();
    let only = ["--from", "10", "--through", "19", "--kind", "clock.step"];
    a_box.check(&[&["export", "--out", &out][..], &only].concat(), true, "5 entries of guan/demo");
    a_box.check(&["export", "--out", &out], false, "is it there already");
    let files = files(&tar);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!((dossier.entries.len(), dossier.receipts), (5, 5));
    let seqs: Vec<u64> = dossier.entries.iter().map(|leaf| leaf.seq).collect();
    assert_eq!(seqs, [11, 13, 15, 17, 19]);
}

/// The log is to say who asked for a bundle, before anybody has it; without that there is none.
#[test]
fn a_bundle_that_cannot_be_recorded_is_not_made() {
    let a_box = Box::new();
    let out = |name: &str| a_box.out(name).display().to_string();
    let export = |name: &str, success, part: &str| {
        a_box.check(
            &["export", "--through", "4", "--by", "li", "--out", &out(name)],
            success,
            part,
        );
    };
    export("first", true, "5 entries of guan/demo");
    let acts = Acts::reader(OsDisk::open_read_only(&a_box.state(ACTS_DIR)).unwrap());
    let waiting = acts.waiting().unwrap();
    let Ok(Act::Exported { actor, exported }) = acts.read(&waiting[0]) else { panic!("an export") };
    assert_eq!((waiting.len(), exported.from, exported.through, exported.entries), (1, 0, 4, 5));
    let files = files(&a_box.out("first"));
    assert_eq!(exported.manifest, Digest::of(&files["manifest.sha256"]));
    assert_eq!(acts.openings().unwrap().name_of(actor.as_ref()), Some("li"));
    for number in 1..ACTS_MAX {
        let other = a_box.state(ACTS_DIR).join(format!("{number:020}.act"));
        fs::copy(a_box.state(ACTS_DIR).join(&waiting[0]), other).unwrap();
    }
    export("refused", false, "start `guan run`");
    assert!(!a_box.out("refused").exists());
    assert_eq!(acts.openings().unwrap().known.len(), 1, "nobody is kept for nothing");
    a_box.check(&["export", "--by", "two\nlines", "--out", &out("b")], false, "--by is no name");
    let erase = ["erase", "--actor", "wang", "--ground", "legal-duty"];
    a_box.check(&erase, false, "there is nothing to erase");
    a_box.check(&["erase", "--index", "3", "--ground", "legal-duty"], false, "nothing to erase");
    a_box.check(&["erase", "--index", "256", "--ground", "legal-duty"], false, "no entry 256");
    a_box.check(&["erase", "--actor", "li", "--ground", "because"], false, "purpose-achieved");
}

/// Sealed under a TPM the log's key lies in no file: there are no receipts, and that is said.
#[test]
fn a_bundle_without_receipts_says_so() {
    let a_box = Box::new();
    let file = a_box.folder.path().join("identity/log-key.pem");
    fs::remove_file(&file).unwrap();
    let public = VerifierKey::of(&a_box.key).unwrap();
    fs::write(file.with_extension("pub"), format!("{public}\n")).unwrap();
    let sealed = "tier = \"emulated\"\ntpm = \"swtpm:host=127.0.0.1,port=2321\"\n\
                  store_policies = \"policies\"\nstore_policy_key = \"release.pem\"";
    let text = fs::read_to_string(&a_box.config).unwrap();
    fs::write(&a_box.config, text.replace("tier = \"unattested\"", sealed)).unwrap();
    let tar = a_box.out("b.tar");
    let out = tar.display().to_string();
    a_box.check(&["export", "--through", "4", "--out", &out], true, "no receipts: they need");
    let dossier = Dossier::check(&files(&tar), Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!((dossier.entries.len(), dossier.receipts), (5, 0));
    let receipt = a_box.out("r").display().to_string();
    let arguments = ["prove", "--index", "1", "--receipt", "--out", &receipt];
    a_box.check(&arguments, false, "receipts need the log's key in a file");
    a_box.check(&["prove", "--index", "1"], true, "index 1");
}

#[test]
fn a_proof_and_a_receipt_of_one_entry() {
    let a_box = Box::new();
    let key = VerifierKey::of(&a_box.key).unwrap();
    let policy = guan_evidence::Policy::of_logs(std::slice::from_ref(&key)).unwrap();
    let printed = a_box.check(&["prove", "--index", "255"], true, "index 255");
    let (proof, receipt) = (a_box.out("p"), a_box.out("r"));
    let (p, r) = (proof.display().to_string(), receipt.display().to_string());
    a_box.check(&["prove", "--index", "255", "--out", &p], true, "entry 255");
    let written = fs::read_to_string(&proof).unwrap();
    assert_eq!(written, printed);
    TlogProof::parse(&written).unwrap().verify(&a_box.leaves[255], &policy).unwrap();
    a_box.check(&["prove", "--index", "255", "--receipt", "--out", &r], true, "entry 255");
    let receipt = Receipt::decode(&fs::read(&receipt).unwrap()).unwrap();
    receipt.verify_inclusion(&a_box.leaves[255], &key).unwrap();
    assert!(receipt.verify_inclusion(&a_box.leaves[254], &key).is_err());
    a_box.check(&["prove", "--index", "1", "--receipt"], false, "--out");
    a_box.check(&["prove", "--index", "1", "--out", &p], false, "is it there already");
    a_box.check(&["prove", "--index", "256"], false, "no head over 257 entries");
    a_box.check(&["prove", "--index", &u64::MAX.to_string()], false, "no log is that long");
}

/// Whoever can write a file beside the log gets no signature of the log's key on a root of their own.
#[test]
fn nothing_is_handed_out_under_a_head_of_another_log() {
    let a_box = Box::new();
    let out = a_box.out("r").display().to_string();
    let root = Digest([7; 32]);
    let forged = Checkpoint::sign(ORIGIN, 256, &root, &a_box.key).unwrap();
    let (text, _) = forged.split_once("\n\n").unwrap();
    let unsigned = format!("{text}\n\n\u{2014} {ORIGIN} AAAAAAAA\n");
    for head in [forged, unsigned] {
        fs::write(a_box.state(COSIGNED_FILE), head).unwrap();
        for arguments in [
            &["prove", "--index", "3", "--receipt", "--out", &out][..],
            &["prove", "--index", "3"],
            &["export", "--out", &out],
        ] {
            a_box.check(arguments, false, "is not of this log");
            assert!(!Path::new(&out).exists());
        }
    }
}

/// Runs the commands of steps 1 and 2 of the README, which need nothing of ours.
fn run_steps(folder: &Path, index: u64) {
    let readme = fs::read_to_string(folder.join("README")).unwrap();
    let (first, rest) = readme.split_once("\n1. ").unwrap();
    let (steps, _) = rest.split_once("\n3. ").unwrap();
    assert!(first.contains("sha256sum"));
    let scratch = folder.display().to_string();
    let indented = steps.lines().filter_map(|line| line.strip_prefix("     "));
    let lines = indented.map(|line| line.strip_prefix("$ ").unwrap_or(&line[2..]));
    let script = lines.collect::<Vec<_>>().join("\n").replace("/tmp/", &format!("{scratch}/"));
    let script = format!("set -e\nN={index}\n{script}\n");
    let ran = Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success(), "{script}\n{said}");
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    assert!(said.contains(&format!("entry {index} is in the log of 256")), "{said}");
}

/// A log that ended in loss goes on as an epoch, whose heads are signed under the epoch's own name: all that
/// is handed out of it can be checked by programs that know C2SP alone.
#[test]
fn an_epoch_is_exported_under_its_own_name() {
    let a_box = Box::of_epoch(Epoch::new(2).unwrap());
    let tar = a_box.out("b.tar");
    let out = tar.display().to_string();
    a_box.check(&["export", "--through", "4", "--out", &out], true, "of guan/demo-box/e2");
    let files = files(&tar);
    let dossier = Dossier::check(&files, Believed::default()).unwrap();
    assert!(dossier.holds(), "{:?}", dossier.findings);
    let key = VerifierKey::of(&a_box.key).unwrap();
    let second = VerifierKey::new("guan/demo-box/e2", key.key_bytes()).unwrap();
    assert_eq!(dossier.signed, std::slice::from_ref(&second));
    assert_eq!((dossier.entries.len(), dossier.receipts), (5, 5));
    assert!(dossier.own_policy.log_keys().eq([&second]));
    // Whoever knows the log by the name of its first epoch knows this one.
    let policy = guan_evidence::Policy::of_logs(std::slice::from_ref(&key)).unwrap();
    let believed = Believed { policy: Some(&policy), ..Believed::default() };
    assert!(Dossier::check(&files, believed).unwrap().holds());
    let unpacked = a_box.out("b");
    for (name, bytes) in &files {
        let path = unpacked.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    run_steps(&unpacked, 3);
    let proof = a_box.check(&["prove", "--index", "7"], true, "index 7");
    let exact = guan_evidence::Policy::of_logs(std::slice::from_ref(&second)).unwrap();
    TlogProof::parse(&proof).unwrap().verify(&a_box.leaves[7], &exact).unwrap();
    let tiles = a_box.out("t");
    a_box.check(&["export", "--tiles", &tiles.display().to_string()], true, "demo-box/e2");
    assert_eq!(fs::read_to_string(tiles.join("log.vkey")).unwrap(), format!("{second}\n"));
    a_box.check(&["head", "--json"], true, &second.to_string());
}

/// Whoever takes the oldest entries off the disk is not believed: only a leaf that is left can say that they went
/// by rule.
#[test]
fn entries_that_were_taken_away_are_missed() {
    let a_box = Box::new();
    let disk = OsDisk::open_exclusive(&a_box.state(LOG_DIR)).unwrap();
    let bundles = Bundles::of(disk.clone(), Epoch::FIRST);
    let mut subtrees = bundles.recover_subtrees().unwrap();
    let mut tree = Tree::new();
    a_box.leaves.iter().for_each(|leaf| _ = tree.append(leaf_hash(leaf)));
    let dropped = tree.root();
    let mut second: Vec<Bytes> = Vec::new();
    for seq in 256..512 {
        let mut leaf = Leaf::decode(&a_box.leaves[0]).unwrap();
        leaf.seq = seq;
        if seq == 300 {
            let prune = guan_evidence::Prune { before: 0, first: 256, root: dropped };
            leaf.body = LeafBody::Prune(prune);
        }
        second.push(Bytes::from(leaf.encode()));
    }
    bundles.seal(&mut subtrees, &second).unwrap();
    let mut both = tree.clone();
    second.iter().for_each(|leaf| _ = both.append(leaf_hash(leaf)));
    let head = Checkpoint::sign(ORIGIN, 512, &both.root(), &a_box.key).unwrap();
    bundles.set_checkpoint(&head).unwrap();
    a_box.take_away();
    drop(disk);
    a_box.check(&["verify"], true, "verified, as far as it is here");
    a_box.check(&["verify", "--json"], true, "\"pruned_before\":256");
    // The same without that leaf.
    let a_box = Box::new();
    let disk = OsDisk::open_exclusive(&a_box.state(LOG_DIR)).unwrap();
    let bundles = Bundles::of(disk, Epoch::FIRST);
    let mut other = Leaf::decode(&second[44]).unwrap();
    other.body = LeafBody::Stop;
    second[44] = Bytes::from(other.encode());
    bundles.seal(&mut bundles.recover_subtrees().unwrap(), &second).unwrap();
    second.iter().for_each(|leaf| _ = tree.append(leaf_hash(leaf)));
    let head = Checkpoint::sign(ORIGIN, 512, &tree.root(), &a_box.key).unwrap();
    bundles.set_checkpoint(&head).unwrap();
    a_box.take_away();
    let said = a_box.check(&["verify"], false, "somebody took them away");
    assert!(said.contains("NOT verified"), "{said}");
}

/// A bundle that cannot be read is damage with a range, and no reason to say nothing of the rest.
#[test]
fn a_damaged_bundle_is_told_with_its_range() {
    let a_box = Box::new();
    a_box.check(&["verify"], false, "FAULT");
    let before = a_box.check(&["verify"], false, "entries, 256 under a signed head");
    assert!(!before.contains("cannot be read"), "{before}");
    let files = fs::read_dir(a_box.state(LOG_DIR)).unwrap().map(|file| file.unwrap().path());
    let bundle =
        files.filter(|path| path.display().to_string().contains("/entries-")).min().unwrap();
    let bytes = fs::read(&bundle).unwrap();
    fs::write(&bundle, &bytes[..bytes.len() - 9]).unwrap();
    let said = a_box.check(&["verify"], false, "leaves 0 to 255 cannot be read");
    assert!(said.contains("NOT verified"), "{said}");
}

/// An authority of OpenSSL: its key, its certificate, and the answer to a request. `None` without OpenSSL.
struct OpenSsl {
    folder: tempfile::TempDir,
}

impl OpenSsl {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = ext\n[dn]\nCN = Authority\n\
                      [ext]\nextendedKeyUsage = critical, timeStamping\n[tsa]\nserial = serial\n\
                      default_policy = 1.2.3.4.1\ndigests = sha256\nsigner_digest = sha256\n";
        fs::write(folder.path().join("tsa.cnf"), config).unwrap();
        fs::write(folder.path().join("serial"), "01\n").unwrap();
        let made = Self { folder };
        let curve = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "tsa.key"];
        if made.run(&curve).is_none() {
            println!("SKIP: OpenSSL is not installed");
            return None;
        }
        let request =
            ["req", "-new", "-x509", "-config", "tsa.cnf", "-key", "tsa.key", "-days", "30"];
        assert_eq!(made.run(&[&request[..], &["-out", "tsa.pem"]].concat()), Some(true));
        Some(made)
    }

    /// Whether it succeeds.
    fn run(&self, arguments: &[&str]) -> Option<bool> {
        let output =
            Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
        Some(output.ok()?.status.success())
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn answer(&self, query: &str, name: &str) {
        let reply = ["ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", query];
        let more = ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", name];
        assert_eq!(self.run(&[&reply[..], &more].concat()), Some(true));
    }
}

/// An authority that knows nothing of us answers, its answer goes into bundles, and both sides check it.
#[test]
fn an_authority_stamps_a_head() {
    let (Some(tsa), Some(other)) = (OpenSsl::new(), OpenSsl::new()) else { return };
    let a_box = Box::new();
    let query = a_box.out("q.tsq").display().to_string();
    a_box.check(&["timestamp", "request", "--out", &query], true, "over 256 entries");
    a_box.check(&["timestamp", "request", "--out", &query], false, "is there already");
    tsa.answer(&query, "a.tsr");
    let (answer, pem) = (tsa.file("a.tsr"), tsa.file("tsa.pem"));
    let attach = |answer: &str, pem: &str, success: bool, part: &str| {
        a_box.check(&["timestamp", "attach", answer, "--tsa", pem], success, part)
    };
    attach(&answer, &other.file("tsa.pem"), false, "another certificate");
    attach(&query, &pem, false, "is not the answer");
    // About something else.
    fs::write(a_box.out("else"), "else").unwrap();
    let data = a_box.out("else").display().to_string();
    assert_eq!(tsa.run(&["ts", "-query", "-data", &data, "-sha256", "-out", "b.tsq"]), Some(true));
    tsa.answer("b.tsq", "b.tsr");
    attach(&tsa.file("b.tsr"), &pem, false, "about no head");
    attach(&answer, &pem, true, "256 entries of guan/demo-box were there by 20");
    let tar = a_box.out("stamped.tar");
    a_box.check(
        &["export", "--out", &tar.display().to_string(), "--from", "7", "--through", "9"],
        true,
        "3",
    );
    let files = files(&tar);
    let authority = |one: &OpenSsl| {
        let pem = fs::read_to_string(one.file("tsa.pem")).unwrap();
        guan_evidence::timestamp::Authority::from_pem(&pem).unwrap()
    };
    let judge = |files: &Files, authority: Option<&guan_evidence::timestamp::Authority>| {
        Dossier::check(files, Believed { authority, ..Believed::default() }).unwrap()
    };
    let right = authority(&tsa);
    let dossier = judge(&files, Some(&right));
    assert!(dossier.holds(), "{:?}", dossier.findings);
    assert_eq!(dossier.stamped.len(), 1);
    assert_eq!(dossier.not_after_s(8), u64::try_from(dossier.stamped[0].seconds).ok());
    // Without a certificate it is told and not believed; with another one it is a finding.
    let unchecked = judge(&files, None);
    assert!(unchecked.holds() && unchecked.not_after_s(8).is_none());
    assert!(unchecked.remarks.iter().any(|one| one.to_string().contains("time stamp over 256")));
    assert!(!judge(&files, Some(&authority(&other))).holds());
    for name in ["stamps/256.tsr", "stamps/256.head", "stamps/256.consistency"] {
        let mut cut = files.clone();
        cut.remove(name).unwrap();
        let found = judge(&cut, Some(&right));
        let is_stamp = |one: &guan_evidence::dossier::Finding| one.to_string().contains("256");
        assert!(found.findings.iter().any(is_stamp), "{name}: {:?}", found.findings);
    }
    // OpenSSL itself, on the files of the bundle.
    for name in ["stamps/256.head", "stamps/256.tsr"] {
        fs::write(tsa.file(name.trim_start_matches("stamps/")), &files[name]).unwrap();
    }
    let verify = ["ts", "-verify", "-in", "256.tsr", "-CAfile", "tsa.pem", "-data"];
    assert_eq!(tsa.run(&[&verify[..], &["256.head"]].concat()), Some(true));
    assert_eq!(tsa.run(&[&verify[..], &["tsa.cnf"]].concat()), Some(false));
}
