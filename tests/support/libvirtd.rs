//! Harm to libvirtd itself, undone when the test ends; and a look at how busy it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::lab::{self, Lab, run};

/// The libvirtd of the laboratory. The guests live on, whatever happens to it.
pub(crate) struct Libvirtd<'l> {
    lab: &'l Lab,
}

impl<'l> Libvirtd<'l> {
    pub(crate) fn of(lab: &'l Lab) -> Self {
        Self { lab }
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&self) {
        self.lab.lab(&["libvirtd", "kill"]);
    }

    /// SIGTERM; returns when it is gone.
    pub(crate) fn stop(&self) {
        self.lab.lab(&["libvirtd", "stop"]);
    }

    /// Returns when it answers.
    pub(crate) fn start(&self) {
        self.lab.lab(&["libvirtd", "start"]);
    }

    /// SIGSTOP: its sockets still take connections, and nobody reads them.
    pub(crate) fn freeze(&self) {
        self.lab.lab(&["libvirtd", "freeze"]);
    }

    pub(crate) fn thaw(&self) {
        self.lab.lab(&["libvirtd", "continue"]);
    }
}

impl Drop for Libvirtd<'_> {
    fn drop(&mut self) {
        // Continues a stopped one, and does nothing to one that answers.
        if thread::panicking() {
            eprintln!("libvirtd: {:?}", run(lab::script().to_str().unwrap(), &["libvirtd", "start"]));
        } else {
            self.start();
        }
    }
}

/// Counts libvirtd's busy ordinary workers, each of them one open call of some client, several times a second.
pub(crate) struct BusyWorkers {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Busy>>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Busy {
    /// The most that were busy in two looks at once after one another: a worker is free a moment later than its answer
    /// is out, and the next call may be in before.
    pub(crate) most: u32,
    pub(crate) looks: u32,
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(150);

impl BusyWorkers {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut busy = Busy::default();
            while !stopped.load(Ordering::Relaxed) {
                // A libvirtd that is away or hangs has nothing to say.
                if let Some(mut now) = busy_workers() {
                    if now > busy.most {
                        now = now.min(busy_workers().unwrap_or(0));
                    }
                    busy.most = busy.most.max(now);
                    busy.looks += 1;
                }
                thread::sleep(BETWEEN_LOOKS);
            }
            busy
        });
        Self { stop, thread: Some(thread) }
    }

    pub(crate) fn finish(mut self) -> Busy {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for BusyWorkers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The admin socket has a server and workers of its own, so asking costs none of those that are counted.
pub(crate) fn busy_workers() -> Option<u32> {
    let asked = ["2", "virt-admin", "-c", "libvirtd:///system", "srv-threadpool-info", "libvirtd"];
    let text = run("timeout", &asked).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches([' ', ':']).parse::<u32>().ok()
    };
    Some(field("nWorkers")? - field("freeWorkers")?)
}
