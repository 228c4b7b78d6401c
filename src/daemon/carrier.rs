//! The STOMP server as the daemon has it: there if it has an address, changed by a reload.
//!
//! It is an addition, so that certificates which are not there (yet) keep nothing else from running: they are looked for again.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::DaemonError;
use crate::config::Vdsm;
use crate::export::vdsm::Rpc;
use crate::listen::BindError;
use crate::stomp::{Listeners, Server, TlsError, TlsFiles};
use crate::store::Store;

/// How long until certificates that could not be used are looked at again. Whoever renews them takes minutes.
const AGAIN: Duration = Duration::from_secs(60);

/// Carries VDSM's JSON-RPC.
pub(super) struct Carrier {
    rpc: Arc<Rpc>,
    store: Arc<Store>,
    server: Option<Server>,
    /// Why there is no TLS, and when that is looked at again; `None` if all is served.
    lacking: Option<(String, Instant)>,
}

/// Opens the ports, if there are any.
pub(super) fn bind(settings: &Vdsm) -> Result<Listeners, BindError> {
    Listeners::bind(&settings.stomp_listen)
}

/// Reads the certificates, if an address needs them.
pub(super) fn check(settings: &Vdsm) -> Result<(), TlsError> {
    if settings.stomp_listen.iter().any(Listeners::needs_tls) { files(settings).check() } else { Ok(()) }
}

fn files(settings: &Vdsm) -> TlsFiles {
    TlsFiles {
        certificate: settings.tls_certificate.clone(),
        key: settings.tls_key.clone(),
        authorities: settings.tls_ca.clone(),
    }
}

fn announce(server: &Server, secure: bool) {
    for address in server.addresses().iter().filter(|address| Listeners::needs_tls(address) == secure) {
        let how = if secure { "TLS" } else { "plain" };
        tracing::info!("carrying VDSM's JSON-RPC on stomp://{address} ({how})");
    }
}

impl Carrier {
    /// Serves the listeners.
    pub(super) fn start(listeners: Listeners, settings: &Vdsm, store: &Arc<Store>) -> io::Result<Self> {
        let rpc = Arc::new(Rpc::new(Arc::clone(store)));
        let mut carrier = Self { rpc, store: Arc::clone(store), server: None, lacking: None };
        carrier.serve(listeners, settings)?;
        Ok(carrier)
    }

    fn serve(&mut self, listeners: Listeners, settings: &Vdsm) -> io::Result<()> {
        if listeners.addresses().is_empty() {
            return Ok(());
        }
        let server = Server::start(listeners, &self.rpc, &self.store)?;
        announce(&server, false);
        self.server = Some(server);
        self.renew(settings);
        Ok(())
    }

    fn open(&mut self, settings: &Vdsm) -> Result<(), DaemonError> {
        Ok(self.serve(bind(settings)?, settings)?)
    }

    /// Reads the certificates, if an address needs them; what is in force stays so if they cannot be used. Returns whether they can.
    fn renew(&mut self, settings: &Vdsm) -> bool {
        let Some(server) = &self.server else { return true };
        let lacked = !server.is_complete();
        match server.renew(&files(settings)) {
            Ok(()) => {
                self.lacking = None;
                if lacked {
                    announce(server, true);
                }
                true
            }
            Err(error) if lacked => {
                let error = error.to_string();
                // Once, and not each minute.
                if self.lacking.as_ref().is_none_or(|(said, _)| *said != error) {
                    tracing::error!(%error, "no STOMP over TLS until this is mended; it is tried again each minute, and all else is served");
                }
                self.lacking = Some((error, Instant::now() + AGAIN));
                false
            }
            Err(error) => {
                tracing::error!(%error, "the old STOMP certificates stay in force");
                false
            }
        }
    }

    /// Returns when certificates that could not be used are to be looked at again; never, if none are lacking.
    pub(super) async fn is_due(&self) {
        match &self.lacking {
            Some((_, at)) => sleep_until(*at).await,
            None => pending().await,
        }
    }

    /// Looks at the certificates again.
    pub(super) fn try_again(&mut self, settings: &Vdsm) {
        self.renew(settings);
    }

    /// Begins to put new settings in force, with what is in the files now. Returns whether other addresses are to be
    /// [opened](Self::reopen): those before are closed then, so that they are free for whoever wants them now.
    pub(super) async fn reload(&mut self, old: &Vdsm, new: &mut Vdsm) -> bool {
        let asked = self.server.as_ref().map_or(&[][..], Server::asked);
        let lacked = self.lacking.take().is_some();
        if asked == new.stomp_listen {
            // Without any in force, the files that are named now are those to look at.
            if !self.renew(new) && !lacked {
                new.clone_from(old);
            }
            return false;
        }
        // Looked at while the old ones are still served, since bad files are no reason to stop that.
        if self.server.is_some()
            && !lacked
            && let Err(error) = check(new)
        {
            tracing::error!(%error, "the old STOMP addresses stay in force");
            new.clone_from(old);
            return false;
        }
        self.stop_serving().await;
        true
    }

    /// Opens the new addresses, or else the old ones, and says so.
    pub(super) fn reopen(&mut self, old: &Vdsm, new: &mut Vdsm) {
        let Err(error) = self.open(new) else { return };
        tracing::error!(%error, "the old STOMP addresses stay in force");
        new.clone_from(old);
        if let Err(error) = self.open(old) {
            tracing::error!(%error, "nothing is carried over STOMP until a configuration with free addresses is loaded");
        }
    }

    async fn stop_serving(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Ends, within a second.
    pub(super) async fn stop(mut self) {
        self.stop_serving().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn certificates_that_are_not_there_are_looked_for_each_minute() {
        let store = Arc::new(Store::new(Arc::new(SystemClock)));
        for (address, is_lacking) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
            let missing = || "/nonexistent/file.pem".into();
            let settings = Vdsm {
                stomp_listen: vec![address.parse().expect("valid")],
                tls_certificate: missing(),
                tls_key: missing(),
                tls_ca: missing(),
            };
            let listeners = bind(&settings).expect("a free port");
            let mut carrier = Carrier::start(listeners, &settings, &store).expect("a thread");
            for _ in 0..3 {
                let begin = Instant::now();
                assert_eq!(timeout(60 * AGAIN, carrier.is_due()).await.is_ok(), is_lacking);
                assert_eq!(begin.elapsed(), if is_lacking { AGAIN } else { 60 * AGAIN });
                carrier.try_again(&settings);
            }
        }
    }
}
