//! Root has the box, the log's key and the TPM, and writes the past anew.

use crate::rig::{Box, ORIGIN, Space, check, head_over, judge};
use guan_evidence::verify::{Remark, handover_text, rollover_text};
use guan_evidence::{
    AddCheckpoint, Chain, Checkpoint, KeyRollover, Leaf, LeafBody, Lineage, Statement, VerifierKey,
};
use guan_identity::LogKeyFile;
use guan_identity::attest::{Attestation, Attested, HEADS_INDEX, TpmSignature};
use guan_model::{Digest, PublicKey, Signer as _};

fn decoded(leaves: &[Vec<u8>]) -> Vec<Leaf> {
    leaves.iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect()
}

/// Index of the first leaf of a boot.
fn begin_of(leaves: &[Vec<u8>], boot: u32) -> usize {
    decoded(leaves).iter().position(|leaf| leaf.boot.0 == boot).unwrap()
}

fn place(leaves: &[Vec<u8>], kind: &str) -> usize {
    decoded(leaves).iter().position(|leaf| leaf.body.kind_name() == kind).unwrap()
}

/// Parses, changes and writes leaf `index` anew.
fn edit(leaves: &mut [Vec<u8>], index: usize, change: impl FnOnce(&mut Leaf)) {
    let mut leaf = Leaf::decode(&leaves[index]).unwrap();
    change(&mut leaf);
    leaves[index] = leaf.encode();
}

/// Row 10: boots 2 and 3 are written anew from boot 4, in three ways.
#[test]
fn weeks_that_are_written_anew_do_not_get_their_anchors_back() {
    let Some(mut host) = Box::new() else { return };
    host.day();
    let image = host.image();
    (0..2).for_each(|_| host.day());
    host.check_sound();
    let old = host.leaves();
    let starts = decoded(&old).into_iter().filter_map(|leaf| match leaf.body {
        LeafBody::TpmStart(start) => Some(start),
        _ => None,
    });
    let starts: Vec<_> = starts.collect();
    let last_chain = host.machine.tpm.call("test", |chip| chip.chained()).unwrap();
    // As it would have been: the claims are those of then, the certificates of today are not.
    host.bring_back(&image);
    host.start_as_root(vec![LeafBody::TpmStart(starts[1].clone())]);
    host.work(3);
    host.sign();
    host.anchor();
    check(&host.report(host.trust()), "times when this boot began");
    // With the resets of today: what the chain holds is not what this log leads to.
    host.bring_back(&image);
    let resets = host.machine.tpm.call("test", |chip| chip.remembered()).unwrap().clock.resets;
    let start = guan_evidence::TpmStart { resets, chain: last_chain, ..starts[1].clone() };
    host.start_as_root(vec![LeafBody::TpmStart(start)]);
    host.work(3);
    host.sign();
    let report = host.report(host.trust());
    check(&report, "the disk was set back, or the chain made anew");
    let is_missing = |one: &Remark| matches!(one, Remark::MissingBoots { missing: 2, .. });
    assert!(report.remarks.iter().any(is_missing), "{:?}", report.remarks);
    // Without any word of a TPM.
    host.bring_back(&image);
    host.start_as_root(Vec::new());
    host.work(3);
    host.sign();
    check(&host.report(host.trust()), "says nothing of the TPM");
}

/// Row 11: a counter vouches for two heads at once; the digest over heads takes one.
#[test]
fn one_value_is_certified_for_two_heads_by_a_counter_and_not_by_the_chain() {
    let Some(host) = Box::honest(1) else { return };
    let (one, other) = (Digest([1; 32]), Digest([2; 32]));
    host.machine.tpm.call("test", |chip| chip.count_release("2026.11")).unwrap();
    let ak = host.machine.key();
    let counted = [one, other].map(|head| {
        let word = host.machine.tpm.call("test", move |chip| chip.certify_counter(&head)).unwrap();
        assert!(TpmSignature::parse(&word.signature).unwrap().is_by(&ak, &word.statement));
        let said = Attestation::parse(&word.statement).unwrap();
        assert_eq!(said.extra, head.0);
        let Attested::Nv { contents, .. } = said.attested else { panic!("{:?}", said.attested) };
        contents
    });
    assert_eq!(counted[0], counted[1], "the counter says yes to both");
    // Two heads after the same value of the chain: the second finds it taken.
    let before = host.machine.tpm.call("test", |chip| chip.chained()).unwrap();
    let chain = |head: Digest| {
        host.machine.tpm.call("test", move |chip| chip.chain(before.as_ref(), &head)).unwrap()
    };
    assert!(chain(one).is_some());
    assert!(chain(other).is_none());
    // And whoever has the value certified once more, for another head, convinces nobody.
    let Some(mut host) = Box::honest(1) else { return };
    host.start();
    host.work(2);
    host.sign();
    let before = host.machine.tpm.call("test", |chip| chip.chained()).unwrap();
    host.chain();
    host.work(2);
    let head = host.sign();
    host.check_sound();
    let digest = guan_edge::anchoring::trail_head(&head.text).unwrap().digest;
    let again = host.machine.tpm.call("test", move |chip| chip.certify_heads(&digest)).unwrap();
    let certified = Statement::new(again.statement, again.signature).unwrap();
    host.append(vec![LeafBody::Chain(Chain { size: head.size, before, certified })]);
    host.sign();
    check(&host.report(host.trust()), "the digest over heads is");
}

