//! libvirt's event loop, on epoll.
//!
//! A connection stops watching its socket in the loop while a call is under way on it, and begins again when that ends. The
//! loop that libvirt brings along wakes its thread for each such change, which is twice a call; here each is one system call
//! of the caller's. Timers are few: a keepalive and the queue of events of each connection.

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::raw::c_int;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use virt::sys;

/// The one loop of this process, which libvirt knows by functions alone.
static LOOP: OnceLock<EventLoop> = OnceLock::new();

/// What the loop's own descriptor is called in epoll; libvirt's watches count from 1.
const WAKE: u64 = 0;

/// Events that are taken from the kernel at once.
const AT_ONCE: usize = 64;

struct EventLoop {
    epoll: OwnedFd,
    wake: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: c_int,
    handles: HashMap<c_int, Handle>,
    timers: HashMap<c_int, Timer>,
    /// What was removed, and is freed when no callback runs.
    removed: Vec<Owned>,
    /// Until when the loop sleeps, if nothing happens.
    sleeps_until: Option<Instant>,
}

/// What libvirt gave along with a callback.
#[derive(Clone, Copy)]
struct Owned {
    opaque: *mut c_void,
    free: sys::virFreeCallback,
}

// SAFETY: libvirt gives these to an event loop, for use on whichever thread that runs on.
unsafe impl Send for Owned {}

#[derive(Clone, Copy)]
struct Handle {
    fd: RawFd,
    events: epoll::EventFlags,
    callback: sys::virEventHandleCallback,
    owned: Owned,
}

#[derive(Clone, Copy)]
struct Timer {
    /// `None` while it is off.
    due: Option<Instant>,
    every: Duration,
    callback: sys::virEventTimeoutCallback,
    owned: Owned,
}

/// Makes libvirt use this loop. Once, before the first connection; someone must [`run`] it.
pub(in crate::libvirt) fn register() -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
    if LOOP.set(EventLoop { epoll, wake, state: Mutex::default() }).is_err() {
        return Ok(());
    }
    // SAFETY: libvirt keeps the functions, which may be called at any time from any thread, and are made for that.
    unsafe {
        sys::virEventRegisterImpl(
            Some(add_handle),
            Some(update_handle),
            Some(remove_handle),
            Some(add_timer),
            Some(update_timer),
            Some(remove_timer),
        );
    }
    Ok(())
}

/// Calls back what is due, for ever; returns if the kernel refuses.
pub(in crate::libvirt) fn run() -> io::Error {
    let Some(events) = LOOP.get() else { return io::Error::other("the loop was never registered") };
    loop {
        if let Err(error) = events.turn() {
            return error;
        }
    }
}

