//! The host's figures, put together from all readers.

use std::path::{Path, PathBuf};

use super::files::Files;
use super::network::Network;
use super::threads::{self, Ksmd};
use super::{memory, numa, pages, stat};
use crate::model::host::{HostSample, HostSource, Load};

/// Reads /proc and /sys. No file here is on a disk, so nothing blocks.
pub struct HostFigures {
    proc: PathBuf,
    sys: PathBuf,
    ticks_per_second: u64,
    page_bytes: u64,
    network: Network,
    ksmd: Ksmd,
    files: Files,
}

impl HostFigures {
    /// Of this host.
    #[must_use]
    pub fn new() -> Self {
        Self::below("/proc".into(), "/sys".into())
    }

    /// With the two trees in other places.
    #[must_use]
    pub fn below(proc: PathBuf, sys: PathBuf) -> Self {
        Self {
            network: Network::new(&proc, &sys),
            proc,
            sys,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
            ksmd: Ksmd::default(),
            files: Files::default(),
        }
    }
}

impl Default for HostFigures {
    fn default() -> Self {
        Self::new()
    }
}

impl HostSource for HostFigures {
    fn sample(&mut self) -> HostSample {
        let Self { proc, sys, ticks_per_second, page_bytes, network, ksmd, files } = self;
        let mut sample = HostSample::default();
        // What rates are made of comes first, right behind the stamp.
        stat::read(&proc.join("stat"), *ticks_per_second, files, &mut sample);
        sample.own_cpu = threads::own_cpu(proc, *ticks_per_second, files);
        (sample.interfaces, sample.other_interfaces) = network.read(files);
        memory::read(proc, *page_bytes, files, &mut sample);
        sample.load = load(&proc.join("loadavg"), files);
        let mm = sys.join("kernel/mm");
        sample.hugepages = pages::host_pools(&mm.join("hugepages"), files);
        sample.ksm = pages::ksm(&mm.join("ksm"), *page_bytes, files);
        if let Some(ksm) = &mut sample.ksm {
            ksm.ksmd_time_ns = ksmd.time_ns(proc, *ticks_per_second, files);
        }
        sample.transparent_hugepages.mode = pages::transparent(&mm.join("transparent_hugepage/enabled"), files);
        sample.numa_nodes = numa::nodes(&sys.join("devices/system/node"), files);
        sample
    }
}

/// `4.08 1.98 1.80 5/112 28334`. The crate `procfs` would make f32 of them, which JSON shows as 4.079999923706055.
fn load(path: &Path, files: &mut Files) -> Option<Load> {
    let mut numbers = files.text(path)?.split_ascii_whitespace();
    let mut next = || numbers.next()?.parse::<f64>().ok().filter(|load| load.is_finite());
    Some(Load { one_minute: next()?, five_minutes: next()?, fifteen_minutes: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;
    use crate::host::memory::MEMINFO;
    use crate::model::host::OwnCpu;

    #[test]
    fn every_part_is_there_and_each_file_that_goes_takes_only_its_own_along() {
        let tree = Tree::new(&[
            ("proc/stat", "cpu  1 2 3 4\ncpu0 1 2 3 4\nbtime 5\n"),
            ("proc/meminfo", MEMINFO),
            ("proc/vmstat", "pgfault 9\n"),
            ("proc/self/stat", "9 (virtstatd) S 1 9 9 0 -1 0 0 0 0 0 7 8\n"),
            ("proc/41/stat", "41 (ksmd) S 2 0 0 0 -1 0 0 0 0 0 0 6\n"),
            ("proc/loadavg", "4.08 1.98 1.80 5/112 28334\n"),
            ("proc/net/dev", " lo: 1 2 3 4 0 0 0 0 5 6 7 8\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "2\n"),
            ("sys/kernel/mm/ksm/run", "0\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("sys/devices/system/node/node0/cpulist", "0\n"),
        ]);
        let mut figures = HostFigures::below(tree.path().join("proc"), tree.path().join("sys"));
        let whole = figures.sample();
        assert_eq!(whole.load, Some(Load { one_minute: 4.08, five_minutes: 1.98, fifteen_minutes: 1.8 }));
        let lists = [whole.cpus.len(), whole.interfaces.len(), whole.hugepages.len(), whole.numa_nodes.len()];
        assert_eq!(lists, [1; 4]);
        assert_eq!(whole.transparent_hugepages.mode.as_deref(), Some("always"));
        assert!(whole.ksm.is_some() && whole.memory.page_faults == Some(9) && whole.boot_unix_seconds == Some(5));
        assert_eq!(whole.hugepages[0].overcommit, Some(2));
        let ticks = |count: u64| count * 1_000_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(whole.ksm.and_then(|ksm| ksm.ksmd_time_ns), Some(ticks(6)));
        assert_eq!(whole.own_cpu, Some(OwnCpu { user_ns: ticks(7), system_ns: ticks(8) }));
        let without = |path: &str, change: fn(&mut HostSample)| {
            tree.remove(path);
            let mut expected = HostFigures::below(tree.path().join("proc"), tree.path().join("sys")).sample();
            change(&mut expected);
            expected
        };
        assert_eq!(
            without("proc/loadavg", |it| it.load =
                Some(Load { one_minute: 4.08, five_minutes: 1.98, fifteen_minutes: 1.8 })),
            whole
        );
        let rest = without("proc/stat", |_| {});
        assert_eq!((rest.cpu, rest.cpus.len(), rest.interfaces.len()), (None, 0, 1));
        let rest = without("sys", |_| {});
        assert_eq!((rest.ksm, rest.memory.total_bytes), (None, whole.memory.total_bytes));
        assert_eq!(without("proc", |_| {}), HostSample::default());
    }

    #[test]
    fn a_load_that_is_none_is_absent() {
        let tree = Tree::new(&[("bad", "much 1 2"), ("short", "1 2"), ("nan", "NaN 1 2")]);
        for name in ["bad", "short", "nan"] {
            assert_eq!(load(&tree.path().join(name), &mut Files::default()), None, "{name}");
        }
    }
}
