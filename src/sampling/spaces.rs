//! How full the file systems of some paths are. Asking may block for ever, where a network's server is gone; so each path has a
//! thread of its own, which nobody waits for.
//!
//! A thread lives as long as its path is wanted. One that hangs is kept in mind when its path is not wanted any more: should it
//! be wanted again, no second one is started.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::complaint::Complaint;
use crate::model::Stamp;
use crate::model::host::{PathSpace, Space, Spaces};

/// Who answers later than this is shown as blocked. A healthy file system answers in microseconds, a network's in milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A path, and what its file system answered.
pub(super) struct Answer {
    path: Arc<str>,
    result: io::Result<Space>,
}

/// Asks, and remembers the answers.
pub(super) struct SpaceWatch {
    spaces: Arc<dyn Spaces>,
    /// Those that are wanted, in their order.
    wanted: Vec<Arc<str>>,
    /// Is a path that does not exist left out, instead of shown with an error?
    missing_is_fine: bool,
    paths: HashMap<Arc<str>, Watched>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    no_thread: Complaint,
}

struct Watched {
    /// To its thread, which ends when this is dropped.
    orders: Sender<()>,
    /// When it was asked what it has not answered yet.
    asked: Option<Stamp>,
    space: Option<(Stamp, Space)>,
    problem: Option<Arc<str>>,
    missing: bool,
    /// Does the log say that it is blocked?
    told: bool,
}

impl SpaceWatch {
    /// Watches nothing yet.
    pub(super) fn new(spaces: Arc<dyn Spaces>) -> Self {
        let (sender, answers) = unbounded();
        Self {
            spaces,
            wanted: Vec::new(),
            missing_is_fine: false,
            paths: HashMap::new(),
            sender,
            answers,
            no_thread: Complaint::default(),
        }
    }

    /// Says which paths are wanted from now on.
    pub(super) fn want(&mut self, paths: &[String], missing_is_fine: bool) {
        self.missing_is_fine = missing_is_fine;
        self.wanted = paths.iter().map(|path| Arc::from(path.as_str())).collect();
        self.forget_unwanted();
    }

    /// Asks about each path that is not being asked about.
    pub(super) fn ask(&mut self, now: Stamp) {
        for path in &self.wanted {
            if !self.paths.contains_key(path) {
                match watch(path, &self.spaces, &self.sender) {
                    Ok(watched) => {
                        self.paths.insert(Arc::clone(path), watched);
                    }
                    Err(error) => {
                        if self.no_thread.is_news(&error.to_string(), now.at) {
                            tracing::warn!(%path, %error, "no thread can be started to see how full this is");
                        }
                    }
                }
            }
            if let Some(watched) = self.paths.get_mut(path)
                && watched.asked.is_none()
                && watched.orders.try_send(()).is_ok()
            {
                watched.asked = Some(now);
            }
        }
    }

    /// Where answers come in.
    pub(super) fn answers(&self) -> Receiver<Answer> {
        self.answers.clone()
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, Answer { path, result }: Answer) {
        let Some(watched) = self.paths.get_mut(&path) else { return };
        let asked = watched.asked.take();
        if std::mem::take(&mut watched.told) {
            tracing::info!(%path, "how full this is can be told again");
        }
        match result {
            Ok(space) => {
                watched.space = asked.map(|asked| (asked, space));
                (watched.problem, watched.missing) = (None, false);
            }
            Err(error) => {
                watched.missing = error.kind() == io::ErrorKind::NotFound;
                // Figures of what is not there any more would be of something else.
                watched.space = watched.space.filter(|_| !watched.missing);
                watched.problem = Some(error.to_string().into());
            }
        }
        self.forget_unwanted();
    }

