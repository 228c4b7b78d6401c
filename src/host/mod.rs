//! Which mounts of this host files are on, and whether they answer.
//!
//! Uses `model` and `clock`; only `daemon` may use it.

mod storage;

pub use storage::HostStorage;
