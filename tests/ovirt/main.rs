//! What oVirt's VDSM reports, held to the letter, to numbers worked by hand, and to VDSM's own formulas on real guests.
//!
//! `VIRTSTATD_BLESS=1 cargo test --test ovirt` writes the golden files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod golden;
mod guests;
mod host;
mod made;
mod rates;
mod states;
mod taps;
mod virsh;
