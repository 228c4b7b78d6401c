//! Wires the parts, listens to signals, and ends in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod carrier;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use self::carrier::Carrier;
use crate::clock::SystemClock;
use crate::config::{Export, Overrides, Settings};
use crate::export::prometheus;
use crate::host::{FileSystems, HostFigures, HostStorage};
use crate::http::{App, Listeners, Server};
use crate::kernel::{self, QemuKernel, QemuProcesses};
use crate::libvirt::LibvirtFactory;
use crate::listen::BindError;
use crate::logging::Logging;
use crate::model::Kernel;
use crate::sampling::{self, Budget, Engine, HostLane, Parts};
use crate::stomp::TlsError;
use crate::store::{Snapshot, Store};

/// How long `snapshot` waits for its one sample.
const ONE_SAMPLE: Duration = Duration::from_secs(30);

/// Why the daemon cannot run.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// An address is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refused a thread, a signal handler or the like.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// No sample came.
    #[error("no complete sample: {reason}")]
    NoSample {
        /// What was missing.
        reason: String,
    },
}

/// Samples into a store; both end when it is dropped.
struct Sampler {
    store: Arc<Store>,
    engine: Option<Engine>,
    /// The places at each libvirtd, which outlive an engine as its calls do.
    budgets: HashMap<String, Budget>,
}

impl Sampler {
    fn new() -> Self {
        Self { store: Arc::new(Store::new(Arc::new(SystemClock))), engine: None, budgets: HashMap::new() }
    }

    /// Ends the engine; what its calls still bring is dropped.
    fn stop(&mut self) {
        self.engine = None;
    }

    /// Starts the engine.
    fn start(&mut self, settings: &Settings) -> std::io::Result<()> {
        let limit = settings.sampling.budget;
        let budget = self.budgets.entry(settings.uri.clone()).or_insert_with(|| Budget::new(limit)).clone();
        budget.set_limit(limit);
        let parts = Parts {
            factory: Arc::new(LibvirtFactory::new(settings.uri.clone())),
            processes: Box::new(QemuProcesses::new()),
            storage: Arc::new(HostStorage::new(Arc::new(SystemClock))),
            budget,
        };
        let kernel = kernel::reaches(&settings.uri).map(|()| Box::new(QemuKernel::new()) as Box<dyn Kernel>);
        self.engine = Some(sampling::start(&settings.sampling, parts, kernel, &self.store)?);
        Ok(())
    }
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// [`DaemonError`].
pub fn run(settings: Settings, overrides: &Overrides, logging: &Logging) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings, overrides, logging))
}

async fn serve(mut settings: Settings, overrides: &Overrides, logging: &Logging) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The port first: a second daemon on the host must not touch libvirt.
    let listeners = Listeners::bind(&settings.listen)?;
    let stomp = carrier::bind(&settings.vdsm)?;
    warn(&settings);
    let mut sampler = Sampler::new();
    sampler.start(&settings)?;
    let host = Box::new(HostFigures::new());
    let host = HostLane::start(&settings.host, host, Arc::new(FileSystems), Arc::clone(&sampler.store))?;
    let exposition = prometheus::start(&sampler.store, text_of(settings.export))?;
    let app = Arc::new(App::new(Arc::clone(&sampler.store), exposition));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), uri = %settings.uri, "started");
    let mut server = Some(serve_on(listeners, &app)?);
    let mut carrier = Carrier::start(stomp, &settings.vdsm, &sampler.store)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = carrier.is_due() => carrier.try_again(&settings.vdsm),
            _ = hangup.recv() => {
                match Settings::load(overrides) {
                    Err(error) => tracing::error!(%error, "the new configuration is bad; the old one stays in force"),
                    Ok(new) => {
                        if new.host != settings.host {
                            host.set(&new.host);
                        }
                        logging.set_level(new.log_level.0);
                        warn(&new);
                        let mut new = new;
                        server = move_ports(&settings, &mut new, server, &mut carrier, &app).await;
                        settings = reload(&settings, new, &mut sampler, &app);
                    }
                }
            }
        }
    }
    tracing::info!("ending");
    // Both at once: each may take a second, and the promise is two.
    let http = async {
        if let Some(server) = server {
            server.stop().await;
        }
    };
    tokio::join!(http, carrier.stop());
    // Calls to libvirt may hang for ever, so nobody waits for their threads; the end of the process ends them.
    Ok(())
}

