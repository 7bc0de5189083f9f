//! Quality of a reading: severity, reason and flags in 16 bits, lossless to OPC UA status codes in
//! spirit (research/field.md, section 9). A bad or missing value is a quality, never the last good
//! value again.
//!
//! Bits 15-14 severity, 13-6 reason, 5-0 flags.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Severity {
    Good = 0,
    Uncertain = 1,
    Bad = 2,
}

/// Why a reading is not simply good. Append only: the numbers are on disk and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    Ok = 0,
    Stale = 1,
    NoCommunication = 2,
    DeviceFault = 3,
    OutOfRange = 4,
    Configuration = 5,
    Substituted = 6,
    /// GB/T 32960 code FE.
    SensorAbnormal = 7,
    /// GB/T 32960 code FF.
    Invalid = 8,
    /// The contract took the value away or made it coarser.
    PolicyReduced = 9,
    Gap = 10,
    Restart = 11,
    /// The message could not be decoded and is kept as its bytes.
    Undecodable = 12,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Stale,
        Self::NoCommunication,
        Self::DeviceFault,
        Self::OutOfRange,
        Self::Configuration,
        Self::Substituted,
        Self::SensorAbnormal,
        Self::Invalid,
        Self::PolicyReduced,
        Self::Gap,
        Self::Restart,
        Self::Undecodable,
    ];
}

/// Sixteen bits of quality. Any bit pattern with severity 0 to 2 is kept as it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quality(u16);

impl Quality {
    pub const GOOD: Self = Self(0);
    /// Collected earlier and sent later by the source itself.
    pub const HISTORICAL: u16 = 1;
    /// The source gave no time.
    pub const SOURCE_TIME_MISSING: u16 = 1 << 1;
    /// The box's clock was not set when the reading came in.
    pub const CLOCK_UNSURE: u16 = 1 << 2;
    /// Typed by a person.
    pub const MANUAL: u16 = 1 << 3;

    pub fn new(severity: Severity, reason: Reason) -> Self {
        Self(((severity as u16) << 14) | ((reason as u16) << 6))
    }

    #[must_use]
    pub fn with_flags(self, flags: u16) -> Self {
        Self(self.0 | (flags & 0x3F))
    }

    pub fn bits(self) -> u16 {
        self.0
    }

    /// `None` for the unassigned severity 3.
    pub fn from_bits(bits: u16) -> Option<Self> {
        ((bits >> 14) < 3).then_some(Self(bits))
    }

    pub fn severity(self) -> Severity {
        match self.0 >> 14 {
            0 => Severity::Good,
            1 => Severity::Uncertain,
            _ => Severity::Bad,
        }
    }

    /// `None` for a reason newer than this program.
    pub fn reason(self) -> Option<Reason> {
        let code = (self.0 >> 6) & 0xFF;
        Reason::ALL.into_iter().find(|reason| *reason as u16 == code)
    }

    pub fn flags(self) -> u16 {
        self.0 & 0x3F
    }
}

impl fmt::Debug for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{:#04x}", self.severity(), self.reason(), self.flags())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive() {
        for reason in Reason::ALL {
            for severity in [Severity::Good, Severity::Uncertain, Severity::Bad] {
                let quality = Quality::new(severity, reason).with_flags(Quality::CLOCK_UNSURE);
                assert_eq!(quality.severity(), severity);
                assert_eq!(quality.reason(), Some(reason));
                assert_eq!(quality.flags(), Quality::CLOCK_UNSURE);
                assert_eq!(Quality::from_bits(quality.bits()), Some(quality));
            }
        }
        assert_eq!(Quality::from_bits(0xC000), None);
    }
}