    /// When the next path is to be shown as blocked, if it does not answer before.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        let asked = self.wanted.iter().filter_map(|path| self.paths.get(path)?.asked);
        asked.map(|asked| asked.at + PATIENCE).filter(|at| *at > now).min()
    }

    /// Says in the log who is blocked, once each.
    pub(super) fn complain(&mut self, now: Instant) {
        for path in &self.wanted {
            if let Some(watched) = self.paths.get_mut(path)
                && watched.asked.is_some_and(|asked| now.saturating_duration_since(asked.at) >= PATIENCE)
                && !std::mem::replace(&mut watched.told, true)
            {
                tracing::warn!(%path, "does not answer how full it is; its last figures stay, with their age");
            }
        }
    }

    /// What is known of each path, in the order in which they are wanted.
    pub(super) fn known(&self, now: Instant) -> Vec<PathSpace> {
        let known = |path: &Arc<str>| {
            let Watched { asked, space, ref problem, missing, .. } = *self.paths.get(path)?;
            let blocked_since = asked.filter(|asked| now.saturating_duration_since(asked.at) >= PATIENCE);
            // Until the first answer there is nothing to say.
            let says = space.is_some() || blocked_since.is_some() || (problem.is_some() && !self.hides(missing));
            says.then(|| PathSpace { path: Arc::clone(path), space, blocked_since, problem: problem.clone() })
        };
        self.wanted.iter().filter_map(known).collect()
    }

    fn hides(&self, missing: bool) -> bool {
        missing && self.missing_is_fine
    }

    /// Ends the threads of paths that are not wanted, but those that hang: they end when they come back.
    fn forget_unwanted(&mut self) {
        let wanted = &self.wanted;
        self.paths.retain(|path, watched| watched.asked.is_some() || wanted.contains(path));
    }
}

