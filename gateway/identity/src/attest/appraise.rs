//! The space's judgement on a box's evidence: pure, in a fixed order, the gravest finding decides.
//!
//! What a check relies on was checked before: nothing is read out of a quote whose signature does not
//! hold, no log is replayed against PCRs that were not quoted.

use super::boot::{SECURE_BOOT_PCR, SecureBootVariable, secure_boot_variable};
use super::event_log::EventLog;
use super::evidence::{Binding, Evidence};
use super::ima::{ImaEntry, ImaPlace, parse_ima, replay_ima};
use super::nv::counter_name;
use super::reference::Reference;
use super::verdict::{AttestationOutcome, Finding, Verdict};
use crate::tier::Tier;
use guan_evidence::tpm::{Attestation, Attested, TpmClock, TpmSignature, pcr_digest};
use guan_model::{Digest, PublicKey, WallTime};
use std::time::Duration;

/// How long a verdict holds.
pub const VERDICT_LIFE: Duration = Duration::from_secs(15 * 60);
/// PCRs that every quote must cover: firmware, boot loader, Secure Boot, IMA, unified kernel image.
pub const PCRS_REQUIRED: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11];
const FIRMWARE_PCR: u8 = 0;
const IMA_PCR: u8 = 10;
/// Most findings that are kept of one kind of file.
const FILES_NAMED_MAX: usize = 16;

/// What the space knows about the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBox {
    pub tier: Tier,
    pub is_revoked: bool,
    /// The attestation key that was activated at enrolment.
    pub ak: PublicKey,
    /// The key that the AK certified, and that the certificate names.
    pub tls_key: PublicKey,
    pub last: Option<LastSeen>,
}

/// What the last good appraisal left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen {
    pub clock: TpmClock,
    pub counter: u64,
    /// PCR 0 at first use, until a person approves another.
    pub firmware: Digest,
    /// Up to where the list of measured files was found good.
    pub ima: ImaPlace,
}

/// What this connection shows by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub binding: Binding,
    /// Of the certificate with which the box came.
    pub tls_key: PublicKey,
}

/// What the space demands.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub references: Vec<Reference>,
    /// Least counter of a release, of this space.
    pub counter_min: u64,
    /// Versions of TPMs' firmware with known flaws.
    pub refused_firmware: Vec<u64>,
    /// Digests of files that need no signature.
    pub known_files: std::collections::BTreeSet<Vec<u8>>,
}

/// Judges. The second part is what to remember, after a verdict that does not refuse.
pub fn appraise(
    known: &KnownBox,
    session: &Session,
    policy: &Policy,
    evidence: &Evidence,
    logs: &Logs,
    now: WallTime,
) -> (Verdict, Option<LastSeen>) {
    let findings = Vec::new();
    let mut court = Court { known, session, policy, evidence, findings, secure_boot: None };
    let seen = court.hear(logs, now);
    let worst = court.findings.iter().map(Finding::outcome).max();
    let outcome = worst.unwrap_or(AttestationOutcome::Allow);
    let expires_at = now.saturating_add(VERDICT_LIFE);
    let (findings, secure_boot) = (court.findings, court.secure_boot);
    let verdict = Verdict { outcome, findings, secure_boot, made_at: now, expires_at };
    (verdict, seen.filter(|_| outcome != AttestationOutcome::Refuse))
}

/// The unpacked logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logs {
    /// Empty when there is none.
    pub boot: Vec<u8>,
    pub ima: Vec<u8>,
}

struct Court<'a> {
    known: &'a KnownBox,
    session: &'a Session,
    policy: &'a Policy,
    evidence: &'a Evidence,
    findings: Vec<Finding>,
    secure_boot: Option<bool>,
}

