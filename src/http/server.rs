//! Listeners and connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::router::App;
use crate::listen::{self, BindError, Of};

/// Connections served at once; more wait in the listen queue. A scraper, a few engines and people need a dozen.
const CONNECTIONS: usize = 512;
/// Threads that serve. One is enough for scrapers and engines; with two, a list of very many domains that is being made keeps
/// nobody else waiting, and two CPUs can be used when everybody asks at once. More would take the host's.
const THREADS: usize = 2;
/// How long a connection may wait for its next request. Longer than Prometheus' default interval of a minute, so that a
/// scraper keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may leave what it was sent unread. Without it, clients that never read would keep their places, and
/// the renderings that they were to get, for ever.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take at the end. SIGTERM promises two seconds for everything.
const FAREWELL: Duration = Duration::from_millis(700);
/// Accepting can fail for a while, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The addresses are those of `[http] listen` or of `--listen`.
const ADDRESSES: Of = Of { key: "", hint: "", cure: " with --listen" };

/// Sockets that listen, with nobody serving them yet.
pub struct Listeners {
    asked: Vec<SocketAddr>,
    sockets: Vec<std::net::TcpListener>,
}

impl Listeners {
    /// Opens all of them, or none.
    ///
    /// # Errors
    /// [`BindError`], which names the address.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        Ok(Self { asked: addresses.to_vec(), sockets: listen::open(addresses, &ADDRESSES)? })
    }

    /// The addresses, with the port that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// A running server. It has threads of its own, so that no number of clients can keep the daemon from hearing a signal.
pub struct Server {
    asked: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    /// Closed when no thread serves any more.
    ended: mpsc::Receiver<()>,
}

impl Server {
    /// Serves the listeners until [`stop`](Self::stop).
    ///
    /// # Errors
    /// If the thread or its event loop cannot be made.
    pub fn start(listeners: Listeners, app: &Arc<App>) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let Listeners { asked, sockets } = listeners;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        for number in 0..THREADS {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let sockets: Vec<TcpListener> = {
                let _inside = runtime.enter();
                sockets.iter().map(|socket| TcpListener::from_std(socket.try_clone()?)).collect::<io::Result<_>>()?
            };
            let (app, places, stopped) = (Arc::clone(app), Arc::clone(&places), stopped.clone());
            let alive = alive.clone();
            thread::Builder::new().name(format!("http-{number}")).spawn(move || {
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for socket in sockets {
                        tasks.spawn(accept(socket, Arc::clone(&app), Arc::clone(&places), stopped.clone()));
                    }
                    tasks.join_all().await;
                });
                // Whoever waits for the end of all waits for this.
                drop(alive);
            })?;
        }
        Ok(Self { asked, stop, ended })
    }

    /// The addresses as they were asked for.
    #[must_use]
    pub fn asked(&self) -> &[SocketAddr] {
        &self.asked
    }

    /// Closes the listeners at once, and lets answers under way end within 700 ms.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(FAREWELL + Duration::from_millis(300), self.ended.recv()).await.is_err() {
            tracing::warn!("the HTTP server is too busy to end in time");
        }
    }
}

async fn accept(socket: TcpListener, app: Arc<App>, places: Arc<Semaphore>, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // The semaphore is never closed; without a place the connection waits in the listen queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let unread = u32::try_from(UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread) {
            tracing::debug!(%error, "cannot limit how long answers stay unread");
        }
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(app.serve(request, peer.ip()).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(socket);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
}