/// Starts the thread of a path.
fn watch(path: &Arc<str>, spaces: &Arc<dyn Spaces>, answers: &Sender<Answer>) -> io::Result<Watched> {
    let (orders, ordered) = bounded::<()>(1);
    let (path, spaces, answers) = (Arc::clone(path), Arc::clone(spaces), answers.clone());
    thread::Builder::new().name("space".to_owned()).spawn(move || {
        while ordered.recv().is_ok() {
            let result = spaces.space(&path);
            if answers.send(Answer { path: Arc::clone(&path), result }).is_err() {
                return;
            }
        }
    })?;
    Ok(Watched { orders, asked: None, space: None, problem: None, missing: false, told: false })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::{Condvar, Mutex};

    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    /// File systems that hang on command.
    #[derive(Default)]
    pub(in crate::sampling) struct Mounts {
        hangs: Mutex<bool>,
        opened: Condvar,
        missing: Mutex<bool>,
        /// Questions that were put, of all paths and of those that can hang.
        asked: AtomicUsize,
        asked_dead: AtomicUsize,
    }

    impl Mounts {
        pub(in crate::sampling) fn hang(&self, hangs: bool) {
            *self.hangs.lock() = hangs;
            self.opened.notify_all();
        }
    }

    impl Spaces for Mounts {
        fn space(&self, path: &str) -> io::Result<Space> {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst) as u64 + 1;
            if path.starts_with("/dead") {
                self.asked_dead.fetch_add(1, Ordering::SeqCst);
                self.opened.wait_while(&mut self.hangs.lock(), |hangs| *hangs);
            }
            if path == "/missing" && *self.missing.lock() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Space { total_bytes: 1000, free_bytes: asked, ..Space::default() })
        }
    }

    struct Lab {
        clock: ManualClock,
        mounts: Arc<Mounts>,
        watch: SpaceWatch,
    }

    impl Lab {
        fn new(paths: &[&str]) -> Self {
            let mounts = Arc::new(Mounts::default());
            let watch = SpaceWatch::new(Arc::<Mounts>::clone(&mounts));
            let mut lab = Self { clock: ManualClock::new(), mounts, watch };
            lab.want(paths, false);
            lab
        }

        fn want(&mut self, paths: &[&str], missing_is_fine: bool) {
            self.watch.want(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>(), missing_is_fine);
        }

        fn ask(&mut self) {
            self.clock.advance(Duration::from_secs(5));
            self.watch.ask(Stamp { at: self.clock.now(), wall: self.clock.wall() });
        }

        /// Takes so many answers, as they come.
        fn take(&mut self, count: usize) {
            for _ in 0..count {
                let answer = self.watch.answers.recv().expect("the watch itself holds a sender");
                self.watch.answered(answer);
            }
        }

        fn known(&self) -> Vec<PathSpace> {
            self.watch.known(self.clock.now())
        }

        fn names(&self) -> Vec<String> {
            self.known().iter().map(|known| known.path.to_string()).collect()
        }
    }

    #[test]
    fn a_path_that_hangs_costs_the_others_nothing_and_is_asked_by_one_thread() {
        let mut lab = Lab::new(&["/dead", "/"]);
        assert_eq!(lab.known(), []);
        lab.ask();
        lab.take(2);
        let before = lab.known();
        assert_eq!(lab.names(), ["/dead", "/"]);
        lab.mounts.hang(true);
        for turn in 0..3 {
            lab.ask();
            lab.take(1);
            assert_eq!(lab.known()[0].blocked_since.is_some(), turn > 0);
            assert!(
                lab.known()[1].space.expect("answers").1.free_bytes > before[1].space.expect("answered").1.free_bytes
            );
        }
        let asked = lab.clock.now() - Duration::from_secs(10);
        let blocked = &lab.known()[0];
        assert_eq!(blocked.blocked_since.map(|since| since.at), Some(asked));
        assert_eq!(blocked.space, before[0].space, "what it said last, and when");
        lab.mounts.hang(false);
        lab.take(1);
        assert_eq!(lab.mounts.asked_dead.load(Ordering::SeqCst), 2, "before, and once while it hung");
        let after = &lab.known()[0];
        assert_eq!((after.blocked_since, after.space.map(|space| space.0.at)), (None, Some(asked)));
    }

    #[test]
    fn it_is_blocked_after_a_second_and_that_moment_is_known() {
        let mut lab = Lab::new(&["/dead", "/"]);
        lab.mounts.hang(true);
        lab.ask();
        lab.take(1);
        let asked = lab.clock.now();
        assert_eq!(lab.names(), ["/"]);
        assert_eq!(lab.watch.next_overdue(asked), Some(asked + PATIENCE));
        lab.clock.advance(PATIENCE);
        assert_eq!(lab.names(), ["/dead", "/"], "blocked, and without figures");
        assert_eq!(lab.watch.next_overdue(lab.clock.now()), None);
        lab.mounts.hang(false);
    }

    #[test]
    fn a_thread_that_hangs_is_the_same_one_when_its_path_is_wanted_again_and_ends_when_it_is_not() {
        let mut lab = Lab::new(&["/dead"]);
        lab.mounts.hang(true);
        for paths in [&["/dead", "/"][..], &["/"], &["/dead"], &["/"]] {
            lab.want(paths, false);
            lab.ask();
            if paths.contains(&"/") {
                lab.take(1);
            }
        }
        assert_eq!(lab.watch.paths.len(), 2);
        lab.mounts.hang(false);
        lab.take(1);
        assert_eq!(lab.mounts.asked_dead.load(Ordering::SeqCst), 1);
        assert_eq!((lab.watch.paths.len(), lab.names()), (1, vec!["/".to_owned()]));
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error_unless_that_is_fine() {
        let mut lab = Lab::new(&["/missing"]);
        lab.ask();
        lab.take(1);
        assert!(lab.known()[0].space.is_some());
        *lab.mounts.missing.lock() = true;
        lab.ask();
        lab.take(1);
        let known = &lab.known()[0];
        assert_eq!((known.space, known.problem.as_deref()), (None, Some("entity not found")));
        lab.want(&["/missing"], true);
        assert_eq!(lab.known(), []);
    }
}
