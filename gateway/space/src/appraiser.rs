//! Appraises boxes for the link: what the registry knows, what releases publish, and a signed verdict.

use crate::alarms::Alarms;
use crate::boot_logs::BootLogs;
use crate::care::Care;
use crate::registry::{Enrolment, LastAppraisal, Registry, RegistryError, Retirement, SeenRecord};
use bytes::Bytes;
use guan_identity::attest::{
    Attestation, AttestationOutcome, Binding, Evidence, Finding, ImaPlace, KnownBox, LastSeen,
    Logs, Policy, REFERENCE_BYTES_MAX, Reference, Session, TpmClock, VERDICT_LIFE, Verdict,
    appraise, unpack_logs,
};
use guan_identity::{Tier, certificate_key, peer_identity};
use guan_link::GateOutcome;
use guan_link::driver::{Appraisal, Appraise, Proof, Underway};
use guan_link::frame::Question;
use guan_model::{BoxId, Digest, PublicKey, Signer, WallTime};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files of reference values that are read.
const REFERENCES_MAX: usize = 256;
const NO_DIGEST: Digest = Digest([0; 32]);

/// What the space demands, as configured.
pub struct Demands {
    pub references_dir: Option<PathBuf>,
    pub release_keys: Vec<[u8; 32]>,
    pub counter_min: u64,
    pub refused_firmware: Vec<u64>,
}

/// What it has in common with the rest of the space.
pub struct Common {
    pub care: Care,
    pub boot_logs: BootLogs,
    pub alarms: Alarms,
}

/// Everything that an appraisal needs; shared by all sessions.
pub struct Appraiser {
    registry: Registry,
    demands: Demands,
    /// Digest of the certificate that boxes see.
    own_leaf: Digest,
    /// Signs verdicts.
    signer: Arc<dyn Signer>,
    clock: fn() -> WallTime,
    random: SystemRandom,
    care: Care,
    boot_logs: BootLogs,
    alarms: Alarms,
}

impl Appraiser {
    /// As the link takes it.
    pub fn shared(
        registry: Registry,
        demands: Demands,
        own_leaf: Digest,
        signer: Arc<dyn Signer>,
        clock: fn() -> WallTime,
        shared: Common,
    ) -> Arc<dyn Appraise> {
        let random = SystemRandom::new();
        let Common { care, boot_logs, alarms } = shared;
        let state =
            Self { registry, demands, own_leaf, signer, clock, random, care, boot_logs, alarms };
        Arc::new(Shared(Arc::new(state)))
    }
}

/// Handed to the link.
struct Shared(Arc<Appraiser>);

impl Appraise for Shared {
    fn must_prove(&self, leaf: &CertificateDer<'_>) -> bool {
        // A certificate that cannot be read was not admitted.
        peer_identity(leaf).map_or(true, |(_, tier)| tier > Tier::Unattested)
    }

    fn question(&self, box_id: BoxId) -> Underway<Question> {
        let state = self.0.clone();
        Box::pin(async move {
            let (asked, nonce) = (state.clone(), state.nonce());
            let known = tokio::task::spawn_blocking(move || asked.known_logs(&box_id)).await;
            let (place, boot_log) = known.unwrap_or((ImaPlace::START, NO_DIGEST));
            let ImaPlace { entries: ima_start, value: ima_value } = place;
            Question { nonce, ima_start, ima_value, boot_log }
        })
    }

    fn appraise(&self, proof: Proof) -> Underway<Appraisal> {
        let state = self.0.clone();
        Box::pin(async move {
            // sled, files and long logs: nothing for the tasks of the sessions.
            let judged = tokio::task::spawn_blocking(move || state.judge(&proof)).await;
            judged.unwrap_or_else(|_| refusal("the space failed; come again"))
        })
    }

    fn answer(&self, ask: Proof) -> Underway<Bytes> {
        let state = self.0.clone();
        Box::pin(async move {
            let answered = tokio::task::spawn_blocking(move || state.care.answer(&ask)).await;
            answered.unwrap_or_default()
        })
    }
}

/// What a good quote says beside what is judged.
struct Shown {
    /// PCR 0.
    firmware: Option<String>,
    tpm_firmware: Option<String>,
}

/// What a box is told beside its verdict.
#[derive(Default)]
struct Beside {
    order: Option<&'static str>,
    store_policy: Option<String>,
}

fn refusal(text: &str) -> Appraisal {
    let (outcome, holds_for) = (GateOutcome::Refuse, VERDICT_LIFE);
    Appraisal { outcome, holds_for, text: text.to_owned(), document: Bytes::new() }
}

impl Appraiser {
    fn nonce(&self) -> [u8; 32] {
        let mut nonce = [0; 32];
        self.random.fill(&mut nonce).expect("the system has random numbers once it has started");
        nonce
    }