/// Puts the new addresses of both servers in force. What changes is closed before anything is opened, since an address may stay,
/// or go from one to the other. What cannot be opened stays as it was, and is said.
async fn move_ports(
    old: &Settings,
    new: &mut Settings,
    mut server: Option<Server>,
    carrier: &mut Carrier,
    app: &Arc<App>,
) -> Option<Server> {
    let carries_elsewhere = carrier.reload(&old.vdsm, &mut new.vdsm).await;
    if server.as_ref().is_none_or(|server| server.asked() != new.listen) {
        if let Some(server) = server.take() {
            server.stop().await;
        }
        server = listen(&new.listen, app)
            .or_else(|error| {
                tracing::error!(%error, "the old addresses stay in force");
                new.listen.clone_from(&old.listen);
                listen(&old.listen, app)
            })
            .map_err(|error| {
                tracing::error!(%error, "nothing is served until a configuration with free addresses is loaded");
            })
            .ok();
    }
    if carries_elsewhere {
        carrier.reopen(&old.vdsm, &mut new.vdsm);
    }
    server
}

/// Puts the rest of new settings in force. What cannot be put in force is said.
fn reload(old: &Settings, new: Settings, sampler: &mut Sampler, app: &App) -> Settings {
    let other_host = new.uri != old.uri;
    if other_host || new.sampling != old.sampling || sampler.engine.is_none() {
        sampler.stop();
        if other_host {
            sampler.store.forget();
        }
        if let Err(error) = sampler.start(&new) {
            tracing::error!(%error, "cannot start sampling with the new settings");
        }
    }
    app.exposition().set_options(text_of(new.export));
    tracing::info!("the new configuration is in force");
    new
}

fn listen(addresses: &[SocketAddr], app: &Arc<App>) -> Result<Server, DaemonError> {
    serve_on(Listeners::bind(addresses)?, app)
}

fn serve_on(listeners: Listeners, app: &Arc<App>) -> Result<Server, DaemonError> {
    let addresses = listeners.addresses();
    let server = Server::start(listeners, app)?;
    for address in addresses {
        tracing::info!("listening on http://{address}");
    }
    Ok(server)
}

/// How the settings want /metrics to be written.
#[must_use]
pub fn text_of(export: Export) -> prometheus::Options {
    prometheus::Options { timestamps: export.timestamps, host: export.host_metrics, minute: export.minute_metrics }
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}

/// Looks, for `check`, at what the settings name and only starting would find: the certificates of STOMP.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn check(settings: &Settings) -> Result<(), TlsError> {
    carrier::check(&settings.vdsm)
}

/// Takes one complete sample, and ends.
///
/// # Errors
/// [`DaemonError::NoSample`] with the reason.
pub fn sample_once(settings: &Settings) -> Result<(Arc<Store>, Arc<Snapshot>), DaemonError> {
    let mut sampler = Sampler::new();
    let news = sampler.store.subscribe();
    sampler.start(settings)?;
    let deadline = std::time::Instant::now() + ONE_SAMPLE;
    loop {
        let snapshot = sampler.store.snapshot();
        let Some(reason) = &snapshot.incomplete else { return Ok((Arc::clone(&sampler.store), snapshot)) };
        // A connection that is refused now is not waited for: whoever runs this by hand wants to know.
        if snapshot.problem.is_some() || news.recv_deadline(deadline).is_err() {
            return Err(DaemonError::NoSample { reason: reason.to_string() });
        }
    }
}
