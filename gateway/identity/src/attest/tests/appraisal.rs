//! Each finding comes from its own fault and from no other; the untouched twin is allowed.

use super::*;
use crate::tier::Tier;
use ed25519_dalek::{Signer, SigningKey};
use guan_model::WallTime;
use std::collections::BTreeSet;

const NOW: WallTime = WallTime(1_795_000_000_000_000_000);
const EV_SEPARATOR: u32 = 4;
const EV_VARIABLE: u32 = 0x8000_0001;

/// Everything that one appraisal looks at; tests change one thing of it.
struct Case {
    tpm: FakeTpm,
    known: KnownBox,
    session: Session,
    policy: Policy,
    claims: Claims,
    clock: TpmClock,
    pcrs: Pcrs,
    logs: Logs,
    /// Signed instead of the quote that belongs to the rest.
    quote: Option<Vec<u8>>,
    /// Reported instead of the quoted PCRs.
    reported: Option<Pcrs>,
    /// Certified instead of the counter that belongs to the rest.
    counted: Option<Vec<u8>>,
}

fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (chars, bytes) = (name.len() as u64, value.len() as u64);
    [&[9; 16][..], &chars.to_le_bytes(), &bytes.to_le_bytes(), &units, value].concat()
}

fn signed_reference(release: &str, counter: u64, pcr_11: &Digest, db: &Digest) -> Reference {
    let document = format!(
        r#"{{"schema":1,"release":"{release}","counter":{counter},"secure_boot":true,"variables":{{"db":["{db}"]}},"pcrs":{{"11":["{pcr_11}"]}},"valid_until":"2027-06-01T00:00:00Z"}}"#
    );
    let key = SigningKey::from_bytes(&[7; 32]);
    let signature = hex::encode(key.sign(document.as_bytes()).to_bytes());
    Reference::parse(&format!("{document}\n{signature}\n"), &[key.verifying_key().to_bytes()])
        .unwrap()
}

fn events(secure_boot: u8, db: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    vec![
        (0, 3, b"StartupLocality\0\x03".to_vec()),
        (0, 8, b"firmware".to_vec()),
        (7, EV_VARIABLE, variable("SecureBoot", &[secure_boot])),
        (7, EV_VARIABLE, variable("db", db)),
        (4, EV_SEPARATOR, vec![0; 4]),
    ]
}

fn log_of(events: &[(u8, u32, Vec<u8>)]) -> Vec<u8> {
    let events: Vec<_> =
        events.iter().map(|(pcr, kind, data)| (*pcr, *kind, data.as_slice())).collect();
    boot_log(&events)
}

impl Case {
    fn new() -> Self {
        let tpm = FakeTpm::new();
        let tls_key = FakeTpm::new().public();
        let boot = log_of(&events(1, b"our key"));
        let ima = ima_entry("/usr/bin/guan", &[5; 32], b"signature");
        let mut pcrs: Pcrs = PCRS_REQUIRED.iter().map(|pcr| (*pcr, Digest([0; 32]))).collect();
        pcrs.extend(EventLog::parse(&boot).unwrap().replay());
        extend_ima(&mut pcrs, &ima);
        pcrs.insert(11, Digest([11; 32]));
        let clock = TpmClock { clock_ms: 5000, resets: 3, restarts: 1, is_safe: true };
        let firmware = pcrs[&0];
        let last = TpmClock { clock_ms: 4000, ..clock };
        let db = Digest::of(&variable("db", b"our key"));
        Self {
            known: KnownBox {
                tier: Tier::Hardware,
                is_revoked: false,
                ak: tpm.public(),
                tls_key: tls_key.clone(),
                last: Some(LastSeen { clock: last, counter: 2, firmware, ima: ImaPlace::START }),
            },
            session: Session {
                binding: Binding {
                    nonce: [1; 32],
                    exporter: [2; 32],
                    box_leaf: Digest([3; 32]),
                    space_leaf: Digest([4; 32]),
                },
                tls_key,
            },
            policy: Policy {
                references: vec![signed_reference("2026.11", 2, &Digest([11; 32]), &db)],
                counter_min: 2,
                refused_firmware: vec![8],
                known_files: BTreeSet::new(),
            },
            claims: Claims {
                release: "2026.11".to_owned(),
                boot: 4,
                log_size: 9,
                log_root: Digest([6; 32]),
                counter: 2,
                ima_start: 0,
                tier: Tier::Hardware,
            },
            tpm,
            clock,
            pcrs,
            logs: Logs { boot, ima },
            quote: None,
            reported: None,
            counted: None,
        }
    }

