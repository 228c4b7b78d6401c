//! The limits of a real libvirtd, and the few that a test may move.

use std::time::Duration;

/// `VIR_NET_MESSAGE_MAX` and the length word before it: the longest message, in bytes.
pub const MESSAGE_BYTES: usize = 33_554_432 + 4;

/// The shortest message: a length and a header.
pub const MESSAGE_BYTES_MIN: usize = 4 + 24;

/// `REMOTE_DOMAIN_LIST_MAX`: domains in a list, and in or out of a bulk call.
pub const DOMAINS: usize = 16_384;

/// `REMOTE_STRING_MAX`: bytes of a string.
pub const STRING_BYTES: usize = 4_194_304;

/// `max_client_requests` of libvirtd.conf: calls of one connection that are open before it is read no further.
pub const CLIENT_REQUESTS: usize = 5;

/// `min_workers` of libvirtd.conf.
pub const WORKERS_MIN: usize = 5;

/// `max_workers` of libvirtd.conf.
pub const WORKERS_MAX: usize = 20;

/// `prio_workers` of libvirtd.conf: they serve what never enters a monitor, and nothing else.
pub const PRIORITY_WORKERS: usize = 5;

/// What a test may want shorter than libvirtd has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long a call waits for the job of a domain (`QEMU_JOB_WAIT_TIME`).
    pub job_wait: Duration,
    /// `keepalive_interval` of libvirtd.conf: a client that can answer is pinged after so much silence.
    pub keepalive_interval: Duration,
    /// `keepalive_count` of libvirtd.conf: pings without an answer before the connection is closed.
    pub keepalive_count: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self { job_wait: Duration::from_secs(30), keepalive_interval: Duration::from_secs(5), keepalive_count: 5 }
    }
}
