//! Makes changes, refuses what libvirt refuses, and tells what it would send, in its order.

use std::time::SystemTime;

use super::change::{Change, Event, EventKind, Refused, Told};
use super::disk::Bus;
use super::guest::{Guest, state};
use super::load::Moment;
use super::random;
use super::shape::{MOST_DISKS, MOST_NICS};
use super::{Host, job, names};

/// `virDomainEventType` and the details of each, as one pair.
mod lifecycle {
    pub(super) const DEFINED_ADDED: (i32, i32) = (0, 0);
    pub(super) const DEFINED_RENAMED: (i32, i32) = (0, 2);
    pub(super) const UNDEFINED_REMOVED: (i32, i32) = (1, 0);
    pub(super) const UNDEFINED_RENAMED: (i32, i32) = (1, 1);
    pub(super) const STARTED_BOOTED: (i32, i32) = (2, 0);
    pub(super) const STARTED_MIGRATED: (i32, i32) = (2, 1);
    pub(super) const SUSPENDED_PAUSED: (i32, i32) = (3, 0);
    pub(super) const SUSPENDED_MIGRATED: (i32, i32) = (3, 1);
    pub(super) const SUSPENDED_IOERROR: (i32, i32) = (3, 2);
    pub(super) const RESUMED_UNPAUSED: (i32, i32) = (4, 0);
    pub(super) const RESUMED_MIGRATED: (i32, i32) = (4, 1);
    pub(super) const STOPPED_SHUTDOWN: (i32, i32) = (5, 0);
    pub(super) const STOPPED_DESTROYED: (i32, i32) = (5, 1);
    pub(super) const STOPPED_CRASHED: (i32, i32) = (5, 2);
    pub(super) const STOPPED_MIGRATED: (i32, i32) = (5, 3);
    pub(super) const STOPPED_FAILED: (i32, i32) = (5, 5);
    pub(super) const SHUTDOWN_GUEST: (i32, i32) = (6, 1);
    pub(super) const SHUTDOWN_HOST: (i32, i32) = (6, 2);
    pub(super) const CRASHED_PANICKED: (i32, i32) = (8, 0);
}

/// Reasons of `virDomainState`.
mod reason {
    pub(super) const RUNNING_MIGRATED: i32 = 2;
    pub(super) const RUNNING_UNPAUSED: i32 = 5;
    pub(super) const PAUSED_USER: i32 = 1;
    pub(super) const PAUSED_IOERROR: i32 = 5;
    pub(super) const OFF_SHUTDOWN: i32 = 1;
    pub(super) const OFF_DESTROYED: i32 = 2;
    pub(super) const OFF_CRASHED: i32 = 3;
    pub(super) const OFF_MIGRATED: i32 = 4;
}

/// `virDomainMetadataType`: the title.
const TITLE: i32 = 1;

impl Guest {
    fn event(&self, what: EventKind) -> Event {
        Event { guest: self.reference(), what }
    }

    fn lifecycle(&self, (event, detail): (i32, i32)) -> Event {
        self.event(EventKind::Lifecycle { event, detail })
    }

    /// It must run, and not be about to leave.
    fn settled(&self) -> Result<(), Refused> {
        match &self.run {
            Some(run) if run.leaving.is_some() => Err(Refused::Migrating),
            _ => Ok(()),
        }
    }

    fn runs(&self) -> Result<(), Refused> {
        if self.is_running() { Ok(()) } else { Err(Refused::NotRunning) }
    }
}

impl From<Told> for EventKind {
    fn from(told: Told) -> Self {
        /// `VIR_DOMAIN_EVENT_WATCHDOG_RESET`.
        const RESET: i32 = 2;
        /// `VIR_DOMAIN_EVENT_GRAPHICS_CONNECT` and `…_DISCONNECT`.
        const CONNECT: i32 = 0;
        const DISCONNECT: i32 = 2;
        let graphics = |phase| Self::Graphics { phase, remote: "192.0.2.7" };
        match told {
            Told::Watchdog => Self::Watchdog { action: RESET },
            Told::Connects => graphics(CONNECT),
            Told::Leaves => graphics(DISCONNECT),
            Told::Clock => Self::Clock { offset: 3600 },
        }
    }
}

/// Marks seeds of guests that come later.
const NEWCOMERS: u64 = 1 << 32;