    fn appraise(&self) -> (Verdict, Option<LastSeen>) {
        let claims_bytes = self.claims.encode();
        let bound = self.session.binding.qualify(&claims_bytes);
        let quote = self.quote.clone().unwrap_or_else(|| {
            quote_bytes(&bound.0, self.clock, &self.pcrs, &pcr_digest(&self.pcrs))
        });
        let counted = self.counted.clone().unwrap_or_else(|| {
            counter_bytes(&bound.0, self.clock, &counter_name(), self.claims.counter)
        });
        let evidence = Evidence {
            claims_bytes,
            claims: self.claims.clone(),
            quote_signature: self.tpm.sign(&quote),
            quote,
            pcrs: self.reported.clone().unwrap_or_else(|| self.pcrs.clone()),
            boot_log: Vec::new(),
            ima_list: Vec::new(),
            counted_signature: self.tpm.sign(&counted),
            counted,
        };
        // What arrives is what was sent.
        let evidence = Evidence::decode(&evidence.encode()).unwrap();
        appraise(&self.known, &self.session, &self.policy, &evidence, &self.logs, NOW)
    }
}

/// PCR 10 after a list of one entry: the digest is that of the template's data, which ends the entry.
fn extend_ima(pcrs: &mut Pcrs, list: &[u8]) {
    const DATA_AT: usize = 4 + 20 + (4 + "ima-sig".len()) + 4;
    let mut value = Digest([0; 32]);
    extend(&mut value, &Digest::of(&list[DATA_AT..]));
    pcrs.insert(10, value);
}

/// Changes one thing and expects one finding, and the outcome that it leads to.
fn check(change: impl FnOnce(&mut Case), expect: &Finding) {
    let mut case = Case::new();
    let (twin, seen) = case.appraise();
    assert_eq!((twin.outcome, twin.findings.as_slice()), (AttestationOutcome::Allow, &[][..]));
    assert_eq!(seen.unwrap().clock, case.clock);
    change(&mut case);
    let (verdict, seen) = case.appraise();
    assert_eq!(verdict.findings, std::slice::from_ref(expect));
    assert_eq!(verdict.outcome, expect.outcome());
    assert_eq!(seen.is_some(), verdict.outcome != AttestationOutcome::Refuse, "{expect}");
    assert!(verdict.expires_at > verdict.made_at && !expect.to_string().is_empty());
}

#[test]
fn quote_of_another_key() {
    check(|case| case.tpm = FakeTpm::new(), &Finding::Signature);
}

#[test]
fn quote_with_another_nonce() {
    check_binding(|binding| binding.nonce[31] ^= 1);
}

#[test]
fn quote_with_another_exporter() {
    check_binding(|binding| binding.exporter[0] ^= 1);
}

/// A relay: the box attests to its own connection, the attacker shows it on his.
#[test]
fn quote_for_another_certificate_of_the_box_or_the_space() {
    check_binding(|binding| binding.box_leaf.0[0] ^= 1);
    check_binding(|binding| binding.space_leaf.0[0] ^= 1);
}

fn check_binding(change: impl FnOnce(&mut Binding)) {
    check(
        |case| {
            let claims = case.claims.encode();
            let mut other = case.session.binding.clone();
            change(&mut other);
            let bound = other.qualify(&claims);
            let digest = pcr_digest(&case.pcrs);
            case.quote = Some(quote_bytes(&bound.0, case.clock, &case.pcrs, &digest));
        },
        &Finding::Binding,
    );
}

