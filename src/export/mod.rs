//! From snapshots to what others read: Prometheus text and our own JSON.
//!
//! Uses `model` and `store`; never the sampler, so nothing here can wait for libvirt.

pub mod api;
pub mod prometheus;