impl EventLoop {
    fn turn(&self) -> io::Result<()> {
        let sleep = {
            let mut state = self.state.lock();
            let next = state.timers.values().filter_map(|timer| timer.due).min();
            state.sleeps_until = next;
            next.map(|next| next.saturating_duration_since(Instant::now()))
        };
        let sleep = sleep.and_then(|sleep| Timespec::try_from(sleep).ok());
        let mut happened = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.epoll, spare_capacity(&mut happened), sleep.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in happened {
            match c_int::try_from(event.data.u64()) {
                Ok(watch) if event.data.u64() != WAKE => self.call_handle(watch, event.flags),
                _ => {
                    // A number that is there or not; either way it is read.
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
            }
        }
        self.call_timers();
        let removed = std::mem::take(&mut self.state.lock().removed);
        for Owned { opaque, free } in removed {
            if let Some(free) = free {
                // SAFETY: libvirt gave both together, and what they are of was removed: no callback gets it any more, and
                // none runs, as this is the thread they run on.
                unsafe { free(opaque) }
            }
        }
        Ok(())
    }

    fn call_handle(&self, watch: c_int, flags: epoll::EventFlags) {
        // It may have been removed or turned off since the kernel told of it.
        let Some(handle) = self.state.lock().handles.get(&watch).copied() else { return };
        let always = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        if handle.events.is_empty() || !flags.intersects(handle.events | always) {
            return;
        }
        if let Some(callback) = handle.callback {
            // SAFETY: libvirt gave callback and opaque together. Should it be removed at this moment, opaque lives until
            // this thread frees it.
            unsafe { callback(watch, handle.fd, to_libvirt(flags), handle.owned.opaque) }
        }
    }

    fn call_timers(&self) {
        let now = Instant::now();
        let is_due = |timer: &Timer| timer.due.is_some_and(|due| due <= now);
        let due: Vec<c_int> = {
            let state = self.state.lock();
            state.timers.iter().filter(|(_, timer)| is_due(timer)).map(|(number, _)| *number).collect()
        };
        for number in due {
            let timer = {
                let mut state = self.state.lock();
                // The one before may have changed it.
                let Some(timer) = state.timers.get_mut(&number).filter(|timer| is_due(timer)) else { continue };
                timer.due = Some(now + timer.every);
                *timer
            };
            if let Some(callback) = timer.callback {
                // SAFETY: as for handles.
                unsafe { callback(number, timer.owned.opaque) }
            }
        }
    }

    /// Ends its sleep: something has to be done sooner.
    fn wake(&self) {
        // Refused only if it has been told as often as a number of 64 bits holds.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Watches a descriptor for other events than before.
    fn watch(
        &self,
        watch: c_int,
        fd: RawFd,
        before: epoll::EventFlags,
        now: epoll::EventFlags,
    ) -> rustix::io::Result<()> {
        // SAFETY: libvirt keeps the descriptor open until the watch is removed; epoll refuses one that is not.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let data = epoll::EventData::new_u64(u64::from(watch.unsigned_abs()));
        match (before.is_empty(), now.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => epoll::add(&self.epoll, fd, data, now),
            // epoll tells of errors and hang-ups even if nothing is asked for.
            (false, true) => epoll::delete(&self.epoll, fd),
            (false, false) => epoll::modify(&self.epoll, fd, data, now),
        }
    }
}

impl State {
    fn number(&mut self) -> c_int {
        self.last = self.last.checked_add(1).unwrap_or(1);
        while self.handles.contains_key(&self.last) || self.timers.contains_key(&self.last) {
            self.last = self.last.checked_add(1).unwrap_or(1);
        }
        self.last
    }
}

const NAMES: [(sys::virEventHandleType, epoll::EventFlags); 4] = [
    (sys::VIR_EVENT_HANDLE_READABLE, epoll::EventFlags::IN),
    (sys::VIR_EVENT_HANDLE_WRITABLE, epoll::EventFlags::OUT),
    (sys::VIR_EVENT_HANDLE_ERROR, epoll::EventFlags::ERR),
    (sys::VIR_EVENT_HANDLE_HANGUP, epoll::EventFlags::HUP),
];

fn from_libvirt(events: c_int) -> epoll::EventFlags {
    let named = NAMES.iter().filter(|(libvirt, _)| events.cast_unsigned() & libvirt != 0);
    named.fold(epoll::EventFlags::empty(), |all, (_, flag)| all | *flag)
}

fn to_libvirt(flags: epoll::EventFlags) -> c_int {
    let named = NAMES.iter().filter(|(_, flag)| flags.contains(*flag));
    named.fold(0, |all, (libvirt, _)| all | libvirt).cast_signed()
}

/// When a timer of so many milliseconds is due; a negative number turns it off.
fn due(milliseconds: c_int) -> (Option<Instant>, Duration) {
    match u64::try_from(milliseconds) {
        Ok(milliseconds) => {
            let every = Duration::from_millis(milliseconds);
            (Some(Instant::now() + every), every)
        }
        Err(_) => (None, Duration::ZERO),
    }
}

extern "C" fn add_handle(
    fd: c_int,
    events: c_int,
    callback: sys::virEventHandleCallback,
    opaque: *mut c_void,
    free: sys::virFreeCallback,
) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let events = from_libvirt(events);
    let mut state = it.state.lock();
    let watch = state.number();
    if it.watch(watch, fd, epoll::EventFlags::empty(), events).is_err() {
        return -1;
    }
    state.handles.insert(watch, Handle { fd, events, callback, owned: Owned { opaque, free } });
    watch
}

extern "C" fn update_handle(watch: c_int, events: c_int) {
    let Some(it) = LOOP.get() else { return };
    let events = from_libvirt(events);
    let mut state = it.state.lock();
    let Some(handle) = state.handles.get_mut(&watch) else { return };
    if handle.events != events && it.watch(watch, handle.fd, handle.events, events).is_ok() {
        handle.events = events;
    }
}

extern "C" fn remove_handle(watch: c_int) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let mut state = it.state.lock();
    let Some(handle) = state.handles.remove(&watch) else { return -1 };
    // A descriptor that is closed already has left epoll by itself.
    let _ = it.watch(watch, handle.fd, handle.events, epoll::EventFlags::empty());
    state.removed.push(handle.owned);
    drop(state);
    it.wake();
    0
}

