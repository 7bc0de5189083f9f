//! Answers what boxes ask about their identity: renewal of the certificate, release from service.

use crate::joining::{CERTIFICATE_DAYS, point};
use crate::registry::{Confirmation, Enrolment, NextCertificate, Registry, Retirement, TpmRecord};
use bytes::Bytes;
use guan_identity::join::{UpkeepAnswer, UpkeepAsk, is_retired, judge_renewal, retirement_binding};
use guan_identity::{SmallCa, Tier, read_certificates};
use guan_link::driver::{Proof, describe};
use guan_model::{Digest, PublicKey, WallTime};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What it takes to answer.
pub struct Care {
    pub registry: Registry,
    /// `None`: this space issues nothing to boxes by itself.
    pub authority: Option<Arc<SmallCa>>,
    pub clock: fn() -> WallTime,
}

const AGAIN: &str = "the space cannot use its registry; come again";

impl Care {
    /// Blocks on the registry.
    pub(crate) fn answer(&self, ask: &Proof) -> Bytes {
        let answered = self.consider(ask).unwrap_or_else(|text| {
            tracing::warn!(box_id = %ask.box_id, reason = %text, "a box's question is refused");
            UpkeepAnswer::Refused { text }
        });
        Bytes::copy_from_slice(&answered.encode())
    }

    fn consider(&self, ask: &Proof) -> Result<UpkeepAnswer, String> {
        let question = UpkeepAsk::decode(&ask.evidence).map_err(|fault| describe(&fault))?;
        let found = self.registry.find(&ask.box_id).map_err(|fault| {
            tracing::error!(%fault, "the registry of boxes cannot be read");
            AGAIN.to_owned()
        })?;
        let enrolment = found.filter(|found| !found.revoked).ok_or("the box is not enrolled")?;
        let tpm = enrolment.tpm.as_ref().ok_or("the box was enrolled without a TPM")?;
        let ak = hex::decode(&tpm.attestation_key).map(PublicKey::EcdsaP256);
        let ak = ak.map_err(|_| "the box's record is damaged; join again")?;
        match question {
            UpkeepAsk::Renew { tls_public, request, certified, certified_signature } => {
                let certified = (&certified[..], &certified_signature[..]);
                let key = judge_renewal(&ak, &tls_public, &request, certified, &ask.bound.exporter);
                let key = key.map_err(|fault| describe(&fault))?;
                let tier = Tier::parse(&enrolment.tier).map_err(|fault| fault.to_string())?;
                self.renew(ask, &request, &key, tier)
            }
            UpkeepAsk::Retire { quote, quote_signature, log_size, log_root } => {
                if !matches!(enrolment.retirement, Some(Retirement::Ordered { .. })) {
                    return Err("nobody has ordered to decommission this box".to_owned());
                }
                let bound = retirement_binding(&ask.bound.exporter, log_size, &log_root);
                if !is_retired(&ak, &quote, &quote_signature, &bound) {
                    return Err("the confirmation is not by this box's attestation key, for this \
                                connection"
                        .to_owned());
                }
                let confirmation = Confirmation {
                    at_s: (self.clock)().millis() / 1000,
                    log_size,
                    log_root: log_root.to_string(),
                    quote: hex::encode(quote),
                    quote_signature: hex::encode(quote_signature),
                    exporter: hex::encode(ask.bound.exporter),
                };
                self.retire(ask, confirmation, tpm)
            }
        }
    }

    fn renew(
        &self,
        ask: &Proof,
        request: &str,
        key: &PublicKey,
        tier: Tier,
    ) -> Result<UpkeepAnswer, String> {
        let authority = self.authority.as_ref().ok_or(
            "this space issues no certificates by itself: its listen.join_address is not set",
        )?;
        let now = (self.clock)();
        let pem = authority.issue_box(request, &ask.box_id, tier, now, CERTIFICATE_DAYS);
        let pem = pem.map_err(|fault| describe(&fault))?;
        let chain = read_certificates(&pem).map_err(|fault| fault.to_string())?;
        let next =
            NextCertificate { fingerprint: Digest::of(&chain[0]).to_string(), tls_key: point(key) };
        // The old certificate is good until the new one has led to a verdict.
        self.write(ask, |enrolment| {
            if let Some(tpm) = &mut enrolment.tpm {
                tpm.next = Some(next);
            }
        })?;
        tracing::info!(box_id = %ask.box_id, "a certificate was renewed");
        Ok(UpkeepAnswer::Certificate { pem })
    }

    fn retire(
        &self,
        ask: &Proof,
        confirmation: Confirmation,
        tpm: &TpmRecord,
    ) -> Result<UpkeepAnswer, String> {
        let passwords = self.registry.find_passwords(&tpm.endorsement).map_err(|fault| {
            tracing::error!(%fault, "the passwords of a TPM cannot be read");
            AGAIN.to_owned()
        })?;
        // Revoked and on disk before the box gets what clears it.
        self.write(ask, |enrolment| {
            enrolment.retirement = Some(Retirement::Confirmed(confirmation));
            enrolment.revoked = true;
        })?;
        tracing::info!(box_id = %ask.box_id, "a box has confirmed that it goes, and is revoked");
        let lockout = passwords.map(|passwords| passwords.lockout.to_vec()).unwrap_or_default();
        Ok(UpkeepAnswer::Retired { lockout_password: Zeroizing::new(lockout) })
    }

    fn write(&self, ask: &Proof, change: impl FnOnce(&mut Enrolment)) -> Result<(), String> {
        self.registry.update(&ask.box_id, change).map_err(|fault| {
            tracing::error!(box_id = %ask.box_id, %fault, "the registry cannot be written");
            AGAIN.to_owned()
        })
    }
}
