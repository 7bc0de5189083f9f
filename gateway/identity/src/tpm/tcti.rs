//! Where the TPM is. Read by us, because tss-esapi takes what it does not understand for its default.

use std::fmt;
use std::path::PathBuf;
use tss_esapi::tcti_ldr::TctiNameConf;

/// A TPM's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tcti {
    /// The kernel's resource manager: `device:/dev/tpmrm0`. Not the bare device, which lets one program in and
    /// leaves what a killed one held.
    Device(PathBuf),
    /// An emulator: `swtpm:host=127.0.0.1,port=2321`.
    Swtpm { host: String, port: u16 },
}

/// Why a text names no TPM; the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no TPM: write device:/dev/tpmrm0 (the kernel's resource manager), or \
     swtpm:host=127.0.0.1,port=2321 for an emulator"
)]
pub struct TctiFault {
    text: String,
}

impl Tcti {
    pub fn parse(text: &str) -> Result<Self, TctiFault> {
        let fault = || TctiFault { text: text.chars().take(128).collect() };
        match text.split_once(':') {
            Some(("device", path)) if path.starts_with("/dev/tpmrm") => {
                Ok(Self::Device(path.into()))
            }
            Some(("swtpm", options)) => {
                let (host, port) = options.split_once(',').ok_or_else(fault)?;
                let host = host.strip_prefix("host=").filter(|host| is_host(host));
                let port = port.strip_prefix("port=").and_then(|port| port.parse().ok());
                let port = port.filter(|port| *port > 0);
                let host = host.ok_or_else(fault)?.to_owned();
                Ok(Self::Swtpm { host, port: port.ok_or_else(fault)? })
            }
            _ => Err(fault()),
        }
    }

    /// Whether nobody keeps users apart: what is left over is flushed by us.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Swtpm { .. })
    }

    pub(super) fn name(&self) -> Result<TctiNameConf, TctiFault> {
        let text = self.to_string();
        text.parse().map_err(|_| TctiFault { text })
    }
}

fn is_host(host: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    !host.is_empty() && host.chars().all(is_part)
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_taken() {
        for text in ["device:/dev/tpmrm0", "swtpm:host=127.0.0.1,port=2321"] {
            assert_eq!(Tcti::parse(text).unwrap().to_string(), text);
            assert!(Tcti::parse(text).unwrap().name().is_ok());
        }
        // tss-esapi 7.7 would take these for localhost:2321, or for /dev/tpm0.
        for text in [
            "device",
            "device:",
            "device:tpm0",
            "device:/dev/tpm0",
            "device:/etc/passwd",
            "swtpm",
            "swtpm:path=/tmp/socket",
            "swtpm:host=a",
            "swtpm:host=,port=1",
            "swtpm:host=a,port=0",
            "swtpm:host=a,port=x",
            "tabrmd",
            "",
            "swtpm:host=a b,port=1",
        ] {
            assert!(Tcti::parse(text).is_err(), "{text}");
        }
    }
}
