//! How a domain answers, as the sampler found it, for whoever shows it.

use std::sync::Arc;

use super::Stamp;

/// Whether a domain's monitor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Asked with the others.
    #[default]
    Healthy,
    /// Not asked.
    Quarantined,
    /// Asked alone, to find out.
    Probation,
}

impl Standing {
    /// Its name, for programs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Quarantined => "quarantined",
            Self::Probation => "probation",
        }
    }
}

/// The health of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainHealth {
    /// Whether its monitor is asked.
    pub standing: Standing,
    /// Since when its QEMU does not answer; `None` while it does.
    pub unresponsive_since: Option<Stamp>,
    /// libvirt's name of the call that was written off and still hangs on it.
    pub blocked_call: Option<&'static str>,
    /// The mount point of storage of it that does not answer; its figures of disks are restricted meanwhile.
    pub blocked_storage: Option<Arc<str>>,
}