    /// What this box need not send again.
    fn known_logs(&self, box_id: &BoxId) -> (ImaPlace, Digest) {
        let enrolment = self.registry.find(box_id).ok().flatten();
        let last = enrolment.and_then(|enrolment| enrolment.tpm?.last);
        let place = last.and_then(|last| last.seen).map_or(ImaPlace::START, |seen| place(&seen));
        let boot_log = self.boot_logs.read(box_id).map_or(NO_DIGEST, |log| Digest::of(&log));
        (place, boot_log)
    }

    fn judge(&self, proof: &Proof) -> Appraisal {
        let box_id = &proof.box_id;
        let enrolment = match self.registry.find(box_id) {
            Ok(Some(enrolment)) => enrolment,
            Ok(None) => return refusal("the box is not enrolled"),
            Err(fault) => {
                tracing::error!(%box_id, %fault, "the registry of boxes cannot be read");
                return refusal("the space cannot read its registry; come again");
            }
        };
        let leaf = Digest::of(&proof.bound.peer_leaf).to_string();
        let Some(known) = known_box(&enrolment, &leaf) else {
            return refusal("the box was enrolled without a TPM; join again with a new token");
        };
        let (verdict, seen, shown) = match self.weigh(&known, proof) {
            Ok(judged) => judged,
            Err(text) => return refusal(&text),
        };
        let seen = seen.map(|seen| record(&seen));
        match self.remember(box_id, &leaf, &verdict, seen, shown) {
            Ok(beside) => self.tell(proof, &verdict, &beside),
            Err(fault) => {
                tracing::error!(%box_id, %fault, "a verdict cannot be recorded");
                refusal("the space cannot write its registry; come again")
            }
        }
    }

    fn weigh(
        &self,
        known: &KnownBox,
        proof: &Proof,
    ) -> Result<(Verdict, Option<LastSeen>, Shown), String> {
        let evidence = Evidence::decode(&proof.evidence).map_err(|fault| fault.to_string())?;
        let mut logs: Logs = unpack_logs(&evidence).map_err(|fault| fault.to_string())?;
        let is_new = !logs.boot.is_empty();
        if !is_new {
            // Either it has none, or it is the one that is here: the PCRs tell.
            logs.boot = self.boot_logs.read(&proof.box_id).unwrap_or_default();
        }
        let bound = &proof.bound;
        let session = Session {
            binding: Binding {
                nonce: bound.nonce,
                exporter: bound.exporter,
                box_leaf: Digest::of(&bound.peer_leaf),
                space_leaf: self.own_leaf,
            },
            tls_key: certificate_key(&bound.peer_leaf).map_err(|fault| fault.to_string())?,
        };
        let policy = Policy {
            references: self.references(),
            counter_min: self.demands.counter_min,
            refused_firmware: self.demands.refused_firmware.clone(),
            known_files: BTreeSet::new(),
        };
        let (verdict, seen) = appraise(known, &session, &policy, &evidence, &logs, (self.clock)());
        if is_new && seen.is_some() {
            self.boot_logs.keep(&proof.box_id, &evidence.boot_log);
        }
        // Only what a good quote covered is worth approving.
        let quote = Attestation::parse(&evidence.quote).ok().filter(|_| seen.is_some());
        let shown = Shown {
            firmware: evidence.pcrs.get(&0).map(ToString::to_string).filter(|_| quote.is_some()),
            tpm_firmware: quote.map(|quote| format!("{:016x}", quote.firmware)),
        };
        Ok((verdict, seen, shown))
    }

    /// Read anew each time: a release is published by putting its file there.
    fn references(&self) -> Vec<Reference> {
        let Some(folder) = &self.demands.references_dir else { return Vec::new() };
        let files = std::fs::read_dir(folder).map(|files| files.take(REFERENCES_MAX));
        let Ok(files) = files else {
            tracing::error!(folder = %folder.display(), "the reference values cannot be read");
            return Vec::new();
        };
        files.filter_map(|file| self.reference(&file.ok()?.path())).collect()
    }

    fn reference(&self, path: &Path) -> Option<Reference> {
        let is_small = std::fs::metadata(path).is_ok_and(|metadata| {
            metadata.is_file() && metadata.len() <= REFERENCE_BYTES_MAX as u64
        });
        let text = is_small.then(|| std::fs::read_to_string(path).ok()).flatten()?;
        match Reference::parse(&text, &self.demands.release_keys) {
            Ok(reference) => Some(reference),
            Err(fault) => {
                tracing::warn!(file = %path.display(), %fault, "reference values are left out");
                None
            }
        }
    }