impl Host {
    /// Makes a change, and tells what libvirt would send.
    ///
    /// # Errors
    /// [`Refused`] if libvirt would refuse it.
    pub fn apply(&mut self, change: &Change, now: SystemTime) -> Result<Vec<Event>, Refused> {
        match change {
            Change::Define { seed } => {
                let guest = self.newcomer(*seed)?;
                let events = vec![guest.lifecycle(lifecycle::DEFINED_ADDED)];
                self.add(guest);
                Ok(events)
            }
            Change::MigrateIn { seed } => {
                let mut guest = self.newcomer(*seed)?;
                guest.begin(self.new_run(), now);
                guest.reason = reason::RUNNING_MIGRATED;
                let events = [lifecycle::STARTED_MIGRATED, lifecycle::DEFINED_ADDED, lifecycle::RESUMED_MIGRATED];
                let events = events.map(|event| guest.lifecycle(event)).to_vec();
                self.add(guest);
                Ok(events)
            }
            Change::Undefine(uuid) => self.undefine(uuid),
            Change::Start(uuid) => self.start(uuid, now),
            Change::Stop(uuid) => {
                let asked = self.running(uuid)?.lifecycle(lifecycle::SHUTDOWN_HOST);
                self.stop(uuid, now, vec![asked], lifecycle::STOPPED_DESTROYED, reason::OFF_DESTROYED)
            }
            Change::Shutdown(uuid) => {
                let guest = self.running(uuid)?;
                if guest.state == state::PAUSED {
                    return Err(Refused::Paused);
                }
                let asked = guest.lifecycle(lifecycle::SHUTDOWN_GUEST);
                self.stop(uuid, now, vec![asked], lifecycle::STOPPED_SHUTDOWN, reason::OFF_SHUTDOWN)
            }
            Change::Crash(uuid) => self.stop(uuid, now, Vec::new(), lifecycle::STOPPED_FAILED, reason::OFF_CRASHED),
            Change::Panic(uuid) => {
                let panicked = self.running(uuid)?.lifecycle(lifecycle::CRASHED_PANICKED);
                self.stop(uuid, now, vec![panicked], lifecycle::STOPPED_CRASHED, reason::OFF_CRASHED)
            }
            Change::IoError(uuid) => self.fail_disk(uuid, now),
            Change::Pause(uuid) => self.pause(uuid, now),
            Change::Resume(uuid) => self.resume(uuid, now),
            Change::Rename(uuid, name) => self.rename(uuid, name),
            Change::AttachDisk(_) | Change::DetachDisk(_) | Change::AttachNic(_) | Change::DetachNic(_) => {
                self.plug(change, now)
            }
            Change::MigrateOutBegin(uuid) => {
                let guest = self.running(uuid)?;
                guest.settled()?;
                if let Some(run) = &mut guest.run {
                    run.leaving = Some(now);
                }
                Ok(Vec::new())
            }
            Change::MigrateOutEnd(uuid) => self.migrate_out(uuid, now),
            Change::ResetCounters(uuid) => {
                self.running(uuid)?.reset_counters(now);
                Ok(Vec::new())
            }
            Change::SetMetadata(uuid) => {
                let guest = self.known(uuid)?;
                let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                guest.shape.title = Some(format!("{}, seen to at {seconds}", guest.name));
                Ok(vec![guest.event(EventKind::MetadataChanged { kind: TITLE, namespace: None })])
            }
            Change::Tell(uuid, told) => {
                let guest = self.running(uuid)?;
                Ok(vec![guest.event((*told).into())])
            }
        }
    }

    fn known(&mut self, uuid: &[u8; 16]) -> Result<&mut Guest, Refused> {
        let number = self.by_uuid.get(uuid).ok_or(Refused::NoGuest)?;
        self.guests.get_mut(number).ok_or(Refused::NoGuest)
    }

    fn running(&mut self, uuid: &[u8; 16]) -> Result<&mut Guest, Refused> {
        let guest = self.known(uuid)?;
        guest.runs()?;
        Ok(guest)
    }

    /// A guest that was not there; the same seed makes another one each time.
    fn newcomer(&self, seed: u64) -> Result<Guest, Refused> {
        // Apart from what the plan's own guests are made from, should the seed be the plan's.
        let purpose = NEWCOMERS | u64::from(self.next);
        let guest = Guest::new(random::of(seed, purpose).u64(..), self.next, false);
        if self.by_name.contains_key(guest.name()) { Err(Refused::NameTaken) } else { Ok(guest) }
    }

