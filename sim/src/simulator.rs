//! A simulator in this process: for the binary, and for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::command::{Command, Nothing};
use crate::control::{self, CommandError, Reply, Status};
use crate::daemon::Daemon;
use crate::host::{Host, Plan};
use crate::limits::Times;
use crate::scenario::{self, Scenario, ScenarioError};
use crate::server::{self, Listening, SocketError};

/// What a simulator is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub socket: PathBuf,
    /// Where it takes commands from other processes, if at all.
    pub control: Option<PathBuf>,
    /// Where what looks random comes from.
    pub seed: u64,
    /// How many guests there are, shut-off ones included.
    pub domains: u32,
    /// How many of a thousand are shut off.
    pub shut_off_per_mille: u32,
    /// What happens by itself. Its numbers of guests are not looked at here.
    pub scenario: Scenario,
    /// Limits of time.
    pub times: Times,
}

impl Settings {
    /// Fifty guests, all running, and no commands from outside.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            control: None,
            seed: 1,
            domains: 50,
            shut_off_per_mille: 0,
            scenario: Scenario::default(),
            times: Times::default(),
        }
    }
}

/// Why there is no simulator.
#[derive(Debug, Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Its scenario is about other guests.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// It has no threads.
    #[error("cannot start its threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A simulated libvirtd that runs, on threads of its own. It ends when it is dropped, and its sockets with it.
pub struct Simulator {
    socket: PathBuf,
    daemon: Arc<Daemon>,
    runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts one; it listens when this returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { socket, control, seed, domains, shut_off_per_mille, scenario, times } = settings;
        let host = Host::new(Plan { seed, domains, shut_off_per_mille, begun: SystemTime::now() });
        scenario.check(&host)?;
        let (orders, commands) = mpsc::unbounded_channel();
        let daemon = Daemon::new(host, times, orders);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulator")
            .enable_all()
            .build()?;
        let bound = {
            let _inside = runtime.enter();
            Listening::bind(&socket).and_then(|at| Ok((at, control.as_deref().map(Listening::bind).transpose()?)))
        };
        let (listening, control) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                // Not dropped: whoever calls may be on a runtime too, where that is not allowed.
                runtime.shutdown_background();
                return Err(error.into());
            }
        };
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let serving = server::serve(Arc::clone(&daemon), socket.clone(), listening, commands);
        let controlled = Arc::clone(&daemon);
        let thread = thread::Builder::new().name("simulator".to_owned()).spawn(move || {
            runtime.block_on(async {
                scenario::run(&controlled, scenario);
                let control = async {
                    match control {
                        Some(listening) => control::socket::serve(Arc::clone(&controlled), listening).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = serving => {}
                    () = control => {}
                    _ = ended => {}
                }
            });
            // Whatever is stuck goes with it.
            controlled.die();
            runtime.shutdown_background();
        })?;
        Ok(Self { socket, daemon, runtime: handle, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What a client connects to.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket.display())
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn control(&self, command: Command) -> Result<Reply, CommandError> {
        let (done, wait) = std::sync::mpsc::channel();
        let daemon = Arc::clone(&self.daemon);
        self.runtime.spawn(async move {
            let _ = done.send(daemon.execute(command).await);
        });
        wait.recv().map_err(|_| CommandError::Ending)?
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.control(Command::Status(Nothing {})) {
            Ok(Reply::Status(status)) => *status,
            _ => Status::default(),
        }
    }

    /// Looks at the guests.
    pub fn with_host<T>(&self, look: impl FnOnce(&Host) -> T) -> T {
        look(&self.daemon.host.read())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
