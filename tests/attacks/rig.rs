//! A box on an emulated TPM, whose disk can be copied and brought back, and the witness of a space. Both are the
//! product's own code; only the journal is a plain file.

use bytes::Bytes;
use guan_demo::swtpm::Swtpm;
use guan_edge::anchoring::ledger::{Suspicion, TrailHead};
use guan_edge::anchoring::{Anchors, LEDGER_FILE, LogWords, begin, trail_head};
use guan_evidence::leaf::ConfigOutcome;
use guan_evidence::verify::{LogVerifier, Report, Trust};
use guan_evidence::{
    AddCheckpoint, Checkpoint, CosignatureKey, LeafBody, Program, VerifierKey, WitnessClient,
    cosigned_leaf,
};
use guan_identity::LogKeyFile;
use guan_identity::tpm::{Tcti, Tpm, TpmOptions};
use guan_link::driver::describe;
use guan_log::{EvidenceLog, LogReader, SignedHead};
use guan_model::{BootNumber, BoxId, ClockQuality, Digest, Now, PublicKey, SpoolId, WallTime};
use guan_space::logs::folders::OsFolders;
use guan_space::logs::witnesses::{Witnessed, Witnesses};
use guan_spool::OsDisk;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const ORIGIN: &str = "guan/box-7";
/// When the first box of this rig starts.
pub(crate) const BEGIN_S: i64 = 1_800_000_000;
const DAY_MS: u64 = 86_400_000;

/// A machine: a TPM and what of its keys lies on the disk.
pub(crate) struct Machine {
    pub(crate) swtpm: Swtpm,
    pub(crate) tpm: Tpm,
    pub(crate) keys: PathBuf,
}

impl Machine {
    /// A new one with a new attestation key; `None` when swtpm is not installed.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        if !Swtpm::is_installed() {
            println!("SKIP: swtpm is not installed; cargo verify does it");
            return None;
        }
        let swtpm = Swtpm::make(&folder.join("tpm"), &folder.join("ca")).unwrap();
        let keys = folder.join("keys");
        fs::create_dir_all(&keys).unwrap();
        let machine = Self { tpm: connect(&swtpm, &keys), swtpm, keys };
        machine.make_key();
        Some(machine)
    }

    /// The emulator's state as it is, on another machine: a virtual TPM that was copied.
    pub(crate) fn copied(&mut self, folder: &Path) -> Self {
        self.swtpm.stop().unwrap();
        let swtpm = self.swtpm.copy(&folder.join("tpm")).unwrap();
        self.swtpm.start().unwrap();
        let keys = folder.join("keys");
        copy(&self.keys, &keys);
        Self { tpm: connect(&swtpm, &keys), swtpm, keys }
    }

    /// What joining does.
    pub(crate) fn make_key(&self) -> PublicKey {
        let key = self.tpm.call("test", |chip| chip.make_attestation_key()).unwrap();
        key.p256().unwrap().clone()
    }

    pub(crate) fn key(&self) -> PublicKey {
        let found = self.tpm.call("test", |chip| chip.remembered()).unwrap();
        found.attestation_key
    }

    /// Without warning; the TPM loses its registers and counts a reset.
    pub(crate) fn power_cut(&mut self) {
        self.swtpm.kill().unwrap();
        self.swtpm.start().unwrap();
        // A TPM that was cut off before it had answered anything may not have counted its start.
        self.key();
    }

    /// Somebody else's program; `None` when tpm2-tools are not installed.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Option<bool> {
        let mut command = Command::new(name);
        let output = command.args(["-T", &self.swtpm.tcti()]).args(arguments).output();
        match output {
            Ok(output) => Some(output.status.success()),
            Err(_) => {
                println!("SKIP: tpm2-tools are not installed");
                None
            }
        }
    }
}

fn connect(swtpm: &Swtpm, keys: &Path) -> Tpm {
    let tcti = Tcti::parse(&swtpm.tcti()).unwrap();
    let (folder, added_delay) = (keys.to_path_buf(), Duration::ZERO);
    Tpm::start(TpmOptions { tcti, folder, added_delay }).unwrap()
}