    /// Keeps the verdict; a new certificate that has led to one takes the place of the old.
    fn remember(
        &self,
        box_id: &BoxId,
        leaf: &str,
        verdict: &Verdict,
        seen: Option<SeenRecord>,
        shown: Shown,
    ) -> Result<Beside, RegistryError> {
        self.registry.update(box_id, |enrolment| {
            enrolment.demand = false;
            let Some(tpm) = &mut enrolment.tpm else { return Beside::default() };
            let before = tpm.last.take().and_then(|last| last.seen);
            tpm.last = Some(LastAppraisal {
                at_s: verdict.made_at.millis() / 1000,
                outcome: verdict.outcome.name().to_owned(),
                findings: verdict.findings.iter().map(Finding::to_string).collect(),
                seen: seen.or(before),
                tpm_firmware: shown.tpm_firmware,
                firmware: shown.firmware,
            });
            if verdict.outcome != AttestationOutcome::Refuse
                && let Some(next) = tpm.next.take_if(|next| next.fingerprint == leaf)
            {
                tpm.tls_key = next.tls_key;
                enrolment.fingerprint = next.fingerprint;
                tracing::info!(%box_id, "a box uses its renewed certificate");
            }
            Beside {
                order: enrolment.retirement.as_ref().and_then(order),
                store_policy: enrolment.store_policy.clone(),
            }
        })
    }

    fn tell(&self, proof: &Proof, verdict: &Verdict, beside: &Beside) -> Appraisal {
        let box_id = &proof.box_id;
        let findings: Vec<String> = verdict.findings.iter().map(Finding::to_string).collect();
        let outcome = verdict.outcome.name();
        let text = findings.join("; ");
        match verdict.outcome {
            AttestationOutcome::Allow => {
                tracing::info!(%box_id, outcome, findings = %text, "a box was appraised");
            }
            _ => self.alarms.raise(box_id, &format!("{outcome}: {text}")),
        }
        let document = json!({
            "schema": 1,
            "box": box_id.as_str(),
            "verdict": outcome,
            "findings": findings,
            "secure_boot": verdict.secure_boot,
            "nonce": hex::encode(proof.bound.nonce),
            "made_at_s": verdict.made_at.millis() / 1000,
            "expires_at_s": verdict.expires_at.millis() / 1000,
            "order": beside.order,
            "store_policy": beside.store_policy,
        });
        let document = document.to_string();
        let signature = self.signer.sign(document.as_bytes()).map(hex::encode);
        // Unsigned, it still tells the box what to do; what proves it is only there when it was signed.
        let document = format!("{document}\n{}\n", signature.unwrap_or_default());
        Appraisal {
            outcome: match verdict.outcome {
                AttestationOutcome::Allow => GateOutcome::Allow,
                AttestationOutcome::Restricted => GateOutcome::Restrict,
                AttestationOutcome::Refuse => GateOutcome::Refuse,
            },
            holds_for: VERDICT_LIFE,
            text,
            document: document.into(),
        }
    }
}

fn key(hex_point: &str) -> Option<PublicKey> {
    hex::decode(hex_point).ok().map(PublicKey::EcdsaP256)
}

/// What a box is to do beside sending; the text is on the wire.
fn order(retirement: &Retirement) -> Option<&'static str> {
    match retirement {
        Retirement::Ordered { discard: false } => Some("decommission"),
        Retirement::Ordered { discard: true } => Some("decommission-discarding"),
        Retirement::Confirmed(_) => None,
    }
}

fn known_box(enrolment: &Enrolment, leaf: &str) -> Option<KnownBox> {
    let tpm = enrolment.tpm.as_ref()?;
    let next = tpm.next.as_ref().filter(|next| next.fingerprint == leaf);
    let tls_key = next.map_or(&tpm.tls_key, |next| &next.tls_key);
    let seen = tpm.last.as_ref().and_then(|last| last.seen.as_ref());
    let last = match seen {
        Some(seen) => Some(LastSeen {
            clock: TpmClock {
                clock_ms: seen.clock_ms,
                resets: seen.resets,
                restarts: seen.restarts,
                is_safe: true,
            },
            counter: seen.counter,
            firmware: Digest::from_hex(&seen.firmware)?,
            ima: place(seen),
        }),
        None => None,
    };
    Some(KnownBox {
        tier: Tier::parse(&enrolment.tier).ok()?,
        is_revoked: enrolment.revoked,
        ak: key(&tpm.attestation_key)?,
        tls_key: key(tls_key)?,
        last,
    })
}

/// The start when nothing is known.
fn place(seen: &SeenRecord) -> ImaPlace {
    let value = seen.ima_value.as_deref().and_then(Digest::from_hex);
    let known = value.map(|value| ImaPlace { entries: seen.ima_entries, value });
    known.unwrap_or(ImaPlace::START)
}

fn record(seen: &LastSeen) -> SeenRecord {
    SeenRecord {
        clock_ms: seen.clock.clock_ms,
        resets: seen.clock.resets,
        restarts: seen.clock.restarts,
        counter: seen.counter,
        firmware: seen.firmware.to_string(),
        ima_entries: seen.ima.entries,
        ima_value: Some(seen.ima.value.to_string()),
    }
}