/// A counter that the box only claims, of another connection, or of another place in the TPM.
#[test]
fn a_counter_that_the_tpm_does_not_certify() {
    let check_counted = |make: fn(&Case, &Digest) -> Vec<u8>| {
        let change = |case: &mut Case| {
            let bound = case.session.binding.qualify(&case.claims.encode());
            case.counted = Some(make(case, &bound));
        };
        check(change, &Finding::CounterUncertified);
    };
    check_counted(|_, _| Vec::new());
    check_counted(|case, bound| counter_bytes(&bound.0, case.clock, &counter_name(), 3));
    check_counted(|case, bound| counter_bytes(&bound.0[1..], case.clock, &counter_name(), 2));
    check_counted(|case, bound| counter_bytes(&bound.0, case.clock, b"another index", 2));
}

/// The second look gets the list from where the first ended, and takes no other place for it.
#[test]
fn a_grown_list_is_heard_from_where_the_last_look_ended() {
    let mut case = Case::new();
    let (first, seen) = case.appraise();
    let seen = seen.unwrap();
    assert_eq!((first.outcome, seen.ima.entries), (AttestationOutcome::Allow, 1));
    let more = ima_entry("/usr/bin/new", &[6; 32], b"signature");
    let whole = [&case.logs.ima[..], &more].concat();
    let (tail, place) = ima_after(&whole, seen.ima);
    assert_eq!((tail, place), (&more[..], seen.ima));
    // Another boot's list, and one that was cut, go from the start.
    assert_eq!(ima_after(&more, seen.ima), (&more[..], ImaPlace::START));
    assert_eq!(ima_after(&whole[..9], seen.ima), (&whole[..9], ImaPlace::START));
    const DATA_AT: usize = 4 + 20 + (4 + "ima-sig".len()) + 4;
    let mut value = seen.ima.value;
    extend(&mut value, &Digest::of(&more[DATA_AT..]));
    case.pcrs.insert(10, value);
    case.known.last = Some(seen);
    (case.logs.ima, case.claims.ima_start) = (more.clone(), 1);
    let (second, seen) = case.appraise();
    assert_eq!((second.findings, seen.unwrap().ima.entries), (vec![], 2));
    // A box that claims a place that the space does not know.
    case.claims.ima_start = 2;
    assert_eq!(case.appraise().0.findings, [Finding::ImaReplay]);
    // What is bad is not forgotten at the next look.
    let bad = ima_entry("/tmp/bad", &[6; 32], b"");
    let mut case = Case::new();
    extend_ima(&mut case.pcrs, &bad);
    case.logs.ima = bad;
    let (verdict, seen) = case.appraise();
    assert_eq!(
        (verdict.outcome, seen.unwrap().ima),
        (AttestationOutcome::Restricted, ImaPlace::START)
    );
}

/// The fake TPM's firmware has version 7.
#[test]
fn a_tpm_with_a_known_flaw() {
    check(|case| case.policy.refused_firmware.push(7), &Finding::TpmFirmware(7));
}

#[test]
fn quote_in_another_role() {
    check(
        |case| {
            let binding = &case.session.binding;
            let claims = Digest::of(&case.claims.encode());
            let parts: [&[u8]; 6] = [
                &[1, 2],
                &binding.nonce,
                &binding.exporter,
                &binding.box_leaf.0,
                &binding.space_leaf.0,
                &claims.0,
            ];
            let bound = Digest::of_parts(&parts);
            let digest = pcr_digest(&case.pcrs);
            case.quote = Some(quote_bytes(&bound.0, case.clock, &case.pcrs, &digest));
        },
        &Finding::Binding,
    );
}

#[test]
fn claims_that_were_changed_after_the_quote() {
    check(
        |case| {
            let bound = case.session.binding.qualify(&case.claims.encode());
            let digest = pcr_digest(&case.pcrs);
            case.quote = Some(quote_bytes(&bound.0, case.clock, &case.pcrs, &digest));
            case.claims.log_size += 1;
        },
        &Finding::Binding,
    );
}

