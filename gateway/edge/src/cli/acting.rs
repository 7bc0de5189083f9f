//! Doing what somebody asks for, and having the log record it.
//!
//! The record is durable before the deed begins, and the folder is held until the deed is through: the gateway records
//! nothing meanwhile. It is withdrawn only where the deed says that it certainly was not begun. Other locks are taken in
//! the deed and given back there, so that nobody waits for this folder while holding one.

use super::acts::{By, writer};
use anyhow::Context as _;
use guan_configs::EdgeConfig;
use guan_evidence::{Acted, Deed, Opening};
use guan_log::{Act, Acts, ActsFault, Recorded};
use guan_model::Digest;
use guan_spool::OsDisk;
use std::path::Path;

/// What is told where it cannot be known whether it was done.
const UNSURE: &str = "it may have been done; the log records that it was asked for";
const UNSURE_AND_PERHAPS_RECORDED: &str =
    "it may have been done, and it is not sure that the log records it";
const UNSURE_AND_UNRECORDED: &str = "it may have been done, and the log is not told of it";

/// Why a deed did not come to its end.
#[derive(Debug)]
pub(super) enum Undone {
    /// Certainly nothing of it was begun: the log is to say nothing of it either.
    NotBegun(anyhow::Error),
    /// It may have been done.
    Unsure(anyhow::Error),
}

pub(super) fn not_begun(fault: impl Into<anyhow::Error>) -> Undone {
    Undone::NotBegun(fault.into())
}

pub(super) fn unsure(fault: impl Into<anyhow::Error>) -> Undone {
    Undone::Unsure(fault.into())
}

/// Which deed, and what it is about.
pub(super) type What = (Deed, Option<Digest>);

/// What the log is to say, with the folder in which it stands.
pub(super) struct Record {
    acts: Acts<OsDisk>,
    recorded: Recorded,
}

impl Record {
    fn make(
        state_dir: &Path,
        opening: Option<&Opening>,
        (deed, about): What,
    ) -> anyhow::Result<Self> {
        let acts = writer(state_dir)?;
        let acted = Acted { deed, about };
        let recorded = acts.record(opening, |actor| Act::Acted { actor, acted })?;
        Ok(Self { acts, recorded })
    }

    fn perform<T>(&self, deed: impl FnOnce() -> Result<T, Undone>) -> anyhow::Result<T> {
        deed().map_err(|undone| match undone {
            Undone::NotBegun(fault) => match self.withdraw() {
                Ok(()) => fault,
                Err(kept) => fault.context(format!("it was not done; {kept:#}")),
            },
            Undone::Unsure(fault) => fault.context(UNSURE),
        })
    }

    /// First the act, then who asked: an act without its opening would be one that nobody asked for.
    fn withdraw(&self) -> anyhow::Result<()> {
        let Recorded { actor, .. } = &self.recorded;
        self.acts.withdraw(&self.recorded).context(
            "the log may record that it was asked for, as that could not be taken back for certain",
        )?;
        actor.as_ref().map_or(Ok(()), |actor| self.acts.forget(actor)).context(
            "the log says nothing of it, but the name of who asked may still be kept beside the log",
        )
    }
}

/// Does it, and has the log record it; what cannot be recorded is not done.
pub(super) fn acting<T>(
    config: &EdgeConfig,
    by: &By,
    what: What,
    deed: impl FnOnce() -> Result<T, Undone>,
) -> anyhow::Result<T> {
    Record::make(&config.state_dir, by.opening()?.as_ref(), what)?.perform(deed)
}

/// Does it whether or not the log can be told: for what saves a box whose disk is full or broken. `false`: it was not
/// recorded.
pub(super) fn rescuing(
    config: &EdgeConfig,
    by: &By,
    what: What,
    deed: impl FnOnce() -> Result<(), Undone>,
) -> anyhow::Result<bool> {
    // A name that is none is a fault of whoever typed it, and no reason to act without one.
    let opening = by.opening()?;
    match Record::make(&config.state_dir, opening.as_ref(), what) {
        Ok(record) => record.perform(deed).map(|()| true),
        Err(fault) => {
            let may_be_recorded = matches!(fault.downcast_ref(), Some(ActsFault::Stays { .. }));
            let (warning, unsure) = match may_be_recorded {
                true => ("PERHAPS NOT RECORDED", UNSURE_AND_PERHAPS_RECORDED),
                false => ("NOT RECORDED: the log is not told of this", UNSURE_AND_UNRECORDED),
            };
            eprintln!("WARNING: {warning}: {fault:#}");
            deed().map(|()| false).map_err(|undone| match undone {
                Undone::NotBegun(fault) => fault,
                Undone::Unsure(fault) => fault.context(unsure),
            })
        }
    }
}

