//! Memory, swap and page faults: /proc/meminfo and /proc/vmstat.

use std::path::Path;

use procfs::{FromRead, Meminfo, VmStat};

use super::files::Files;
use crate::model::host::HostSample;

/// Reads both; what one of them does not have is absent.
pub(super) fn read(proc: &Path, page_bytes: u64, files: &mut Files, sample: &mut HostSample) {
    if let Some(info) = parsed::<Meminfo>(&proc.join("meminfo"), files) {
        let (memory, swap) = (&mut sample.memory, &mut sample.swap);
        memory.total_bytes = Some(info.mem_total);
        memory.free_bytes = Some(info.mem_free);
        memory.available_bytes = info.mem_available;
        memory.buffers_bytes = Some(info.buffers);
        memory.cached_bytes = Some(info.cached);
        memory.shared_bytes = info.shmem;
        memory.anonymous_bytes = info.anon_pages;
        memory.slab_bytes = Some(info.slab);
        memory.slab_reclaimable_bytes = info.s_reclaimable;
        memory.page_tables_bytes = info.page_tables;
        memory.dirty_bytes = Some(info.dirty);
        memory.writeback_bytes = Some(info.writeback);
        memory.committed_bytes = Some(info.committed_as);
        swap.total_bytes = Some(info.swap_total);
        swap.free_bytes = Some(info.swap_free);
        swap.cached_bytes = Some(info.swap_cached);
        sample.transparent_hugepages.anonymous_bytes = info.anon_hugepages;
    }
    if let Some(VmStat(counters)) = parsed(&proc.join("vmstat"), files) {
        let counter = |name: &str| counters.get(name).and_then(|count| u64::try_from(*count).ok());
        let bytes = |name: &str| counter(name)?.checked_mul(page_bytes);
        sample.swap.in_bytes = bytes("pswpin");
        sample.swap.out_bytes = bytes("pswpout");
        sample.memory.page_faults = counter("pgfault");
        sample.memory.major_page_faults = counter("pgmajfault");
        sample.memory.oom_kills = counter("oom_kill");
    }
}

fn parsed<T: FromRead>(path: &Path, files: &mut Files) -> Option<T> {
    let text = files.text(path)?;
    let parsed = T::from_read(text.as_bytes());
    parsed.map_err(|error| tracing::debug!(path = %path.display(), %error, "makes no sense")).ok()
}

#[cfg(test)]
pub(super) const MEMINFO: &str = "\
MemTotal:       16000000 kB
MemFree:         2000000 kB
MemAvailable:    9000000 kB
Buffers:          100000 kB
Cached:          5000000 kB
SwapCached:           40 kB
Active:           654252 kB
Inactive:        2193712 kB
SwapTotal:       1000000 kB
SwapFree:         900000 kB
Dirty:               231 kB
Writeback:             0 kB
AnonPages:       1170596 kB
Mapped:           154660 kB
Slab:             327140 kB
Committed_AS:    1200408 kB
VmallocTotal:   34359738367 kB
VmallocUsed:        8144 kB
VmallocChunk:          0 kB
AnonHugePages:    204800 kB
NewInLinux9:           7 kB
HugePages_Total:       3
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;
    use crate::model::host::{Memory, Swap};

    fn sample(files: &[(&str, &str)]) -> HostSample {
        let mut sample = HostSample::default();
        read(Tree::new(files).path(), 4096, &mut Files::default(), &mut sample);
        sample
    }

    #[test]
    fn sizes_are_bytes_and_what_a_kernel_lacks_is_absent() {
        let sample = sample(&[
            ("meminfo", MEMINFO),
            ("vmstat", "nr_free_pages 1\npswpin 3\npswpout 10\npgfault 1000\npgmajfault 7\nsomething -4\n"),
        ]);
        let memory = sample.memory;
        assert_eq!((memory.total_bytes, memory.available_bytes), (Some(16_384_000_000), Some(9_216_000_000)));
        assert_eq!((memory.shared_bytes, memory.page_tables_bytes), (None, None), "not in this file");
        assert_eq!((memory.page_faults, memory.major_page_faults, memory.oom_kills), (Some(1000), Some(7), None));
        let expected = Swap {
            total_bytes: Some(1_024_000_000),
            free_bytes: Some(921_600_000),
            cached_bytes: Some(40_960),
            in_bytes: Some(12_288),
            out_bytes: Some(40_960),
        };
        assert_eq!(sample.swap, expected);
        assert_eq!(sample.transparent_hugepages.anonymous_bytes, Some(209_715_200));
    }

    #[test]
    fn garbage_in_one_file_costs_nothing_of_the_other() {
        let bad = MEMINFO.replace("2000000 kB", "two kB");
        let sample = sample(&[("meminfo", &bad), ("vmstat", "oom_kill 2\n")]);
        assert_eq!(sample.memory, Memory { oom_kills: Some(2), ..Memory::default() });
        assert_eq!(self::sample(&[("vmstat", "pswpin\n")]), HostSample::default());
    }
}