/// A folder as it is, in place of what is there.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// What runs on a machine after a start.
struct Running {
    log: EvidenceLog<OsDisk>,
    anchors: Anchors,
    boot: BootNumber,
}

/// A box that writes its log as it should.
pub(crate) struct Box {
    pub(crate) machine: Machine,
    folder: PathBuf,
    pub(crate) key: Arc<LogKeyFile>,
    running: Option<Running>,
    pub(crate) suspicions: Vec<Suspicion>,
    pub(crate) wall: WallTime,
    at_ms: u64,
    /// All heads that were ever signed, as somebody may have kept them.
    pub(crate) heads: Vec<String>,
    _own: tempfile::TempDir,
}

impl Box {
    /// A new box, which has not started.
    pub(crate) fn new() -> Option<Self> {
        let own = tempfile::tempdir().unwrap();
        let machine = Machine::new(own.path())?;
        let (key, _) = LogKeyFile::generate(ORIGIN).unwrap();
        let folder = own.path().join("disk");
        fs::create_dir_all(folder.join("log")).unwrap();
        Some(Self {
            machine,
            folder,
            key: Arc::new(key),
            running: None,
            suspicions: Vec::new(),
            wall: WallTime::from_seconds(BEGIN_S),
            at_ms: 0,
            heads: Vec::new(),
            _own: own,
        })
    }

    /// A box after so many days, each with a boot of its own, that nobody has done anything to.
    pub(crate) fn honest(days: usize) -> Option<Self> {
        let mut host = Self::new()?;
        (0..days).for_each(|_| host.day());
        host.check_sound();
        Some(host)
    }

    /// The same with another machine under the same disk, as it is.
    pub(crate) fn on(&self, machine: Machine) -> Self {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("disk");
        copy(&self.folder, &folder);
        Self {
            machine,
            folder,
            key: self.key.clone(),
            running: None,
            suspicions: Vec::new(),
            wall: self.wall,
            at_ms: 0,
            heads: self.heads.clone(),
            _own: own,
        }
    }

    /// A boot, some work, and an orderly end.
    pub(crate) fn day(&mut self) {
        self.start();
        self.work(5);
        self.sign();
        self.work(3);
        self.sign();
        self.stop();
    }

    fn disk(&self) -> OsDisk {
        OsDisk::open_exclusive(&self.folder.join("log")).unwrap()
    }

    fn journal(&self) -> Vec<(u64, Bytes)> {
        let bytes = fs::read(self.folder.join("journal")).unwrap_or_default();
        let mut rest = &bytes[..];
        let mut leaves = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<10>() {
            let place = u64::from_be_bytes(head[..8].try_into().unwrap());
            let length = usize::from(u16::from_be_bytes(head[8..].try_into().unwrap()));
            let (leaf, after) = after.split_at(length);
            leaves.push((place, Bytes::copy_from_slice(leaf)));
            rest = after;
        }
        leaves
    }

    pub(crate) fn leaves(&self) -> Vec<Vec<u8>> {
        self.journal().into_iter().map(|(_, leaf)| leaf.to_vec()).collect()
    }

    /// As root can.
    pub(crate) fn write_leaves(&self, leaves: &[Vec<u8>]) {
        self.write_places((0..).zip(leaves.iter().map(Vec::as_slice)));
    }

