//! What the TPM says about itself: lockout, passwords, maker.

use super::chip::{Chip, During};
use super::fault::TpmFault;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::structures::CapabilityData;

/// TPMA_PERMANENT (TPM 2.0, part 2, 8.6).
const OWNER_PASSWORD: u32 = 1;
const LOCKOUT_PASSWORD: u32 = 1 << 2;
const CLEAR_DISABLED: u32 = 1 << 8;
const IN_LOCKOUT: u32 = 1 << 9;

/// The state of a TPM that outlasts a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TpmState(u32);

impl TpmState {
    /// Whether wrong passwords have locked all keys that are not free of the lock.
    pub fn is_locked_out(self) -> bool {
        self.0 & IN_LOCKOUT != 0
    }

    /// Whether nobody but the space can clear it or change its owner.
    pub fn is_owned(self) -> bool {
        let both = OWNER_PASSWORD | LOCKOUT_PASSWORD;
        self.0 & both == both
    }

    /// Whether either password is set: a second owner cannot set them.
    pub fn has_owner(self) -> bool {
        self.0 & (OWNER_PASSWORD | LOCKOUT_PASSWORD) != 0
    }

    pub fn is_clear_disabled(self) -> bool {
        self.0 & CLEAR_DISABLED != 0
    }
}

impl Chip {
    pub fn state(&mut self) -> Result<TpmState, TpmFault> {
        self.property(PropertyTag::Permanent, "show its state").map(TpmState)
    }

    /// Maker as TCG names it (such as `IBM`), and version of its firmware.
    pub fn make(&mut self) -> Result<(String, u64), TpmFault> {
        let what = "show its maker";
        let maker = self.property(PropertyTag::Manufacturer, what)?.to_be_bytes();
        let name = maker.iter().filter(|byte| byte.is_ascii_graphic());
        let name = name.map(|byte| char::from(*byte)).collect();
        let high = self.property(PropertyTag::FirmwareVersion1, what)?;
        let low = self.property(PropertyTag::FirmwareVersion2, what)?;
        Ok((name, u64::from(high) << 32 | u64::from(low)))
    }

    pub(super) fn property(
        &mut self,
        tag: PropertyTag,
        what: &'static str,
    ) -> Result<u32, TpmFault> {
        let kind = CapabilityType::TpmProperties;
        let read = self
            .context
            .execute_without_session(|context| context.get_capability(kind, tag.into(), 1));
        match read.during(what)?.0 {
            CapabilityData::TpmProperties(list) => {
                list.find(tag).map(|found| found.value()).ok_or(TpmFault::Other { what, code: 0 })
            }
            _ => Err(TpmFault::Other { what, code: 0 }),
        }
    }
}
