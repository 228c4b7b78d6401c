//! Which process serves a connection.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::ffi;
use crate::model::Peer;

/// Where daemons of libvirt write their process id, and what they are called.
const PID_FILES: &[(&str, &str)] = &[("libvirtd.pid", "libvirtd"), ("virtqemud.pid", "virtqemud")];

/// Who serves the other end of a UNIX socket.
pub(super) fn of(socket: &OwnedFd) -> Option<Peer> {
    // The kernel names who called listen(): under socket activation that is systemd, which is not who answers. A
    // process of another pid namespace has no number here.
    match ffi::peer_pid(socket) {
        None | Some(1) => by_pid_file(Path::new("/run"), Path::new("/proc")),
        Some(pid) => peer(Path::new("/proc"), pid),
    }
}

fn by_pid_file(run: &Path, proc: &Path) -> Option<Peer> {
    PID_FILES.iter().find_map(|(file, program)| {
        let pid = fs::read_to_string(run.join(file)).ok()?.trim().parse().ok()?;
        // The file stays when the daemon dies, and its number may be another's by now.
        let comm = fs::read_to_string(proc.join(format!("{pid}/comm"))).ok()?;
        (comm.trim_end() == *program).then(|| peer(proc, pid))?
    })
}

fn peer(proc: &Path, pid: u32) -> Option<Peer> {
    let stat = fs::read_to_string(proc.join(format!("{pid}/stat"))).ok()?;
    Some(Peer { pid, start_ticks: start_ticks(&stat)? })
}

/// Field 22 of /proc/PID/stat. The second may hold anything, blanks and parentheses too, so it is counted from behind
/// that.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "41 (a) b (c) S 1 41 41 0 -1 4194560 9 0 0 0 1 2 3 4 20 0 1 0 777 0 0";

    fn tree(processes: &[(u32, &str)], pid_files: &[(&str, u32)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (pid, comm) in processes {
            let directory = root.path().join(pid.to_string());
            fs::create_dir(&directory).expect("created");
            fs::write(directory.join("comm"), format!("{comm}\n")).expect("written");
            fs::write(directory.join("stat"), STAT).expect("written");
        }
        for (file, pid) in pid_files {
            fs::write(root.path().join(file), format!("{pid}\n")).expect("written");
        }
        root
    }

    #[test]
    fn the_start_is_found_behind_any_name() {
        assert_eq!(start_ticks(STAT), Some(777));
        assert_eq!(start_ticks("41 (a"), None);
    }

    #[test]
    fn a_pid_file_counts_if_it_names_its_daemon() {
        let find = |root: &tempfile::TempDir| by_pid_file(root.path(), root.path());
        assert_eq!(find(&tree(&[], &[("libvirtd.pid", 41)])), None);
        assert_eq!(find(&tree(&[(41, "sh")], &[("libvirtd.pid", 41)])), None);
        let found = Some(Peer { pid: 41, start_ticks: 777 });
        assert_eq!(find(&tree(&[(41, "libvirtd")], &[("libvirtd.pid", 41)])), found);
        let both = &[("libvirtd.pid", 40), ("virtqemud.pid", 41)];
        assert_eq!(find(&tree(&[(40, "sh"), (41, "virtqemud")], both)), found);
    }
}
