//! The control socket: one command a line in, one reply a line out, as JSON.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::Reply;
use crate::command::Command;
use crate::daemon::Daemon;
use crate::server::Listening;

/// The longest command.
const LINE: u64 = 1 << 16;

/// Serves the control socket for as long as the simulator runs.
pub(crate) async fn serve(daemon: Arc<Daemon>, listening: Listening) {
    loop {
        match listening.listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(Arc::clone(&daemon), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a control connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(daemon: Arc<Daemon>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE).read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        let whole = line.ends_with(b"\n");
        let reply = match serde_json::from_slice::<Command>(&line) {
            Ok(command) => {
                daemon.execute(command).await.unwrap_or_else(|error| Reply::Refused { error: error.to_string() })
            }
            Err(error) => Reply::Refused { error: format!("not a command: {error}") },
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        if writer.write_all(&text).await.is_err() || !whole {
            return;
        }
    }
}

/// Sends one command to a simulator that runs, and waits for its reply.
///
/// # Errors
/// If nobody is there, or what comes back is no reply.
pub(crate) fn ask(path: &Path, command: &Command) -> io::Result<Reply> {
    /// Ten thousand names, and more.
    const LONGEST: u64 = 1 << 24;
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = String::new();
    io::BufReader::new(stream.take(LONGEST)).read_line(&mut reply)?;
    Ok(serde_json::from_str(&reply)?)
}
