//! Listeners and connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::router::App;

/// Connections served at once; more wait in the listen queue. A scraper, a few engines and people need a dozen.
const CONNECTIONS: usize = 512;
/// A client that takes longer to send a request's head is not one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers under way may take at the end. SIGTERM promises two seconds for everything.
const FAREWELL: Duration = Duration::from_millis(1000);
/// Accepting can fail for a while, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {}", explain(.error))]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has this port (ss -ltnp shows which); choose another with --listen".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => error.to_string(),
    }
}

/// Sockets that listen, with nobody serving them yet.
pub struct Listeners {
    asked: Vec<SocketAddr>,
    sockets: Vec<TcpListener>,
}

impl Listeners {
    /// Opens all of them, or none.
    ///
    /// # Errors
    /// [`BindError`], which names the address.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for address in addresses {
            sockets.push(TcpListener::bind(address).await.map_err(|error| BindError { address: *address, error })?);
        }
        Ok(Self { asked: addresses.to_vec(), sockets })
    }

    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self { asked: Vec::new(), sockets: Vec::new() }
    }

    /// The addresses, with the port that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// A running server.
pub struct Server {
    asked: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Serves the listeners until [`stop`](Self::stop).
    #[must_use]
    pub fn start(listeners: Listeners, app: &Arc<App>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        for socket in listeners.sockets {
            tasks.spawn(accept(socket, Arc::clone(app), Arc::clone(&places), stopped.clone()));
        }
        Self { asked: listeners.asked, stop, tasks }
    }

    /// The addresses as they were asked for.
    #[must_use]
    pub fn asked(&self) -> &[SocketAddr] {
        &self.asked
    }

    /// Closes the listeners at once, and lets answers under way end within a second.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.tasks.join_all().await;
    }
}

async fn accept(socket: TcpListener, app: Arc<App>, places: Arc<Semaphore>, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(app.serve(request).await) }
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
