//! A log whose key changes: the witness follows what the key before signed and the TPM quoted, and nothing else.

use super::*;
use crate::logs::witnesses::lineage as kept;
use guan_evidence::verify::{handover_text, rollover_text};
use guan_evidence::{KeyRollover, Leaf, Lineage, Statement};
use guan_model::{BootNumber, PublicKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

/// A TPM's attestation key in software: it quotes whatever it is asked about.
struct Chip(EcdsaKeyPair);

impl Chip {
    fn new() -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.0.public_key().as_ref().to_vec())
    }

    /// TPMS_ATTEST of a quote, signed.
    fn quote(&self, about: &str) -> Statement {
        let head = [&[0xFF, b'T', b'C', b'G', 0x80, 0x18, 0, 2, 0, 11, 0, 32][..]].concat();
        let clock = [&[0; 7][..], &[9], &[0, 0, 0, 4], &[0, 0, 0, 0, 1], &[0; 8]].concat();
        let body = [&[0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0, 0, 32][..], &[7; 32]].concat();
        let digest = Digest::of(about.as_bytes());
        let bytes = [&head[..], &digest.0, &clock, &body].concat();
        let signed = self.0.sign(&SystemRandom::new(), &bytes).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        let signature = [&[0, 0x18, 0, 0x0B, 0, 32][..], r, &[0, 32], s].concat();
        Statement::new(bytes, signature).unwrap()
    }
}

fn bytes(key: &LogKeyFile) -> [u8; 32] {
    VerifierKey::of(key).unwrap().key_bytes()
}

impl Log {
    fn lineage(&self) -> Lineage {
        Lineage::new(VerifierKey::of(self.key.as_ref()).unwrap())
    }

    /// Hands over to another key with the next leaf.
    fn rolled(
        mut self,
        lineage: &mut Lineage,
        next: &Arc<LogKeyFile>,
        chip: Option<&Chip>,
    ) -> Self {
        let (index, key) = (self.leaves.len() as u64, bytes(next));
        let text = rollover_text(&self.origin, index, &key);
        let by_old = self.key.sign(text.as_bytes()).unwrap().try_into().unwrap();
        let about = handover_text(&self.origin, &bytes(&self.key), &key);
        let quote = chip.map(|chip| chip.quote(&about));
        let leaf = Leaf {
            seq: index,
            wall: WallTime::from_seconds(1_800_000_000),
            boot: BootNumber(1),
            monotonic: Duration::from_secs(1),
            clock_quality: ClockQuality::Ntp,
            actor: None,
            body: LeafBody::KeyRollover(KeyRollover { key, by_old, quote }),
        };
        let leaf = leaf.encode();
        lineage.extend(&self.origin, &leaf).unwrap();
        self.leaves.push(Bytes::from(leaf));
        self.key = next.clone();
        self
    }

    /// As a box sends it.
    fn letter_after(&self, lineage: &Lineage, old: u64, size: u64) -> Vec<u8> {
        let key = VerifierKey::of(self.key.as_ref()).unwrap();
        format!("{key}\n{lineage}{}", self.request(old, size)).into_bytes()
    }
}

fn space_with(chip: Option<&Chip>) -> (Space, impl Fn(&Space) -> Space + use<>) {
    let keys: Vec<PublicKey> = chip.map(Chip::public).into_iter().collect();
    let open = move |folders: &SimFolders| {
        let keys = keys.clone();
        let attested = Box::new(move |_: &BoxId| Ok(keys.clone()));
        let witnesses = Witnesses::open(folders.clone(), WITNESS.clone(), attested).unwrap();
        let mirrors = Mirrors::new(folders.clone(), MIRROR.clone());
        Space { folders: folders.clone(), witnesses, mirrors, minutes: 0 }
    };
    (open(&SimFolders::default()), move |space: &Space| open(&space.folders))
}

