//! Where a guest's CPU time and I/O are accounted: its own cgroup, in whichever hierarchy has it.
//!
//! libvirt asks the one of version 2 first, then those of version 1. On a hybrid host the guest may have a group of its own
//! in some hierarchies and share the root of others, so what names no guest is no guest's.

use std::path::{Path, PathBuf};

use crate::model::RunId;

use super::parse::{fields, lines, number};

/// A hierarchy that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    /// The group that is seen there, if not the root.
    root: String,
}

impl Mount {
    /// The directory of a group; `None` if it is not below what is mounted.
    fn directory(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        Some(self.at.join(below))
    }
}

/// The hierarchies of the host that account for something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    unified: Option<Mount>,
    cpuacct: Option<Mount>,
    blkio: Option<Mount>,
}

impl Hierarchies {
    /// From /proc/self/mountinfo. What was mounted first counts.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut all = Self::default();
        for line in lines(text) {
            let Some(MountLine { root, at, kind, options }) = MountLine::parse(line) else { continue };
            let take = |place: &mut Option<Mount>| {
                if let (None, Some(at), Some(root)) = (&place, unescaped(at), unescaped(root)) {
                    *place = Some(Mount { at: at.into(), root });
                }
            };
            match kind {
                b"cgroup2" => take(&mut all.unified),
                b"cgroup" => {
                    for controller in options.split(|byte| *byte == b',') {
                        match controller {
                            b"cpuacct" => take(&mut all.cpuacct),
                            b"blkio" => take(&mut all.blkio),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        all
    }

    /// The guest's own groups, from its /proc/PID/cgroup.
    pub(super) fn own(&self, groups: &[u8]) -> Own {
        let mut own = Own::default();
        for (controllers, group) in memberships(groups) {
            let directory = |mount: &Option<Mount>| mount.as_ref()?.directory(guest_of(group)?);
            if controllers.is_empty() {
                own.unified = directory(&self.unified);
            }
            for controller in controllers.split(|byte| *byte == b',') {
                match controller {
                    b"cpuacct" => own.cpuacct = directory(&self.cpuacct),
                    b"blkio" => own.blkio = directory(&self.blkio),
                    _ => {}
                }
            }
        }
        own
    }
}

/// The directories of a guest's own groups; `None` where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) unified: Option<PathBuf>,
    pub(super) cpuacct: Option<PathBuf>,
    pub(super) blkio: Option<PathBuf>,
}

/// Does one of the groups of a process name this run of this domain? libvirt leaves out characters of names that it does
/// not like, so only the name's beginning is compared.
pub(super) fn names_run(groups: &[u8], name: &str, run: RunId) -> bool {
    let begin = name.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(name.len());
    let wanted = format!("qemu-{}-{}", run.0, &name[..begin.min(16)]);
    let is_it = |(_, group): (&[u8], &str)| {
        guest_of(group).is_some_and(|own| own.rsplit('/').any(|part| plain(part).contains(&wanted)))
    };
    memberships(groups).any(is_it)
}

/// The group of the guest that a group is, or is below of; `None` if it is no guest's. libvirt keeps the threads in
/// `emulator`, `vcpuN` and `iothreadN`, and where systemd made the group, all of them in `libvirt`.
fn guest_of(group: &str) -> Option<&str> {
    let (above, last) = group.rsplit_once('/')?;
    let numbered = |prefix| last.strip_prefix(prefix).is_some_and(|rest: &str| number(rest.as_bytes()).is_some());
    let own = if last == "emulator" || numbered("vcpu") || numbered("iothread") { above } else { group };
    let scope = own.strip_suffix("/libvirt").unwrap_or(own);
    let last = scope.rsplit('/').next()?;
    // A process outside of our cgroup namespace has a path that leads out of it.
    let leads_out = own.split('/').any(|part| part == "..");
    (!leads_out && is_machine(&plain(last))).then_some(own)
}

/// `machine-qemu-2-name.scope`, `qemu-2-name.libvirt-qemu`: a custom partition may well be called qemu too.
fn is_machine(part: &str) -> bool {
    let Some((_, behind)) = part.split_once("qemu-") else { return false };
    behind.split_once('-').is_some_and(|(run, _)| number(run.as_bytes()).is_some())
}

/// systemd writes a hyphen in a name as `\x2d`.
fn plain(part: &str) -> String {
    part.replace("\\x2d", "-")
}

/// The lines of /proc/PID/cgroup: controllers (none in version 2), and the group.
fn memberships(text: &[u8]) -> impl Iterator<Item = (&[u8], &str)> {
    lines(text).filter_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        Some((controllers, std::str::from_utf8(group).ok()?))
    })
}

/// What is wanted of a line of mountinfo.
struct MountLine<'a> {
    root: &'a [u8],
    at: &'a [u8],
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = fields(line);
        let (root, at) = (fields.nth(3)?, fields.next()?);
        fields.find(|field| *field == b"-")?;
        Some(Self { root, at, kind: fields.next()?, options: fields.nth(1)? })
    }
}

