//! The protocol, byte by byte: limits, what a client may do wrong, who waits for whom, and damage on command.
#![allow(clippy::unwrap_used)] // A test.

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod damage;
mod guests;
mod limits;
mod workers;