impl Court<'_> {
    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// `None` when what follows would rest on nothing.
    fn hear(&mut self, logs: &Logs, now: WallTime) -> Option<LastSeen> {
        let quote = self.hear_quote()?;
        self.hear_binding(&quote);
        let clock = quote.clock;
        self.hear_clock(clock);
        if self.policy.refused_firmware.contains(&quote.firmware) {
            self.find(Finding::TpmFirmware(quote.firmware));
        }
        self.hear_pcrs(&quote)?;
        self.hear_boot(&logs.boot);
        self.hear_release(now);
        let ima = self.hear_ima(&logs.ima);
        self.hear_counter();
        let firmware = *self.evidence.pcrs.get(&FIRMWARE_PCR)?;
        let pinned = self.known.last.as_ref().map(|last| last.firmware);
        if pinned != Some(firmware) {
            self.find(Finding::FirmwareUnknown);
        }
        let firmware = pinned.unwrap_or(firmware);
        // A list with something bad in it is looked at from its start again.
        let ima = ima.unwrap_or(ImaPlace::START);
        Some(LastSeen { clock, counter: self.evidence.claims.counter, firmware, ima })
    }

    fn hear_quote(&mut self) -> Option<Attestation> {
        let signature = match TpmSignature::parse(&self.evidence.quote_signature) {
            Ok(signature) => signature,
            Err(fault) => {
                self.find(Finding::Malformed(fault.to_string()));
                return None;
            }
        };
        // The AK of this box and no other: a quote by another key is no worse than a forged one.
        if !signature.is_by(&self.known.ak, &self.evidence.quote) {
            self.find(Finding::Signature);
            return None;
        }
        if self.known.is_revoked {
            self.find(Finding::Revoked);
        }
        match Attestation::parse(&self.evidence.quote) {
            Ok(quote) if matches!(quote.attested, Attested::Quote { .. }) => Some(quote),
            Ok(_) => {
                self.find(Finding::NotAQuote);
                None
            }
            Err(fault) => {
                self.find(Finding::Malformed(fault.to_string()));
                None
            }
        }
    }

    fn hear_binding(&mut self, quote: &Attestation) {
        let bound = self.session.binding.qualify(&self.evidence.claims_bytes);
        if quote.extra != bound.0 {
            self.find(Finding::Binding);
        }
        if self.session.tls_key != self.known.tls_key {
            self.find(Finding::OtherTlsKey);
        }
        if self.evidence.claims.tier != self.known.tier {
            self.find(Finding::Tier);
        }
    }

    fn hear_clock(&mut self, clock: TpmClock) {
        if let Some(last) = &self.known.last {
            let boots = |clock: TpmClock| (clock.resets, clock.restarts);
            let is_same_boot = boots(clock) == boots(last.clock);
            let went_back = clock.resets < last.clock.resets
                || (clock.resets == last.clock.resets && clock.restarts < last.clock.restarts)
                || (is_same_boot && clock.clock_ms < last.clock.clock_ms);
            if went_back {
                self.find(Finding::ClockBack);
            }
        }
        if !clock.is_safe {
            self.find(Finding::UncleanStop);
        }
    }

    fn hear_pcrs(&mut self, quote: &Attestation) -> Option<()> {
        let Attested::Quote { selected, digest } = &quote.attested else { return None };
        let reported: Vec<u8> = self.evidence.pcrs.keys().copied().collect();
        if *selected != reported || pcr_digest(&self.evidence.pcrs).0[..] != digest[..] {
            self.find(Finding::PcrDigest);
            return None;
        }
        let missing = PCRS_REQUIRED.iter().find(|pcr| !selected.contains(pcr));
        if let Some(pcr) = missing {
            self.find(Finding::PcrMissing(*pcr));
            return None;
        }
        Some(())
    }

    fn hear_boot(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return self.find(Finding::NoBootLog);
        }
        let log = match EventLog::parse(bytes) {
            Ok(log) => log,
            Err(fault) => return self.find(Finding::BootLog(fault.to_string())),
        };
        let differs = |(pcr, value): (u8, Digest)| {
            // The kernel goes on extending the PCR of its own list.
            let is_quoted = pcr != IMA_PCR && self.evidence.pcrs.contains_key(&pcr);
            (is_quoted && self.evidence.pcrs.get(&pcr) != Some(&value)).then_some(pcr)
        };
        if let Some(pcr) = log.replay().into_iter().find_map(differs) {
            return self.find(Finding::BootReplay(pcr));
        }
        if self.evidence.pcrs.contains_key(&SECURE_BOOT_PCR) {
            let variable = secure_boot_variable(&log, "SecureBoot");
            self.secure_boot = variable.map(|variable| variable.data == [1]);
        }
        let Some(reference) = self.reference().cloned() else { return };
        if reference.secure_boot && self.secure_boot != Some(true) {
            self.find(Finding::SecureBootOff);
        }
        for (name, digests) in &reference.variables {
            let variable = secure_boot_variable(&log, name);
            let is_listed = |found: SecureBootVariable<'_>| digests.contains(&found.digest);
            if !variable.is_some_and(is_listed) {
                self.find(Finding::SecureBootVariable(name.clone()));
            }
        }
    }

    fn reference(&self) -> Option<&Reference> {
        let release = &self.evidence.claims.release;
        self.policy.references.iter().find(|reference| reference.release == *release)
    }

    fn hear_release(&mut self, now: WallTime) {
        if self.policy.references.is_empty() {
            return self.find(Finding::NoReferences);
        }
        let release = self.evidence.claims.release.clone();
        let Some(reference) = self.reference().cloned() else {
            return self.find(Finding::ReleaseUnknown(release));
        };
        if reference.valid_until < now {
            self.find(Finding::ReleaseExpired(release));
        }
        let (found, least) = (reference.counter, self.policy.counter_min);
        if found < least {
            self.find(Finding::ReleaseTooOld { found, least });
        }
        if let Some(pcr) = reference.first_mismatch(&self.evidence.pcrs) {
            self.find(Finding::PcrNotPublished(pcr));
        }
    }

    /// Up to where everything is good.
    fn hear_ima(&mut self, bytes: &[u8]) -> Option<ImaPlace> {
        let from = self.known.last.as_ref().map(|last| last.ima);
        let from = match self.evidence.claims.ima_start {
            0 => ImaPlace::START,
            start => match from.filter(|from| from.entries == start) {
                Some(from) => from,
                None => {
                    self.find(Finding::ImaReplay);
                    return None;
                }
            },
        };
        let zero = Digest([0; 32]);
        let pcr = self.evidence.pcrs.get(&IMA_PCR).copied().unwrap_or(zero);
        let entries = match parse_ima(bytes) {
            Ok(entries) => entries,
            Err(fault) => {
                self.find(Finding::ImaList(fault.to_string()));
                return None;
            }
        };
        let Some(count) = replay_ima(&entries, &from.value, &pcr) else {
            self.find(Finding::ImaReplay);
            return None;
        };
        let mut named = 0;
        for entry in &entries[..count] {
            let Some(finding) = self.judge_file(entry) else { continue };
            if named < FILES_NAMED_MAX {
                named += 1;
                self.find(finding);
            }
        }
        let entries = from.entries.saturating_add(count as u64);
        (named == 0).then_some(ImaPlace { entries, value: pcr })
    }

    fn judge_file(&self, entry: &ImaEntry<'_>) -> Option<Finding> {
        let path = || String::from_utf8_lossy(entry.path).chars().take(128).collect();
        if entry.is_violation {
            return Some(Finding::ImaViolation(path()));
        }
        let is_known =
            !entry.signature.is_empty() || self.policy.known_files.contains(entry.file_digest);
        (!is_known).then(|| Finding::ImaUnknownFile(path()))
    }

    /// What the TPM itself says of its counter, for this connection.
    fn certified_counter(&self) -> Option<u64> {
        let (statement, signature) = (&self.evidence.counted, &self.evidence.counted_signature);
        let is_signed = TpmSignature::parse(signature)
            .is_ok_and(|signature| signature.is_by(&self.known.ak, statement));
        let statement = Attestation::parse(statement).ok().filter(|_| is_signed)?;
        let bound = self.session.binding.qualify(&self.evidence.claims_bytes);
        let Attested::Nv { index_name, offset: 0, contents } = &statement.attested else {
            return None;
        };
        let is_it = *index_name == counter_name() && statement.extra == bound.0;
        let contents = <[u8; 8]>::try_from(contents.as_slice()).ok().filter(|_| is_it)?;
        Some(u64::from_be_bytes(contents))
    }

    fn hear_counter(&mut self) {
        let found = self.evidence.claims.counter;
        if self.certified_counter() != Some(found) {
            self.find(Finding::CounterUncertified);
        }
        let last = self.known.last.as_ref().map_or(0, |last| last.counter);
        if found < last {
            self.find(Finding::CounterBack { found, least: last });
        }
    }
}
