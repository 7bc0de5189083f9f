//! The port to a folder of files, and its two sides: the operating system's and a simulated one.
//!
//! Durability is explicit: contents need `sync_data`, names need `sync_directory`. Nothing above this
//! module may assume more.

mod os;
#[cfg(feature = "sim")]
mod sim;

pub use os::{OsDisk, OsFile, create_folder, free_bytes_of};
#[cfg(feature = "sim")]
pub use sim::{SimDisk, SimFile, SimStats};

use std::io;

/// One folder. Clones are handles to the same folder.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;

    /// Names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Fails with `AlreadyExists` if the name is taken.
    fn create_new(&self, name: &str) -> io::Result<Self::File>;
    /// Replaces what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all created, renamed and removed names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Space left for this process.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One file, written at its end only.
pub trait DiskFile: Send {
    fn len(&self) -> io::Result<u64>;
    /// May leave a part of the bytes behind when it fails.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Writes zeros over all that the file holds, where it lies; they are durable after `sync_data`. What a disk
    /// keeps beside, such as flash that writes elsewhere, no software reaches.
    fn blank(&mut self) -> io::Result<()>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads a whole small file; one above the limit is `InvalidData`.
pub fn read_file(disk: &impl Disk, name: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        let text = format!("{name} has {length} bytes; the limit is {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a small file so that after a power cut the old or the new one is there, whole.
pub fn replace_file(disk: &impl Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    match disk.remove(&temporary) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let mut file = disk.create_new(&temporary)?;
    file.append(bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}
