//! The files of a bundle, from a tar file or a folder. Limits before memory; links and odd names are refused.

use anyhow::{Context, bail};
use guan_evidence::dossier::{Budget, Files, is_name};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

pub(crate) fn read(path: &Path) -> anyhow::Result<Files> {
    let context = || format!("{} cannot be read", path.display());
    let metadata = fs::metadata(path).with_context(context)?;
    match metadata.is_dir() {
        true => {
            let (mut files, mut budget) = (Files::new(), Budget::default());
            read_folder(path, "", &mut files, &mut budget).with_context(context)?;
            Ok(files)
        }
        false => read_tar(File::open(path).with_context(context)?).with_context(context),
    }
}

fn name_of(path: &Path) -> anyhow::Result<String> {
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let name = path.to_str().filter(|name| is_plain && is_name(name));
    name.map(str::to_owned).with_context(|| format!("{path:?} is no name for a file of a bundle"))
}

/// The budget is asked before anything is read; a file that grows meanwhile is cut at what was admitted.
fn put(
    (files, budget): (&mut Files, &mut Budget),
    name: String,
    length: u64,
    content: impl Read,
) -> anyhow::Result<()> {
    budget.admit(&name, length)?;
    let mut bytes = Vec::new();
    content.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        bail!("{name} ends after {} of {length} bytes", bytes.len());
    }
    if files.insert(name.clone(), bytes).is_some() {
        bail!("{name} stands twice in it");
    }
    Ok(())
}

fn read_tar(file: impl Read) -> anyhow::Result<Files> {
    let (mut files, mut budget) = (Files::new(), Budget::default());
    let mut archive = tar::Archive::new(file);
    // Raw: else the crate reads the extensions that others write, as long as they like, into memory.
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let name = name_of(&entry.path()?)?;
        if !kind.is_file() {
            bail!(
                "{name} is no plain file of a tar file as `guan log export` writes it; \
                unpack it and name the folder"
            );
        }
        let length = entry.header().entry_size()?;
        put((&mut files, &mut budget), name, length, entry)?;
    }
    Ok(files)
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut Files,
    budget: &mut Budget,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| anyhow::anyhow!("{name:?} is no name for a file"))?;
        let name = name_of(Path::new(&format!("{prefix}{name}")))?;
        let kind = entry.file_type()?;
        if kind.is_dir() && prefix.is_empty() {
            read_folder(&entry.path(), &format!("{name}/"), files, budget)?;
        } else if kind.is_file() {
            let file = File::open(entry.path())?;
            let length = file.metadata()?.len();
            put((files, budget), name, length, file)?;
        } else {
            bail!("{name} is no plain file");
        }
    }
    Ok(())
}
