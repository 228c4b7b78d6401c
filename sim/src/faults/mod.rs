//! What can go wrong: guests in trouble, and rules about calls.

mod damage;
mod jobs;
mod rules;

pub(crate) use jobs::{Look, Patience, Storage, Troubles, Uuid, Wants};
pub(crate) use rules::{About, Rules};