extern "C" fn add_timer(
    milliseconds: c_int,
    callback: sys::virEventTimeoutCallback,
    opaque: *mut c_void,
    free: sys::virFreeCallback,
) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let number = {
        let mut state = it.state.lock();
        let number = state.number();
        let owned = Owned { opaque, free };
        state.timers.insert(number, Timer { due: None, every: Duration::ZERO, callback, owned });
        number
    };
    update_timer(number, milliseconds);
    number
}

extern "C" fn update_timer(number: c_int, milliseconds: c_int) {
    let Some(it) = LOOP.get() else { return };
    let (due, every) = due(milliseconds);
    let mut state = it.state.lock();
    let Some(timer) = state.timers.get_mut(&number) else { return };
    (timer.due, timer.every) = (due, every);
    // One that is later than the loop sleeps is found when it wakes.
    let is_sooner = due.is_some_and(|due| state.sleeps_until.is_none_or(|until| due < until));
    drop(state);
    if is_sooner {
        it.wake();
    }
}

extern "C" fn remove_timer(number: c_int) -> c_int {
    let Some(it) = LOOP.get() else { return -1 };
    let mut state = it.state.lock();
    let Some(timer) = state.timers.remove(&number) else { return -1 };
    state.removed.push(timer.owned);
    drop(state);
    it.wake();
    0
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Said {
        Handle(c_int),
        Timer(c_int),
        Freed,
    }

    fn say(opaque: *mut c_void, what: Said) {
        // SAFETY: `opaque` is a sender that lives to the end of the test.
        unsafe { &*opaque.cast::<Sender<Said>>() }.send(what).expect("the test listens");
    }

    extern "C" fn on_handle(_: c_int, _: c_int, events: c_int, opaque: *mut c_void) {
        say(opaque, Said::Handle(events));
    }

    extern "C" fn on_timer(number: c_int, opaque: *mut c_void) {
        // As libvirt does with those that are to ring once.
        update_timer(number, -1);
        say(opaque, Said::Timer(number));
    }

    extern "C" fn on_free(opaque: *mut c_void) {
        say(opaque, Said::Freed);
    }

    #[test]
    fn callbacks_come_while_they_are_wanted_and_what_is_removed_is_freed() {
        register().expect("registered");
        let events = LOOP.get().expect("registered");
        let (sender, said) = channel::<Said>();
        let sender = Box::new(sender);
        let opaque = std::ptr::from_ref(&*sender).cast_mut().cast::<c_void>();
        let (reader, writer) = io::pipe().expect("a pipe");
        let turn = || {
            // Whatever happens, the loop comes back.
            events.wake();
            events.turn().expect("a turn");
            said.try_iter().collect::<Vec<_>>()
        };
        let readable = sys::VIR_EVENT_HANDLE_READABLE.cast_signed();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let watch = add_handle(fd, 0, Some(on_handle), opaque, Some(on_free));
        assert!(watch > 0);
        rustix::io::write(&writer, b"x").expect("written");
        assert_eq!(turn(), [], "nothing is wanted yet");
        update_handle(watch, readable);
        assert_eq!(turn(), [Said::Handle(readable)]);
        update_handle(watch, 0);
        drop(writer);
        assert_eq!(turn(), [], "not even of the end");
        update_handle(watch, readable);
        let hung_up = sys::VIR_EVENT_HANDLE_HANGUP.cast_signed();
        assert_eq!(turn(), [Said::Handle(readable | hung_up)]);
        assert_eq!(remove_handle(watch), 0);
        assert_eq!(turn(), [Said::Freed]);
        assert_eq!(remove_handle(watch), -1, "it is gone");

        let timer = add_timer(-1, Some(on_timer), opaque, Some(on_free));
        assert_eq!(turn(), []);
        update_timer(timer, 0);
        assert_eq!(turn(), [Said::Timer(timer)]);
        assert_eq!(turn(), [], "it turned itself off");
        update_timer(timer, 20);
        // The first turn sees that the timer is sooner, the second sleeps until then.
        (0..2).for_each(|_| events.turn().expect("a turn"));
        assert_eq!(said.try_recv(), Ok(Said::Timer(timer)));
        assert_eq!(remove_timer(timer), 0);
        assert_eq!(turn(), [Said::Freed]);
    }
}
