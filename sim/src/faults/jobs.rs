//! Guests in trouble: whose monitor does not answer, whose storage hangs, whose lock is held, and who waits for whom.
//!
//! As the QEMU driver has it: a call that enters a monitor takes the *job* of the domain, and holds it for as long as
//! QEMU takes to answer. Others wait for the job, unless they said that they would rather not. The *lock* of a domain is
//! taken for a moment by whatever names or lists it. What is not in trouble answers so fast that none of it shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A guest, by its UUID.
pub(crate) type Uuid = [u8; 16];

/// What a call wants of a guest's QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wants {
    /// The job, at least.
    pub(crate) job: bool,
    /// An answer of the monitor.
    pub(crate) monitor: bool,
    /// Figures of disks.
    pub(crate) block: bool,
    /// That libvirtd opens a disk's file, with the lock held.
    pub(crate) file: bool,
}

/// Storage that hangs comes in two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Whoever asks QEMU for figures of disks waits, with the job.
    Figures,
    /// Paths hang and open files do not: whoever opens the file waits, with the lock.
    Paths,
}

/// A job that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Since when.
    pub(crate) since: Instant,
    /// By a call of that procedure.
    pub(crate) by: &'static str,
}

/// How long a call is ready to wait for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all: `VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT`.
    None,
    /// As long as libvirt waits.
    For(Duration),
}

/// The job was not to be had; who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// The call that holds it.
    pub(crate) by: &'static str,
}

#[derive(Debug, Default)]
struct Trouble {
    frozen: bool,
    storage: Option<Storage>,
    /// Held by command.
    locked: bool,
    /// Held by a call that opens a file.
    locked_by_call: bool,
    job: Option<Held>,
}

impl Trouble {
    fn is_none(&self) -> bool {
        !self.frozen && self.storage.is_none() && !self.locked && !self.locked_by_call && self.job.is_none()
    }

    fn hangs(&self, wants: Wants) -> bool {
        wants.monitor && self.frozen || wants.block && self.storage == Some(Storage::Figures)
    }
}

/// What is wrong with a guest, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Look {
    pub(crate) frozen: bool,
    pub(crate) storage_hangs: bool,
    pub(crate) locked: bool,
    pub(crate) occupied: bool,
}

impl Look {
    /// Nobody harmed it. A call may be at it.
    pub(crate) fn is_well(&self) -> bool {
        !self.frozen && !self.storage_hangs && !self.locked
    }
}

/// All guests in trouble.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    guests: Mutex<HashMap<Uuid, Trouble>>,
    /// How many there are: mostly none, and then nobody needs the lock.
    count: AtomicUsize,
    changed: Notify,
}

impl Troubles {
    /// Stops the QEMU of a guest, or lets it go on. Tells whether that changed anything.
    pub(crate) fn set_frozen(&self, guest: Uuid, frozen: bool) -> bool {
        self.change(guest, |trouble| std::mem::replace(&mut trouble.frozen, frozen) != frozen)
    }

    /// Lets the storage of a guest hang, or answer.
    pub(crate) fn set_storage(&self, guest: Uuid, storage: Option<Storage>) -> bool {
        self.change(guest, |trouble| std::mem::replace(&mut trouble.storage, storage) != storage)
    }

    /// Holds the lock of a domain, or lets it go.
    pub(crate) fn set_locked(&self, guest: Uuid, locked: bool) -> bool {
        self.change(guest, |trouble| std::mem::replace(&mut trouble.locked, locked) != locked)
    }

    /// The guest's QEMU ended: nothing of it hangs any more.
    pub(crate) fn ended(&self, guest: Uuid) {
        self.change(guest, |trouble| (trouble.frozen, trouble.storage) = (false, None));
    }

    /// All that are in trouble, and how.
    pub(crate) fn all(&self) -> Vec<(Uuid, Look)> {
        let look = |(guest, trouble): (&Uuid, &Trouble)| {
            let Trouble { frozen, storage, locked, locked_by_call, job } = trouble;
            let look = Look {
                frozen: *frozen,
                storage_hangs: storage.is_some(),
                locked: *locked || *locked_by_call,
                occupied: job.is_some(),
            };
            (*guest, look)
        };
        self.guests.lock().iter().map(look).collect()
    }

