//! Damaged bytes: no panic, and no memory beyond the limits.

use super::*;
use proptest::prelude::*;

fn logs() -> (Vec<u8>, Vec<u8>) {
    let boot = boot_log(&[(0, 3, b"StartupLocality\0\x03"), (7, 0x8000_0001, &[1; 60])]);
    let ima = [ima_entry("/usr/bin/guan", &[5; 32], b"sig"), ima_entry("/x", &[6; 32], b"")];
    (boot, ima.concat())
}

fn damage(bytes: &[u8], edits: &[(prop::sample::Index, u8)], cut: prop::sample::Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in edits {
        let index = at.index(bytes.len());
        bytes[index] = *value;
    }
    bytes.truncate(cut.index(bytes.len()) + 1);
    bytes
}

#[test]
fn announced_lengths_take_no_memory() {
    let (mut boot, mut ima) = logs();
    let length = boot.len();
    boot[length - 64..length - 60].copy_from_slice(&[0xFF; 4]);
    assert!(matches!(EventLog::parse(&boot), Err(EventLogFault::Short { .. })));
    ima[24..28].copy_from_slice(&[0xFF; 4]);
    assert!(matches!(parse_ima(&ima), Err(ImaFault::FieldTooLong { .. })));
    let long = vec![0; EVENT_LOG_BYTES_MAX + 1];
    assert_eq!(EventLog::parse(&long), Err(EventLogFault::TooLong { length: long.len() }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn damaged_logs_and_structures_give_an_answer(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let (boot, ima) = logs();
        if let Ok(log) = EventLog::parse(&damage(&boot, &edits, cut)) {
            log.replay();
            secure_boot_variable(&log, "SecureBoot");
        }
        let ima = damage(&ima, &edits, cut);
        if let Ok(entries) = parse_ima(&ima) {
            replay_ima(&entries, &Digest([0; 32]), &Digest([9; 32]));
        }
        let clock = TpmClock { clock_ms: 1, resets: 2, restarts: 3, is_safe: true };
        let pcrs: Pcrs = [(0, Digest([0; 32]))].into();
        let quote = quote_bytes(b"nonce", clock, &pcrs, &pcr_digest(&pcrs));
        let _ = Attestation::parse(&damage(&quote, &edits, cut));
        let _ = TpmSignature::parse(&damage(&[0, 0x18, 0, 0x0B, 0, 1, 1, 0, 1, 1], &edits, cut));
        let _ = TpmPublic::parse(&damage(&quote, &edits, cut));
        let _ = Evidence::decode(&damage(&quote, &edits, cut));
    }
}
