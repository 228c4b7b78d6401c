//! What each command does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::choose::choose;
use super::churn::{Churning, change};
use super::{CommandError, Reply};
use crate::command::{Command, Connections, Guests, HangStorage, Happening, OneChange};
use crate::daemon::Daemon;
use crate::faults::{Look, Storage, Uuid};
use crate::host::{Change, Guest};
use crate::server::Client;

/// How long a migration takes that was ordered alone.
const MIGRATION: Duration = Duration::from_secs(3);

impl Daemon {
    /// Carries out a command. When it returns, that is done; only what lasts goes on by itself.
    pub(crate) async fn execute(self: &Arc<Self>, command: Command) -> Result<Reply, CommandError> {
        tracing::debug!(?command, "told");
        let mut guests = Vec::new();
        match command {
            Command::Status(_) => return Ok(Reply::Status(Box::new(self.status()))),
            Command::Freeze(which) => guests = self.freeze(&which)?,
            Command::Thaw(which) => {
                guests = self.trouble(&which, |look| look.frozen, |guest| self.troubles.set_frozen(guest, false))?;
            }
            Command::HangStorage(HangStorage { domain, count, all, paths }) => {
                let kind = Some(if paths { Storage::Paths } else { Storage::Figures });
                let which = Guests { domain, count, all };
                guests = self.trouble(&which, Look::is_well, |guest| self.troubles.set_storage(guest, kind))?;
            }
            Command::ReleaseStorage(which) => {
                guests =
                    self.trouble(&which, |look| look.storage_hangs, |guest| self.troubles.set_storage(guest, None))?;
            }
            Command::Lock(which) => {
                guests = self.trouble(&which, Look::is_well, |guest| self.troubles.set_locked(guest, true))?;
            }
            Command::Unlock(which) => {
                guests = self.trouble(&which, |look| look.locked, |guest| self.troubles.set_locked(guest, false))?;
            }
            Command::Latency(rule) => {
                self.known(rule.domain.as_deref())?;
                self.rules.add_latency(rule);
            }
            Command::Fail(rule) => {
                self.known(rule.domain.as_deref())?;
                self.rules.add_failure(rule);
            }
            Command::Damage(rule) => self.rules.add_damage(rule),
            Command::ReplyLimit(rule) => self.rules.limit_replies(rule),
            Command::SuppressEvents(rule) => self.rules.suppress_events(rule),
            Command::Clear(_) => self.rules.clear(),
            Command::HangConnections(which) => self.connections(&which, |client| client.set_hung(true))?,
            Command::ReleaseConnections(which) => self.connections(&which, |client| client.set_hung(false))?,
            Command::DropConnections(which) => self.connections(&which, Client::close)?,
            Command::Restart(restart) => {
                let (done, wait) = oneshot::channel();
                self.orders.send((restart.away.0, done)).map_err(|_| CommandError::Ending)?;
                wait.await.map_err(|_| CommandError::Ending)?;
            }
            Command::Silence(silence) => self.fall_silent(silence.lasting.0),
            Command::Change(what) => guests = self.change(&what)?,
            Command::Churn(what) => self.set_churn(Some(Churning::begin(self, what)?)),
            Command::StopChurn(_) => self.set_churn(None),
            Command::ResetCounters(which) => {
                let chosen = choose(&self.host.read(), &which, Guest::is_running)?;
                guests = self.each(&chosen, Change::ResetCounters)?;
            }
        }
        Ok(Reply::Done { guests })
    }

    fn freeze(&self, which: &Guests) -> Result<Vec<String>, CommandError> {
        let off = {
            let host = self.host.read();
            which.domain.as_ref().and_then(|name| host.by_name(name)).filter(|guest| !guest.is_running()).cloned()
        };
        if let Some(guest) = off {
            let (domain, refused) = (guest.name().to_owned(), crate::host::Refused::NotRunning);
            return Err(CommandError::Refused { domain, refused });
        }
        let running = |uuid: &Uuid| self.host.read().get(uuid).is_some_and(Guest::is_running);
        self.trouble(which, Look::is_well, |guest| running(&guest) && self.troubles.set_frozen(guest, true))
    }

