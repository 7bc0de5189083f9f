//! What goes wrong with a TPM, by what can be done about it.

use super::tcti::TctiFault;
use crate::attest::TpmBytesFault;
use std::time::Duration;
use tss_esapi::Error;
use tss_esapi::constants::response_code::Tss2ResponseCode;

/// Layer of the response code in its third byte; the TPM itself is 0.
const LAYER_SHIFT: u32 = 16;
const LAYER_TCTI: u32 = 10;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90A;
/// A handle or session that the TPM no longer holds: it was started anew behind our back.
const REFERENCE_FIRST: u32 = 0x910;
const REFERENCE_LAST: u32 = 0x91E;
const LOCKOUT: u32 = 0x921;
const RETRY: u32 = 0x922;
/// A policy's condition does not hold.
const POLICY: u32 = 0x126;
/// ESAPI's own state after a command that went wrong below it.
const ESAPI_BAD_SEQUENCE: u32 = 0x7_0007;
const FORMAT_ONE: u32 = 0x80;
const ERROR_NUMBER: u32 = 0x3F;
const POLICY_FAIL: u32 = 0x1D;
const INTEGRITY: u32 = 0x1F;

/// Why the TPM did not do what it was asked; the device is to blame unless said otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TpmFault {
    #[error(transparent)]
    Tcti(#[from] TctiFault),
    #[error(
        "no TPM answers at {tcti} ({code:#x}): check that it is enabled in the firmware and that guan may open \
         it; collection goes on, nothing is sent"
    )]
    Absent { tcti: String, code: u32 },
    #[error("the TPM's connection broke while it was asked to {what} ({code:#x})")]
    Io { what: &'static str, code: u32 },
    #[error("the TPM was started anew before it was asked to {what} ({code:#x})")]
    Stale { what: &'static str, code: u32 },
    #[error("the TPM has no room or no time to {what} ({code:#x})")]
    Busy { what: &'static str, code: u32 },
    #[error(
        "the TPM is locked out, so it does not {what}: wait for its recovery time, or reset it with the \
         lockout password that the space keeps"
    )]
    Lockout { what: &'static str },
    #[error("the TPM's policy does not allow to {what}: the box has booted something else")]
    Policy { what: &'static str },
    #[error(
        "the TPM keeps the store shut: PCR {} differ from every signed policy; put the policy of this firmware \
         into identity.store_policies, or boot the firmware that has one", numbers(.pcrs)
    )]
    Firmware { pcrs: Vec<u8> },
    #[error(
        "the TPM keeps the store shut: a later release has run on this box, and this one may not follow it"
    )]
    OldRelease,
    #[error(
        "the TPM keeps the store shut: there is no policy that the release key has signed in \
         identity.store_policies"
    )]
    NoPolicy,
    #[error(
        "the TPM does not take the key to {what}: it was cleared or is another TPM; join the space again"
    )]
    ForeignKey { what: &'static str },
    #[error("the TPM could not {what} (response code {code:#x})")]
    Other { what: &'static str, code: u32 },
    #[error("the TPM library refused to {what}: {detail}")]
    Library { what: &'static str, detail: String },
    #[error("the TPM answered something that cannot be read when asked to {what}")]
    Answer { what: &'static str, source: TpmBytesFault },
    #[error("the TPM did not {what} within {}; it may hang", seconds(*.limit))]
    Slow { what: &'static str, limit: Duration },
    #[error("{limit} requests wait for the TPM already")]
    Full { limit: usize },
    #[error("there is no {what} in the TPM's folder; join the space first")]
    NoKey { what: &'static str },
    #[error("the file {path} is no key of this TPM's folder; restore it or join the space again")]
    KeyFile { path: String },
    #[error("the TPM's folder cannot be used: {detail}")]
    Folder { detail: String },
}

fn numbers(pcrs: &[u8]) -> String {
    let numbers: Vec<String> = pcrs.iter().map(u8::to_string).collect();
    numbers.join(", ")
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

/// The raw response code, which tss-esapi shows in its text only.
pub(super) fn raw_code(fault: Error) -> Option<u32> {
    let text = match fault {
        Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::Success) | Error::WrapperError(_) => return None,
    };
    u32::from_str_radix(text.rsplit_once("0x")?.1, 16).ok()
}

impl TpmFault {
    pub(super) fn of(what: &'static str, fault: Error) -> Self {
        match raw_code(fault) {
            Some(code) => Self::of_code(what, code),
            None => Self::Library { what, detail: fault.to_string() },
        }
    }

    pub(super) fn of_code(what: &'static str, code: u32) -> Self {
        let is_io = code >> LAYER_SHIFT == LAYER_TCTI || code == ESAPI_BAD_SEQUENCE;
        // A resource manager of the system puts its layer above the TPM's own code.
        let own = code & 0xFFFF;
        match own {
            _ if is_io => Self::Io { what, code },
            OBJECT_MEMORY | SESSION_MEMORY | RETRY | YIELDED | TESTING => Self::Busy { what, code },
            REFERENCE_FIRST..=REFERENCE_LAST => Self::Stale { what, code },
            LOCKOUT => Self::Lockout { what },
            POLICY => Self::Policy { what },
            _ if own & FORMAT_ONE == 0 => Self::Other { what, code },
            _ => match own & ERROR_NUMBER {
                POLICY_FAIL => Self::Policy { what },
                INTEGRITY => Self::ForeignKey { what },
                _ => Self::Other { what, code },
            },
        }
    }

    /// A context that saw this answers nothing but errors from then on.
    pub(super) fn ends_context(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Stale { .. } | Self::Absent { .. })
    }

    /// The TPM itself said no, and did nothing of what it was asked just then.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Lockout { .. } | Self::Policy { .. } | Self::ForeignKey { .. } => true,
            Self::Other { code, .. } => *code != 0 && code >> LAYER_SHIFT == 0,
            _ => false,
        }
    }

    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
