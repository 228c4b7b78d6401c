//! A file system that hangs on command, as dead NFS does: whoever stats, opens, reads or writes a file on it waits.
//!
//! It lives in the process of the test. Should that be killed, the kernel ends the file system and everybody's waiting.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};

use super::lab::run;

/// QEMU's user has to reach it.
const PARENT: &str = "/var/lib/virtstatd-lab/storage";

/// Nothing is kept by the kernel: each stat and each path asks the file system.
const TTL: Duration = Duration::ZERO;

/// A mounted file system of disk images.
pub(crate) struct Storage {
    path: PathBuf,
    gate: Arc<Gate>,
    /// Serves until the last user of a file is gone, which may be after the end of this test.
    session: Option<BackgroundSession>,
}

impl Storage {
    /// Mounts it with copies of these files, by their new names.
    pub(crate) fn mount(name: &str, images: &[(&str, &Path)]) -> Self {
        let path = Path::new(PARENT).join(name);
        // An earlier test that was killed leaves its dead mount.
        let _ = run("umount", &["-l", path.to_str().unwrap()]);
        std::fs::create_dir_all(&path).unwrap();
        let gate = Arc::new(Gate::default());
        let images: Images = images
            .iter()
            .map(|(name, source)| ((*name).to_owned(), Mutex::new(Image::new(std::fs::read(source).unwrap()))))
            .collect();
        let served = Served { gate: Arc::clone(&gate), images: Arc::new(images) };
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options = vec![MountOption::FSName("virtstatd-lab".to_owned()), MountOption::NoDev];
        let session = fuser::spawn_mount(served, &path, &config).expect("root may mount a FUSE file system");
        Self { path, gate, session: Some(session) }
    }

    pub(crate) fn path_of(&self, image: &str) -> String {
        self.path.join(image).to_str().unwrap().to_owned()
    }

    /// Hangs until the result is dropped, and then answers whoever waited, and everybody after.
    ///
    /// The result has to go before whoever may wait for the storage: even a process that was killed waits on, and so
    /// does whoever waits for its end.
    #[must_use]
    pub(crate) fn hang(&self, what: Hang) -> Hanging {
        self.gate.set(what);
        Hanging { gate: Arc::clone(&self.gate) }
    }

    /// How many requests of that process ever waited at once.
    pub(crate) fn most_waiting_of(&self, process: u32) -> usize {
        self.gate.waiting.lock().unwrap().get(&process).map_or(0, |it| it.most)
    }
}

/// A time in which a storage hangs.
pub(crate) struct Hanging {
    gate: Arc<Gate>,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.gate.set(Hang::Nothing);
    }
}

/// How much of it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Hang {
    #[default]
    Nothing,
    /// Whatever goes by a path, as libvirtd and other programs do. A QEMU, which has its files open, is told their size
    /// as an NFS client tells it from its cache, and goes on while it neither reads nor writes.
    Paths,
    /// Everything. A QEMU hangs too as soon as it is asked about its disks, all of it and not only that disk.
    Everything,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.gate.set(Hang::Nothing);
        if let Err(error) = run("umount", &["-l", self.path.to_str().unwrap()]) {
            eprintln!("{error}");
        }
        let _ = std::fs::remove_dir(&self.path);
        // Its own end would unmount in earnest, and fail while a QEMU has a file open.
        std::mem::forget(self.session.take());
    }
}

#[derive(Default)]
struct Gate {
    hangs: Mutex<Hang>,
    opened: Condvar,
    waiting: Mutex<HashMap<u32, Waiting>>,
}

/// How many requests of a process wait, and the most that ever did at once.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    now: usize,
    most: usize,
}

impl Gate {
    fn set(&self, hang: Hang) {
        *self.hangs.lock().unwrap() = hang;
        self.opened.notify_all();
    }

    fn is_closed(&self, from: Hang) -> bool {
        *self.hangs.lock().unwrap() >= from
    }

    fn wait(&self, from: Hang, process: Option<u32>) {
        let count = |change: fn(&mut Waiting)| {
            if let Some(process) = process {
                change(self.waiting.lock().unwrap().entry(process).or_default());
            }
        };
        count(|it| {
            it.now += 1;
            it.most = it.most.max(it.now);
        });
        drop(self.opened.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs >= from).unwrap());
        count(|it| it.now -= 1);
    }
}