/// Row 14: a bit of what the TPM signed, or of what it was asked with.
#[test]
fn a_flipped_bit_of_a_statement_is_seen() {
    let Some(host) = Box::honest(1) else { return };
    let (leaves, trust) = (host.leaves(), host.trust());
    for kind in ["anchor", "chain"] {
        let at = place(&leaves, kind);
        let forged = |change: &dyn Fn(&Statement) -> Statement| {
            let mut leaves = leaves.clone();
            edit(&mut leaves, at, |leaf| match &mut leaf.body {
                LeafBody::Anchor(anchor) => anchor.quote = change(&anchor.quote),
                LeafBody::Chain(chain) => chain.certified = change(&chain.certified),
                other => panic!("{other:?}"),
            });
            judge(&leaves, &[], trust.clone())
        };
        let same = forged(&Clone::clone);
        assert!(same.faults.iter().all(|one| matches!(one, guan_evidence::Fault::Unsigned)));
        // The nonce is where its own bytes stand; one bit of each byte.
        let whole = decoded(&leaves)[at].clone();
        let (LeafBody::Anchor(guan_evidence::Anchor { quote: said, .. })
        | LeafBody::Chain(Chain { certified: said, .. })) = whole.body
        else {
            panic!("{kind}")
        };
        let nonce = Attestation::parse(said.attested()).unwrap().extra;
        let bytes = said.attested();
        let from = bytes.windows(32).position(|window| window == nonce).unwrap();
        for byte in from..from + 32 {
            let flip = |said: &Statement| {
                let mut bytes = said.attested().to_vec();
                bytes[byte] ^= 1;
                Statement::new(bytes, said.signature().to_vec()).unwrap()
            };
            check(&forged(&flip), "did not sign it");
        }
        let flip = |said: &Statement| {
            let mut bytes = said.signature().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Statement::new(said.attested().to_vec(), bytes).unwrap()
        };
        check(&forged(&flip), "did not sign it");
    }
}

/// Row 15: the place of the chain in the TPM's memory is removed and made anew.
#[test]
fn a_chain_that_is_made_anew_is_seen() {
    let Some(mut host) = Box::honest(2) else { return };
    let index = format!("{HEADS_INDEX:#x}");
    let remove = ["-C", "o", &index];
    // A box that joined: the space keeps the owner's password, so root cannot.
    let Some(set) = host.machine.tool("tpm2_changeauth", &["-c", "o", "password"]) else { return };
    assert!(set);
    assert_eq!(host.machine.tool("tpm2_nvundefine", &remove), Some(false));
    host.start();
    host.check_sound();
    host.halt();
    // Whoever has the password gets a chain that begins with nothing.
    let with_password = [&remove[..], &["-P", "password"]].concat();
    assert_eq!(host.machine.tool("tpm2_nvundefine", &with_password), Some(true));
    assert_eq!(host.machine.tool("tpm2_changeauth", &["-c", "o", "-p", "password"]), Some(true));
    let image = host.image();
    host.start();
    assert_eq!(host.suspicions.len(), 1, "{:?}", host.suspicions);
    host.sign();
    check(&host.report(host.trust()), "the TPM remembers heads that this log does not have");
    // Root knows every head that was ever chained, and chains them all again: the value is right then. A log
    // that he changed has other heads, and its certificates have the resets of today.
    host.bring_back(&image);
    let leaves = host.leaves();
    let mut forged = leaves[..begin_of(&leaves, 2)].to_vec();
    let at = place(&forged, "chain");
    let LeafBody::Chain(chain) = decoded(&forged)[at].body.clone() else { unreachable!() };
    edit(&mut forged, 2, |leaf| leaf.wall = guan_model::WallTime::from_millis(5));
    let head = head_over(&forged[..usize::try_from(chain.size).unwrap()], &host.key);
    let digest = guan_edge::anchoring::trail_head(&head).unwrap().digest;
    let word = host.machine.tpm.call("test", move |chip| chip.chain(None, &digest)).unwrap();
    let word = word.unwrap();
    let certified = Statement::new(word.statement, word.signature).unwrap();
    edit(&mut forged, at, |leaf| {
        leaf.body = LeafBody::Chain(Chain { certified, ..chain });
    });
    let head = head_over(&forged, &host.key);
    check(&judge(&forged, &[head], host.trust()), "times when this boot began");
}

