//! /proc/stat: CPU time, processes, the time of boot.
//!
//! Not with the crate `procfs`, which forgets the numbers of the CPUs: where one is offline, all behind it would bear another's.

use std::path::Path;

use super::files::Files;
use crate::model::host::{CpuTimes, HostCpu, HostSample};

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// Reads the file; a line that makes no sense costs what it would say.
pub(super) fn read(path: &Path, ticks_per_second: u64, files: &mut Files, sample: &mut HostSample) {
    let Some(text) = files.text(path) else { return };
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        let number = || rest.trim().parse().ok();
        match name {
            "cpu" => sample.cpu = times(rest, ticks_per_second),
            "ctxt" => sample.processes.context_switches = number(),
            "btime" => sample.boot_unix_seconds = number(),
            "processes" => sample.processes.forks = number(),
            "procs_running" => sample.processes.running = number(),
            "procs_blocked" => sample.processes.blocked = number(),
            _ => {
                let cpu = name.strip_prefix("cpu").and_then(|number| number.parse().ok());
                if let (Some(cpu), Some(times)) = (cpu, times(rest, ticks_per_second)) {
                    sample.cpus.push(HostCpu { cpu, times });
                }
            }
        }
    }
    // As they are already; who looks for one relies on it.
    sample.cpus.sort_unstable_by_key(|cpu| cpu.cpu);
}

/// The columns; old kernels have fewer.
fn times(columns: &str, ticks_per_second: u64) -> Option<CpuTimes> {
    let ns_per_tick = SECOND_NS.checked_div(ticks_per_second)?;
    let mut columns = columns.split_ascii_whitespace();
    let mut next = || columns.next()?.parse::<u64>().ok()?.checked_mul(ns_per_tick);
    Some(CpuTimes {
        // What has no first column is no line of a CPU.
        user_ns: Some(next()?),
        nice_ns: next(),
        system_ns: next(),
        idle_ns: next(),
        iowait_ns: next(),
        irq_ns: next(),
        softirq_ns: next(),
        steal_ns: next(),
        guest_ns: next(),
        guest_nice_ns: next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;
    use crate::model::host::Scheduling;

    fn sample(text: &str) -> HostSample {
        let tree = Tree::new(&[("stat", text)]);
        let mut sample = HostSample::default();
        read(&tree.path().join("stat"), 100, &mut Files::default(), &mut sample);
        sample
    }

    #[test]
    fn ticks_become_nanoseconds_and_cpus_keep_their_numbers() {
        let sample = sample(
            "cpu  300 5 70 1000 20 0 8 3 40 1\ncpu0 100 1 2 3 4 5 6 7 8 9\ncpu3 200 4 5 6 7 8 9 10 11 12\nintr 5 0 1\n\
             ctxt 123456\nbtime 1795691018\nprocesses 77\nprocs_running 2\nprocs_blocked 1\nsoftirq 1 2\n",
        );
        let total = sample.cpu.expect("the first line");
        assert_eq!((total.user_ns, total.guest_nice_ns), (Some(3_000_000_000), Some(10_000_000)));
        assert_eq!(sample.cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [0, 3], "1 and 2 are offline");
        assert_eq!(sample.cpus[1].times.steal_ns, Some(100_000_000));
        assert_eq!(sample.boot_unix_seconds, Some(1_795_691_018));
        let expected =
            Scheduling { running: Some(2), blocked: Some(1), forks: Some(77), context_switches: Some(123_456) };
        assert_eq!(sample.processes, expected);
    }

    #[test]
    fn garbage_costs_its_own_figures() {
        let sample = sample("cpu  1 2 x 4\ncpu0 none\ncpuidle 1\ncpu1 7\n\nbtime soon\nprocs_running 2\nctxt");
        let total = sample.cpu.expect("two columns are good");
        assert_eq!((total.nice_ns, total.system_ns, total.idle_ns), (Some(20_000_000), None, Some(40_000_000)));
        assert_eq!(sample.cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [1]);
        assert_eq!((sample.boot_unix_seconds, sample.processes.running), (None, Some(2)));
        assert_eq!(self::sample(""), HostSample::default());
    }
}