/// Whether the log could be told of it now, shown by doing so and taking it back: before somebody else is asked for what
/// a record is needed for. The folder is not held meanwhile, so that only a disk or a folder that fills up just then
/// makes this untrue.
pub(super) fn can_record(config: &EdgeConfig, by: &By, deed: Deed) -> anyhow::Result<()> {
    let record = Record::make(&config.state_dir, by.opening()?.as_ref(), (deed, None))?;
    record.withdraw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::Actor;
    use guan_log::ACTS_DIR;

    const WHAT: What = (Deed::LockoutReset, None);

    fn li() -> Opening {
        Opening::new([7; 32], Actor::parse("li").unwrap())
    }

    /// Acts that wait, and people that are known.
    fn left(state_dir: &Path) -> (usize, usize) {
        let acts = Acts::reader(OsDisk::open_read_only(&state_dir.join(ACTS_DIR)).unwrap());
        (acts.waiting().unwrap().len(), acts.openings().unwrap().known.len())
    }

    fn perform(undone: Option<Undone>) -> (Option<String>, (usize, usize)) {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::make(folder.path(), Some(&li()), WHAT).unwrap();
        let done = record.perform(|| {
            assert_eq!(left(folder.path()), (1, 1), "it is recorded before");
            undone.map_or(Ok(()), Err)
        });
        (done.err().map(|fault| format!("{fault:#}")), left(folder.path()))
    }

    /// A TPM that answers too late has perhaps done it, and the log is not to be silent of that.
    #[test]
    fn only_what_was_certainly_not_begun_is_withdrawn() {
        assert_eq!(perform(None), (None, (1, 1)));
        let fault = || anyhow::anyhow!("a wrong password");
        let said = Some("a wrong password".to_owned());
        assert_eq!(perform(Some(not_begun(fault()))), (said, (0, 0)));
        let said = Some(format!("{UNSURE}: a wrong password"));
        assert_eq!(perform(Some(unsure(fault()))), (said, (1, 1)));
    }

    /// A folder stands under the name of the one or the other: it can be opened and not removed.
    #[test]
    fn each_step_of_a_withdrawal_is_told_as_it_went() {
        let check = |is_act: bool, expect: &str, known: usize| {
            let folder = tempfile::tempdir().unwrap();
            let record = Record::make(folder.path(), Some(&li()), WHAT).unwrap();
            let name = match is_act {
                true => record.recorded.name.clone(),
                false => format!("{}.opening", li().commitment()),
            };
            let path = folder.path().join(ACTS_DIR).join(name);
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            let fault = record.perform(|| -> Result<(), Undone> {
                Err(not_begun(anyhow::anyhow!("a wrong password")))
            });
            let said = format!("{:#}", fault.unwrap_err());
            assert!(said.contains(expect) && said.contains("it was not done"), "{said}");
            assert_eq!(left(folder.path()), (0, known), "{said}");
        };
        check(true, "the log may record that it was asked for", 1);
        check(false, "the log says nothing of it, but the name of who asked", 0);
    }

    #[test]
    fn what_cannot_be_recorded_is_not_done_and_a_rescue_is() {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/demo/edge.toml");
        let mut config = crate::cli::load(&sample).unwrap();
        // A file stands where the folder should be made.
        config.state_dir = folder.path().join("state");
        std::fs::write(&config.state_dir, "").unwrap();
        let (by, nobody) = (By { name: Some("li".to_owned()) }, By { name: None });
        let never = || -> Result<(), Undone> { panic!("it is done") };
        acting(&config, &by, WHAT, never).unwrap_err();
        can_record(&config, &by, WHAT.0).unwrap_err();
        let is_recorded = rescuing(&config, &by, WHAT, || Ok(()));
        assert!(!is_recorded.unwrap());
        let fault = rescuing(&config, &nobody, WHAT, || Err(unsure(anyhow::anyhow!("too late"))));
        assert_eq!(
            format!("{:#}", fault.unwrap_err()),
            format!("{UNSURE_AND_UNRECORDED}: too late")
        );
        let bad = By { name: Some("two\nlines".to_owned()) };
        assert!(rescuing(&config, &bad, WHAT, never).unwrap_err().to_string().contains("--by"));
        config.state_dir = folder.path().join("other");
        assert!(rescuing(&config, &by, WHAT, || Ok(())).unwrap());
        can_record(&config, &by, WHAT.0).unwrap();
        assert_eq!(left(&config.state_dir), (1, 1), "the rehearsal leaves nothing");
    }
}