/// Blanks in paths are written in octal (`\040`).
fn unescaped(text: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIFIED: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const LEGACY: &str = "30 1 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                          31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                          32 30 0:29 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n";
    const HYBRID: &str = "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
                          38 31 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const OWN: &str = "/machine/qemu-2-lab-001.libvirt-qemu";

    fn own(mounts: &str, groups: &str) -> [Option<String>; 3] {
        let own = Hierarchies::parse(mounts.as_bytes()).own(groups.as_bytes());
        [own.unified, own.cpuacct, own.blkio].map(|path| path.map(|path| path.to_string_lossy().into_owned()))
    }

    #[test]
    fn each_layout_has_its_groups() {
        let scope = "/machine.slice/machine-qemu\\x2d2\\x2dlab\\x2d001.scope/libvirt";
        let found = own(UNIFIED, &format!("0::{scope}/emulator\n"));
        assert_eq!(found, [Some(format!("/sys/fs/cgroup{scope}")), None, None]);

        let found = own(LEGACY, &format!("4:cpu,cpuacct:{OWN}/vcpu0\n3:blkio:{OWN}\n2:name=systemd:{OWN}\n"));
        let expected = ["cpu,cpuacct", "blkio"].map(|name| Some(format!("/sys/fs/cgroup/{name}{OWN}")));
        assert_eq!(found, [None, expected[0].clone(), expected[1].clone()]);

        let found = own(HYBRID, &format!("7:blkio:{OWN}\n2:cpuacct:/\n1:cpu:{OWN}/emulator\n0::{OWN}/emulator\n"));
        let expected = ["unified", "blkio"].map(|name| Some(format!("/sys/fs/cgroup/{name}{OWN}")));
        assert_eq!(found, [expected[0].clone(), None, expected[1].clone()]);
    }

    #[test]
    fn only_a_guest_s_own_group_counts() {
        for (group, expected) in [
            ("/machine/qemu-2-a.libvirt-qemu", Some("/machine/qemu-2-a.libvirt-qemu")),
            ("/machine/qemu-2-a.libvirt-qemu/iothread3", Some("/machine/qemu-2-a.libvirt-qemu")),
            ("/machine/qemu-2-a.libvirt-qemu/iothread", None),
            ("/my/qemu.partition/qemu-2-a.libvirt-qemu/vcpu12", Some("/my/qemu.partition/qemu-2-a.libvirt-qemu")),
            ("/m.slice/machine-qemu\\x2d2\\x2da.scope", Some("/m.slice/machine-qemu\\x2d2\\x2da.scope")),
            ("/qemu.partition/emulator", None),
            ("/user.slice/qemu-guests.service", None),
            ("/../machine/qemu-2-a.libvirt-qemu", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(guest_of(group), expected, "{group}");
        }
    }

    #[test]
    fn a_run_is_told_from_another_and_from_another_domain() {
        let of = |group: &str, name, run| names_run(format!("0::{group}\n").as_bytes(), name, RunId(run));
        assert!(of("/m/machine-qemu\\x2d12\\x2dweb\\x2d1.scope/libvirt/emulator", "web-1", 12));
        assert!(of("/machine/qemu-12-web-1.libvirt-qemu", "web-1", 12));
        assert!(of("/machine/qemu-12-.libvirt-qemu", "\u{fc}ber", 12));
        assert!(!of("/machine/qemu-12-web-1.libvirt-qemu", "web-1", 1));
        assert!(!of("/machine/qemu-12-web-1.libvirt-qemu", "db-1", 12));
        assert!(!of("/", "web-1", 12));
    }

    #[test]
    fn a_part_of_a_hierarchy_may_be_mounted_and_its_place_hold_blanks() {
        let mounts = "31 23 0:28 /outer /sys/fs/c\\040g rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own(mounts, &format!("0::/outer{OWN}\n"))[0], Some(format!("/sys/fs/c g{OWN}")));
        assert_eq!(own(mounts, &format!("0::/other{OWN}\n"))[0], None);
    }

    proptest! {
        #[test]
        fn nothing_panics(mounts in "[ -~\n\\\\]{0,200}", groups in "([0-9]:(cpu|blkio|):/[ -~]{0,40}\n){0,4}") {
            Hierarchies::parse(mounts.as_bytes()).own(groups.as_bytes());
            names_run(groups.as_bytes(), &mounts, RunId(1));
        }
    }
}