    fn write_places<'l>(&self, leaves: impl Iterator<Item = (u64, &'l [u8])>) {
        let frame = |(place, leaf): (u64, &[u8])| {
            let length = u16::try_from(leaf.len()).unwrap().to_be_bytes();
            [&place.to_be_bytes()[..], &length, leaf].concat()
        };
        let bytes: Vec<u8> = leaves.flat_map(frame).collect();
        fs::write(self.folder.join("journal"), bytes).unwrap();
    }

    /// As root can.
    pub(crate) fn write_head(&self, text: &str) {
        fs::write(self.folder.join("log/checkpoint"), text).unwrap();
    }

    /// The log and its journal, and nothing else.
    pub(crate) fn lose_log(&mut self) {
        self.halt();
        fs::remove_dir_all(self.folder.join("log")).unwrap();
        fs::create_dir(self.folder.join("log")).unwrap();
        fs::remove_file(self.folder.join("journal")).unwrap();
    }

    /// The newest signed head.
    pub(crate) fn head(&self) -> String {
        self.heads.last().unwrap().clone()
    }

    /// Name of the log that goes on.
    pub(crate) fn origin(&self) -> String {
        let disk = OsDisk::open_read_only(&self.folder.join("log")).unwrap();
        LogReader::open(disk, None, self.journal()).unwrap().epoch().origin(ORIGIN)
    }

    fn now(&self) -> Now {
        let monotonic = Duration::from_millis(self.at_ms);
        let wall = self.wall.saturating_add(monotonic);
        Now { wall, monotonic, quality: ClockQuality::Ntp }
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    /// As the program starts: log, TPM, the first leaves, and only then the ledger.
    pub(crate) fn start(&mut self) {
        let log = self.open_log();
        let found = begin(&self.machine.tpm, &self.folder, &LogWords::of(&log)).unwrap();
        let boot = BootNumber(log.last_boot().map_or(0, |last| last.0) + 1);
        let begun = log.begun().cloned().map(LeafBody::EpochStart);
        let mut leaves: Vec<LeafBody> = begun.into_iter().collect();
        leaves.push(Self::start_leaf());
        leaves.extend(found.leaves);
        self.suspicions = found.suspicions;
        self.running = Some(Running { log, anchors: found.anchors, boot });
        self.at_ms = 0;
        self.append(leaves);
        self.running().anchors.keep().unwrap();
    }

    /// As root starts it, with leaves of his own about the TPM.
    pub(crate) fn start_as_root(&mut self, outside: Vec<LeafBody>) {
        let log = self.open_log();
        let found = begin(&self.machine.tpm, &self.folder, &LogWords::of(&log)).unwrap();
        let boot = BootNumber(log.last_boot().map_or(0, |last| last.0) + 1);
        self.running = Some(Running { log, anchors: found.anchors, boot });
        self.at_ms = 0;
        self.append([vec![Self::start_leaf()], outside].concat());
    }

    fn open_log(&mut self) -> EvidenceLog<OsDisk> {
        self.running = None;
        EvidenceLog::open(self.disk(), ORIGIN, self.key.clone(), self.journal()).unwrap()
    }

    fn start_leaf() -> LeafBody {
        let program = Program::parse("guan 0.1.0").unwrap();
        LeafBody::Start { program, spool: SpoolId([1; 16]) }
    }

    /// Durable when this returns.
    pub(crate) fn append(&mut self, bodies: Vec<LeafBody>) {
        for body in bodies {
            self.at_ms += 100;
            let now = self.now();
            let Running { log, boot, .. } = self.running();
            log.append(&now, *boot, body);
        }
        let log = &mut self.running().log;
        log.handle_committed();
        let leaves: Vec<(u64, Bytes)> =
            log.unsealed().map(|(place, leaf)| (place, leaf.clone())).collect();
        self.write_places(leaves.iter().map(|(place, leaf)| (*place, leaf.as_ref())));
    }

    pub(crate) fn work(&mut self, leaves: u8) {
        let outcome = ConfigOutcome::Applied;
        let leaf = |n: u8| LeafBody::ConfigChange { digest: Digest([n; 32]), outcome };
        self.append((0..leaves).map(leaf).collect());
    }

    /// Nothing happens for so long.
    pub(crate) fn wait(&mut self, days: u64) {
        self.at_ms += days * DAY_MS;
    }

    /// A signed head, in the TPM's register.
    pub(crate) fn sign(&mut self) -> SignedHead {
        let now = self.now();
        let Running { log, anchors, .. } = self.running();
        let head = log.sign_checkpoint(&now).unwrap();
        anchors.ledger.handle_head(trail_head(&head.text).unwrap());
        anchors.keep().unwrap();
        let suspicion = anchors.extend().unwrap();
        self.suspicions.extend(suspicion);
        self.heads.push(head.text.clone());
        head
    }

    /// A quote over the heads of this boot.
    pub(crate) fn anchor(&mut self) {
        let anchor = self.running().anchors.quote().unwrap().unwrap();
        let size = anchor.size;
        self.append(vec![LeafBody::Anchor(anchor)]);
        let now = self.now().monotonic;
        self.running().anchors.handle_anchored(now, size).unwrap();
    }

    /// The newest head into the digest over all boots.
    pub(crate) fn chain(&mut self) {
        let head: TrailHead = trail_head(self.heads.last().unwrap()).unwrap();
        match self.running().anchors.chain(head).unwrap() {
            Ok(chain) => {
                self.append(vec![LeafBody::Chain(chain)]);
                let now = self.now().monotonic;
                self.running().anchors.handle_chained(now).unwrap();
            }
            Err(suspicion) => self.suspicions.push(suspicion),
        }
    }

    /// In order, as the program ends and the machine goes down.
    pub(crate) fn stop(&mut self) {
        self.sign();
        self.anchor();
        self.chain();
        self.append(vec![LeafBody::Stop]);
        self.sign();
        self.halt();
        self.machine.swtpm.stop().unwrap();
        self.machine.swtpm.start().unwrap();
        self.wall = self.wall.saturating_add(Duration::from_secs(86_400));
    }

    /// The program ends without a word.
    pub(crate) fn halt(&mut self) {
        self.running = None;
    }

    /// A copy of the disk.
    pub(crate) fn image(&self) -> tempfile::TempDir {
        let image = tempfile::tempdir().unwrap();
        copy(&self.folder, &image.path().join("disk"));
        image
    }

    /// The copy in place of what is there.
    pub(crate) fn bring_back(&mut self, image: &tempfile::TempDir) {
        self.halt();
        copy(&image.path().join("disk"), &self.folder);
    }

    /// What the box knows of its TPM, as root leaves it out.
    pub(crate) fn forget_ledger(&self) {
        fs::remove_file(self.folder.join(LEDGER_FILE)).unwrap();
    }

    /// The ledger of today beside a disk of before.
    pub(crate) fn keep_ledger_of(&self, image: &tempfile::TempDir) {
        let ledger = image.path().join("disk").join(LEDGER_FILE);
        fs::copy(ledger, self.folder.join(LEDGER_FILE)).unwrap();
    }

    pub(crate) fn verifier_key(&self) -> VerifierKey {
        VerifierKey::of(self.key.as_ref()).unwrap()
    }

    /// Whom an auditor believes who has the box's attestation key from the space.
    pub(crate) fn trust(&self) -> Trust {
        Trust {
            attestation_keys: vec![self.machine.key()],
            ..Trust::of_key(&self.origin(), self.verifier_key())
        }
    }

    /// What an auditor finds on the disk.
    pub(crate) fn report(&self, trust: Trust) -> Report {
        let disk = OsDisk::open_read_only(&self.folder.join("log")).unwrap();
        let reader = LogReader::open(disk, None, self.journal()).unwrap();
        let mut verifier = LogVerifier::with_trust(trust.clone());
        reader.for_each(&mut |_, leaf| verifier.handle_leaf(leaf)).unwrap();
        let head = reader.checkpoint().unwrap();
        let heads: Vec<&str> = head.iter().map(String::as_str).collect();
        verifier.finish(&heads, &trust.log_key)
    }

    /// The untouched twin of an attack: nobody suspects it and nothing is wrong with it.
    pub(crate) fn check_sound(&self) {
        assert_eq!(self.suspicions, [], "the twin is sound");
        assert_eq!(self.report(self.trust()).faults, [], "the twin is sound");
    }
}

