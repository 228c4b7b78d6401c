//! Things happen to guests all the time: seeded, at a rate, by weights.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::CommandError;
use crate::command::{Churn, Happening};
use crate::daemon::Daemon;
use crate::faults::Uuid;
use crate::host::{Change, Guest};
use crate::values::Mix;

/// How often another kind is drawn when there is nobody whom the first can happen to.
const DRAWS: usize = 8;

/// The shortest and the longest migration, in ms.
const MIGRATION_MS: std::ops::Range<u64> = 1_000..6_000;

/// Churn that goes on until it is dropped.
pub(crate) struct Churning(AbortHandle);

impl Drop for Churning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Churning {
    pub(super) fn begin(daemon: &Arc<Daemon>, what: Churn) -> Result<Self, CommandError> {
        /// Beyond it the timer would lie.
        const MOST: f64 = 100_000.0;
        let Churn { rate, mix, lasting, seed } = what;
        if !(rate > 0.0 && rate <= MOST) {
            return Err(CommandError::NoRate(rate.to_string()));
        }
        let random = fastrand::Rng::with_seed(seed.unwrap_or_else(|| daemon.host.read().plan().seed));
        let period = Duration::from_secs_f64(1.0 / rate);
        let until = lasting.map(|lasting| Instant::now() + lasting.0);
        let task = tokio::spawn(run(Arc::clone(daemon), random, mix, period, until));
        Ok(Self(task.abort_handle()))
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.0.is_finished()
    }
}

async fn run(daemon: Arc<Daemon>, mut random: fastrand::Rng, mix: Mix, period: Duration, until: Option<Instant>) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let now = ticks.tick().await;
        if until.is_some_and(|until| now >= until) {
            return;
        }
        for _ in 0..DRAWS {
            let Some(kind) = mix.draw(&mut random) else { return };
            if happens(&daemon, &mut random, kind) {
                break;
            }
        }
    }
}

/// Lets something of a kind happen to somebody; false if there is nobody.
fn happens(daemon: &Arc<Daemon>, random: &mut fastrand::Rng, kind: Happening) -> bool {
    let seed = random.u64(..);
    let guest = if matches!(kind, Happening::Define | Happening::MigrateIn) {
        [0; 16]
    } else {
        let Some(guest) = somebody(daemon, random, kind) else { return false };
        guest
    };
    if daemon.apply(&change(kind, guest, seed)).is_err() {
        return false;
    }
    if kind == Happening::MigrateOut {
        daemon.finish_migration(guest, Duration::from_millis(random.u64(MIGRATION_MS)));
    }
    true
}

/// Draws one of those whom it can happen to. Who is in trouble is left alone, and stays in it.
fn somebody(daemon: &Daemon, random: &mut fastrand::Rng, kind: Happening) -> Option<Uuid> {
    let troubled: std::collections::HashSet<Uuid> = daemon.troubles.all().into_iter().map(|(guest, _)| guest).collect();
    let host = daemon.host.read();
    let fits = |guest: &&Guest| fits(kind, guest) && !troubled.contains(guest.uuid());
    let candidates = host.guests().filter(fits).count();
    let drawn = if candidates == 0 { return None } else { random.usize(0..candidates) };
    host.guests().filter(fits).nth(drawn).map(|guest| *guest.uuid())
}

/// Can it happen to this guest, as far as its state tells?
pub(super) fn fits(kind: Happening, guest: &Guest) -> bool {
    const RUNNING: i32 = 1;
    const PAUSED: i32 = 3;
    let state = guest.state().0;
    match kind {
        Happening::Define | Happening::MigrateIn => false,
        Happening::Undefine | Happening::Start => !guest.is_running(),
        Happening::Pause | Happening::Shutdown | Happening::MigrateOut => state == RUNNING,
        Happening::Resume => state == PAUSED,
        Happening::Stop
        | Happening::Crash
        | Happening::AttachDisk
        | Happening::DetachDisk
        | Happening::AttachNic
        | Happening::DetachNic => guest.is_running(),
        Happening::Metadata => true,
    }
}

/// The change of a kind.
pub(super) fn change(kind: Happening, guest: Uuid, seed: u64) -> Change {
    match kind {
        Happening::Define => Change::Define { seed },
        Happening::Undefine => Change::Undefine(guest),
        Happening::Start => Change::Start(guest),
        Happening::Stop => Change::Stop(guest),
        Happening::Shutdown => Change::Shutdown(guest),
        Happening::Crash => Change::Crash(guest),
        Happening::Pause => Change::Pause(guest),
        Happening::Resume => Change::Resume(guest),
        Happening::AttachDisk => Change::AttachDisk(guest),
        Happening::DetachDisk => Change::DetachDisk(guest),
        Happening::AttachNic => Change::AttachNic(guest),
        Happening::DetachNic => Change::DetachNic(guest),
        Happening::MigrateOut => Change::MigrateOutBegin(guest),
        Happening::MigrateIn => Change::MigrateIn { seed },
        Happening::Metadata => Change::SetMetadata(guest),
    }
}
