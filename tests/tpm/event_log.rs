//! Our reading of boot logs beside that of tpm2-tools, and beside a TPM that was extended with the same digests.

use super::bench;
use guan_identity::attest::{EventLog, Pcrs};
use guan_model::Digest;
use std::process::Command;

/// Types of events whose data tpm2_eventlog does not interpret: POST code, separator, action, tag, CRTM, IPL.
const KINDS: [u32; 6] = [1, 4, 5, 6, 8, 0xD];
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12];

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

fn little(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

fn log(dice: &mut Dice) -> Vec<u8> {
    let inner =
        [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &little(1), &[0x0B, 0, 32, 0, 0]];
    let inner = inner.concat();
    let mut log = [&little(0)[..], &little(3), &[0; 20], &little(inner.len()), &inner].concat();
    for _ in 0..=dice.below(40) {
        let data: Vec<u8> = (0..=dice.below(60)).map(|_| LETTERS[dice.below(26)]).collect();
        let (pcr, kind) = (PCRS[dice.below(PCRS.len())], KINDS[dice.below(KINDS.len())]);
        let head = [little(usize::from(pcr)), kind.to_le_bytes(), little(1)].concat();
        log.extend(
            [&head[..], &[0x0B, 0], &Digest::of(&data).0, &little(data.len()), &data].concat(),
        );
    }
    log
}

/// Lines such as `  4  : 0x3d45...` below `sha256:`.
fn pcrs_of(text: &str) -> Pcrs {
    let lines = text.lines().skip_while(|line| *line != "pcrs:");
    let values = lines.filter_map(|line| {
        let (pcr, value) = line.split_once(": 0x")?;
        Some((pcr.trim().parse().ok()?, Digest::from_hex(value.trim())?))
    });
    values.collect()
}

#[test]
fn logs_are_read_as_tpm2_tools_read_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    for seed in 0..64 {
        let bytes = log(&mut Dice(seed));
        std::fs::write(&file, &bytes).unwrap();
        let Ok(output) = Command::new("tpm2_eventlog").arg(&file).output() else {
            return println!("SKIP: tpm2-tools are not installed");
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {text}");
        let ours = EventLog::parse(&bytes).unwrap();
        assert_eq!(text.matches("- EventNum:").count(), ours.events.len() + 1, "seed {seed}");
        assert_eq!(pcrs_of(&text), ours.replay(), "seed {seed}");
    }
}

#[test]
fn a_log_leads_to_the_pcrs_of_a_tpm_that_was_extended_with_it() {
    let Some(bench) = bench() else { return };
    let bytes = log(&mut Dice(7));
    let log = EventLog::parse(&bytes).unwrap();
    for event in &log.events {
        let digest = format!("{}:sha256={}", event.pcr, event.sha256);
        let extended =
            Command::new("tpm2_pcrextend").args(["-T", &bench.swtpm.tcti(), &digest]).status();
        let Ok(extended) = extended else { return println!("SKIP: tpm2-tools are not installed") };
        assert!(extended.success(), "{digest}");
    }
    let replayed = log.replay();
    let pcrs: Vec<u8> = replayed.keys().copied().collect();
    bench.tpm.call("test", |chip| chip.make_attestation_key().map(|_| ())).unwrap();
    let quoted = bench.tpm.call("test", move |chip| chip.quote(&pcrs, &Digest([1; 32])));
    assert_eq!(quoted.unwrap().1, replayed);
}
