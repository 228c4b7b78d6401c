//! Who a domain is, which run of it, and when something was asked.

use std::fmt;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

/// A domain's UUID: the one name that it keeps through renames, restarts and migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(Uuid);

impl DomainId {
    /// From the 16 bytes that libvirt hands out.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// From text in any form that UUIDs are written in; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// The UUID itself, as the `virt` crate wants it.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

/// Lower case with hyphens, as libvirt prints it.
impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// libvirt's numeric domain id. It changes at every start, so two samples with the same one are of the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u32);

/// The moment just before a call: monotonic for ages and order, wall clock for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Monotonic time.
    pub at: Instant,
    /// Wall-clock time.
    pub wall: SystemTime,
}

impl Stamp {
    /// The later of both. Calls may end in another order than they began in.
    #[must_use]
    pub fn or_later(self, other: Option<Self>) -> Self {
        other.filter(|other| other.at > self.at).unwrap_or(self)
    }
}
