//! A process that may be a domain's: what there is to tell by, and which of it may be read when.
//!
//! The command line is in the process's own memory, and whoever reads it takes a lock of that memory. A thread of QEMU
//! that waits in a page fault for storage that has died holds this lock, and the reader then waits as long as the storage
//! is dead. A thread that waits so is in uninterruptible sleep, so that is looked for first.

use std::fs;
use std::path::PathBuf;

use crate::model::{DomainId, Process, ProcessState, RunId};

use super::cgroup;
use super::parse::{number, small_number};
use super::stat::Stat;

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The domain's.
    Is,
    /// Another's.
    IsNot,
    /// It cannot be told at present.
    NotYet,
}

/// What a look at a process that is not known yet tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) process: Process,
    pub(super) is_qemu: bool,
}

/// Looks at processes below /proc.
#[derive(Debug)]
pub(super) struct Suspects {
    proc: PathBuf,
}

impl Suspects {
    pub(super) fn below(proc: PathBuf) -> Self {
        Self { proc }
    }

    /// The numbers of all processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        numbers_in(self.proc.clone())
    }

    /// `None` if there is no such process, or it is hidden.
    pub(super) fn sight(&self, pid: u32) -> Option<Sight> {
        let text = fs::read(self.proc.join(pid.to_string()).join("stat")).ok()?;
        let stat = Stat::parse(&text)?;
        Some(Sight { process: stat.process(pid), is_qemu: stat.is_qemu() })
    }

    /// Are processes of other users hidden (hidepid)? Process 1 is always there, and its stat is for all to read.
    pub(super) fn are_hidden(&self) -> bool {
        fs::read(self.proc.join("1/stat")).is_err()
    }

    /// Is it the domain's?
    pub(super) fn verdict(&self, sight: Sight, id: DomainId, name: &str, run: RunId) -> Verdict {
        if !sight.is_qemu {
            return Verdict::IsNot;
        }
        // What has ended has no command line any more.
        if sight.process.state == ProcessState::Ended {
            return Verdict::Is;
        }
        if self.may_hang(sight) {
            let groups = self.file(sight, "cgroup");
            return if cgroup::names_run(&groups, name, run) { Verdict::Is } else { Verdict::NotYet };
        }
        if self.uuid(sight) == Some(id) { Verdict::Is } else { Verdict::IsNot }
    }

    /// Would a reader of its command line have to wait?
    pub(super) fn may_hang(&self, sight: Sight) -> bool {
        let tasks = self.proc.join(sight.process.pid.to_string()).join("task");
        let waits = |tid: u32| {
            let text = fs::read(tasks.join(tid.to_string()).join("stat")).unwrap_or_default();
            Stat::parse(&text).is_some_and(|stat| stat.state == ProcessState::Uninterruptible)
        };
        sight.process.state == ProcessState::Uninterruptible || numbers_in(tasks.clone()).into_iter().any(waits)
    }

    /// The domain that its command line names (`-uuid UUID`). Not to be asked of one that may hang.
    pub(super) fn uuid(&self, sight: Sight) -> Option<DomainId> {
        let line = self.file(sight, "cmdline");
        let mut arguments = line.split(|byte| *byte == 0);
        arguments.find(|argument| *argument == b"-uuid")?;
        DomainId::parse(std::str::from_utf8(arguments.next()?).ok()?)
    }

    fn file(&self, sight: Sight, name: &str) -> Vec<u8> {
        fs::read(self.proc.join(sight.process.pid.to_string()).join(name)).unwrap_or_default()
    }
}

/// The names in a directory that are numbers; none if it cannot be read.
fn numbers_in(directory: PathBuf) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| small_number(entry.file_name().as_encoded_bytes())).collect()
}

/// The number that a pid file consists of.
pub(super) fn pid_of(text: &[u8]) -> Option<u32> {
    number(text.trim_ascii())?.try_into().ok()
}
