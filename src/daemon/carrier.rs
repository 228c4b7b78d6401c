//! The STOMP server as the daemon has it: there if it has an address, changed by a reload.

use std::io;
use std::sync::Arc;

use super::DaemonError;
use crate::config::Vdsm;
use crate::export::vdsm::Rpc;
use crate::stomp::{ListenError, Listeners, Server, TlsError, TlsFiles};
use crate::store::Store;

/// Carries VDSM's JSON-RPC.
pub(super) struct Carrier {
    rpc: Arc<Rpc>,
    store: Arc<Store>,
    server: Option<Server>,
}

/// Opens the ports, if there are any.
pub(super) fn bind(settings: &Vdsm) -> Result<Listeners, ListenError> {
    Listeners::bind(&settings.stomp_listen, &files(settings))
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

impl Carrier {
    /// Serves the listeners.
    pub(super) fn start(listeners: Listeners, store: &Arc<Store>) -> io::Result<Self> {
        let rpc = Arc::new(Rpc::new(Arc::clone(store)));
        let mut carrier = Self { rpc, store: Arc::clone(store), server: None };
        carrier.serve(listeners)?;
        Ok(carrier)
    }

    fn serve(&mut self, listeners: Listeners) -> io::Result<()> {
        let addresses = listeners.addresses();
        if addresses.is_empty() {
            return Ok(());
        }
        self.server = Some(Server::start(listeners, &self.rpc, &self.store)?);
        for address in addresses {
            let how = if Listeners::needs_tls(&address) { "TLS" } else { "plain" };
            tracing::info!("carrying VDSM's JSON-RPC on stomp://{address} ({how})");
        }
        Ok(())
    }

    fn open(&mut self, settings: &Vdsm) -> Result<(), DaemonError> {
        Ok(self.serve(bind(settings)?)?)
    }

    /// Puts new settings in force, and what is in the files now. What cannot be put in force stays as it was, and is said.
    pub(super) async fn reload(&mut self, old: &Vdsm, new: &mut Vdsm) {
        let asked = self.server.as_ref().map_or(&[][..], Server::asked);
        if asked == new.stomp_listen {
            let renewed = self.server.as_ref().map_or(Ok(()), |server| server.renew(&files(new)));
            if let Err(error) = renewed {
                tracing::error!(%error, "the old STOMP certificates stay in force");
                new.clone_from(old);
            }
            return;
        }
        // Looked at while the old ones are still served, since bad files are no reason to stop that.
        if let Err(error) = check(new) {
            tracing::error!(%error, "the old STOMP addresses stay in force");
            new.clone_from(old);
            return;
        }
        // Addresses that stay must be free before they can be bound again, so the old listeners go first.
        self.stop_serving().await;
        if let Err(error) = self.open(new) {
            tracing::error!(%error, "the old STOMP addresses stay in force");
            new.clone_from(old);
            if let Err(error) = self.open(old) {
                tracing::error!(%error, "nothing is carried over STOMP until a configuration with free addresses is loaded");
            }
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