    fn remove(&mut self, uuid: &[u8; 16]) {
        if let Some(guest) = self.by_uuid.remove(uuid).and_then(|number| self.guests.remove(&number)) {
            self.by_name.remove(guest.name());
        }
    }

    fn undefine(&mut self, uuid: &[u8; 16]) -> Result<Vec<Event>, Refused> {
        let guest = self.known(uuid)?;
        if !guest.persistent {
            return Err(Refused::Transient);
        }
        guest.persistent = false;
        let events = vec![guest.lifecycle(lifecycle::UNDEFINED_REMOVED)];
        if !guest.is_running() {
            self.remove(uuid);
        }
        Ok(events)
    }

    fn start(&mut self, uuid: &[u8; 16], now: SystemTime) -> Result<Vec<Event>, Refused> {
        if self.known(uuid)?.is_running() {
            return Err(Refused::Running);
        }
        let id = self.new_run();
        let guest = self.known(uuid)?;
        guest.begin(id, now);
        // In this order: the vCPUs go before libvirtd is done.
        let events =
            [lifecycle::RESUMED_UNPAUSED, lifecycle::STARTED_BOOTED].map(|event| guest.lifecycle(event)).to_vec();
        let number = guest.number;
        self.by_run.insert(id, number);
        Ok(events)
    }

    /// Ends a run, after what was said before.
    fn stop(
        &mut self,
        uuid: &[u8; 16],
        now: SystemTime,
        mut events: Vec<Event>,
        event: (i32, i32),
        reason: i32,
    ) -> Result<Vec<Event>, Refused> {
        let guest = self.running(uuid)?;
        let id = guest.id();
        guest.end(reason, now);
        events.push(guest.lifecycle(event));
        let vanishes = !guest.persistent;
        self.by_run.remove(&id);
        if vanishes {
            self.remove(uuid);
        }
        Ok(events)
    }

    fn pause(&mut self, uuid: &[u8; 16], now: SystemTime) -> Result<Vec<Event>, Refused> {
        let guest = self.running(uuid)?;
        if guest.state == state::PAUSED {
            // libvirt is content with that.
            return Ok(Vec::new());
        }
        guest.suspend(reason::PAUSED_USER, now);
        Ok(vec![guest.lifecycle(lifecycle::SUSPENDED_PAUSED)])
    }

    fn fail_disk(&mut self, uuid: &[u8; 16], now: SystemTime) -> Result<Vec<Event>, Refused> {
        /// `VIR_DOMAIN_EVENT_IO_ERROR_PAUSE`.
        const PAUSE: i32 = 1;
        let guest = self.running(uuid)?;
        if guest.state == state::PAUSED {
            return Err(Refused::Paused);
        }
        let disk = guest.shape.disks.iter().find(|disk| !disk.cdrom).ok_or(Refused::NoDevice)?;
        let path = disk.path().unwrap_or_default().to_owned();
        let error = EventKind::IoError { path, alias: disk.alias(), action: PAUSE, reason: "enospc" };
        guest.suspend(reason::PAUSED_IOERROR, now);
        Ok(vec![guest.event(error), guest.lifecycle(lifecycle::SUSPENDED_IOERROR)])
    }

    fn resume(&mut self, uuid: &[u8; 16], now: SystemTime) -> Result<Vec<Event>, Refused> {
        let guest = self.running(uuid)?;
        let run = guest.run.as_mut().ok_or(Refused::NotRunning)?;
        let paused_at = run.paused_at.take().ok_or(Refused::Running)?;
        run.paused += now.duration_since(paused_at).unwrap_or_default();
        (guest.state, guest.reason) = (state::RUNNING, reason::RUNNING_UNPAUSED);
        Ok(vec![guest.lifecycle(lifecycle::RESUMED_UNPAUSED)])
    }

