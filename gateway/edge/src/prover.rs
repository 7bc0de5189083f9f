//! Answers the space's challenge with the TPM's quote, and keeps it for tools of others.

use crate::credentials::Credentials;
use crate::upkeep::Upkeep;
use bytes::Bytes;
use guan_evidence::verify::ATTESTATION_KEYS_MAX;
use guan_identity::Tier;
use guan_identity::attest::{
    Binding, Claims, EVENT_LOG_BYTES_MAX, Evidence, IMA_BYTES_MAX, ImaPlace, PCRS_REQUIRED,
    ima_after, pack_log,
};
use guan_identity::tpm::{KeySlot, Tpm};
use guan_link::GateOutcome;
use guan_link::driver::{Attest, Bound, Underway, Wish};
use guan_link::frame::Question;
use guan_model::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Where the kernel shows what the firmware and it have measured.
const BOOT_LOG_FILE: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const IMA_FILE: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
/// Folder of the last evidence in `box.state_dir`, for `tpm2_checkquote`.
pub const ATTESTATION_DIR: &str = "attestation";

/// The public half of today's attestation key in it.
const ATTESTATION_KEY_FILE: &str = "ak.pem";

/// Size and root of the evidence log, whenever it is asked for.
pub type LogHeadSource = Arc<dyn Fn() -> (u64, Digest) + Send + Sync>;
/// What the space last said of this box, and SHA-256 of the signed verdict.
pub type LastVerdict = Option<(GateOutcome, Digest)>;
/// Told with each verdict that restricts or refuses.
pub type Alarm = Arc<dyn Fn(String) + Send + Sync>;

/// Told with each verdict whether the space found Secure Boot on; `None`: it does not say.
pub type SecureBoot = Arc<dyn Fn(Option<bool>) + Send + Sync>;

/// What the box says of itself beside the quote.
#[derive(Clone)]
pub struct Facts {
    pub tier: Tier,
    pub release: String,
    pub boot: u32,
}

/// Who hears of a verdict.
pub struct Told {
    pub alarm: Alarm,
    pub verdicts: watch::Sender<LastVerdict>,
    pub secure_boot: SecureBoot,
}

/// Makes evidence.
pub struct Prover {
    tpm: Tpm,
    facts: Facts,
    log_head: LogHeadSource,
    folder: PathBuf,
    alarm: Alarm,
    verdicts: watch::Sender<LastVerdict>,
    secure_boot: SecureBoot,
    credentials: Credentials,
    upkeep: Upkeep,
}

impl Prover {
    pub fn new(
        tpm: Tpm,
        facts: Facts,
        log_head: LogHeadSource,
        state_dir: &Path,
        Told { alarm, verdicts, secure_boot }: Told,
        credentials: Credentials,
        upkeep: Upkeep,
    ) -> Self {
        let folder = state_dir.join(ATTESTATION_DIR);
        Self { tpm, facts, log_head, folder, alarm, verdicts, secure_boot, credentials, upkeep }
    }
}

impl Attest for Prover {
    fn attest(&self, bound: Bound, question: Question) -> Underway<Result<Bytes, String>> {
        let (tpm, facts, folder) = (self.tpm.clone(), self.facts.clone(), self.folder.clone());
        let (log_size, log_root) = (self.log_head)();
        let leaf = self.credentials.leaf();
        let claims = Claims {
            release: facts.release.clone(),
            boot: facts.boot,
            log_size,
            log_root,
            // Known when the TPM was asked.
            counter: 0,
            // Known when the list was read.
            ima_start: 0,
            tier: facts.tier,
        };
        Box::pin(async move {
            let made = tokio::task::spawn_blocking(move || {
                make(&tpm, &facts, claims, &bound, &question, leaf, &folder)
            });
            made.await.unwrap_or_else(|_| Err("making evidence failed".to_owned()))
        })
    }

    fn verdict(&self, outcome: GateOutcome, document: Bytes) {
        let text = String::from_utf8_lossy(&document).into_owned();
        self.verdicts.send_replace(Some((outcome, Digest::of(&document))));
        match outcome {
            GateOutcome::Allow => tracing::info!("the space has appraised this box: allow"),
            GateOutcome::Restrict | GateOutcome::Refuse => {
                (self.alarm)(format!(
                    "the space does not take data of this box: {}",
                    text.trim_end()
                ));
            }
        }
        keep(&self.folder, &[("verdict.json", text.as_bytes())]);
        (self.secure_boot)(secure_boot_of(outcome, &text));
        if let Some(policy) = said(&text, "store_policy") {
            self.upkeep.handle_policy(&policy);
        }
        if let Some(order) = said(&text, "order") {
            self.upkeep.handle_order(&order);
        }
    }

    fn wish(&self, bound: Bound) -> Underway<Wish> {
        Box::pin(self.upkeep.clone().wish(bound))
    }

    fn answered(&self, answer: Bytes) {
        self.upkeep.handle_answer(&answer);
    }
}

/// What the space says beside its verdict.
fn said(document: &str, what: &str) -> Option<String> {
    member(document, what)?.as_str().map(str::to_owned)
}

fn member(document: &str, what: &str) -> Option<serde_json::Value> {
    let first = document.lines().next()?;
    let mut json = serde_json::from_str::<serde_json::Value>(first).ok()?;
    json.get_mut(what).map(serde_json::Value::take)
}

/// Of a verdict that allows; what comes with another one rests on nothing.
fn secure_boot_of(outcome: GateOutcome, document: &str) -> Option<bool> {
    let is_allowed = outcome == GateOutcome::Allow;
    member(document, "secure_boot").filter(|_| is_allowed)?.as_bool()
}

