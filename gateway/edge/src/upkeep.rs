//! Keeps the box's identity: renews its certificate in time, and takes the box out of service when the space
//! says so.
//!
//! Invariants: the slot that is in use is never written; nothing of this stops collection; the TPM is cleared
//! only after the space has the confirmation.

use crate::box_identity::TLS_SLOTS;
use crate::credentials::{Candidate, Credentials};
use crate::system_clock::SharedClock;
use bytes::Bytes;
use guan_identity::attest::PCRS_REQUIRED;
use guan_identity::join::{UpkeepAnswer, UpkeepAsk, renewal_binding, retirement_binding};
use guan_identity::tpm::{KeySlot, Tpm, TpmSigner};
use guan_identity::{Validity, certificate_request, read_certificates, validity};
use guan_link::driver::{Bound, Wish};
use guan_model::{BoxId, ClockQuality, Digest, WallTime};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often is looked whether something is to be done.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a question without an answer, or with a bad one.
const RETRY_WAIT: Duration = Duration::from_secs(300);
/// From one renewal to the next, unless somebody asks for it.
const RENEWAL_PAUSE: Duration = Duration::from_secs(3600);
/// In `box.state_dir`: made by `guan cert`, removed when it was acted on.
pub const RENEW_REQUEST_FILE: &str = "renew.request";
/// In `box.state_dir`: this box is out of service.
pub const DECOMMISSIONED_FILE: &str = "decommissioned";

/// Where a renewed certificate waits until it was tried.
pub fn next_certificate(certificate_file: &Path) -> PathBuf {
    certificate_file.with_extension("next.pem")
}

/// When a certificate is to be renewed: at two thirds of its life.
pub fn renew_at(validity: Validity) -> WallTime {
    let life = validity.not_after.since(validity.not_before);
    validity.not_before.saturating_add(life * 2 / 3)
}

/// From a certificate in PEM to something to connect with.
pub type Prepare = dyn Fn(&str) -> Result<Candidate, String> + Send + Sync;

/// Takes a signed policy, or says why not.
pub type TakePolicy = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// What the upkeep needs of the rest of the program.
pub struct Surroundings {
    pub tpm: Tpm,
    pub tpm_dir: PathBuf,
    pub state_dir: PathBuf,
    pub certificate_file: PathBuf,
    pub box_id: BoxId,
    pub clock: SharedClock,
    pub credentials: Credentials,
    /// Makes a certificate usable; refuses one that is not this box's.
    pub prepare: Box<Prepare>,
    /// Size and root of the evidence log.
    pub log_head: crate::prover::LogHeadSource,
    /// Batches that the space does not have.
    pub queued: Box<dyn Fn() -> u64 + Send + Sync>,
    pub alarm: crate::prover::Alarm,
    /// Keeps a policy of the space, for the next opening of the store.
    pub take_policy: Box<TakePolicy>,
    /// Ends the program.
    pub halt: Box<dyn Fn() + Send + Sync>,
}

/// What is underway.
#[derive(Default)]
struct Underway {
    /// Slot of the key that a certificate was asked for.
    asked: Option<KeySlot>,
    not_before: Option<Instant>,
    reconnect: bool,
    order: Option<Order>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    discard: bool,
}

/// Shared with the link.
#[derive(Clone)]
pub struct Upkeep {
    around: Arc<Surroundings>,
    state: Arc<Mutex<Underway>>,
}

enum Due {
    Reconnect,
    Renew,
    Retire,
}

