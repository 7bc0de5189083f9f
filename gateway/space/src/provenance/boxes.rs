//! The logs of boxes as the space knows them: what was cosigned, what is copied, what forked.

use super::{Keys, ProvenanceFault, Source};
use crate::logs::folders::{FORKS_DIR, Folders, MIRROR_DIR, OsFolders, WITNESS_DIR, boxes};
use crate::logs::keys::LogKeys;
use crate::logs::{mirror, witnesses};
use crate::registry::Registry;
use guan_evidence::account::Fates;
use guan_evidence::verify::Trust;
use guan_evidence::{Checkpoint, CosignatureKey, Leaf, Note, VerifierKey};
use guan_log::LogReader;
use guan_model::BoxId;
use guan_spool::{Disk, OsDisk};
use serde::Serialize;
use std::io;
use std::path::Path;

/// One log of a box.
#[derive(Debug, Clone, Serialize)]
pub struct BoxLog {
    #[serde(rename = "box")]
    pub box_id: String,
    pub origin: String,
    pub key: String,
    /// Entries under the head that was cosigned last, and when.
    pub cosigned: u64,
    pub cosigned_s: Option<u64>,
    /// Entries that are copied, and those of them under a head that is here whole.
    pub mirrored: u64,
    pub mirrored_whole: u64,
    /// Of the box, whatever its log.
    pub forks: usize,
}

/// All logs, by box and name.
pub fn box_logs(state_dir: &Path, space: &str) -> Result<Vec<BoxLog>, ProvenanceFault> {
    let keys = LogKeys::open(state_dir, space)?;
    let witness =
        CosignatureKey::of(keys.witness.as_ref()).map_err(crate::logs::keys::LogKeysFault::from)?;
    let folders = OsFolders::new(state_dir);
    let at = |path: &[&str]| folders.path(path);
    let failed = |path: &[&str]| {
        let path = at(path);
        move |source: io::Error| ProvenanceFault::Open { path, source }
    };
    let mut logs = Vec::new();
    for box_id in boxes(&folders, WITNESS_DIR).map_err(failed(&[WITNESS_DIR]))? {
        let forks = OsDisk::open_read_only(&at(&[FORKS_DIR, box_id.as_str()]));
        let forks = forks.and_then(|disk| disk.list()).unwrap_or_default();
        let forks = forks.iter().filter(|name| name.ends_with(".txt")).count();
        let own = [WITNESS_DIR, box_id.as_str()];
        for name in folders.list(&own).map_err(failed(&own))? {
            let path = [WITNESS_DIR, box_id.as_str(), &name];
            let disk = OsDisk::open_read_only(&at(&path)).map_err(failed(&path))?;
            let Some((key, note)) = witnesses::stored(&disk).map_err(failed(&path))? else {
                continue;
            };
            let Ok(head) = Checkpoint::parse_unverified(&note) else { continue };
            let said = Note::parse(&note).ok().and_then(|note| note.verify(&witness).ok());
            let copy = OsDisk::open_read_only(&at(&[MIRROR_DIR, box_id.as_str(), &name])).ok();
            let copy = copy.map(mirror::read).transpose()?;
            let whole = copy.as_ref().map(LogReader::checkpoint).transpose()?.flatten();
            let whole = whole.and_then(|note| Checkpoint::parse_unverified(&note).ok());
            logs.push(BoxLog {
                box_id: box_id.to_string(),
                origin: head.origin,
                key,
                cosigned: head.size,
                cosigned_s: said.map(|said| said.seconds),
                mirrored: copy.as_ref().map(LogReader::size).transpose()?.unwrap_or(0),
                mirrored_whole: whole.map_or(0, |head| head.size),
                forks,
            });
        }
    }
    Ok(logs)
}

/// Whom the space believes about a box's log: the TPM that it enrolled, and its own witness.
pub fn trust(
    state_dir: &Path,
    space: &str,
    (box_id, origin): (&BoxId, &str),
    log_key: &VerifierKey,
) -> Result<Trust, ProvenanceFault> {
    let keys = LogKeys::open(state_dir, space)?;
    let witness =
        CosignatureKey::of(keys.witness.as_ref()).map_err(crate::logs::keys::LogKeysFault::from)?;
    let enrolment = Registry::new(state_dir).find(box_id)?;
    let tpm = enrolment.and_then(|enrolment| enrolment.tpm);
    Ok(Trust {
        attestation_keys: tpm.map(|tpm| tpm.attestation_keys()).unwrap_or_default(),
        witnesses: vec![witness],
        ..Trust::of_key(origin, log_key.clone())
    })
}

/// A copied log: its name, and where it is read.
pub(super) type Copy = (String, Source);

/// What the copied logs of a box say became of its batches.
pub(super) fn fates(copies: &[Copy]) -> Result<Fates, ProvenanceFault> {
    let mut fates = Fates::default();
    for (_, copy) in copies {
        copy.reader.for_each(&mut |_, bytes| {
            if let Ok(leaf) = Leaf::decode(bytes) {
                fates.handle_leaf(&leaf);
            }
        })?;
    }
    Ok(fates)
}

/// The copied logs of a box, each with its key, the newest epoch last.
pub(super) fn copies(
    folders: &OsFolders,
    box_id: &BoxId,
    keys: &LogKeys,
) -> Result<Vec<Copy>, ProvenanceFault> {
    let own = [WITNESS_DIR, box_id.as_str()];
    let failed = |path: &[&str]| {
        let path = folders.path(path);
        move |source: io::Error| ProvenanceFault::Open { path, source }
    };
    let named = crate::logs::keys::LogKeysFault::from;
    let witness = CosignatureKey::of(keys.witness.as_ref()).map_err(named)?;
    let mirror_key = CosignatureKey::of(keys.mirror.as_ref()).map_err(named)?;
    let mut all = Vec::new();
    for name in folders.list(&own).map_err(failed(&own))? {
        let path = [WITNESS_DIR, box_id.as_str(), &name];
        let own = OsDisk::open_read_only(&folders.path(&path)).map_err(failed(&path))?;
        let Some((_, note)) = witnesses::stored(&own).map_err(failed(&path))? else { continue };
        let Ok(head) = Checkpoint::parse_unverified(&note) else { continue };
        let copy = [MIRROR_DIR, box_id.as_str(), &name];
        let Ok(disk) = OsDisk::open_read_only(&folders.path(&copy)) else { continue };
        let cosigners = Some((witness.clone(), mirror_key.clone()));
        let lineage = witnesses::lineage(&own).map_err(failed(&path))?;
        let lineage = lineage.map_or(Keys::None, Keys::Lineage);
        let source = Source::open(mirror::read(disk)?, &lineage, cosigners)?;
        all.push((head.origin, source));
    }
    all.sort_by_key(|(origin, _)| (origin.len(), origin.clone()));
    Ok(all)
}