struct Image {
    data: Vec<u8>,
    mode: u16,
    owner: (u32, u32),
}

impl Image {
    fn new(data: Vec<u8>) -> Self {
        Self { data, mode: 0o666, owner: (0, 0) }
    }
}

type Images = BTreeMap<String, Mutex<Image>>;

struct Served {
    gate: Arc<Gate>,
    images: Arc<Images>,
}

impl Served {
    /// Answers at once, or when it no longer hangs: then from a thread, so that what does not hang is not held up.
    fn serve(&self, request: &Request, hangs_from: Hang, answer: impl FnOnce(&Images) + Send + 'static) {
        if !self.gate.is_closed(hangs_from) {
            return answer(&self.images);
        }
        let (gate, images, process) = (Arc::clone(&self.gate), Arc::clone(&self.images), process_of(request.pid()));
        thread::spawn(move || {
            gate.wait(hangs_from, process);
            answer(&images);
        });
    }
}

/// The process of a thread.
fn process_of(thread: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The root is 1, and the images are numbered from 2.
fn image(images: &Images, inode: INodeNo) -> Option<MutexGuard<'_, Image>> {
    let place = usize::try_from(u64::from(inode).checked_sub(2)?).ok()?;
    Some(images.values().nth(place)?.lock().unwrap())
}

fn attributes(images: &Images, inode: INodeNo) -> Option<FileAttr> {
    let (kind, perm, size, (uid, gid)) = if inode == INodeNo::ROOT {
        (FileType::Directory, 0o755, 0, (0, 0))
    } else {
        let image = image(images, inode)?;
        (FileType::RegularFile, image.mode, image.data.len() as u64, image.owner)
    };
    Some(FileAttr {
        ino: inode,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn reply_attributes(images: &Images, inode: INodeNo, reply: ReplyAttr) {
    match attributes(images, inode) {
        Some(attributes) => reply.attr(&TTL, &attributes),
        None => reply.error(Errno::ENOENT),
    }
}

impl Filesystem for Served {
    fn lookup(&self, request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.serve(request, Hang::Paths, move |images| {
            let found = images.keys().position(|image| name == image.as_str());
            match found.and_then(|place| attributes(images, INodeNo(place as u64 + 2))) {
                Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(request, Hang::Everything, move |images| reply_attributes(images, inode, reply));
    }

    /// libvirt gives a disk to QEMU's user, and takes it back.
    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.serve(request, Hang::Paths, move |images| {
            if let Some(mut image) = image(images, inode) {
                image.mode = mode.map_or(image.mode, |mode| (mode & 0o7777) as u16);
                image.owner = (uid.unwrap_or(image.owner.0), gid.unwrap_or(image.owner.1));
            }
            reply_attributes(images, inode, reply);
        });
    }

    fn open(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.serve(request, Hang::Paths, move |_| reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(request, Hang::Paths, move |images| {
            let Some(image) = image(images, inode) else { return reply.error(Errno::ENOENT) };
            let begin = usize::try_from(offset).unwrap().min(image.data.len());
            let end = (begin + size as usize).min(image.data.len());
            reply.data(&image.data[begin..end]);
        });
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_owned();
        self.serve(request, Hang::Paths, move |images| {
            let Some(mut image) = image(images, inode) else { return reply.error(Errno::ENOENT) };
            let begin = usize::try_from(offset).unwrap();
            // A disk does not grow.
            let Some(place) = image.data.get_mut(begin..begin + data.len()) else { return reply.error(Errno::ENOSPC) };
            place.copy_from_slice(&data);
            reply.written(u32::try_from(data.len()).unwrap());
        });
    }

    fn flush(&self, request: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.serve(request, Hang::Paths, move |_| reply.ok());
    }

    fn fsync(&self, request: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve(request, Hang::Paths, move |_| reply.ok());
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.serve(request, Hang::Paths, move |_| reply.statfs(1 << 20, 1 << 19, 1 << 19, 100, 50, 4096, 255, 4096));
    }
}
