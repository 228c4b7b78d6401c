//! One connection: what comes in goes to the workers, what they say goes out.
//!
//! No more than five calls of a connection are open at once. Beyond that it is not read, not even its keepalive: as
//! libvirtd has it, and as a client that makes stuck calls finds out.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::clients::{Client, Outgoing, Then};
use super::workers::Pool;
use crate::daemon::{Daemon, OpenCall};
use crate::limits::Times;
use crate::procedures;
use crate::wire::{self, Header, Incoming, KEEPALIVE, PING, PONG, REMOTE, RpcError, code, kind};

/// How often a connection that is not read is looked at for a client that went.
const LOOK: Duration = Duration::from_millis(100);

/// Serves a connection to its end.
pub(super) async fn serve(
    daemon: Arc<Daemon>,
    client: Arc<Client>,
    stream: UnixStream,
    messages: mpsc::UnboundedReceiver<Outgoing>,
) {
    tracing::debug!(connection = client.number, "connected");
    let (reader, writer) = stream.into_split();
    let mut ended = daemon.ended();
    let mut closing = client.closing.subscribe();
    let gate = Gate { silent: daemon.silent.subscribe(), hung: client.hung.subscribe() };
    tokio::select! {
        () = read(&daemon, &client, reader, gate.clone()) => {}
        () = write(writer, messages, gate.clone()) => {}
        () = keep_alive(&client, daemon.times, gate) => {}
        _ = closing.wait_for(|closing| *closing) => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
    daemon.clients.remove(client.number);
    tracing::debug!(connection = client.number, "closed");
}

/// Closed while the connection hangs or the whole daemon stands still.
#[derive(Clone)]
struct Gate {
    silent: watch::Receiver<bool>,
    hung: watch::Receiver<bool>,
}

impl Gate {
    async fn open(&mut self) {
        while *self.silent.borrow_and_update() || *self.hung.borrow_and_update() {
            let gone = tokio::select! {
                changed = self.silent.changed() => changed.is_err(),
                changed = self.hung.changed() => changed.is_err(),
            };
            if gone {
                return;
            }
        }
    }
}

/// Reads until the client goes, or says what cannot be understood.
async fn read(daemon: &Arc<Daemon>, client: &Arc<Client>, reader: OwnedReadHalf, mut gate: Gate) {
    let pool = daemon.pool();
    let mut reader = BufReader::new(reader);
    loop {
        let free = async {
            let place = Arc::clone(&client.places).acquire_owned().await;
            gate.open().await;
            place
        };
        let place = tokio::select! {
            place = free => place,
            () = hang_up(reader.get_ref()) => return,
        };
        let Ok(place) = place else { return };
        let message = match Incoming::read(&mut reader).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(connection = client.number, %error, "cannot be read");
                return;
            }
        };
        tokio::select! {
            () = gate.open() => {}
            () = hang_up(reader.get_ref()) => return,
        }
        *client.heard.lock() = Instant::now();
        if !take(daemon, client, &pool, message, place) {
            return;
        }
    }
}

/// Takes a message. False if libvirtd would close the connection for it.
fn take(
    daemon: &Arc<Daemon>,
    client: &Arc<Client>,
    pool: &Arc<Pool>,
    message: Incoming,
    place: OwnedSemaphorePermit,
) -> bool {
    let header = message.header;
    if header.program == KEEPALIVE {
        if header.procedure == PING {
            client.send_bytes(wire::bare(Header::message(KEEPALIVE, PONG)));
        }
        return true;
    }
    if header.program != REMOTE || header.version != wire::VERSION {
        if header.kind != kind::CALL {
            return false;
        }
        let Header { program, version, .. } = header;
        let error = RpcError::rpc(code::RPC, format!("Cannot find program {program} version {version}"));
        client.send(Outgoing {
            bytes: error.answer(header),
            _request: Some(client.begin(place)),
            then: Then::Continue,
        });
        return true;
    }
    match header.kind {
        kind::CALL => {}
        // Of a stream that was never opened: libvirtd drops it.
        kind::STREAM => return true,
        _ => return false,
    }
    let procedure = procedures::find(header.procedure);
    let request = client.begin(place);
    let open = OpenCall::begin(daemon, procedure);
    let (daemon, client) = (Arc::clone(daemon), Arc::clone(client));
    pool.submit(procedure.is_some_and(|procedure| procedure.priority), async move {
        let mut open = open;
        let answer = procedures::answer(&daemon, &client, procedure, &message).await;
        open.failed = answer.failed;
        // Counted before the client can know of it.
        drop(open);
        client.send(Outgoing { bytes: answer.bytes, _request: Some(request), then: answer.then });
    });
    true
}

/// Writes until it cannot.
async fn write(mut writer: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<Outgoing>, mut gate: Gate) {
    while let Some(message) = messages.recv().await {
        gate.open().await;
        if writer.write_all(&message.bytes).await.is_err() {
            return;
        }
        match message.then {
            Then::Continue => {}
            Then::Close => return,
            Then::Silence => std::future::pending().await,
        }
    }
}

/// Asks a client that can answer whether it is there, and returns when it is not.
async fn keep_alive(client: &Client, times: Times, mut gate: Gate) {
    client.keepalive.notified().await;
    let mut asked = 0;
    let mut at = Instant::now();
    loop {
        tokio::time::sleep_until(at + times.keepalive_interval).await;
        gate.open().await;
        let heard = *client.heard.lock();
        if heard > at {
            (asked, at) = (0, heard);
            continue;
        }
        if asked == times.keepalive_count {
            tracing::debug!(connection = client.number, "no answer to keepalive");
            return;
        }
        asked += 1;
        at = Instant::now();
        client.send_bytes(wire::bare(Header::message(KEEPALIVE, PING)));
    }
}

/// Returns when the client has closed its end, without reading.
async fn hang_up(reader: &OwnedReadHalf) {
    let stream: &UnixStream = reader.as_ref();
    loop {
        match stream.ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => tokio::time::sleep(LOOK).await,
            _ => return,
        }
    }
}
