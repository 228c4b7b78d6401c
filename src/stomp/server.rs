//! Listeners and connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::IntGauge;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::refusal::Reason;
use super::tls::{TlsError, TlsFiles};
use crate::export::vdsm::Rpc;
use crate::listen::{self, BindError, Of};
use crate::store::Store;

/// Connections that each listener serves at once; more wait in the listen queue. An engine has one, and each `vdsm-client` one for
/// a moment. At most, one holds 3 MiB besides its snapshot: a frame of a megabyte that is not complete, or the ten thousand calls
/// of one, and what of their answers is made. Only programs of this host, and clients with a certificate, come so far.
const CONNECTIONS: usize = 64;
/// TLS handshakes that each listener has under way at once. Anybody can begin one, and leave it so for [`HANDSHAKE_TIME`]; it takes
/// none of the places above.
const HANDSHAKES: usize = 16;
/// How long a client may take for its part of TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may leave what it was sent unread, as with HTTP.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take at the end. SIGTERM promises two seconds for everything.
const FAREWELL: Duration = Duration::from_millis(700);
/// Accepting can fail for a while, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const ADDRESSES: Of = Of { key: " (vdsm.stomp-listen)", hint: "; 54321 is VDSM's own", cure: "" };

/// Sockets that listen, with nobody serving them yet.
pub struct Listeners {
    asked: Vec<SocketAddr>,
    sockets: Vec<std::net::TcpListener>,
}

impl Listeners {
    /// Does anybody but this host's own programs reach this address? They have to show a certificate then, as with VDSM.
    #[must_use]
    pub fn needs_tls(address: &SocketAddr) -> bool {
        !address.ip().is_loopback()
    }

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

/// A running server. It has a thread of its own, so that its clients keep neither HTTP's nor signals waiting.
pub struct Server {
    asked: Vec<SocketAddr>,
    addresses: Vec<SocketAddr>,
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
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Serves the listeners until [`stop`](Self::stop). The store is where connections are counted. Connections to addresses that
    /// need TLS are closed at once until there are certificates, which [`renew`](Self::renew) brings.
    ///
    /// # Errors
    /// If the thread or its event loop cannot be made.
    pub fn start(listeners: Listeners, rpc: &Arc<Rpc>, store: &Arc<Store>) -> io::Result<Self> {
        let addresses = listeners.addresses();
        let Listeners { asked, sockets } = listeners;
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let (tls, current) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sockets: Vec<TcpListener> = {
            let _inside = runtime.enter();
            sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?
        };
        let shared = Shared { rpc: Arc::clone(rpc), store: Arc::clone(store), tls: current, stopped };
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
        Ok(Self { asked, addresses, tls, stop, ended })
    }

    /// The addresses as they were asked for.
    #[must_use]
    pub fn asked(&self) -> &[SocketAddr] {
        &self.asked
    }

    /// The addresses, with the port that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Are there certificates, or does no address need any?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.asked.iter().any(Listeners::needs_tls) || self.tls.borrow().is_some()
    }

    /// Reads the files, if any address needs them: connections from now on get what is in them.
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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let first = if secure { &handshakes } else { &places };
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed; without a place the connection waits in the listen queue.
            let place = Arc::clone(first).acquire_owned().await;
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
                let places = secure.then(|| Arc::clone(&places));
                connections.spawn(async move { serve(stream, place, places, &shared).await });
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

/// A place among those that are served at once. A semaphore that is closed would give none; ours never are.
type Place = Result<OwnedSemaphorePermit, AcquireError>;

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

/// Serves a connection, which has a place for its handshake if it is to take another from those.
async fn serve(stream: TcpStream, place: Place, places: Option<Arc<Semaphore>>, shared: &Shared) {
    let metrics = &shared.store.metrics;
    // Small answers must not wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let unread = u32::try_from(UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread) {
        tracing::debug!(%error, "cannot limit how long answers stay unread");
    }
    let _counted = Counted::new(&metrics.stomp_connections);
    let refused = match places {
        Some(places) => serve_tls(stream, place, places, shared).await,
        None => speak(stream, place, shared).await,
    };
    if let Some(reason) = refused {
        metrics.stomp_refused.with_label_values(&[reason.label()]).inc();
    }
}

async fn serve_tls(stream: TcpStream, handshake: Place, places: Arc<Semaphore>, shared: &Shared) -> Option<Reason> {
    // Never plain instead.
    let Some(tls) = shared.tls.borrow().clone() else { return Some(Reason::Tls) };
    let acceptor = TlsAcceptor::from(tls);
    let mut stopped = shared.stopped.clone();
    let secured = tokio::select! {
        secured = timeout(HANDSHAKE_TIME, acceptor.accept(stream)) => secured,
        _ = stopped.wait_for(|stop| *stop) => return None,
    };
    match secured {
        Ok(Ok(stream)) => {
            let place = tokio::select! {
                place = places.acquire_owned() => place,
                _ = stopped.wait_for(|stop| *stop) => return None,
            };
            drop(handshake);
            return speak(stream, place, shared).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a client did not get through TLS"),
        Err(_) => tracing::debug!("a client took too long for TLS"),
    }
    Some(Reason::Tls)
}

async fn speak<S>(stream: S, place: Place, shared: &Shared) -> Option<Reason>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let reason = connection::serve(stream, |request| shared.rpc.answer(request), shared.stopped.clone()).await;
    drop(place);
    reason
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
