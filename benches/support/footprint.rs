//! What a process takes: CPU time and memory, from /proc.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(50);

/// User and system time of all threads of a process, ended ones too.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let mut fields = stat.rsplit_once(')').expect("a stat line").1.split_ascii_whitespace().skip(11);
    let ticks = |field: Option<&str>| field.and_then(|field| field.parse::<u64>().ok()).expect("a number");
    // 100 ticks a second, on every Linux that KVM runs on.
    Duration::from_millis((ticks(fields.next()) + ticks(fields.next())) * 10)
}

/// Anonymous resident memory, in bytes.
pub(crate) fn rss_anon(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Watches the memory of a process until it is dropped.
pub(crate) struct Watch {
    most: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let (most, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (noted, ended) = (Arc::clone(&most), Arc::clone(&end));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                noted.fetch_max(rss_anon(pid).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        Self { most, end, thread: Some(thread) }
    }

    /// The most anonymous memory that was seen, in bytes.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
