//! A simulator in this process: for the binary, and for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::daemon::Daemon;
use crate::host::{Host, Plan};
use crate::limits::Times;
use crate::server::{self, Listening, PoolStatus, SocketError};

/// What a simulator is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub socket: PathBuf,
    /// Where what looks random comes from.
    pub seed: u64,
    /// How many guests there are, shut-off ones included.
    pub domains: u32,
    /// How many of a thousand are shut off.
    pub shut_off_per_mille: u32,
    /// Limits of time.
    pub times: Times,
}

impl Settings {
    /// Fifty guests, all running.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), seed: 1, domains: 50, shut_off_per_mille: 0, times: Times::default() }
    }
}

/// Why there is no simulator.
#[derive(Debug, Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// It has no threads.
    #[error("cannot start its threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A simulated libvirtd that runs, on threads of its own. It ends when it is dropped, and its sockets with it.
pub struct Simulator {
    socket: PathBuf,
    daemon: Arc<Daemon>,
    _orders: server::Orders,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts one; it listens when this returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { socket, seed, domains, shut_off_per_mille, times } = settings;
        let host = Host::new(Plan { seed, domains, shut_off_per_mille, begun: SystemTime::now() });
        let daemon = Daemon::new(host, times);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulator")
            .enable_all()
            .build()?;
        let listening = {
            let _inside = runtime.enter();
            Listening::bind(&socket)?
        };
        let (end, ended) = oneshot::channel();
        let (orders, commands) = mpsc::unbounded_channel();
        let serving = server::serve(Arc::clone(&daemon), socket.clone(), listening, commands);
        let thread = thread::Builder::new().name("simulator".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = ended => {}
                }
            });
            // Whatever is stuck goes with it.
            runtime.shutdown_background();
        })?;
        Ok(Self { socket, daemon, _orders: orders, end: Some(end), thread: Some(thread) })
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

    /// How its pool of workers is.
    #[must_use]
    pub fn pool(&self) -> PoolStatus {
        self.daemon.pool().status()
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
