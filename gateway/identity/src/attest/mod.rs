//! Attestation: what a TPM says about itself and its boot, and what the space makes of it. All pure.
//!
//! - `object`: keys of a TPM; what it says is parsed in `guan_evidence::tpm`.
//! - `event_log`, `boot`, `ima`: logs that were extended into its PCRs.
//! - `evidence`: what travels; `reference`: what is expected, `store_policy`: by the TPM; `appraise`, `verdict`: the judgement.
//! - `nv`: our places in a TPM's memory.
//! - `credential`: a secret for one TPM and one key; `endorsement`: who made the TPM.
//!
//! Everything that is parsed here was made by somebody who may lie: limits before memory, no panics.
//!
//! Never here: a TPM, sockets, files, clocks.

mod appraise;
mod boot;
mod credential;
mod endorsement;
mod event_log;
mod evidence;
mod ima;
mod nv;
mod object;
mod reference;
mod store_policy;
mod verdict;

pub use appraise::{
    KnownBox, LastSeen, Logs, PCRS_REQUIRED, Policy, Session, VERDICT_LIFE, appraise,
};
pub use boot::{SecureBootVariable, secure_boot_variable};
pub use credential::{CredentialChallenge, CredentialFault, SECRET_BYTES, make_credential};
pub use endorsement::{
    EndorsementFault, INTERMEDIATES_MAX, MAKER_CERTIFICATE_BYTES_MAX, check_endorsement,
    endorsement_digest,
};
pub use event_log::{EVENT_LOG_BYTES_MAX, EVENTS_MAX, Event, EventLog, EventLogFault, extend};
pub use evidence::{
    Binding, Claims, EVIDENCE_BYTES_MAX, EVIDENCE_SCHEMA, Evidence, EvidenceFault, NONCE_BYTES,
    pack_log, unpack_boot_log, unpack_logs,
};
#[cfg(feature = "tpm")]
pub(crate) use guan_evidence::tpm::TpmReader;
pub use guan_evidence::tpm::{
    ATTEST_BYTES_MAX, Attestation, Attested, PCR_COUNT, Pcrs, TpmBytesFault, TpmClock,
    TpmSignature, pcr_digest,
};
pub use ima::{
    IMA_BYTES_MAX, IMA_ENTRIES_MAX, IMA_PCR, ImaEntry, ImaFault, ImaPlace, ima_after, parse_ima,
    replay_ima,
};
pub use nv::{
    COUNTER_BYTES, COUNTER_INDEX, EPOCHS_BYTES, EPOCHS_INDEX, HEADS_BYTES, HEADS_INDEX, ROOT_BYTES,
    ROOT_INDEX, SETS_INDEX, counter_name, epochs_name,
};
pub use object::{KeyAttributes, PUBLIC_BYTES_MAX, TpmKey, TpmPublic, name_of};
#[cfg(feature = "tpm")]
pub(crate) use object::{sealed_public, sealing_key};
pub use reference::{REFERENCE_BYTES_MAX, Reference, ReferenceFault};
#[cfg(feature = "tpm")]
pub(crate) use store_policy::{BIT_CLEAR, authorized_by, later_epochs, selection};
pub use store_policy::{
    EPOCH_MAX, STORE_POLICY_BYTES_MAX, StorePolicy, StorePolicyFault, sign_store_policy,
};
pub use verdict::{AttestationOutcome, Finding, Verdict};

#[cfg(test)]
mod tests;