fn make(
    tpm: &Tpm,
    facts: &Facts,
    mut claims: Claims,
    bound: &Bound,
    question: &Question,
    leaf: Digest,
    folder: &Path,
) -> Result<Bytes, String> {
    let release = claims.release.clone();
    let counted = tpm.call("count releases", move |chip| chip.count_release(&release));
    claims.counter = counted.map_err(|fault| fault.to_string())?;
    let logs = Logs::of(facts.tier);
    let place = ima_after(&logs.ima()?, logs.known(question)).1;
    claims.ima_start = place.entries;
    let claims_bytes = claims.encode();
    let binding = Binding {
        nonce: bound.nonce,
        exporter: bound.exporter,
        box_leaf: leaf,
        space_leaf: Digest::of(&bound.peer_leaf),
    };
    let qualifying = binding.qualify(&claims_bytes);
    let quoted = tpm.call("quote its PCRs", move |chip| {
        let counted = chip.certify_counter(&qualifying)?;
        Ok((chip.quote(&PCRS_REQUIRED, &qualifying)?, counted))
    });
    let ((quote, pcrs), counted) = quoted.map_err(|fault| fault.to_string())?;
    keep(
        folder,
        &[
            ("quote.msg", &quote.statement),
            ("quote.sig", &quote.signature),
            ("quote.qualifying", qualifying.to_string().as_bytes()),
        ],
    );
    // After the quote: the lists may be longer than what was quoted, and never shorter.
    let list = logs.ima()?;
    let pack =
        |bytes: &[u8]| pack_log(bytes).map_err(|fault| format!("a log cannot be packed: {fault}"));
    let ima_list = pack(ima_after(&list, place).0)?;
    let boot = logs.boot()?;
    let is_known = Digest::of(&boot) == question.boot_log;
    let boot_log = if is_known { Vec::new() } else { pack(&boot)? };
    let evidence = Evidence {
        claims_bytes,
        claims,
        quote: quote.statement,
        quote_signature: quote.signature,
        pcrs,
        boot_log,
        ima_list,
        counted: counted.statement,
        counted_signature: counted.signature,
    };
    Ok(evidence.encode().into())
}

/// The logs that were extended into the TPM's PCRs.
struct Logs {
    /// An emulator's PCRs know nothing of this machine's boot.
    are_there: bool,
}

impl Logs {
    fn of(tier: Tier) -> Self {
        Self { are_there: tier == Tier::Hardware }
    }

    fn known(&self, question: &Question) -> ImaPlace {
        ImaPlace { entries: question.ima_start, value: question.ima_value }
    }

    fn boot(&self) -> Result<Vec<u8>, String> {
        self.read(BOOT_LOG_FILE, EVENT_LOG_BYTES_MAX)
    }

    fn ima(&self) -> Result<Vec<u8>, String> {
        self.read(IMA_FILE, IMA_BYTES_MAX)
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, String> {
        match self.are_there {
            true => read_log(Path::new(path), limit).map_err(|fault| format!("{path}: {fault}")),
            false => Ok(Vec::new()),
        }
    }
}

/// Empty when the machine keeps none.
fn read_log(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= limit {
        true => Ok(bytes),
        false => Err(io::Error::other(format!("longer than {limit} bytes"))),
    }
}

/// For people and their tools; that it cannot be kept changes nothing.
fn keep(folder: &Path, files: &[(&str, &[u8])]) {
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    });
    if let Err(fault) = written {
        tracing::warn!(folder = %folder.display(), %fault, "the last evidence cannot be kept");
    }
}

/// The attestation key in PEM, beside the quotes that it makes.
pub fn keep_attestation_key(tpm_dir: &Path, state_dir: &Path) {
    let folder = state_dir.join(ATTESTATION_DIR);
    let Ok(pem) = KeySlot::Attestation.public_pem(tpm_dir) else { return };
    let known = std::fs::read_to_string(folder.join(ATTESTATION_KEY_FILE)).unwrap_or_default();
    if known == pem {
        return;
    }
    let put = |name: &str, text: &str| crate::upkeep::replace(&folder.join(name), text);
    let kept = std::fs::create_dir_all(&folder).and_then(|()| {
        // A box that joined again has another key; what the old one signed in the log stays checkable.
        if !known.is_empty() {
            put(&format!("ak-{}.pem", &Digest::of(known.as_bytes()).to_string()[..8]), &known)?;
        }
        put(ATTESTATION_KEY_FILE, &pem)
    });
    if let Err(fault) = kept {
        tracing::warn!(folder = %folder.display(), %fault, "the attestation key cannot be kept");
    }
}

/// All attestation keys that this box has had, the one of today first.
pub fn known_attestation_keys(state_dir: &Path) -> Vec<String> {
    let folder = state_dir.join(ATTESTATION_DIR);
    let today = std::fs::read_to_string(folder.join(ATTESTATION_KEY_FILE)).ok();
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let is_old = |name: &str| name.starts_with("ak-") && name.ends_with(".pem");
    let old = files.filter(|file| file.file_name().to_str().is_some_and(is_old));
    let old = old.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    today.into_iter().chain(old).take(ATTESTATION_KEYS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_what_an_allowing_verdict_says() {
        let check = |outcome, document: &str, expect| {
            assert_eq!(secure_boot_of(outcome, document), expect, "{document}");
        };
        use GateOutcome::{Allow, Restrict};
        check(Allow, "{\"secure_boot\":true}\nsignature\n", Some(true));
        check(Allow, "{\"secure_boot\":false}\n\n", Some(false));
        check(Restrict, "{\"secure_boot\":true}\n\n", None);
        // Of a space of an earlier release, of one that does not know, and of none.
        for document in ["{}", "{\"secure_boot\":null}", "{\"secure_boot\":\"on\"}", ""] {
            check(Allow, document, None);
        }
    }
}
