//! What can go wrong.

mod jobs;

pub(crate) use jobs::{Busy, Look, Patience, Storage, Troubles, Uuid, Wants};