    /// Who holds the job of a guest: `virDomainGetControlInfo`.
    pub(crate) fn held(&self, guest: &Uuid) -> Option<Held> {
        if self.quiet() { None } else { self.guests.lock().get(guest)?.job }
    }

    /// Waits for the lock of a domain.
    pub(crate) async fn lock_free(&self, guest: &Uuid) {
        self.wait(|guests| !guests.get(guest).is_some_and(|trouble| trouble.locked || trouble.locked_by_call)).await;
    }

    /// Does any of these have its lock held?
    pub(crate) fn any_locked(&self) -> Vec<Uuid> {
        if self.quiet() {
            return Vec::new();
        }
        let guests = self.guests.lock();
        guests.iter().filter(|(_, trouble)| trouble.locked || trouble.locked_by_call).map(|(guest, _)| *guest).collect()
    }

    /// Enters the monitor of a guest: waits for its job as long as the caller likes, and then for its QEMU as long as it
    /// takes; and for `delay` at least.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        guest: &Uuid,
        wants: Wants,
        by: &'static str,
        patience: Patience,
        delay: Duration,
    ) -> Result<(), Busy> {
        if (self.quiet() || !wants.job) && delay.is_zero() {
            return Ok(());
        }
        if !wants.job {
            tokio::time::sleep(delay).await;
            return Ok(());
        }
        let Some(job) = self.take_job(guest, wants, by, patience, !delay.is_zero()).await? else { return Ok(()) };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.wait(|guests| !guests.get(guest).is_some_and(|trouble| trouble.hangs(wants))).await;
        drop(job);
        Ok(())
    }

    /// Opens the file of a disk, with the lock of its domain held.
    pub(crate) async fn open_file(self: &Arc<Self>, guest: &Uuid) {
        let hangs = |guests: &HashMap<Uuid, Trouble>| {
            guests.get(guest).is_some_and(|trouble| trouble.storage == Some(Storage::Paths))
        };
        if self.quiet() || !hangs(&self.guests.lock()) {
            return;
        }
        self.change(*guest, |trouble| trouble.locked_by_call = true);
        let _lock = Release { troubles: Arc::clone(self), guest: *guest, what: Kept::Lock };
        self.wait(|guests| !hangs(guests)).await;
    }

    /// The job, if it matters who has it: if the call will hold it for longer than a moment.
    async fn take_job(
        self: &Arc<Self>,
        guest: &Uuid,
        wants: Wants,
        by: &'static str,
        patience: Patience,
        slow: bool,
    ) -> Result<Option<Release>, Busy> {
        let deadline = match patience {
            Patience::None => None,
            Patience::For(time) => Some(Instant::now() + time),
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let holder = {
                let mut guests = self.guests.lock();
                match guests.get(guest).and_then(|trouble| trouble.job) {
                    Some(held) => held.by,
                    None if slow || guests.get(guest).is_some_and(|trouble| trouble.hangs(wants)) => {
                        guests.entry(*guest).or_default().job = Some(Held { since: Instant::now(), by });
                        self.count.store(guests.len(), Ordering::Release);
                        return Ok(Some(Release { troubles: Arc::clone(self), guest: *guest, what: Kept::Job }));
                    }
                    None => return Ok(None),
                }
            };
            let Some(deadline) = deadline else { return Err(Busy { by: holder }) };
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Busy { by: holder });
            }
        }
    }

    /// Waits until something is so.
    async fn wait(&self, mut is_so: impl FnMut(&HashMap<Uuid, Trouble>) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.quiet() || is_so(&self.guests.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn quiet(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn change<T>(&self, guest: Uuid, change: impl FnOnce(&mut Trouble) -> T) -> T {
        let mut guests = self.guests.lock();
        let trouble = guests.entry(guest).or_default();
        let done = change(trouble);
        if trouble.is_none() {
            guests.remove(&guest);
        }
        self.count.store(guests.len(), Ordering::Release);
        drop(guests);
        self.changed.notify_waiters();
        done
    }
}

enum Kept {
    Job,
    Lock,
}

/// What a call holds; free again when the call ends, however it ends.
struct Release {
    troubles: Arc<Troubles>,
    guest: Uuid,
    what: Kept,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.troubles.change(self.guest, |trouble| match self.what {
            Kept::Job => trouble.job = None,
            Kept::Lock => trouble.locked_by_call = false,
        });
    }
}

#[cfg(test)]
mod tests;