#[test]
fn ak_of_one_box_with_the_tls_key_of_another() {
    check(|case| case.session.tls_key = FakeTpm::new().public(), &Finding::OtherTlsKey);
}

#[test]
fn revoked_box() {
    check(|case| case.known.is_revoked = true, &Finding::Revoked);
}

#[test]
fn tier_that_is_not_the_enrolled_one() {
    check(|case| case.claims.tier = Tier::Emulated, &Finding::Tier);
}

#[test]
fn clock_that_went_back() {
    check(|case| case.clock.clock_ms = 3999, &Finding::ClockBack);
    check(|case| case.clock.resets = 2, &Finding::ClockBack);
    check(|case| case.clock.restarts = 0, &Finding::ClockBack);
}

#[test]
fn unclean_stop_is_noted() {
    check(|case| case.clock.is_safe = false, &Finding::UncleanStop);
}

#[test]
fn pcrs_that_were_not_quoted() {
    let change = |case: &mut Case| {
        let mut reported = case.pcrs.clone();
        reported.insert(11, Digest([12; 32]));
        case.reported = Some(reported);
    };
    check(change, &Finding::PcrDigest);
    let left_out = |case: &mut Case| {
        let mut reported = case.pcrs.clone();
        reported.remove(&2);
        case.reported = Some(reported);
    };
    check(left_out, &Finding::PcrDigest);
    let unselected = |case: &mut Case| case.pcrs.retain(|pcr, _| *pcr != 10);
    check(unselected, &Finding::PcrMissing(10));
}

#[test]
fn boot_log_that_leads_elsewhere() {
    let other = log_of(&[(0, 8, b"other firmware".to_vec())]);
    check(|case| case.logs.boot = other, &Finding::BootReplay(0));
    let truncated = |case: &mut Case| case.logs.boot.truncate(case.logs.boot.len() - 1);
    check(truncated, &Finding::BootLog("the log ends at byte 436 inside an event's data".into()));
}

#[test]
fn no_boot_log_is_noted() {
    check(|case| case.logs.boot.clear(), &Finding::NoBootLog);
}

/// A firmware that was pinned differs: the log and the PCRs agree with each other.
#[test]
fn firmware_that_is_new_is_noted() {
    let pin = |case: &mut Case| case.known.last.as_mut().unwrap().firmware = Digest([0; 32]);
    check(pin, &Finding::FirmwareUnknown);
}

fn reboot(case: &mut Case, secure_boot: u8, db: &[u8]) {
    case.logs.boot = log_of(&events(secure_boot, db));
    let pcrs = EventLog::parse(&case.logs.boot).unwrap().replay();
    case.pcrs.extend(pcrs);
}

#[test]
fn secure_boot_that_is_off() {
    check(|case| reboot(case, 0, b"our key"), &Finding::SecureBootOff);
}

/// Whether Secure Boot was on is said also where no reference demands it, and only of a log that leads to the PCRs.
#[test]
fn secure_boot_is_told_as_it_was_measured() {
    let check = |change: fn(&mut Case), expect: Option<bool>| {
        let mut case = Case::new();
        case.policy.references.clear();
        change(&mut case);
        assert_eq!(case.appraise().0.secure_boot, expect);
    };
    check(|_| {}, Some(true));
    check(|case| reboot(case, 0, b"our key"), Some(false));
    check(|case| case.logs.boot = log_of(&events(0, b"our key")), None);
    check(|case| case.logs.boot.clear(), None);
    let other = |case: &mut Case| {
        case.logs.boot = log_of(&events(1, b"our key")[..2]);
        let pcrs = EventLog::parse(&case.logs.boot).unwrap().replay();
        case.pcrs.extend(pcrs);
    };
    check(other, None);
}

#[test]
fn secure_boot_with_another_key() {
    let finding = Finding::SecureBootVariable("db".to_owned());
    check(|case| reboot(case, 1, b"their key"), &finding);
}

