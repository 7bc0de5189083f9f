//! Files of signed lines, one JSON object a line, that are only ever added to.
//!
//! A line is durable when `append` returns. A power cut may leave half a line at the end: the next line
//! begins on a line of its own, and readers are told of the half one.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Longest line that is read; a longer one counts as damaged.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Adds a line and the folder's entry for it to what survives a power cut.
pub fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    assert!(line.len() <= LINE_BYTES_MAX && !line.contains(&b'\n'), "one line that can be read");
    let is_new = !path.exists();
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut text = Vec::with_capacity(line.len() + 2);
    if ends_within_a_line(&mut file)? {
        text.push(b'\n');
    }
    text.extend_from_slice(line);
    text.push(b'\n');
    // In one piece, as another command may add a line at the same moment.
    file.write_all(&text)?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) if is_new => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Hands over each line without its end; `None` for one that is too long. No file has no lines.
pub fn read(path: &Path, handle: &mut dyn FnMut(Option<&[u8]>)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let is_whole = line.last() == Some(&b'\n');
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        match text.len() <= LINE_BYTES_MAX {
            true => handle(Some(text)),
            false => handle(None),
        }
        if !is_whole {
            reader.skip_until(b'\n')?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Option<usize>> {
        let mut found = Vec::new();
        read(path, &mut |line| found.push(line.map(<[u8]>::len))).unwrap();
        found
    }

    #[test]
    fn lines_are_kept_apart_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        assert_eq!(lines(&path), []);
        append(&path, b"{}").unwrap();
        append(&path, &vec![b'x'; LINE_BYTES_MAX]).unwrap();
        assert_eq!(lines(&path), [Some(2), Some(LINE_BYTES_MAX)]);
        // A power cut within a line.
        let half = [std::fs::read(&path).unwrap(), b"{\"half".to_vec()].concat();
        std::fs::write(&path, half).unwrap();
        append(&path, b"{}").unwrap();
        assert_eq!(lines(&path), [Some(2), Some(LINE_BYTES_MAX), Some(6), Some(2)]);
        let long = [vec![b'x'; LINE_BYTES_MAX + 1], b"\n{}\n".to_vec()].concat();
        std::fs::write(&path, long).unwrap();
        assert_eq!(lines(&path), [None, Some(2)]);
    }
}
