//! An image as a mounted file system. Nothing is cached by the kernel, so a power cut needs no new mount.

use super::image::{Image, Look, Stuck};
use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Attributes and names are asked for anew each time.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// What programs are told is free.
const FREE_BLOCKS: u64 = 1 << 20;

/// A mounted disk; unmounted when it is dropped.
pub struct Volume {
    image: Arc<Mutex<Image>>,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Volume {
    /// Mounts an empty disk at a folder that is there. Needs root and `/dev/fuse`.
    pub fn mount(path: &Path) -> Result<Self> {
        let image = Arc::new(Mutex::new(Image::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cuts".to_owned()), MountOption::NoAtime];
        let seen = Shown(image.clone());
        let session = fuser::spawn_mount(seen, path, &config)
            .with_context(|| format!("no disk can be mounted at {}", path.display()))?;
        Ok(Self { image, path: path.to_owned(), session: Some(session) })
    }

    /// Whether this machine can mount one.
    pub fn is_possible() -> bool {
        let Ok(folder) = tempfile::tempdir() else { return false };
        Path::new("/dev/fuse").exists() && Self::mount(folder.path()).is_ok()
    }

    pub fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().expect("no holder panics")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(fault) = session.umount_and_join()
        {
            eprintln!("{} stays mounted: {fault}", self.path.display());
        }
    }
}

struct Shown(Arc<Mutex<Image>>);

impl Shown {
    fn image(&self) -> MutexGuard<'_, Image> {
        self.0.lock().expect("no holder panics")
    }

    /// Attributes of a node that was just found or made.
    fn entry(&self, found: Result<u64, Stuck>) -> Result<FileAttr, Errno> {
        let ino = found.map_err(errno)?;
        let look = self.image().look(ino).map_err(errno)?;
        Ok(attributes(ino, look))
    }
}

fn errno(stuck: Stuck) -> Errno {
    match stuck {
        Stuck::Dead => Errno::EIO,
        Stuck::NoEntry => Errno::ENOENT,
        Stuck::NotEmpty => Errno::ENOTEMPTY,
        Stuck::Exists => Errno::EEXIST,
        Stuck::NotDirectory => Errno::ENOTDIR,
        Stuck::IsDirectory => Errno::EISDIR,
        Stuck::TooLarge => Errno::EFBIG,
    }
}

fn attributes(ino: u64, look: Look) -> FileAttr {
    let (kind, perm, nlink) = match look.is_dir {
        true => (FileType::Directory, 0o700, 2),
        false => (FileType::RegularFile, 0o600, 1),
    };
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(ino),
        size: look.bytes,
        blocks: look.bytes.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn done(reply: ReplyEmpty, outcome: Result<(), Stuck>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(stuck) => reply.error(errno(stuck)),
    }
}

impl Filesystem for Shown {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.image().lookup(parent.0, name);
        match self.entry(found) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(fault) => reply.error(fault),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(Ok(ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(fault) => reply.error(fault),
        }
    }

    /// Only lengths are kept; modes and times are all the same here.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.image().resize(ino.0, size));
        match self.entry(resized.map(|()| ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(fault) => reply.error(fault),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.image().make(parent.0, name, true);
        match self.entry(made) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(fault) => reply.error(fault),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.image().remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.image().remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        done(reply, self.image().rename((parent.0, name), (new_parent.0, new_name)));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.image().is_dead() {
            true => reply.error(Errno::EIO),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.image().make(parent.0, name, false);
        let flags = FopenFlags::FOPEN_DIRECT_IO;
        match self.entry(made) {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(fault) => reply.error(fault),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.image().read(ino.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(stuck) => reply.error(errno(stuck)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.image().write(ino.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("the kernel sends less")),
            Err(stuck) => reply.error(errno(stuck)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.image().sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.image().sync(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let image = self.image();
        let list = match image.list(ino.0) {
            Ok(list) => list,
            Err(stuck) => return reply.error(errno(stuck)),
        };
        let own = [(".".into(), ino.0), ("..".into(), ino.0)];
        let all = own.into_iter().chain(list).zip(1..);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((name, node), place) in all.skip(skipped) {
            let is_dir = image.look(node).is_ok_and(|look| look.is_dir);
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(node), place, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (all, free) = (FREE_BLOCKS, FREE_BLOCKS / 2);
        reply.statfs(all, free, free, all, free, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