/// Row 13: a valid note of another key.
#[test]
fn another_key_of_the_log_is_refused() {
    let Some(mut host) = Box::honest(1) else { return };
    let mut space = Space::new();
    host.start();
    space.cosign(&mut host);
    host.check_sound();
    let (thief, _) = LogKeyFile::generate(ORIGIN).unwrap();
    let leaves = host.leaves();
    let forged = head_over(&leaves, &thief);
    check(&judge(&leaves, &[forged], host.trust()), "cannot be trusted");
    // The witness knows the log by the key that it began with.
    let head = host.sign();
    let honest = host.verifier_key();
    host.key = std::sync::Arc::new(thief);
    assert_ne!(host.verifier_key(), honest);
    let (size, root) = {
        let head = Checkpoint::parse_unverified(&head.text).unwrap();
        (head.size, head.root)
    };
    let checkpoint = Checkpoint::sign(ORIGIN, size, &root, host.key.as_ref()).unwrap();
    let request = guan_evidence::AddCheckpoint { checkpoint, ..crate::rig::request(&head) };
    let answer = space.witness(&host, &request);
    assert_eq!((answer.status, answer.alarm.is_some()), (403, true), "{answer:?}");
}

/// Row 5, the second journald flaw: a range that is long over, signed with the key of today.
#[test]
fn todays_key_signs_no_older_range() {
    let Some(mut host) = Box::honest(1) else { return };
    host.start();
    host.work(2);
    let (old, before) = (host.verifier_key(), host.leaves());
    let index = before.len() as u64;
    let (new, _) = LogKeyFile::generate(ORIGIN).unwrap();
    let PublicKey::Ed25519(key) = new.public_key() else { unreachable!() };
    let by_old = |key: &[u8; 32], index: u64| -> [u8; 64] {
        let text = rollover_text(ORIGIN, index, key);
        host.key.sign(text.as_bytes()).unwrap().try_into().unwrap()
    };
    let quote = |text: String| {
        let digest = Digest::of(text.as_bytes());
        let quoted = host.machine.tpm.call("test", move |chip| chip.anchor(&digest));
        let quote = quoted.unwrap().0;
        Statement::new(quote.statement, quote.signature)
    };
    let right = KeyRollover {
        key,
        by_old: by_old(&key, index),
        quote: quote(handover_text(ORIGIN, &old.key_bytes(), &key)),
    };
    let trust = host.trust();
    let with = |rollover: KeyRollover| {
        let mut leaf = Leaf::decode(before.last().unwrap()).unwrap();
        (leaf.seq, leaf.body) = (index, LeafBody::KeyRollover(rollover));
        [&before[..], &[leaf.encode()]].concat()
    };
    // The twin: handed over in order, each head by the key of its range.
    let leaves = with(right.clone());
    let heads = [head_over(&before, &host.key), head_over(&leaves, &new)];
    assert_eq!(judge(&leaves, &heads, trust.clone()).faults, []);
    let old_range = head_over(&before[..5], &new);
    check(&judge(&leaves, &[heads[1].clone(), old_range], trust.clone()), "cannot be trusted");
    let late = head_over(&leaves, &host.key);
    check(&judge(&leaves, &[late], trust.clone()), "cannot be trusted");
    let instead = |rollover: KeyRollover| {
        let leaves = with(rollover);
        judge(&leaves, &[head_over(&leaves, &new)], trust.clone())
    };
    // Handed over at another place, by a thief without the TPM, and with the TPM's word about another key.
    let moved = KeyRollover { by_old: by_old(&key, index - 1), ..right.clone() };
    check(&instead(moved), "does not hand over");
    check(&instead(KeyRollover { quote: None, ..right.clone() }), "says nothing of it");
    let other = quote(handover_text(ORIGIN, &old.key_bytes(), &[9; 32]));
    let other = KeyRollover { quote: other, ..right.clone() };
    check(&instead(other), "for other data than what this leaf");
    // The witness has enrolled this TPM, and follows what it quoted only.
    for (rollover, status) in [(KeyRollover { quote: None, ..right.clone() }, 403), (right, 200)] {
        let mut space = Space::new();
        space.attested.lock().unwrap().push(host.machine.key());
        let add = |checkpoint: String, old_size: u64| AddCheckpoint {
            old_size,
            proof: Vec::new(),
            checkpoint,
        };
        let first = space.show(&old, "", &add(head_over(&[], &host.key), 0));
        assert_eq!(first.status, 200, "{}", first.body);
        let leaves = with(rollover);
        let mut lineage = Lineage::new(old.clone());
        lineage.extend(ORIGIN, leaves.last().unwrap()).unwrap();
        let request = add(head_over(&leaves, &new), 0);
        let key = VerifierKey::of(&new).unwrap();
        let answer = space.show(&key, &lineage.to_string(), &request);
        assert_eq!((answer.status, answer.alarm.is_some()), (status, status == 403), "{answer:?}");
    }
}
