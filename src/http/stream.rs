//! `/api/v1/stream`: server-sent events, first with everything, then with what each new snapshot changes.
//!
//! A task per client makes the messages, and waits while the client has not taken the last ones. Snapshots that come meanwhile
//! are told in one message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::export::api::{self, ListBody, Query};
use crate::store::{Snapshot, Store};

/// Streams that are open at most; each holds a snapshot.
pub(super) const STREAMS: usize = 64;
/// Without news a line is sent after this, so that both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that takes nothing for this long is let go: it holds a snapshot that nobody else needs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces that may wait to be sent.
const PIECES: usize = 4;

/// Begins a stream; it ends when the receiver is dropped.
pub(super) fn open(store: Arc<Store>, query: Query, place: OwnedSemaphorePermit) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        // Ends when the client is gone, or too slow.
        let _ = Stream { sender, query }.run(&store).await;
        drop(place);
    });
    receiver
}

struct Stream {
    sender: mpsc::Sender<Bytes>,
    query: Query,
}

impl Stream {
    async fn run(&self, store: &Store) -> Option<()> {
        let mut news = store.watch();
        news.mark_unchanged();
        let mut told = store.snapshot();
        self.everything(&told, store).await?;
        loop {
            let came = tokio::select! {
                came = timeout(HEARTBEAT, news.changed()) => came,
                () = self.sender.closed() => return None,
            };
            match came {
                Err(_) => self.send(Bytes::from_static(b": still here\n\n")).await?,
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {
                    let next = store.snapshot();
                    self.changes(&told, &next).await?;
                    told = next;
                }
            }
        }
    }

    async fn everything(&self, snapshot: &Arc<Snapshot>, store: &Store) -> Option<()> {
        self.send(format!("event: snapshot\nid: {}\ndata: ", snapshot.sequence).into()).await?;
        let mut list = ListBody::new(Arc::clone(snapshot), self.query.clone(), store.now(), false);
        while let Some(piece) = list.next_piece() {
            if !piece.is_empty() {
                self.send(piece).await?;
            }
            // What is sent to this client is made by the thread that serves them all.
            tokio::task::yield_now().await;
        }
        self.send(Bytes::from_static(b"\n")).await
    }

    async fn changes(&self, told: &Snapshot, next: &Snapshot) -> Option<()> {
        let Some(changes) = api::changes(told, next, &self.query) else { return Some(()) };
        let mut message = format!("event: change\nid: {}\ndata: ", next.sequence).into_bytes();
        if let Err(error) = serde_json::to_writer(&mut message, &changes) {
            tracing::error!(%error, "a change could not be written as JSON; this is a bug");
            return None;
        }
        message.extend_from_slice(b"\n\n");
        self.send(message.into()).await
    }

    async fn send(&self, piece: Bytes) -> Option<()> {
        timeout(PATIENCE, self.sender.send(piece)).await.ok()?.ok()
    }
}
