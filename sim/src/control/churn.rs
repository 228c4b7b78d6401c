//! Things happen to guests all the time: seeded, at a rate, by weights.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::CommandError;
use crate::command::{Churn, Happening};
use crate::daemon::Daemon;
use crate::faults::Uuid;
use crate::host::{Change, Guest, Told};
use crate::values::Mix;

/// How often another kind is drawn when there is nobody whom the first can happen to.
const DRAWS: usize = 8;

/// How many are looked at before all are.
const LOOKS: usize = 32;

/// `virDomainState`.
const RUNNING: i32 = 1;
const PAUSED: i32 = 3;

/// After so many draws there may be others.
const RENEWED: u32 = 64;

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

/// What draws who is next.
struct Draw {
    daemon: Arc<Daemon>,
    random: fastrand::Rng,
    /// Everybody, as of a while ago.
    known: Vec<Uuid>,
    /// Since when, in draws.
    age: u32,
    /// Those that were stopped, paused or defined here: whom a start or a resume can happen to.
    aside: Vec<Uuid>,
}

async fn run(daemon: Arc<Daemon>, random: fastrand::Rng, mix: Mix, period: Duration, until: Option<Instant>) {
    let mut draw = Draw { daemon, random, known: Vec::new(), age: 0, aside: Vec::new() };
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let now = ticks.tick().await;
        if until.is_some_and(|until| now >= until) {
            return;
        }
        for _ in 0..DRAWS {
            let Some(kind) = mix.draw(&mut draw.random) else { return };
            if draw.happens(kind) {
                break;
            }
        }
    }
}

impl Draw {
    /// Lets something of a kind happen to somebody; false if there is nobody.
    fn happens(&mut self, kind: Happening) -> bool {
        let seed = self.random.u64(..);
        let guest = if matches!(kind, Happening::Define | Happening::MigrateIn) {
            [0; 16]
        } else {
            let Some(guest) = self.somebody(kind) else { return false };
            guest
        };
        let Ok(events) = self.daemon.apply(&change(kind, guest, seed)) else { return false };
        match kind {
            Happening::MigrateOut => {
                self.daemon.finish_migration(guest, Duration::from_millis(self.random.u64(MIGRATION_MS)));
            }
            Happening::Stop
            | Happening::Shutdown
            | Happening::Crash
            | Happening::Panic
            | Happening::Pause
            | Happening::IoError => self.aside.push(guest),
            Happening::Define => self.aside.extend(events.first().map(|event| event.guest.uuid)),
            _ => {}
        }
        true
    }

    /// Draws one of those whom it can happen to: mostly without a look at all of them, which there are many of.
    fn somebody(&mut self, kind: Happening) -> Option<Uuid> {
        let Self { daemon, random, known, age, aside } = self;
        let host = daemon.host.read();
        // Who is in trouble is left alone, and stays in it.
        let troubled: HashSet<Uuid> = daemon.troubles.all().into_iter().map(|(guest, _)| guest).collect();
        let meant = |guest: &Uuid| host.get(guest).is_some_and(|guest| fits(kind, guest)) && !troubled.contains(guest);
        if *age % RENEWED == 0 {
            *known = host.guests().map(|guest| *guest.uuid()).collect();
            aside.retain(|guest| host.get(guest).is_some_and(|guest| guest.state().0 != RUNNING));
            aside.sort_unstable();
            aside.dedup();
        }
        *age = age.wrapping_add(1);
        for list in [&*aside, &*known] {
            if list.is_empty() || (std::ptr::eq(list, &*aside) && !from_aside(kind)) {
                continue;
            }
            let drawn = (0..LOOKS).map(|_| list[random.usize(0..list.len())]).find(|guest| meant(guest));
            if drawn.is_some() {
                return drawn;
            }
        }
        let all: Vec<Uuid> = host.guests().map(|guest| *guest.uuid()).filter(meant).collect();
        random.choice(all)
    }
}

/// Does it happen to those alone that are off or paused?
fn from_aside(kind: Happening) -> bool {
    matches!(kind, Happening::Start | Happening::Resume | Happening::Undefine)
}

/// Can it happen to this guest, as far as its state tells?
pub(super) fn fits(kind: Happening, guest: &Guest) -> bool {
    let state = guest.state().0;
    match kind {
        Happening::Define | Happening::MigrateIn => false,
        Happening::Undefine | Happening::Start => !guest.is_running(),
        Happening::Pause | Happening::IoError | Happening::Shutdown | Happening::Panic | Happening::MigrateOut => {
            state == RUNNING
        }
        Happening::Resume => state == PAUSED,
        Happening::Stop
        | Happening::Crash
        | Happening::AttachDisk
        | Happening::DetachDisk
        | Happening::AttachNic
        | Happening::DetachNic
        | Happening::Watchdog
        | Happening::Connect
        | Happening::Disconnect
        | Happening::SetClock => guest.is_running(),
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
        Happening::Panic => Change::Panic(guest),
        Happening::Pause => Change::Pause(guest),
        Happening::IoError => Change::IoError(guest),
        Happening::Resume => Change::Resume(guest),
        Happening::AttachDisk => Change::AttachDisk(guest),
        Happening::DetachDisk => Change::DetachDisk(guest),
        Happening::AttachNic => Change::AttachNic(guest),
        Happening::DetachNic => Change::DetachNic(guest),
        Happening::MigrateOut => Change::MigrateOutBegin(guest),
        Happening::MigrateIn => Change::MigrateIn { seed },
        Happening::Metadata => Change::SetMetadata(guest),
        Happening::Watchdog => Change::Tell(guest, Told::Watchdog),
        Happening::Connect => Change::Tell(guest, Told::Connects),
        Happening::Disconnect => Change::Tell(guest, Told::Leaves),
        Happening::SetClock => Change::Tell(guest, Told::Clock),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use tokio::sync::mpsc;

    use super::*;
    use crate::host::{Host, Plan};
    use crate::limits::Times;

    /// Lets much happen to fifty guests of which one is frozen; the states of all then.
    fn churned(seed: u64) -> BTreeMap<String, i32> {
        let plan = Plan { seed: 1, domains: 50, shut_off_per_mille: 100, begun: SystemTime::UNIX_EPOCH };
        let daemon = Daemon::new(Host::new(plan), Times::default(), mpsc::unbounded_channel().0);
        let frozen = *daemon.host.read().guests().find(|guest| guest.is_running()).expect("one runs").uuid();
        daemon.troubles.set_frozen(frozen, true);
        let before = daemon.host.read().get(&frozen).map(Guest::reference);
        let random = fastrand::Rng::with_seed(seed);
        let mut draw = Draw { daemon: Arc::clone(&daemon), random, known: Vec::new(), age: 0, aside: Vec::new() };
        let mix = Mix::default();
        let happened = (0..2000).filter(|_| mix.draw(&mut draw.random).is_some_and(|kind| draw.happens(kind))).count();
        assert!(happened > 1000, "{happened}");
        assert!(draw.aside.len() < 1000, "it is cleared now and then: {}", draw.aside.len());
        let host = daemon.host.read();
        assert_eq!(host.get(&frozen).map(Guest::reference), before, "who is in trouble is left alone");
        host.guests().map(|guest| (guest.name().to_owned(), guest.state().0)).collect()
    }

    #[tokio::test]
    async fn the_same_seed_does_the_same() {
        let states = churned(3);
        assert_eq!(churned(3), states);
        assert_ne!(churned(4), states);
        assert!(states.len() > 20, "{}", states.len());
    }
}
