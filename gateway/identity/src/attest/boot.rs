//! What a boot log says about Secure Boot (UEFI_VARIABLE_DATA in TCG PC Client Profile, 10.4.1).

use super::event_log::EventLog;
use guan_model::Digest;

const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
pub(super) const SECURE_BOOT_PCR: u8 = 7;
const GUID_BYTES: usize = 16;
const LENGTH_BYTES: usize = 8;

/// A variable as the firmware measured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecureBootVariable<'a> {
    pub data: &'a [u8],
    /// Of the event, as it went into PCR 7.
    pub digest: Digest,
}

/// The first event about the variable whose text belongs to its digest: the text alone proves nothing.
pub fn secure_boot_variable<'a>(log: &EventLog<'a>, name: &str) -> Option<SecureBootVariable<'a>> {
    let measured = log.events.iter().filter(|event| {
        event.pcr == SECURE_BOOT_PCR
            && event.kind == EV_EFI_VARIABLE_DRIVER_CONFIG
            && Digest::of(event.data) == event.sha256
    });
    let mut named = measured.filter_map(|event| {
        let (found, data) = variable(event.data)?;
        let is_it = found.eq(name.encode_utf16());
        is_it.then_some(SecureBootVariable { data, digest: event.sha256 })
    });
    named.next()
}

/// Name in UTF-16 and value.
fn variable(data: &[u8]) -> Option<(impl Iterator<Item = u16>, &[u8])> {
    let lengths = data.get(GUID_BYTES..)?;
    let length = |bytes: &[u8]| {
        let bytes = bytes.get(..LENGTH_BYTES)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (name_chars, data_bytes) = (length(lengths)?, length(lengths.get(LENGTH_BYTES..)?)?);
    let rest = lengths.get(2 * LENGTH_BYTES..)?;
    let name_bytes = name_chars.checked_mul(2)?;
    let name = rest.get(..name_bytes)?;
    let value = rest.get(name_bytes..name_bytes.checked_add(data_bytes)?)?;
    let units = name.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Some((units, value))
}
