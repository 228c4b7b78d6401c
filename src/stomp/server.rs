//! Listeners and connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::IntGauge;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::refusal::Reason;
use super::tls::{TlsError, TlsFiles};
use crate::export::vdsm::Rpc;
use crate::store::Store;

/// Connections served at once; more wait in the listen queue. An engine has one, and each `vdsm-client` one for a moment.
const CONNECTIONS: usize = 64;
/// How long a client may take for its part of TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may leave what it was sent unread, as with HTTP.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take at the end. SIGTERM promises two seconds for everything.
const FAREWELL: Duration = Duration::from_millis(700);
/// Accepting can fail for a while, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can be carried.
#[derive(Debug, Error)]
pub enum ListenError {
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} (vdsm.stomp-listen): {}", explain(.error))]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Other addresses than loopback need TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, or another of our addresses, has this port (ss -ltnp shows which; 54321 is VDSM's own); choose another".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => error.to_string(),
    }
}

/// Sockets that listen, with nobody serving them yet.
pub struct Listeners {
    asked: Vec<SocketAddr>,
    sockets: Vec<std::net::TcpListener>,
    /// There if any of them is not loopback.
    tls: Option<Arc<ServerConfig>>,
}

impl Listeners {
    /// Does anybody but this host's own programs reach this address? They have to show a certificate then, as with VDSM.
    #[must_use]
    pub fn needs_tls(address: &SocketAddr) -> bool {
        !address.ip().is_loopback()
    }

    /// Opens all of them, or none. The files are read only if an address needs them.
    ///
    /// # Errors
    /// [`ListenError`], which names the address or the file.
    pub fn bind(addresses: &[SocketAddr], files: &TlsFiles) -> Result<Self, ListenError> {
        let tls = addresses.iter().any(Self::needs_tls).then(|| files.load()).transpose()?;
        let bind = |address: &SocketAddr| {
            let socket = std::net::TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let named = |address| bind(address).map_err(|error| ListenError::Bind { address: *address, error });
        Ok(Self { asked: addresses.to_vec(), sockets: addresses.iter().map(named).collect::<Result<_, _>>()?, tls })
    }

    /// The addresses, with the port that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// A running server. It has a thread of its own, so that its clients keep neither HTTP's nor signals waiting.
pub struct Server {
    asked: Vec<SocketAddr>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    stop: watch::Sender<bool>,
    /// Closed when the thread serves no more.
    ended: mpsc::Receiver<()>,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    rpc: Arc<Rpc>,
    store: Arc<Store>,
    places: Arc<Semaphore>,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Serves the listeners until [`stop`](Self::stop). The store is where connections are counted.
    ///
    /// # Errors
    /// If the thread or its event loop cannot be made.
    pub fn start(listeners: Listeners, rpc: &Arc<Rpc>, store: &Arc<Store>) -> io::Result<Self> {
        let Listeners { asked, sockets, tls } = listeners;
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let (tls, current) = watch::channel(tls);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sockets: Vec<TcpListener> = {
            let _inside = runtime.enter();
            sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let shared = Shared { rpc: Arc::clone(rpc), store: Arc::clone(store), places, tls: current, stopped };
        thread::Builder::new().name("stomp".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for socket in sockets {
                    tasks.spawn(accept(socket, shared.clone()));
                }
                tasks.join_all().await;
            });
            drop(runtime);
            // Whoever waits for the end waits for this.
            drop(alive);
        })?;
        Ok(Self { asked, tls, stop, ended })
    }

    /// The addresses as they were asked for.
    #[must_use]
    pub fn asked(&self) -> &[SocketAddr] {
        &self.asked
    }

    /// Reads the files again, if any address needs them: connections from now on get what is in them.
    ///
    /// # Errors
    /// [`TlsError`], which names the file; what was in force stays so.
    pub fn renew(&self, files: &TlsFiles) -> Result<(), TlsError> {
        if self.asked.iter().any(Listeners::needs_tls) {
            self.tls.send_replace(Some(files.load()?));
        }
        Ok(())
    }

    /// Closes the listeners at once, and lets answers under way end within 700 ms.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if timeout(FAREWELL + Duration::from_millis(300), self.ended.recv()).await.is_err() {
            tracing::warn!("the STOMP server is too busy to end in time");
        }
    }
}

async fn accept(socket: TcpListener, mut shared: Shared) {
    let secure = socket.local_addr().is_ok_and(|address| Listeners::needs_tls(&address));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed; without a place the connection waits in the listen queue.
            let place = Arc::clone(&shared.places).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = shared.stopped.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    serve(stream, secure, &shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// A connection that is counted as open, until it is dropped, which the end of the thread may do.
struct Counted(IntGauge);

impl Counted {
    fn new(open: &IntGauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn serve(stream: TcpStream, secure: bool, shared: &Shared) {
    let metrics = &shared.store.metrics;
    // Small answers must not wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let unread = u32::try_from(UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread) {
        tracing::debug!(%error, "cannot limit how long answers stay unread");
    }
    let _counted = Counted::new(&metrics.stomp_connections);
    let refused = if secure { serve_tls(stream, shared).await } else { speak(stream, shared).await };
    if let Some(reason) = refused {
        metrics.stomp_refused.with_label_values(&[reason.label()]).inc();
    }
}

async fn serve_tls(stream: TcpStream, shared: &Shared) -> Option<Reason> {
    // Never plain instead: an address that needs TLS is bound only with it.
    let acceptor = TlsAcceptor::from(shared.tls.borrow().clone()?);
    let mut stopped = shared.stopped.clone();
    let handshake = tokio::select! {
        handshake = timeout(HANDSHAKE_TIME, acceptor.accept(stream)) => handshake,
        _ = stopped.wait_for(|stop| *stop) => return None,
    };
    match handshake {
        Ok(Ok(stream)) => return speak(stream, shared).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client did not get through TLS"),
        Err(_) => tracing::debug!("a client took too long for TLS"),
    }
    Some(Reason::Tls)
}

async fn speak<S>(stream: S, shared: &Shared) -> Option<Reason>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    connection::serve(stream, |request| shared.rpc.answer(request), shared.stopped.clone()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::STOMP_REFUSALS;

    #[test]
    fn every_reason_is_counted_from_zero() {
        assert_eq!(Reason::ALL.map(Reason::label), STOMP_REFUSALS);
    }

    #[test]
    fn only_loopback_goes_without_tls() {
        for (address, tls) in [
            ("127.0.0.1:1", false),
            ("127.1.2.3:1", false),
            ("[::1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.0.2.1:1", true),
            ("[::ffff:127.0.0.1]:1", true),
        ] {
            assert_eq!(Listeners::needs_tls(&address.parse().expect("valid")), tls, "{address}");
        }
    }
}