    /// Changes the trouble of guests, and names those that are in another state now.
    fn trouble(
        &self,
        which: &Guests,
        fits: impl Fn(&Look) -> bool,
        mut set: impl FnMut(Uuid) -> bool,
    ) -> Result<Vec<String>, CommandError> {
        const WELL: Look = Look { frozen: false, storage_hangs: false, locked: false, occupied: false };
        let looks: std::collections::HashMap<Uuid, _> = self.troubles.all().into_iter().collect();
        let fits = |guest: &Guest| guest.is_running() && fits(looks.get(guest.uuid()).unwrap_or(&WELL));
        let chosen = choose(&self.host.read(), which, fits)?;
        let changed: Vec<Uuid> = chosen.into_iter().filter(|guest| set(*guest)).collect();
        Ok(self.names(&changed))
    }

    fn names(&self, guests: &[Uuid]) -> Vec<String> {
        let host = self.host.read();
        guests.iter().filter_map(|guest| host.get(guest)).map(|guest| guest.name().to_owned()).collect()
    }

    fn known(&self, pattern: Option<&str>) -> Result<(), CommandError> {
        match pattern.filter(|pattern| !super::exists(&self.host.read(), pattern)) {
            Some(pattern) => Err(CommandError::NoDomain(pattern.to_owned())),
            None => Ok(()),
        }
    }

    fn connections(&self, which: &Connections, change: impl Fn(&Client)) -> Result<(), CommandError> {
        let clients = self.clients.all();
        match which.connection {
            None => clients.iter().for_each(|client| change(client)),
            Some(number) => {
                let client = clients.iter().find(|client| client.number == number);
                change(client.ok_or(CommandError::NoConnection(number))?);
            }
        }
        Ok(())
    }

    /// Stands still for a time; a later command of the kind takes the place of an earlier one.
    fn fall_silent(self: &Arc<Self>, lasting: Duration) {
        self.silent.send_replace(true);
        let daemon = Arc::clone(self);
        let waking = tokio::spawn(async move {
            tokio::time::sleep(lasting).await;
            daemon.silent.send_replace(false);
        });
        if let Some(before) = self.waking.lock().replace(waking.abort_handle()) {
            before.abort();
        }
    }

    fn change(self: &Arc<Self>, what: &OneChange) -> Result<Vec<String>, CommandError> {
        let OneChange { kind, domain, count, all } = what;
        let which = Guests { domain: domain.clone(), count: *count, all: *all };
        let seed = |number: u32| self.host.read().plan().seed ^ u64::from(number) ^ (self.next_seed() << 32);
        if let Happening::Define | Happening::MigrateIn = kind {
            if domain.is_some() || *all {
                return Err(CommandError::Contradiction("a new guest has no name yet: say a count, or nothing"));
            }
            let mut names = Vec::new();
            for number in 0..count.unwrap_or(1) {
                let seed = seed(number);
                let change =
                    if *kind == Happening::Define { Change::Define { seed } } else { Change::MigrateIn { seed } };
                let events = self
                    .apply(&change)
                    .map_err(|refused| CommandError::Refused { domain: "a new guest".to_owned(), refused })?;
                names.extend(events.into_iter().next().map(|event| event.guest.name));
            }
            return Ok(names);
        }
        let chosen = choose(&self.host.read(), &which, |guest| super::churn::fits(*kind, guest))?;
        let make = |guest| change(*kind, guest, 0);
        let names = self.each(&chosen, make)?;
        if *kind == Happening::MigrateOut {
            for guest in chosen {
                self.finish_migration(guest, MIGRATION);
            }
        }
        Ok(names)
    }

    /// Makes a change to each of some guests, up to the first that refuses.
    fn each(&self, guests: &[Uuid], change: impl Fn(Uuid) -> Change) -> Result<Vec<String>, CommandError> {
        let mut done = Vec::new();
        for guest in guests {
            let name = self.names(&[*guest]).pop().unwrap_or_default();
            self.apply(&change(*guest)).map_err(|refused| CommandError::Refused { domain: name.clone(), refused })?;
            done.push(name);
        }
        Ok(done)
    }

    /// Lets a migration end after a time, if the guest is still there then.
    pub(super) fn finish_migration(self: &Arc<Self>, guest: Uuid, lasting: Duration) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(lasting).await;
            if let Err(refused) = daemon.apply(&Change::MigrateOutEnd(guest)) {
                tracing::debug!(%refused, at = ?SystemTime::now(), "a migration does not end");
            }
        });
    }
}
