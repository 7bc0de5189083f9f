//! A new space: its small CA, the server's certificate, the contract key and the configuration.
//!
//! Nothing that exists is overwritten: a second CA would lock every enrolled box out.

use crate::logs::keys::{LogKeys, LogKeysFault};
use guan_identity::{CaFault, KeyFault, KeyFile, LogKeyFile, SmallCa, authority_name};
use guan_model::{BoxId, Signer, WallTime};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CA_DAYS: u32 = 3650;
const SERVER_DAYS: u32 = 397;
/// Names of the files in the folder of a space.
pub const CONFIG_FILE: &str = "space.toml";
const CA_CERTIFICATE_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key.pem";
const SERVER_CERTIFICATE_FILE: &str = "server.pem";
const SERVER_KEY_FILE: &str = "server.key.pem";
const CONTRACT_KEY_FILE: &str = "contract.key.pem";
const PARTIES_DIR: &str = "parties";
const STATE_DIR: &str = "state";

/// Why a space could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{path} exists: a space is set up once; name another folder with --dir")]
    Exists { path: PathBuf },
    #[error("{path} cannot be written: check the folder's rights and free space")]
    File { path: PathBuf, source: io::Error },
    #[error("a key cannot be made")]
    Key(#[from] KeyFault),
    #[error("the certificate authority cannot be set up")]
    Ca(#[from] CaFault),
    #[error(transparent)]
    LogKeys(#[from] LogKeysFault),
}

/// What the operator asks for.
#[derive(Debug)]
pub struct NewSpace<'a> {
    pub dir: &'a Path,
    pub id: &'a BoxId,
    /// DNS names and addresses by which boxes reach the space.
    pub hosts: &'a [String],
    pub listen: &'a str,
    pub now: WallTime,
}

/// Makes everything that `guan-space run` needs; returns the path of the configuration.
pub fn create(space: &NewSpace<'_>) -> Result<PathBuf, InitError> {
    let config = space.dir.join(CONFIG_FILE);
    if config.exists() {
        return Err(InitError::Exists { path: config });
    }
    let folder = |source| InitError::File { path: space.dir.to_path_buf(), source };
    std::fs::create_dir_all(space.dir.join(PARTIES_DIR)).map_err(folder)?;
    let ca_key: Arc<dyn Signer> =
        Arc::new(KeyFile::create(&space.dir.join(CA_KEY_FILE), "certificate authority")?);
    let ca = SmallCa::create(&authority_name(space.id), ca_key, space.now, CA_DAYS)?;
    write_new(&space.dir.join(CA_CERTIFICATE_FILE), ca.certificate_pem().as_bytes())?;
    let server = KeyFile::create(&space.dir.join(SERVER_KEY_FILE), "space server")?;
    let names: Vec<&str> = space.hosts.iter().map(String::as_str).collect();
    let certificate = ca.issue_server(&names, &server.public_key(), space.now, SERVER_DAYS)?;
    write_new(&space.dir.join(SERVER_CERTIFICATE_FILE), certificate.as_bytes())?;
    LogKeyFile::create(&space.dir.join(CONTRACT_KEY_FILE), space.id.as_str())?;
    LogKeys::open_or_create(&space.dir.join(STATE_DIR), space.id.as_str())?;
    write_new(&config, configuration(space).as_bytes())?;
    Ok(config)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let written =
        OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists { path: path.to_path_buf() },
        _ => InitError::File { path: path.to_path_buf(), source },
    })
}

fn configuration(space: &NewSpace<'_>) -> String {
    format!(
        r#"# Configuration of this space; `guan-space config reference` explains every key.
schema = 1

[space]
id = "{id}"
state_dir = "{STATE_DIR}"

[listen]
address = "{listen}"

[tls]
certificate_file = "{SERVER_CERTIFICATE_FILE}"
key_file = "{SERVER_KEY_FILE}"
ca_certificate_file = "{CA_CERTIFICATE_FILE}"
ca_key_file = "{CA_KEY_FILE}"

[boxes]
# Boxes whose key lies in a file prove nothing about the machine; name the tier only where that will do.
accept_tiers = ["unattested"]

[contracts]
signing_key_file = "{CONTRACT_KEY_FILE}"
# PARTY.pub.pem: public keys of parties, so that their signatures are checked. PARTY.pem: private keys with which
# this space signs for consumers.
party_keys_dir = "{PARTIES_DIR}"
"#,
        id = space.id,
        listen = space.listen,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_set_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let space = NewSpace {
            dir: folder.path(),
            id: &BoxId::parse("space-1").unwrap(),
            hosts: &["localhost".to_owned(), "127.0.0.1".to_owned()],
            listen: "127.0.0.1:4433",
            now: guan_model::time::EARLIEST,
        };
        let config = create(&space).unwrap();
        assert!(std::fs::read_to_string(config).unwrap().contains("id = \"space-1\""));
        assert!(matches!(create(&space), Err(InitError::Exists { .. })));
    }
}
