//! A QEMU process, as this test reads it by itself.

use std::fs;
use std::time::Duration;

/// Of a process that lives.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) threads: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    /// User and system time of all threads, ended ones too; cut to ticks each.
    pub(crate) time: Duration,
    /// Since its start.
    pub(crate) age: Duration,
    pub(crate) emulator: Thread,
    /// By number.
    pub(crate) iothreads: Vec<(u64, Thread)>,
}

/// Of a thread, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread {
    pub(crate) time_ns: u64,
    pub(crate) delay_ns: u64,
}

/// The UUID of a QEMU process by its command line; `None` if that process is none, or has ended.
pub(crate) fn uuid_of(pid: u64) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    if !words[0].windows(4).any(|part| part == b"qemu") {
        return None;
    }
    let at = words.iter().position(|word| *word == b"-uuid")?;
    Some(String::from_utf8_lossy(words.get(at + 1)?).into_owned())
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap()
}

/// `None` if it ends meanwhile, or is a zombie.
pub(crate) fn read(pid: u64) -> Option<Process> {
    let directory = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime = Duration::from_secs_f64(uptime.split(' ').next().unwrap().parse().unwrap());
    // From the third on, as the second may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    if "ZX".contains(fields[0]) {
        return None;
    }
    let number = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    let status = fs::read_to_string(format!("{directory}/status")).ok()?;
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    let mut iothreads = Vec::new();
    for entry in fs::read_dir(format!("{directory}/task")).ok()?.flatten() {
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if let Some(id) = name.trim_end().strip_prefix("IO iothread") {
            iothreads.push((id.parse().unwrap(), thread(&entry.path().to_string_lossy())?));
        }
    }
    iothreads.sort_by_key(|(id, _)| *id);
    Some(Process {
        pid,
        minor_faults: number(10),
        major_faults: number(12),
        threads: line("Threads")?,
        voluntary_switches: line("voluntary_ctxt_switches")?,
        involuntary_switches: line("nonvoluntary_ctxt_switches")?,
        time: ticks(number(14)) + ticks(number(15)),
        age: uptime.saturating_sub(ticks(number(22))),
        emulator: thread(&format!("{directory}/task/{pid}"))?,
        iothreads,
    })
}

fn thread(directory: &str) -> Option<Thread> {
    let text = fs::read_to_string(format!("{directory}/schedstat")).ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    Some(Thread { time_ns: numbers.next()?, delay_ns: numbers.next()? })
}
