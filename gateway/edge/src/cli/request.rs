//! Leaving a request for the running gateway.
//!
//! Invariants: a request is whole when it has its name, and neither takes the place of another's nor takes it away: the
//! name is free again as soon as the gateway has the request. Who asks is kept before it, and forgotten where it
//! certainly came to nothing: no entry of the log commits to it then.

use super::acts::{By, forget, keep};
use anyhow::{Context, bail};
use guan_configs::EdgeConfig;
use guan_model::Digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A request that was left.
pub(super) struct Asked<'a> {
    config: &'a EdgeConfig,
    path: PathBuf,
    actor: Option<Digest>,
    /// Held, so that no other file gets its number.
    file: File,
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
        let path = config.state_dir.join(name);
        let text = serde_json::to_vec(&make(actor)).context("the request is no JSON");
        match text.and_then(|text| put(&path, &text)) {
            Ok(file) => Ok(Self { config, path, actor, file }),
            Err(fault) => {
                forget_actor(config, actor.as_ref());
                Err(fault)
            }
        }
    }

    /// Nobody may act on it later. `false`: the gateway has it, it may still be done, and the log may say who asked.
    pub(super) fn take_back(&self) -> bool {
        let is_withdrawn = self.withdraw().unwrap_or_else(|fault| {
            eprintln!("guan: {} cannot be taken back: {fault}", self.path.display());
            false
        });
        if is_withdrawn {
            self.forget();
        }
        is_withdrawn
    }

    fn is_own(&self, found: &Metadata) -> io::Result<bool> {
        let own = self.file.metadata()?;
        Ok((own.dev(), own.ino()) == (found.dev(), found.ino()))
    }

    fn withdraw(&self) -> io::Result<bool> {
        if let Some(found) = there(fs::symlink_metadata(&self.path))?
            && self.is_own(&found)?
        {
            let ticket = ticket().map_err(io::Error::other)?;
            return self.withdraw_to(&self.path.with_extension(format!("{ticket}.back")));
        }
        Ok(false)
    }

    /// Under a name that is nobody else's it is looked at again: the gateway may have taken it just then, and somebody
    /// else may have asked.
    fn withdraw_to(&self, aside: &Path) -> io::Result<bool> {
        if there(fs::rename(&self.path, aside))?.is_none() {
            return Ok(false);
        }
        let is_own = self.is_own(&fs::symlink_metadata(aside)?)?;
        if !is_own && let Err(fault) = fs::hard_link(aside, &self.path) {
            eprintln!("guan: a request of somebody else is lost, and must be made again: {fault}");
        }
        fs::remove_file(aside)?;
        Ok(is_own)
    }

    /// The gateway refused it, and recorded nothing.
    pub(super) fn forget(&self) {
        forget_actor(self.config, self.actor.as_ref());
    }
}

fn forget_actor(config: &EdgeConfig, actor: Option<&Digest>) {
    if let Some(actor) = actor
        && let Err(fault) = forget(config, actor)
    {
        eprintln!("guan: who asked is still kept beside the log: {fault:#}");
    }
}

/// `None`: there is no such file.
fn there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Numbers that nobody else has.
pub(super) fn ticket() -> anyhow::Result<String> {
    let mut ticket = [0; 8];
    SystemRandom::new().fill(&mut ticket).ok().context("the system gives no random numbers")?;
    Ok(hex::encode(ticket))
}

/// A second name for a whole file: unlike a rename it fails where the name is taken.
fn put(path: &Path, text: &[u8]) -> anyhow::Result<File> {
    let part = path.with_extension(format!("{}.part", ticket()?));
    let write = || -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&part)?;
        file.write_all(text)?;
        fs::hard_link(&part, path)?;
        Ok(file)
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
        assert!(first.take_back());
        assert!(known().is_empty() && !folder.path().join(NAME).exists());
        let second = leave("wang").unwrap();
        fs::remove_file(folder.path().join(NAME)).unwrap();
        assert!(!second.take_back());
        assert_eq!(known(), ["wang"]);
        second.forget();
        assert!(known().is_empty());
        // The gateway has the third one's, and a fourth asks meanwhile: the name says nothing of whose it is.
        let third = leave("li").unwrap();
        fs::remove_file(folder.path().join(NAME)).unwrap();
        let fourth = leave("wang").unwrap();
        let both = known();
        assert!(!third.take_back());
        let aside = folder.path().join("a.7.back");
        assert!(!third.withdraw_to(&aside).unwrap(), "it came after the first look");
        assert!(!aside.exists());
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!((text.as_str(), known()), (r#"["wang",true]"#, both));
        assert!(fourth.take_back());
        assert_eq!(known(), ["li"], "the log may say that it was he");
    }
}