impl Upkeep {
    pub fn new(around: Surroundings) -> Self {
        Self { around: Arc::new(around), state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Underway> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An order that came with a verdict.
    pub fn handle_order(&self, text: &str) {
        let discard = match text {
            "decommission" => false,
            "decommission-discarding" => true,
            other => return tracing::warn!(order = %other, "an unknown order of the space"),
        };
        let order = Some(Order { discard });
        let mut state = self.lock();
        if state.order != order {
            state.order = order;
            state.not_before = None;
            tracing::warn!(discard, "the space takes this box out of service");
        }
    }

    /// A policy that came with a verdict.
    pub fn handle_policy(&self, text: &str) {
        if let Err(fault) = (self.around.take_policy)(text) {
            (self.around.alarm)(format!("a policy of the space is left out: {fault}"));
        }
    }

    /// Waits until there is something to ask; the link awaits it in each session.
    pub async fn wish(self, bound: Bound) -> Wish {
        loop {
            match self.due() {
                Some(Due::Reconnect) => return Wish::Reconnect,
                Some(due) => {
                    self.lock().not_before = Some(Instant::now() + RETRY_WAIT);
                    let (this, exporter) = (self.clone(), bound.exporter);
                    let made = tokio::task::spawn_blocking(move || match due {
                        Due::Retire => this.retire(&exporter),
                        _ => this.renew(&exporter),
                    });
                    match made.await.unwrap_or_else(|_| Err("the TPM's task failed".to_owned())) {
                        Ok(ask) => return Wish::Ask(ask.encode().into()),
                        Err(fault) => tracing::warn!(%fault, "the upkeep of the identity waits"),
                    }
                }
                None => {}
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn due(&self) -> Option<Due> {
        let mut state = self.lock();
        if std::mem::take(&mut state.reconnect) {
            return Some(Due::Reconnect);
        }
        let request = self.around.state_dir.join(RENEW_REQUEST_FILE);
        // Whoever asks by hand does not wait for the pause after a failure.
        let is_asked_for = fs::remove_file(request).is_ok();
        if !is_asked_for && state.not_before.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        if let Some(order) = state.order {
            return (order.discard || (self.around.queued)() == 0).then_some(Due::Retire);
        }
        let is_due = !self.around.credentials.has_next() && (is_asked_for || self.is_old());
        is_due.then_some(Due::Renew)
    }

    /// An unset clock knows nothing of ages.
    fn is_old(&self) -> bool {
        let now = self.around.clock.read();
        let pem = fs::read_to_string(&self.around.certificate_file).ok();
        let leaf = pem.and_then(|pem| read_certificates(&pem).ok()?.into_iter().next());
        let times = leaf.and_then(|leaf| validity(&leaf).ok());
        now.quality != ClockQuality::Unset && times.is_some_and(|times| now.wall >= renew_at(times))
    }

    /// A new key in the slot that is not in use, certified by the attestation key for this session.
    fn renew(&self, exporter: &[u8; 32]) -> Result<UpkeepAsk, String> {
        let around = &self.around;
        let used = self.slot_in_use();
        let slot = TLS_SLOTS.into_iter().find(|slot| Some(*slot) != used);
        let slot = slot.expect("there are two slots");
        let binding = renewal_binding(exporter);
        let made = around.tpm.call("make a TLS key", move |chip| {
            Ok((chip.make_tls_key(slot)?, chip.certify(slot, &binding)?))
        });
        let (tls, certified) = made.map_err(|fault| fault.to_string())?;
        let signer = TpmSigner::load(around.tpm.clone(), slot, &around.tpm_dir)
            .map_err(|fault| fault.to_string())?;
        let request = certificate_request(Arc::new(signer), &around.box_id);
        let request = request.map_err(|fault| guan_link::driver::describe(&fault))?;
        self.lock().asked = Some(slot);
        Ok(UpkeepAsk::Renew {
            tls_public: tls.as_bytes().to_vec(),
            request,
            certified: certified.statement,
            certified_signature: certified.signature,
        })
    }

    fn slot_in_use(&self) -> Option<KeySlot> {
        let pem = fs::read_to_string(&self.around.certificate_file).ok()?;
        let leaf = read_certificates(&pem).ok()?.into_iter().next()?;
        crate::box_identity::slot_of(&self.around.tpm_dir, &leaf).ok()
    }

    /// The last signature of the attestation key.
    fn retire(&self, exporter: &[u8; 32]) -> Result<UpkeepAsk, String> {
        let (log_size, log_root) = (self.around.log_head)();
        let bound: Digest = retirement_binding(exporter, log_size, &log_root);
        let quoted = self
            .around
            .tpm
            .call("sign its last quote", move |chip| chip.quote(&PCRS_REQUIRED, &bound));
        let (quote, _) = quoted.map_err(|fault| fault.to_string())?;
        let (quote, quote_signature) = (quote.statement, quote.signature);
        Ok(UpkeepAsk::Retire { quote, quote_signature, log_size, log_root })
    }

    /// The space's answer. Blocks on the TPM only when the box goes.
    pub fn handle_answer(&self, answer: &Bytes) {
        match UpkeepAnswer::decode(answer) {
            Ok(UpkeepAnswer::Certificate { pem }) => {
                if let Err(fault) = self.take(&pem) {
                    (self.around.alarm)(format!("the renewed certificate is not used: {fault}"));
                }
            }
            Ok(UpkeepAnswer::Retired { lockout_password }) => {
                let this = self.clone();
                tokio::task::spawn_blocking(move || this.clear(lockout_password));
            }
            Ok(UpkeepAnswer::Refused { text }) => {
                (self.around.alarm)(format!("the space refuses what the box asks: {text}"));
            }
            Err(fault) => {
                (self.around.alarm)(format!("the space's answer cannot be read: {fault}"));
            }
        }
    }

    /// Keeps the new certificate beside the old one and comes again with it.
    fn take(&self, pem: &str) -> Result<(), String> {
        self.lock().asked.take().ok_or("nobody had asked for it")?;
        let candidate = (self.around.prepare)(pem)?;
        let path = next_certificate(&self.around.certificate_file);
        replace(&path, pem).map_err(|fault| format!("{}: {fault}", path.display()))?;
        self.around.credentials.offer(candidate);
        let mut state = self.lock();
        // A clock that runs ahead of the space's finds every certificate old.
        state.not_before = Some(Instant::now() + RENEWAL_PAUSE);
        state.reconnect = true;
        Ok(())
    }

    /// A session is up; when it is one with the renewed certificate, that takes the place of the old.
    pub fn handle_welcome(&self) {
        let old = self.slot_in_use();
        if !self.around.credentials.handle_welcome() {
            return;
        }
        let next = next_certificate(&self.around.certificate_file);
        if let Err(fault) = rename_durably(&next, &self.around.certificate_file) {
            // The next start finds it where it is, and tries it first.
            return (self.around.alarm)(format!("{} stays: {fault}", next.display()));
        }
        tracing::info!("the renewed certificate is in use");
        if let Some(old) = old.filter(|old| Some(*old) != self.slot_in_use()) {
            let _ = fs::remove_file(old.path(&self.around.tpm_dir));
        }
    }

    /// The space has the confirmation: nothing of this box's identity is left.
    fn clear(&self, lockout_password: zeroize::Zeroizing<Vec<u8>>) {
        let cleared = self.around.tpm.call("be cleared", move |chip| chip.clear(&lockout_password));
        let around = &self.around;
        let slots = [KeySlot::Attestation, KeySlot::TlsA, KeySlot::TlsB];
        let keys = slots.map(|slot| slot.path(&around.tpm_dir));
        let next = next_certificate(&around.certificate_file);
        for path in keys.iter().chain([&around.certificate_file, &next]) {
            // What is not there need not go.
            let _ = fs::remove_file(path);
        }
        let text = match &cleared {
            Ok(()) => "the TPM was cleared".to_owned(),
            Err(fault) => {
                format!("the TPM was not cleared: {fault}; clear it in the firmware's setup")
            }
        };
        let marker = around.state_dir.join(DECOMMISSIONED_FILE);
        if let Err(fault) = replace(&marker, format!("{text}\n")) {
            tracing::error!(%fault, file = %marker.display(), "cannot be written");
        }
        tracing::warn!(%text, "this box is out of service");
        (around.halt)();
    }
}

/// Whole or not at all.
pub fn replace(path: &Path, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    fs::File::open(&draft)?.sync_all()?;
    rename_durably(&draft, path)
}

fn rename_durably(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
