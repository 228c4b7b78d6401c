//! The socket's life: connections come, and the daemon may go away for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::connection;
use super::socket::Listening;
use crate::daemon::Daemon;

/// What the listener is told: to be away for so long, and to say when it is.
pub(crate) type Orders = mpsc::UnboundedSender<(Duration, oneshot::Sender<()>)>;

/// How soon a socket that could not be made is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Takes connections for as long as the simulator runs.
pub(crate) async fn serve(
    daemon: Arc<Daemon>,
    path: PathBuf,
    listening: Listening,
    mut orders: mpsc::UnboundedReceiver<(Duration, oneshot::Sender<()>)>,
) {
    let mut silent = daemon.silent.subscribe();
    let mut listening = Some(listening);
    let mut back = Instant::now();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((away, done)) = order else { return };
                listening = None;
                daemon.die();
                back = Instant::now() + away;
                let _ = done.send(());
            }
            () = tokio::time::sleep_until(back), if listening.is_none() => match Listening::bind(&path) {
                Ok(bound) => listening = Some(bound),
                Err(error) => {
                    tracing::error!(%error, "the socket cannot be made again");
                    back = Instant::now() + AGAIN;
                }
            },
            stream = accept(listening.as_ref(), &mut silent) => connect(&daemon, stream),
        }
    }
}

/// The next connection; none while the daemon is away or stands still.
async fn accept(listening: Option<&Listening>, silent: &mut tokio::sync::watch::Receiver<bool>) -> UnixStream {
    let Some(listening) = listening else { return std::future::pending().await };
    loop {
        if silent.wait_for(|silent| !*silent).await.is_err() {
            return std::future::pending().await;
        }
        let accepted = tokio::select! {
            accepted = listening.listener.accept() => accepted,
            _ = silent.changed() => continue,
        };
        match accepted {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connect(daemon: &Arc<Daemon>, stream: UnixStream) {
    let (client, messages) = daemon.clients.add();
    tokio::spawn(connection::serve(Arc::clone(daemon), client, stream, messages));
}
