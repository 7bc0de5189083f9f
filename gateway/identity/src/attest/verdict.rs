//! What the space thinks of a box after looking at its evidence, with every reason (RFC 9334: attestation
//! result).

use guan_model::WallTime;
use std::fmt;

/// What the box may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttestationOutcome {
    /// Everything that its contracts allow.
    Allow,
    /// Updates and diagnostics only: no data is taken.
    Restricted,
    /// Nothing; the connection ends.
    Refuse,
}

impl AttestationOutcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Restricted => "restricted",
            Self::Refuse => "refuse",
        }
    }
}

/// Something that was found, worst kinds first in the order in which they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The bytes are no quote of a TPM.
    Malformed(String),
    Signature,
    NotAQuote,
    Revoked,
    /// The quote's key is not the one with which this box was enrolled.
    OtherAk,
    /// Nonce, exporter, certificates, role or claims are not those of this connection.
    Binding,
    /// The key of the TLS session is not the one that the AK certified.
    OtherTlsKey,
    /// The tier that is claimed is not the one of the enrolment.
    Tier,
    /// The TPM's counts went back: an older state, or another TPM.
    ClockBack,
    PcrDigest,
    /// PCRs that must be quoted are not.
    PcrMissing(u8),
    BootLog(String),
    /// This PCR is not what the boot log leads to.
    BootReplay(u8),
    /// The TPM does not say what the box says of its counter.
    CounterUncertified,
    CounterBack {
        found: u64,
        least: u64,
    },
    /// The TPM's own firmware has known flaws.
    TpmFirmware(u64),
    SecureBootOff,
    /// A variable of Secure Boot is not as published.
    SecureBootVariable(String),
    ReleaseUnknown(String),
    ReleaseTooOld {
        found: u64,
        least: u64,
    },
    ReleaseExpired(String),
    /// This PCR has a value that the release does not list.
    PcrNotPublished(u8),
    ImaList(String),
    ImaReplay,
    ImaViolation(String),
    ImaUnknownFile(String),
    // Below: worth knowing, and no reason to hold anything back.
    UncleanStop,
    NoBootLog,
    NoReferences,
    /// PCR 0 was seen for the first time, or has changed since: a person should approve it.
    FirmwareUnknown,
}

impl Finding {
    /// What it leads to by itself.
    pub fn outcome(&self) -> AttestationOutcome {
        match self {
            Self::Malformed(_)
            | Self::Signature
            | Self::NotAQuote
            | Self::Revoked
            | Self::OtherAk
            | Self::Binding
            | Self::OtherTlsKey
            | Self::Tier
            | Self::ClockBack
            | Self::PcrDigest
            | Self::PcrMissing(_)
            | Self::BootLog(_)
            | Self::BootReplay(_)
            | Self::CounterUncertified
            | Self::CounterBack { .. } => AttestationOutcome::Refuse,
            Self::TpmFirmware(_)
            | Self::SecureBootOff
            | Self::SecureBootVariable(_)
            | Self::ReleaseUnknown(_)
            | Self::ReleaseTooOld { .. }
            | Self::ReleaseExpired(_)
            | Self::PcrNotPublished(_)
            | Self::ImaList(_)
            | Self::ImaReplay
            | Self::ImaViolation(_)
            | Self::ImaUnknownFile(_) => AttestationOutcome::Restricted,
            Self::UncleanStop | Self::NoBootLog | Self::NoReferences | Self::FirmwareUnknown => {
                AttestationOutcome::Allow
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(detail) => write!(f, "the quote cannot be read: {detail}"),
            Self::Signature => {
                f.write_str("the quote's signature is not by the box's attestation key")
            }
            Self::NotAQuote => f.write_str("the TPM attests to something else than its PCRs"),
            Self::Revoked => f.write_str("the box is revoked"),
            Self::OtherAk => f.write_str("the attestation key is not the enrolled one"),
            Self::Binding => f.write_str("the quote belongs to another connection, nonce or role"),
            Self::OtherTlsKey => f.write_str("the TLS key is not the one that the TPM certified"),
            Self::Tier => f.write_str("the box claims another tier than it was enrolled with"),
            Self::ClockBack => f.write_str("the TPM's clock or reset count went back"),
            Self::PcrDigest => f.write_str("the reported PCRs are not the quoted ones"),
            Self::PcrMissing(pcr) => write!(f, "PCR {pcr} is not quoted"),
            Self::BootLog(detail) => write!(f, "the boot log cannot be read: {detail}"),
            Self::BootReplay(pcr) => write!(f, "the boot log does not lead to PCR {pcr}"),
            Self::CounterUncertified => {
                f.write_str("the TPM does not certify the counter that the box claims")
            }
            Self::CounterBack { found, least } => {
                write!(f, "the TPM's counter went back from {least} to {found}")
            }
            Self::TpmFirmware(version) => {
                write!(f, "the TPM's firmware {version:016x} has known flaws: update the TPM")
            }
            Self::SecureBootOff => f.write_str("Secure Boot is off"),
            Self::SecureBootVariable(name) => write!(f, "Secure Boot's {name} is not as published"),
            Self::ReleaseUnknown(release) => write!(f, "no reference values for release {release}"),
            Self::ReleaseTooOld { found, least } => {
                write!(f, "the release's counter is {found}; {least} is the least allowed")
            }
            Self::ReleaseExpired(release) => write!(f, "release {release} is no longer valid"),
            Self::PcrNotPublished(pcr) => write!(f, "PCR {pcr} has a value that was not published"),
            Self::ImaList(detail) => {
                write!(f, "the list of measured files cannot be read: {detail}")
            }
            Self::ImaReplay => f.write_str("the list of measured files does not lead to PCR 10"),
            Self::ImaViolation(path) => write!(f, "{path} was written while it was measured"),
            Self::ImaUnknownFile(path) => write!(f, "{path} is neither signed nor listed"),
            Self::UncleanStop => f.write_str("the TPM was not stopped in order"),
            Self::NoBootLog => f.write_str("the firmware keeps no boot log"),
            Self::NoReferences => f.write_str("the space has no reference values"),
            Self::FirmwareUnknown => f.write_str("PCR 0 is new; it is pinned, and awaits approval"),
        }
    }
}

/// The result of one appraisal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: AttestationOutcome,
    /// Everything that was found, in the order of looking.
    pub findings: Vec<Finding>,
    /// Whether Secure Boot was on, by a boot log that leads to the quoted PCR 7; `None` when nothing shows it.
    pub secure_boot: Option<bool>,
    pub made_at: WallTime,
    pub expires_at: WallTime,
}