#[test]
fn a_new_key_is_taken_through_its_lineage_only() {
    let chip = Chip::new();
    for chip in [None, Some(&chip)] {
        let (mut space, restart) = space_with(chip);
        let log = Log::new(BASE, &LOG).grown(40, "a");
        assert_eq!(space.witness(1, &log.letter(0, 40)).status, 200);
        let mut lineage = log.lineage();
        let next = log.clone().rolled(&mut lineage, &key(BASE), chip).grown(60, "a");
        let bare = space.witness(1, &next.letter(40, 60));
        assert_eq!((bare.status, bare.alarm.is_some()), (403, true), "{bare:?}");
        let taken = space.witness(1, &next.letter_after(&lineage, 40, 60));
        assert_eq!((taken.status, taken.alarm), (200, None), "{}", taken.body);
        // Known from now on, also after a restart; the key of before is not.
        let mut space = restart(&space);
        let next = next.grown(70, "a");
        assert_eq!(space.witness(1, &next.letter(60, 65)).status, 200);
        let before = Log { key: LOG.clone(), ..next.clone() };
        let late = space.witness(1, &before.letter_after(&lineage, 65, 70));
        assert_eq!((late.status, late.alarm.is_some()), (403, true), "{late:?}");
        // Two more while the space was away; whoever asks later follows all of them.
        let next = next.rolled(&mut lineage, &key(BASE), chip).grown(80, "a");
        let next = next.rolled(&mut lineage, &key(BASE), chip).grown(90, "a");
        assert_eq!(space.witness(1, &next.letter_after(&lineage, 65, 90)).status, 200);
        let disk = space.folders.disk(&[WITNESS_DIR, "box-1", &folder_of(BASE)]);
        assert_eq!(kept(&disk).unwrap(), Some(lineage.clone()));
        assert_eq!(lineage.steps().len(), 3);
        // The next epoch goes on with the key of now.
        let epoch = Log::new("guan/box-1/e2", &next.key).grown(9, "b");
        assert_eq!(space.witness(1, &epoch.letter_after(&lineage, 0, 9)).status, 200);
    }
}

#[test]
fn a_forged_hand_over_is_refused() {
    let (chip, other) = (Chip::new(), Chip::new());
    let (mut space, _) = space_with(Some(&chip));
    let log = Log::new(BASE, &LOG).grown(40, "a");
    assert_eq!(space.witness(1, &log.letter(0, 40)).status, 200);
    let thief = key(BASE);
    // He has the key of the log and not the TPM, or a TPM of his own.
    for quoted in [None, Some(&other)] {
        let mut lineage = log.lineage();
        let rolled = log.clone().rolled(&mut lineage, &thief, quoted).grown(50, "a");
        let refused = space.witness(1, &rolled.letter_after(&lineage, 40, 50));
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("says nothing") && refused.alarm.is_some());
    }
    // He has the TPM and not the key: nothing leads from the pinned one to his.
    let own = Log::new(BASE, &thief).grown(40, "a");
    let mut lineage = own.lineage();
    let rolled = own.rolled(&mut lineage, &key(BASE), Some(&chip)).grown(50, "a");
    let refused = space.witness(1, &rolled.letter_after(&lineage, 40, 50));
    assert!(refused.status == 403 && refused.body.contains("no hand-over leads"), "{refused:?}");
    // The lineage is right, and the head is signed by another key than it leads to.
    let mut lineage = log.lineage();
    let right = log.clone().rolled(&mut lineage, &key(BASE), Some(&chip)).grown(50, "a");
    let stranger = Log { key: thief, ..right.clone() };
    let refused = space.witness(1, &stranger.letter_after(&lineage, 40, 50));
    assert!(refused.status == 403 && refused.body.contains("is to another"), "{refused:?}");
    // Damaged on the way.
    let mut letter = right.letter_after(&lineage, 40, 50);
    let place = letter.iter().position(|byte| *byte == b'\n').unwrap();
    letter[place + 300] ^= 1;
    assert!([400, 403].contains(&space.witness(1, &letter).status));
    // The twin.
    assert_eq!(space.witness(1, &right.letter_after(&lineage, 40, 50)).status, 200);
}
