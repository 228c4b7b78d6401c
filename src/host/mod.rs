//! The host itself: its figures from /proc and /sys, how full file systems are, which mounts files are on and whether they
//! answer.
//!
//! Uses `model` and `clock`; only `daemon` may use it.

mod figures;
mod files;
mod memory;
mod network;
mod numa;
mod pages;
mod space;
mod stat;
mod storage;
mod threads;

pub use figures::HostFigures;
pub use space::FileSystems;
pub use storage::HostStorage;
