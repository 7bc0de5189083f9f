//! The files of a bundle, from a tar file or a folder. Limits before memory; links and odd names are refused.

use anyhow::{Context, bail};
use guan_evidence::dossier::{FILE_BYTES_MAX, FILES_MAX, Files};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn read(path: &Path) -> anyhow::Result<Files> {
    let context = || format!("{} cannot be read", path.display());
    let metadata = fs::metadata(path).with_context(context)?;
    match metadata.is_dir() {
        true => {
            let mut files = Files::new();
            read_folder(path, "", &mut files).with_context(context)?;
            Ok(files)
        }
        false => read_tar(File::open(path).with_context(context)?).with_context(context),
    }
}

fn name_of(path: &Path) -> anyhow::Result<String> {
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let name = path.to_str().filter(|name| is_plain && name.len() <= NAME_BYTES_MAX);
    name.map(str::to_owned).with_context(|| format!("{path:?} is no name for a file of a bundle"))
}

fn put(files: &mut Files, name: String, content: impl Read) -> anyhow::Result<()> {
    if files.len() >= FILES_MAX {
        bail!("it has more than {FILES_MAX} files");
    }
    let mut bytes = Vec::new();
    content.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        bail!("{name} has more than {FILE_BYTES_MAX} bytes");
    }
    if files.insert(name.clone(), bytes).is_some() {
        bail!("{name} stands twice in it");
    }
    Ok(())
}

fn read_tar(file: impl Read) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let name = name_of(&entry.path()?)?;
        if !kind.is_file() {
            bail!("{name} is no plain file");
        }
        put(&mut files, name, entry)?;
    }
    Ok(files)
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Files) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| anyhow::anyhow!("{name:?} is no name for a file"))?;
        let name = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && prefix.is_empty() {
            read_folder(&entry.path(), &format!("{name}/"), files)?;
        } else if kind.is_file() {
            put(files, name, File::open(entry.path())?)?;
        } else {
            bail!("{name} is no plain file");
        }
    }
    Ok(())
}
