//! A change of the key that ends at each of its steps, and a start after that.

use super::*;
use bytes::Bytes;
use guan_evidence::KeyRollover;
use guan_evidence::verify::rollover_text;
use guan_model::{BootNumber, ClockQuality, WallTime};
use guan_spool::disk::SimDisk;
use std::time::Duration;

const ORIGIN: &str = "guan/demo-box";

struct Rig {
    _folder: tempfile::TempDir,
    config: EdgeConfig,
    first: VerifierKey,
}

impl Rig {
    /// A box with its first key.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/demo/edge.toml");
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let text = fs::read_to_string(sample).unwrap().replace(&"0".repeat(64), key);
        let file = folder.path().join("edge.toml");
        fs::write(&file, &text).unwrap();
        let config = EdgeConfig::parse(&text, &file.display().to_string(), folder.path()).unwrap();
        fs::create_dir_all(config.identity.log_key_file.parent().unwrap()).unwrap();
        fs::create_dir_all(&config.state_dir).unwrap();
        let key = LogKeyFile::create(&config.identity.log_key_file, ORIGIN).unwrap();
        Self { first: public(&key), config, _folder: folder }
    }

    fn next(&self) -> PathBuf {
        next_file(&self.config.identity.log_key_file)
    }

    /// The entry that hands over from the key in its file.
    fn leaf(&self, next: &LogKeyFile) -> Vec<u8> {
        let old = LogKeyFile::load(&self.config.identity.log_key_file, ORIGIN).unwrap();
        let key = public(next).key_bytes();
        let by_old = old.sign(rollover_text(ORIGIN, 0, &key).as_bytes()).unwrap();
        let leaf = Leaf {
            seq: 0,
            wall: WallTime::from_millis(1_800_000_000_000),
            boot: BootNumber(1),
            monotonic: Duration::from_millis(5),
            clock_quality: ClockQuality::Ntp,
            actor: None,
            body: LeafBody::KeyRollover(KeyRollover {
                key,
                by_old: by_old.try_into().unwrap(),
                quote: None,
            }),
        };
        leaf.encode()
    }

    /// A start on a log of these leaves.
    fn open(&self, leaves: &[Vec<u8>]) -> Result<LogKeys, LogKeysFault> {
        let key = LogKeyFile::load(&self.config.identity.log_key_file, ORIGIN).unwrap();
        let journal = (0..).zip(leaves.iter().cloned().map(Bytes::from)).collect();
        open(&self.config, key, None, || LogReader::open(SimDisk::new(), None, journal))
    }

    /// One key waits or signs, and what signs is what the lineage ends with.
    fn check(&self, keys: &LogKeys, steps: usize, expect: &VerifierKey) {
        assert_eq!(public(&keys.signer), *expect);
        assert_eq!(keys.lineage.newest().key_bytes(), expect.key_bytes());
        assert_eq!((keys.lineage.steps().len(), self.next().exists()), (steps, false));
        // The same at the next start.
        assert_eq!(public(&self.open(&[]).unwrap().signer), *expect);
        assert_eq!(keys.lineage.first().key_bytes(), self.first.key_bytes());
    }
}

#[test]
fn a_start_goes_on_from_wherever_the_change_ended() {
    // Before the entry: the key that waited never signed.
    let rig = Rig::new();
    make_next(&rig.config, None).unwrap();
    rig.check(&rig.open(&[]).unwrap(), 0, &rig.first);
    // After the entry; the lineage does not have it yet.
    let rig = Rig::new();
    let next = make_next(&rig.config, None).unwrap();
    let leaf = rig.leaf(&next);
    rig.check(&rig.open(std::slice::from_ref(&leaf)).unwrap(), 1, &public(&next));
    // After the lineage; the key is not in its place yet. The log is not asked any more.
    let rig = Rig::new();
    let next = make_next(&rig.config, None).unwrap();
    let mut lineage = Lineage::new(rig.first.clone());
    lineage.extend(ORIGIN, &rig.leaf(&next)).unwrap();
    keep(&rig.config.state_dir, &lineage).unwrap();
    rig.check(&rig.open(&[]).unwrap(), 1, &public(&next));
    // In order to the end.
    let rig = Rig::new();
    let next = make_next(&rig.config, None).unwrap();
    let mut lineage = Lineage::new(rig.first.clone());
    lineage.extend(ORIGIN, &rig.leaf(&next)).unwrap();
    settle(&rig.config, &lineage, &next).unwrap();
    rig.check(&rig.open(&[]).unwrap(), 1, &public(&next));
    let old = public(&LogKeyFile::load(&rig.config.identity.log_key_file, ORIGIN).unwrap());
    assert_eq!(old, public(&next), "the first one is nowhere any more");
}

#[test]
fn keys_that_do_not_go_together_are_told() {
    let rig = Rig::new();
    let next = make_next(&rig.config, None).unwrap();
    let mut lineage = Lineage::new(rig.first.clone());
    lineage.extend(ORIGIN, &rig.leaf(&next)).unwrap();
    settle(&rig.config, &lineage, &next).unwrap();
    // An old file of the key is brought back.
    fs::remove_file(&rig.config.identity.log_key_file).unwrap();
    LogKeyFile::create(&rig.config.identity.log_key_file, ORIGIN).unwrap();
    assert!(matches!(rig.open(&[]), Err(LogKeysFault::OtherKey { .. })));
    let file = rig.config.state_dir.join(LINEAGE_FILE);
    fs::write(&file, "first nonsense\n").unwrap();
    assert!(matches!(rig.open(&[]), Err(LogKeysFault::Lineage { .. })));
    fs::write(&file, vec![b' '; LINEAGE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(rig.open(&[]), Err(LogKeysFault::File { .. })));
}
