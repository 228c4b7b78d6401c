//! Files that are kept open, as long as the limit of files allows it, and read from their beginning again and again.
//!
//! What is open cannot become another process's: the kernel answers ESRCH for a process that has ended, and ENODEV for a
//! cgroup that was removed. Opening costs more than reading, so only past the limit a file is opened for each look.

use std::fmt::{Arguments, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use rustix::process::{Resource, getrlimit, setrlimit};

/// The soft limit of files is raised to the hard one, and not above this: an open file of /proc holds 4 KiB in the kernel.
const MOST: u64 = 262_144;
/// For all else that the daemon has open: connections, its database of clients, what libraries open.
const RESERVE: u64 = 1024;
/// The buffer to begin with: all but the accounting of a host with hundreds of disks fits.
const FIRST: usize = 16 << 10;
/// No file that is read here has a reason to be larger.
const LARGEST: usize = 4 << 20;

/// How many files may be kept open, and how many are.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    /// What this process may open, which is raised as far as it may be.
    pub(super) fn of_this_process() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let best = limit.maximum.unwrap_or(MOST).min(MOST);
        if limit.current.is_some_and(|current| current < best) {
            let before = limit.current.replace(best);
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::debug!(%error, "the limit of open files cannot be raised");
                limit.current = before;
            }
        }
        let current = limit.current.unwrap_or(MOST).min(MOST);
        // Where there is little, the others have half of it.
        let ours = current - RESERVE.min(current / 2);
        Self::new(usize::try_from(ours).unwrap_or(usize::MAX))
    }

    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::new(AtomicUsize::new(0)) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Keeps a file open, if there is room.
    pub(super) fn hold(&self, fd: OwnedFd) -> Result<Held, OwnedFd> {
        if self.used() >= self.limit {
            return Err(fd);
        }
        self.used.fetch_add(1, Relaxed);
        Ok(Held { fd, used: Arc::clone(&self.used) })
    }
}

/// An open file that is counted; closed when dropped.
#[derive(Debug)]
pub(super) struct Held {
    fd: OwnedFd,
    used: Arc<AtomicUsize>,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Relaxed);
    }
}

/// What all reading shares: the room for files, and one buffer.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) budget: Budget,
    buffer: Vec<u8>,
    path: String,
}

impl Reader {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, buffer: vec![0; FIRST], path: String::new() }
    }

    /// Reads a file that is not kept.
    pub(super) fn once(&mut self, place: Place<'_>, path: Arguments<'_>) -> Result<&[u8], Errno> {
        let fd = self.open(place, path)?;
        self.fill(fd.as_fd())
    }

    fn open(&mut self, place: Place<'_>, path: Arguments<'_>) -> Result<OwnedFd, Errno> {
        self.path.clear();
        // Writing to a String does not fail.
        self.path.write_fmt(path).map_err(|_| Errno::INVAL)?;
        openat(place.directory, &*self.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// These files come whole in one read if the buffer has room for them.
    fn fill(&mut self, fd: BorrowedFd<'_>) -> Result<&[u8], Errno> {
        loop {
            let length = pread(fd, &mut self.buffer[..], 0)?;
            if length < self.buffer.len() || length >= LARGEST {
                return Ok(&self.buffer[..length]);
            }
            self.buffer.resize(length * 2, 0);
        }
    }
}

/// Below what a path is, and whether what is opened there may be kept: only below a directory that is kept itself, or one
/// whose names are never given to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) may_hold: bool,
}

/// A file that is read at each look.
#[derive(Debug, Default)]
pub(super) struct File(Option<Held>);

impl File {
    /// What is in it. The path is needed only where the file is not open.
    pub(super) fn read<'b>(
        &mut self,
        reader: &'b mut Reader,
        place: Place<'_>,
        path: Arguments<'_>,
    ) -> Result<&'b [u8], Errno> {
        if let Some(held) = &self.0 {
            return reader.fill(held.as_fd());
        }
        let fd = reader.open(place, path)?;
        if !place.may_hold {
            return reader.fill(fd.as_fd());
        }
        match reader.budget.hold(fd) {
            Ok(held) => reader.fill(self.0.insert(held).as_fd()),
            Err(fd) => reader.fill(fd.as_fd()),
        }
    }
}

/// Does this say that what was read is no more, rather than that it cannot be read?
pub(super) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::SRCH | Errno::NOENT | Errno::NODEV)
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::super::fake::Host;
    use super::*;

    const ANYWHERE: Place<'_> = Place { directory: CWD, may_hold: true };

    #[test]
    fn files_are_kept_to_the_limit_and_read_right_beyond_it() {
        let host = Host::new();
        let budget = Budget::new(2);
        let mut reader = Reader::new(budget.clone());
        let mut files: Vec<File> = (0..4).map(|_| File::default()).collect();
        let mut read = |files: &mut Vec<File>, generation: u32| {
            for (at, file) in files.iter_mut().enumerate() {
                let path = host.path().join(at.to_string());
                std::fs::write(&path, format!("{at} {generation}\n")).expect("written");
                let text = file.read(&mut reader, ANYWHERE, format_args!("{}", path.display()));
                assert_eq!(text, Ok(format!("{at} {generation}\n").as_bytes()));
            }
        };
        read(&mut files, 1);
        assert_eq!(budget.used(), 2);
        read(&mut files, 2);
        assert_eq!(budget.used(), 2);
        files.remove(0);
        assert_eq!(budget.used(), 1);
        files.insert(0, File::default());
        read(&mut files, 3);
        assert_eq!(budget.used(), 2, "room that was left is used");
        drop(files);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_file_larger_than_the_buffer_comes_whole() {
        let host = Host::new();
        let text = "line\n".repeat(FIRST);
        host.write("large", &text);
        host.write("small", "small\n");
        let mut reader = Reader::new(Budget::new(0));
        let path = host.path().display();
        assert_eq!(reader.once(ANYWHERE, format_args!("{path}/large")), Ok(text.as_bytes()));
        assert_eq!(reader.once(ANYWHERE, format_args!("{path}/small")), Ok(&b"small\n"[..]));
        assert_eq!(reader.once(ANYWHERE, format_args!("{path}/none")), Err(Errno::NOENT));
    }

    #[test]
    fn the_limit_leaves_room_for_others() {
        let budget = Budget::of_this_process();
        let current = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
        assert!(budget.limit() > 0);
        assert!(current.is_none_or(|current| budget.limit() < current));
    }
}