/// One of the faults says so.
pub(crate) fn check(report: &Report, expect: &str) {
    let found: Vec<String> = report.faults.iter().map(|fault| describe(fault)).collect();
    assert!(found.iter().any(|one| one.contains(expect)), "{expect:?} is not in {found:#?}");
}

/// The space's witness, with its folder.
pub(crate) struct Space {
    witnesses: Witnesses<OsFolders>,
    /// Keys of the TPMs that it has enrolled.
    pub(crate) attested: Arc<Mutex<Vec<PublicKey>>>,
    pub(crate) key: Arc<LogKeyFile>,
    minutes: u64,
    pub(crate) wall: WallTime,
    pub(crate) folder: tempfile::TempDir,
}

impl Space {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Arc::new(LogKeyFile::generate("space-1/witness").unwrap().0);
        let attested: Arc<Mutex<Vec<PublicKey>>> = Arc::default();
        let enrolled = attested.clone();
        let keys = move |_: &BoxId| Ok(enrolled.lock().unwrap().clone());
        let folders = OsFolders::new(folder.path());
        let witnesses = Witnesses::open(folders, key.clone(), std::boxed::Box::new(keys)).unwrap();
        let wall = WallTime::from_seconds(BEGIN_S);
        Self { witnesses, key, attested, minutes: 0, wall, folder }
    }

    /// What it answers to a head of the box's log.
    pub(crate) fn witness(&mut self, host: &Box, request: &AddCheckpoint) -> Witnessed {
        self.show(&host.verifier_key(), "", request)
    }

    /// The same by a key, with what leads to it.
    pub(crate) fn show(
        &mut self,
        key: &VerifierKey,
        before: &str,
        request: &AddCheckpoint,
    ) -> Witnessed {
        self.minutes += 1;
        let monotonic = Duration::from_secs(60 * self.minutes);
        let now = Now { wall: self.wall, monotonic, quality: ClockQuality::Ntp };
        let letter = format!("{key}\n{before}{request}");
        self.witnesses.handle(&now, &BoxId::parse("box-7").unwrap(), letter.as_bytes())
    }

    /// The newest head is cosigned, and the box keeps the receipt.
    pub(crate) fn cosign(&mut self, host: &mut Box) {
        let head = host.sign();
        let request = request(&head);
        let answer = self.witness(host, &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let key = CosignatureKey::of(self.key.as_ref()).unwrap();
        let mut client = WitnessClient::new(key.clone(), head.cosigned);
        let reply = client.take(&request, answer.status, &answer.body).unwrap();
        let guan_evidence::witness::WitnessReply::Cosigned { note, .. } = reply else {
            panic!("{reply:?}")
        };
        host.append(vec![LeafBody::Cosigned(cosigned_leaf(&key, &note, head.size).unwrap())]);
        host.running().log.set_cosigned(head.size);
    }

    pub(crate) fn trust(&self, host: &Box) -> Trust {
        Trust { witnesses: vec![CosignatureKey::of(self.key.as_ref()).unwrap()], ..host.trust() }
    }
}

pub(crate) fn request(head: &SignedHead) -> AddCheckpoint {
    AddCheckpoint {
        old_size: head.cosigned,
        proof: head.consistency.clone(),
        checkpoint: head.text.clone(),
    }
}

/// Signed with a key over any leaves.
pub(crate) fn head_over(leaves: &[Vec<u8>], key: &LogKeyFile) -> String {
    let mut tree = guan_evidence::Tree::new();
    leaves.iter().for_each(|leaf| _ = tree.append(guan_evidence::leaf_hash(leaf)));
    Checkpoint::sign(ORIGIN, tree.size(), &tree.root(), key).unwrap()
}

/// What somebody says about leaves and heads that he was shown.
pub(crate) fn judge(leaves: &[Vec<u8>], heads: &[String], trust: Trust) -> Report {
    let key = trust.log_key.clone();
    let mut verifier = LogVerifier::with_trust(trust);
    leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    verifier.finish(&heads, &key)
}
