//! A simulated libvirtd: it speaks libvirt's remote protocol on a UNIX socket, has as many guests as wanted, and does on
//! command what a real one does on its worst days. For scale, for faults, and for a demo without a hypervisor.
//!
//! | module | what lives there |
//! |---|---|
//! | `host` | the guests: what they are made of, how their figures grow, what their XML says |

#![forbid(unsafe_code)]

pub mod host;
