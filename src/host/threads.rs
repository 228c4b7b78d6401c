//! CPU time of single processes: this service, and the kernel's thread that merges pages.

use std::path::Path;

use super::files::Files;
use crate::model::host::OwnCpu;

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;
const KSMD: &str = "ksmd";
/// All kernel threads are children of this one.
const KTHREADD: &str = "2";
/// The kernel starts the thread when it boots, so if it is not among so many with the lowest numbers, it cannot be seen from here.
const LOOKED_AT: usize = 8192;
/// So many turns pass before it is looked for again: where it is not seen, as in a container, each search reads a file for each
/// process.
const SELDOM: u64 = 720;

/// CPU time of the process that asks.
pub(super) fn own_cpu(proc: &Path, ticks_per_second: u64, files: &mut Files) -> Option<OwnCpu> {
    let (_, stat) = split(files.text(&proc.join("self/stat"))?)?;
    let (user_ns, system_ns) = times(stat, ticks_per_second)?;
    Some(OwnCpu { user_ns, system_ns })
}

/// Finds the kernel's thread that merges pages, and remembers its number.
#[derive(Debug, Default)]
pub(super) struct Ksmd {
    turn: u64,
    /// When it was looked for last; 0 if it never was.
    searched: u64,
    pid: Option<u32>,
}

impl Ksmd {
    /// Its CPU time in nanoseconds since boot.
    pub(super) fn time_ns(&mut self, proc: &Path, ticks_per_second: u64, files: &mut Files) -> Option<u64> {
        self.turn += 1;
        let time = |pid: u32, files: &mut Files| {
            let (user_ns, system_ns) = times(ksmd(files.text(&stat_of(proc, pid))?)?, ticks_per_second)?;
            user_ns.checked_add(system_ns)
        };
        if let Some(time) = self.pid.and_then(|pid| time(pid, files)) {
            return Some(time);
        }
        self.pid = None;
        if self.searched > 0 && self.turn < self.searched + SELDOM {
            return None;
        }
        self.searched = self.turn;
        let mut pids: Vec<u32> = Files::names(proc).iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        pids.truncate(LOOKED_AT);
        self.pid = pids.into_iter().find(|pid| files.text(&stat_of(proc, *pid)).and_then(ksmd).is_some());
        self.pid.and_then(|pid| time(pid, files))
    }
}

fn stat_of(proc: &Path, pid: u32) -> std::path::PathBuf {
    proc.join(pid.to_string()).join("stat")
}

/// What is behind the name, if the line is that of the kernel's `ksmd`. Anybody may give a process that name.
fn ksmd(stat: &str) -> Option<&str> {
    let (name, rest) = split(stat)?;
    let parent = rest.split_ascii_whitespace().nth(1);
    (name == KSMD && parent == Some(KTHREADD)).then_some(rest)
}

/// The name, and the columns behind it, from the state on. A name may hold parentheses itself.
fn split(stat: &str) -> Option<(&str, &str)> {
    let (before, columns) = stat.rsplit_once(')')?;
    Some((before.split_once('(')?.1, columns))
}

/// `utime` and `stime` of those columns.
fn times(columns: &str, ticks_per_second: u64) -> Option<(u64, u64)> {
    /// Columns between the name and `utime`.
    const BEFORE: usize = 11;
    let ns_per_tick = SECOND_NS.checked_div(ticks_per_second)?;
    let mut columns = columns.split_ascii_whitespace().skip(BEFORE);
    let mut next = || columns.next()?.parse::<u64>().ok()?.checked_mul(ns_per_tick);
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;

    fn stat(pid: u32, name: &str, parent: u32, utime: u64, stime: u64) -> String {
        format!("{pid} ({name}) S {parent} 0 0 0 -1 2129984 0 0 0 0 {utime} {stime} 0 0 25 5 1 0 79 0 0\n")
    }

    #[test]
    fn the_times_of_the_service_are_told_apart_whatever_its_name_is() {
        let tree = Tree::new(&[("self/stat", &stat(77, "virt) S (stat", 1, 250, 30))]);
        let own = || own_cpu(tree.path(), 100, &mut Files::default());
        assert_eq!(own(), Some(OwnCpu { user_ns: 2_500_000_000, system_ns: 300_000_000 }));
        for bad in ["", "77 (virtstatd", "77 (virtstatd) S 1 0", "77 (v) S 1 0 0 0 -1 0 0 0 0 0 x 5"] {
            tree.write("self/stat", bad);
            assert_eq!(own(), None, "{bad}");
        }
        tree.remove("self");
        assert_eq!(own(), None);
    }

    #[test]
    fn the_kernels_thread_is_found_once_and_checked_at_each_look() {
        let tree = Tree::new(&[
            ("2/stat", &stat(2, "kthreadd", 0, 0, 9)),
            ("40/stat", &stat(40, "ksmd", 1, 0, 1000)),
            ("41/stat", &stat(41, "ksmd", 2, 1, 250)),
            ("300/stat", &stat(300, "ksmd", 2, 0, 9999)),
            ("version", "Linux\n"),
        ]);
        let (mut thread, mut files) = (Ksmd::default(), Files::default());
        let mut time = || thread.time_ns(tree.path(), 100, &mut files);
        assert_eq!(time(), Some(2_510_000_000), "not that of a user's process of that name");
        tree.write("41/stat", stat(41, "ksmd", 2, 1, 350));
        tree.write("39/stat", stat(39, "ksmd", 2, 0, 1));
        assert_eq!(time(), Some(3_510_000_000), "it is known already");
        tree.write("41/stat", stat(41, "sh", 1, 1, 350));
        for _ in 3..=SELDOM {
            assert_eq!(time(), None, "another process has its number");
        }
        assert_eq!(time(), Some(10_000_000), "it is looked for again");
    }

    #[test]
    fn where_it_cannot_be_seen_it_is_seldom_looked_for() {
        let tree = Tree::new(&[("1/stat", &stat(1, "init", 0, 1, 1))]);
        let (mut thread, mut files) = (Ksmd::default(), Files::default());
        let mut time = || thread.time_ns(tree.path(), 100, &mut files);
        assert_eq!(time(), None);
        tree.write("41/stat", stat(41, "ksmd", 2, 0, 5));
        for _ in 2..=SELDOM {
            assert_eq!(time(), None);
        }
        assert_eq!(time(), Some(50_000_000));
    }
}
