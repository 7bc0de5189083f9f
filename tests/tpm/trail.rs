//! What the TPM remembers of the log: the trail of a boot, the chain over all boots.

use super::bench;
use guan_evidence::TRAIL_PCR;
use guan_evidence::tpm::{Attestation, Attested, TpmSignature, pcr_digest};
use guan_identity::tpm::Tpm;
use guan_model::Digest;

fn after(before: &Digest, head: &Digest) -> Digest {
    Digest::of_parts(&[&before.0, &head.0])
}

fn extend(tpm: &Tpm, before: Digest, head: Digest) -> Digest {
    tpm.call("test", move |chip| chip.extend_trail(&before, &head)).unwrap()
}

#[test]
fn heads_are_extended_once_and_quoted() {
    let Some(bench) = bench() else { return };
    let (ak, _) = bench.keys();
    let start = bench.tpm.call("test", |chip| chip.remembered()).unwrap();
    assert_eq!((start.trail, start.chain), (Digest([0; 32]), None));
    let heads = [Digest([1; 32]), Digest([2; 32])];
    let one = extend(&bench.tpm, start.trail, heads[0]);
    assert_eq!(one, after(&start.trail, &heads[0]));
    // The answer was lost and the request comes again.
    assert_eq!(extend(&bench.tpm, start.trail, heads[0]), one);
    let two = extend(&bench.tpm, one, heads[1]);
    assert_eq!(two, after(&one, &heads[1]));
    let (quote, pcrs) = bench.tpm.call("test", move |chip| chip.anchor(&heads[1])).unwrap();
    assert_eq!(pcrs[&TRAIL_PCR], two);
    let statement = Attestation::parse(&quote.statement).unwrap();
    assert_eq!(statement.extra, heads[1].0);
    let expect = pcr_digest(&pcrs).0;
    assert!(matches!(&statement.attested, Attested::Quote { digest, .. } if digest[..] == expect));
    let signature = TpmSignature::parse(&quote.signature).unwrap();
    assert!(signature.is_by(ak.p256().unwrap(), &quote.statement));
    assert_eq!(statement.clock.resets, start.clock.resets, "both are told in the clear");
}

#[test]
fn the_chain_outlives_the_boot_and_takes_no_head_twice() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    let heads = [Digest([1; 32]), Digest([2; 32])];
    let chain = |tpm: &Tpm, before: Option<Digest>, head: Digest| {
        tpm.call("test", move |chip| chip.chain(before.as_ref(), &head)).unwrap()
    };
    let contents = |statement: &[u8]| match Attestation::parse(statement).unwrap().attested {
        Attested::Nv { contents, .. } => contents,
        other => panic!("{other:?}"),
    };
    let first = after(&Digest([0; 32]), &heads[0]);
    let certified = chain(&bench.tpm, None, heads[0]).unwrap();
    assert_eq!(contents(&certified.statement), first.0);
    let again = chain(&bench.tpm, None, heads[0]).unwrap();
    assert_eq!(contents(&again.statement), first.0, "a repetition changes nothing");
    bench.tpm.call("test", |chip| chip.extend_trail(&Digest([0; 32]), &Digest([7; 32]))).unwrap();
    let before = bench.tpm.call("test", |chip| chip.remembered()).unwrap();
    bench.power_cut();
    let found = bench.tpm.call("test", |chip| chip.remembered()).unwrap();
    assert_eq!(found.clock.resets, before.clock.resets + 1);
    assert_eq!((found.trail, found.chain), (Digest([0; 32]), Some(first)));
    let second = chain(&bench.tpm, Some(first), heads[1]).unwrap();
    assert_eq!(contents(&second.statement), after(&first, &heads[1]).0);
    // Somebody who thinks that the chain is elsewhere gets nothing, and changes nothing.
    assert!(chain(&bench.tpm, Some(first), Digest([9; 32])).is_none());
    let found = bench.tpm.call("test", |chip| chip.chained()).unwrap();
    assert_eq!(found, Some(after(&first, &heads[1])));
}

/// Keys of default templates lock after three unclean stops; ours do not.
#[test]
fn power_cuts_do_not_silence_the_anchors() {
    let Some(mut bench) = bench() else { return };
    bench.keys();
    for _ in 0..8 {
        bench.power_cut();
        let head = Digest([5; 32]);
        let found = bench.tpm.call("test", |chip| chip.remembered()).unwrap();
        let trail = found.trail;
        bench.tpm.call("test", move |chip| chip.extend_trail(&trail, &head)).unwrap();
        bench.tpm.call("test", move |chip| chip.anchor(&head)).unwrap();
        let chain = found.chain;
        let chained = bench.tpm.call("test", move |chip| chip.chain(chain.as_ref(), &head));
        assert!(chained.unwrap().is_some());
    }
}