/// The log's text says that Secure Boot is on; the digest that was measured is that of "off".
#[test]
fn secure_boot_text_without_its_digest() {
    let lie = |case: &mut Case| {
        reboot(case, 0, b"our key");
        let at = case.logs.boot.windows(20).position(|window| {
            window == "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()
        });
        case.logs.boot[at.unwrap() + 20] = 1;
    };
    check(lie, &Finding::SecureBootOff);
}

#[test]
fn downgraded_release() {
    let finding = Finding::ReleaseTooOld { found: 2, least: 3 };
    check(|case| case.policy.counter_min = 3, &finding);
    let finding = Finding::CounterBack { found: 1, least: 2 };
    check(|case| case.claims.counter = 1, &finding);
}

#[test]
fn unknown_and_expired_releases() {
    let finding = Finding::ReleaseExpired("2026.11".to_owned());
    check(|case| case.policy.references[0].valid_until = WallTime(0), &finding);
    check(|case| case.policy.references.clear(), &Finding::NoReferences);
    let finding = Finding::ReleaseUnknown("2026.12".to_owned());
    check(|case| case.claims.release = "2026.12".to_owned(), &finding);
}

#[test]
fn kernel_image_that_was_not_published() {
    let change = |case: &mut Case| case.pcrs.extend([(11, Digest([12; 32]))]);
    check(change, &Finding::PcrNotPublished(11));
}

#[test]
fn measured_files() {
    let unsigned = |case: &mut Case| {
        case.logs.ima = ima_entry("/tmp/x", &[8; 32], b"");
        extend_ima(&mut case.pcrs, &case.logs.ima);
    };
    check(unsigned, &Finding::ImaUnknownFile("/tmp/x".to_owned()));
    let mut listed = Case::new();
    unsigned(&mut listed);
    listed.policy.known_files.insert(vec![8; 32]);
    assert_eq!(listed.appraise().0.findings, []);
    let left_out = |case: &mut Case| case.logs.ima.clear();
    check(left_out, &Finding::ImaReplay);
}

/// Files that were measured after the quote are not looked at, and do no harm.
#[test]
fn list_that_has_grown_since() {
    let mut case = Case::new();
    case.logs.ima.extend(ima_entry("/tmp/x", &[8; 32], b""));
    assert_eq!(case.appraise().0.findings, []);
}

#[test]
fn message_that_pretends_to_be_a_quote() {
    let mut case = Case::new();
    case.quote = Some(b"a text that an unrestricted key would sign".to_vec());
    let (verdict, seen) = case.appraise();
    assert!(matches!(verdict.findings[..], [Finding::Malformed(_)]), "{verdict:?}");
    assert_eq!((verdict.outcome, seen), (AttestationOutcome::Refuse, None));
}

#[test]
fn the_gravest_finding_decides_and_all_are_told() {
    let mut case = Case::new();
    case.clock.is_safe = false;
    case.policy.counter_min = 3;
    case.known.is_revoked = true;
    let (verdict, seen) = case.appraise();
    assert_eq!((verdict.outcome, verdict.findings.len()), (AttestationOutcome::Refuse, 3));
    assert_eq!(seen, None);
}

#[test]
fn a_reference_needs_a_trusted_signature() {
    let (mine, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
    let document = r#"{"schema":1,"release":"1","pcrs":{},"valid_until":"2027-06-01T00:00:00Z"}"#;
    let signature = hex::encode(mine.sign(document.as_bytes()).to_bytes());
    let text = format!("{document}\n{signature}");
    assert!(Reference::parse(&text, &[mine.verifying_key().to_bytes()]).is_ok());
    let fault = Reference::parse(&text, &[other.verifying_key().to_bytes()]);
    assert_eq!(fault, Err(ReferenceFault::Signature));
    let changed = text.replace("\"1\"", "\"2\"");
    assert_eq!(
        Reference::parse(&changed, &[mine.verifying_key().to_bytes()]),
        Err(ReferenceFault::Signature)
    );
    assert_eq!(
        Reference::parse("x", &[mine.verifying_key().to_bytes()]),
        Err(ReferenceFault::Form)
    );
}
