//! What the host's kernel says of QEMU processes, without libvirt's help.
//!
//! Uses `model` and `clock`; only `daemon` may use it. Every look is a read from /proc or /run, which never blocks.

mod cgroup;
#[cfg(test)]
mod fake;
mod find;
mod parse;
mod process;
mod search;
mod stat;
mod suspect;

pub use process::QemuProcesses;
