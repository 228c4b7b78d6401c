//! What the host's kernel says of QEMU processes, without libvirt's help.
//!
//! Uses `model` and `clock`; only `daemon` may use it. Every look is a read from /proc, /run, the cgroups or netlink, which
//! never blocks. Two readers have one way to find processes (`find`, with `suspect` and `search`): [`QemuProcesses`] tells
//! whether QEMU runs, [`QemuKernel`] what a guest uses (`lane`, a `guest` with its `threads` and its cgroup's `account`s,
//! and the `links` of the host). `files` are kept open; `stat`, `parse` and `netlink` know the formats.

mod account;
mod cgroup;
#[cfg(test)]
mod fake;
mod files;
mod find;
mod guest;
mod lane;
mod links;
mod netlink;
mod parse;
mod process;
mod reach;
mod search;
mod stat;
mod suspect;
mod threads;

pub use lane::QemuKernel;
pub use process::QemuProcesses;
pub use reach::reaches;
