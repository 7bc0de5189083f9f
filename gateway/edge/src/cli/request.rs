//! Leaving a request for the running gateway.
//!
//! Invariants: a request is whole when it has its name, and never takes the place of another's. Who asks is kept before
//! it, and forgotten where it certainly came to nothing: no entry of the log commits to it then.

use super::acts::{By, forget, keep};
use anyhow::{Context, bail};
use guan_configs::EdgeConfig;
use guan_model::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A request that was left.
pub(super) struct Asked<'a> {
    config: &'a EdgeConfig,
    path: PathBuf,
    actor: Option<Digest>,
}

impl<'a> Asked<'a> {
    /// Keeps who asks, and leaves what `make` makes of the commitment to that.
    pub(super) fn leave<R: serde::Serialize>(
        config: &'a EdgeConfig,
        name: &str,
        by: &By,
        make: impl FnOnce(Option<Digest>) -> R,
    ) -> anyhow::Result<Self> {
        let actor = keep(config, by)?;
        let asked = Self { config, path: config.state_dir.join(name), actor };
        let text = serde_json::to_vec(&make(actor)).context("the request is no JSON");
        if let Err(fault) = text.and_then(|text| put(&asked.path, &text)) {
            asked.forget();
            return Err(fault);
        }
        Ok(asked)
    }

    /// Nobody may act on it later. Where the gateway has it already, the log may say who asked.
    pub(super) fn take_back(&self) {
        if fs::remove_file(&self.path).is_ok() {
            self.forget();
        }
    }

    /// The gateway refused it, and recorded nothing.
    pub(super) fn forget(&self) {
        let Some(actor) = &self.actor else { return };
        if let Err(fault) = forget(self.config, actor) {
            eprintln!("guan: who asked is still kept beside the log: {fault:#}");
        }
    }
}

/// Numbers that nobody else has.
pub(super) fn ticket() -> anyhow::Result<String> {
    let mut ticket = [0; 8];
    SystemRandom::new().fill(&mut ticket).ok().context("the system gives no random numbers")?;
    Ok(hex::encode(ticket))
}

/// A second name for a whole file: unlike a rename it fails where the name is taken.
fn put(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let part = path.with_extension(format!("{}.part", ticket()?));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&part)?;
        file.write_all(text)?;
        fs::hard_link(&part, path)
    };
    let written = write();
    let _ = fs::remove_file(&part);
    match written {
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => bail!(
            "somebody else asks guan for the same just now ({} is there); try again when that is done",
            path.display()
        ),
        written => written.with_context(|| format!("{} cannot be written", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::acts::openings;
    use super::*;

    const NAME: &str = "a.request";

    /// Two people at one box at the same time: the first one's request stays, and the second is told.
    #[test]
    fn a_request_never_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/demo/edge.toml");
        let mut config = crate::cli::load(&sample).unwrap();
        config.state_dir = folder.path().to_owned();
        let by = |name: &str| By { name: Some(name.to_owned()) };
        let known = || {
            let known = openings(&config).unwrap().known;
            let names = known.values().map(|opening| opening.actor().as_str().to_owned());
            names.collect::<Vec<_>>()
        };
        let leave = |name| Asked::leave(&config, NAME, &by(name), |actor| (name, actor.is_some()));
        let first = leave("li").unwrap();
        let fault = leave("wang").err().unwrap().to_string();
        assert!(fault.contains("somebody else asks"), "{fault}");
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!((text.as_str(), known()), (r#"["li",true]"#, vec!["li".to_owned()]));
        let requests = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("a.")
        });
        assert_eq!(requests.count(), 1, "and nothing half written stays");
        // It was not taken: nothing of it stays. Once the gateway has it, its log may name who asked.
        first.take_back();
        assert!(known().is_empty() && !folder.path().join(NAME).exists());
        let second = leave("wang").unwrap();
        fs::remove_file(folder.path().join(NAME)).unwrap();
        second.take_back();
        assert_eq!(known(), ["wang"]);
        second.forget();
        assert!(known().is_empty());
    }
}
