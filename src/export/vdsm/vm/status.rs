//! VDSM's word for what a VM does.

use crate::model::PauseReason;
use crate::store::Domain;

pub(super) const WHAT: &str = "\"Up\": running or blocked. \"Paused\", and while the guest sleeps by power management too, for which VDSM has no \
    word. \"Powering down\": the guest shuts down. \"Saving State\". \"WaitForLaunch\": being started, or just started and not \
    sampled yet. \"Migration Source\" and \"Migration Destination\": paused for a migration, which of both by whether its vCPUs \
    were stopped for it; a guest that runs while its memory is fetched from the other host is \"Migration Destination\" too. \
    \"Down\": shut off or crashed. VDSM's \"Powering up\", \"RebootInProgress\" and \"Restoring state\" are not told apart: \
    they are \"Up\" or \"Paused\" here.";

/// The statuses that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Status {
    WaitForLaunch,
    Up,
    Paused,
    PoweringDown,
    SavingState,
    MigrationSource,
    MigrationDestination,
    Down,
}

// libvirt's virDomainState.
const RUNNING: i64 = 1;
const BLOCKED: i64 = 2;
const PAUSED: i64 = 3;
const SHUTDOWN: i64 = 4;
const SHUTOFF: i64 = 5;
const CRASHED: i64 = 6;
const PMSUSPENDED: i64 = 7;

// Its virDomainRunningReason and virDomainPausedReason.
const RUNNING_POSTCOPY: i64 = 10;
const PAUSED_MIGRATION: i64 = 2;
const PAUSED_SAVE: i64 = 3;
const PAUSED_IOERROR: i64 = 5;
const PAUSED_STARTING_UP: i64 = 11;

impl Status {
    pub(super) fn of(domain: &Domain) -> Self {
        if domain.run.is_none() {
            return Self::Down;
        }
        let Some(sampled) = domain.windows.state.newest() else { return Self::WaitForLaunch };
        let reason = sampled.figures.reason.unwrap_or_default();
        match sampled.figures.state {
            Some(RUNNING) if reason == RUNNING_POSTCOPY => Self::MigrationDestination,
            Some(RUNNING | BLOCKED) => Self::Up,
            Some(PAUSED) => match reason {
                PAUSED_MIGRATION if was_stopped_to_migrate(domain) => Self::MigrationSource,
                PAUSED_MIGRATION => Self::MigrationDestination,
                PAUSED_SAVE => Self::SavingState,
                PAUSED_STARTING_UP => Self::WaitForLaunch,
                _ => Self::Paused,
            },
            Some(PMSUSPENDED) => Self::Paused,
            Some(SHUTDOWN) => Self::PoweringDown,
            Some(SHUTOFF | CRASHED) => Self::Down,
            _ => Self::WaitForLaunch,
        }
    }

    /// VDSM's word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WaitForLaunch => "WaitForLaunch",
            Self::Up => "Up",
            Self::Paused => "Paused",
            Self::PoweringDown => "Powering down",
            Self::SavingState => "Saving State",
            Self::MigrationSource => "Migration Source",
            Self::MigrationDestination => "Migration Destination",
            Self::Down => "Down",
        }
    }

    /// Is it on its way to another host, or from one?
    pub(super) fn is_migrating(self) -> bool {
        matches!(self, Self::MigrationSource | Self::MigrationDestination)
    }
}

/// The source of a migration ran, and was stopped for it; the destination never ran.
fn was_stopped_to_migrate(domain: &Domain) -> bool {
    let paused = domain.life.history.as_ref().and_then(|history| history.last_pause);
    paused.is_some_and(|pause| pause.what == PauseReason::Migrated && pause.of_run(domain.run).is_some())
}

/// Was it paused because a disk failed?
pub(super) fn is_paused_by_io_error(domain: &Domain) -> bool {
    let state = domain.windows.state.newest().map(|sampled| sampled.figures);
    state.is_some_and(|it| (it.state, it.reason) == (Some(PAUSED), Some(PAUSED_IOERROR)))
}