    fn rename(&mut self, uuid: &[u8; 16], name: &str) -> Result<Vec<Event>, Refused> {
        if self.known(uuid)?.is_running() {
            return Err(Refused::Running);
        }
        if !names::is_legal(name) {
            return Err(Refused::BadName);
        }
        if self.by_name.contains_key(name) {
            return Err(Refused::NameTaken);
        }
        let guest = self.known(uuid)?;
        let before = guest.lifecycle(lifecycle::UNDEFINED_RENAMED);
        let old = std::mem::replace(&mut guest.name, name.to_owned());
        let after = guest.lifecycle(lifecycle::DEFINED_RENAMED);
        let number = guest.number;
        self.by_name.remove(&old);
        self.by_name.insert(name.to_owned(), number);
        Ok(vec![before, after])
    }

    fn migrate_out(&mut self, uuid: &[u8; 16], now: SystemTime) -> Result<Vec<Event>, Refused> {
        let guest = self.running(uuid)?;
        let begun = guest.run.as_ref().and_then(|run| run.leaving).ok_or(Refused::NotMigrating)?;
        let mut events = Vec::new();
        if guest.state != state::PAUSED {
            events.push(guest.lifecycle(lifecycle::SUSPENDED_MIGRATED));
        }
        let job = job::migration(&guest.shape, now.duration_since(begun).unwrap_or_default(), true);
        events.push(guest.event(EventKind::JobCompleted { params: job.params }));
        let persistent = std::mem::replace(&mut guest.persistent, false);
        let mut undefined = guest.reference();
        undefined.id = -1;
        events = self.stop(uuid, now, events, lifecycle::STOPPED_MIGRATED, reason::OFF_MIGRATED)?;
        if persistent {
            let (event, detail) = lifecycle::UNDEFINED_REMOVED;
            events.push(Event { guest: undefined, what: EventKind::Lifecycle { event, detail } });
        }
        Ok(events)
    }

    /// Plugs a device in or out. Of one that is shut off, libvirt tells nobody.
    fn plug(&mut self, change: &Change, now: SystemTime) -> Result<Vec<Event>, Refused> {
        let (Change::AttachDisk(uuid) | Change::DetachDisk(uuid) | Change::AttachNic(uuid) | Change::DetachNic(uuid)) =
            change
        else {
            return Ok(Vec::new());
        };
        let guest = self.known(uuid)?;
        guest.settled()?;
        let what = match change {
            Change::AttachDisk(_) => EventKind::DeviceAdded { alias: guest.attach_disk(now)? },
            Change::AttachNic(_) => EventKind::DeviceAdded { alias: guest.attach_nic(now)? },
            Change::DetachDisk(_) => EventKind::DeviceRemoved { alias: guest.detach_disk()? },
            _ => EventKind::DeviceRemoved { alias: guest.detach_nic()? },
        };
        Ok(if guest.is_running() { vec![guest.event(what)] } else { Vec::new() })
    }
}

impl Guest {
    fn attach_disk(&mut self, now: SystemTime) -> Result<String, Refused> {
        if self.shape.disks.len() >= MOST_DISKS || !self.shape.has_slot() {
            return Err(Refused::NoDevice);
        }
        let plugged = self.moment(now).unwrap_or(Moment::BEGIN);
        let random = &mut self.plug();
        let node = self.shape.next_node();
        let alias = self.shape.add_disk(random, Bus::Virtio, false, &self.name, &self.uuid);
        if let Some(disk) = self.shape.disks.iter_mut().find(|disk| disk.alias() == alias) {
            (disk.node, disk.plugged) = (node, plugged);
        }
        Ok(alias)
    }

    fn attach_nic(&mut self, now: SystemTime) -> Result<String, Refused> {
        if self.shape.nics.len() >= MOST_NICS || !self.shape.has_slot() {
            return Err(Refused::NoDevice);
        }
        let plugged = self.moment(now).unwrap_or(Moment::BEGIN);
        let random = &mut self.plug();
        let alias = self.shape.add_nic(random, self.number);
        if let Some(nic) = self.shape.nics.last_mut() {
            nic.plugged = plugged;
        }
        Ok(alias)
    }

    fn detach_disk(&mut self) -> Result<String, Refused> {
        let last = self.shape.disks.iter().rposition(|disk| !disk.cdrom).ok_or(Refused::NoDevice)?;
        Ok(self.shape.disks.remove(last).alias())
    }

    fn detach_nic(&mut self) -> Result<String, Refused> {
        self.shape.nics.pop().map(|nic| nic.alias()).ok_or(Refused::NoDevice)
    }
}
