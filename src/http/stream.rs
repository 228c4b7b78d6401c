//! `/api/v1/stream`: server-sent events, first with everything, then with what new snapshots change.
//!
//! A task per client makes the messages, in pieces, and waits while the client has not taken the last ones. Snapshots that come
//! meanwhile are told in one message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::response::LIST_TIME;
use crate::export::api::{Changes, ListBody, Query};
use crate::store::{Snapshot, Store};

/// Streams that are open at most; each holds a snapshot.
pub(super) const STREAMS: usize = 64;
/// When nothing was sent for this long a line is, so that both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Who takes nothing for this long is let go, as is who takes longer than [`LIST_TIME`] for one message: a snapshot is held for
/// it that nobody else needs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces that may wait to be sent.
const PIECES: usize = 4;
/// A turn of sampling makes many snapshots; those that come within this time are told together.
const GATHER: Duration = Duration::from_millis(100);

/// Begins a stream; it ends when the receiver is dropped.
pub(super) fn open(store: Arc<Store>, query: Query, place: OwnedSemaphorePermit) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        // Ends when the client is gone, or too slow.
        let _ = Stream { sender, query, sent: Instant::now() }.run(&store).await;
        drop(place);
    });
    receiver
}

struct Stream {
    sender: mpsc::Sender<Bytes>,
    query: Query,
    /// When something was sent last.
    sent: Instant,
}

impl Stream {
    async fn run(&mut self, store: &Store) -> Option<()> {
        let mut news = store.watch();
        news.mark_unchanged();
        let mut told = store.snapshot();
        let mut list = ListBody::new(Arc::clone(&told), self.query.clone(), store.now());
        // A list ends with a newline of its own.
        timeout(LIST_TIME, self.message("snapshot", told.sequence, || list.next_piece(), "\n")).await.ok()??;
        loop {
            let came = tokio::select! {
                came = timeout_at(self.sent + HEARTBEAT, news.changed()) => came,
                () = self.sender.closed() => return None,
            };
            match came {
                Err(_) => self.send(Bytes::from_static(b": still here\n\n")).await?,
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {
                    sleep(GATHER).await;
                    news.mark_unchanged();
                    let next = store.snapshot();
                    self.changes(&told, &next).await?;
                    told = next;
                }
            }
        }
    }

    async fn changes(&mut self, told: &Snapshot, next: &Arc<Snapshot>) -> Option<()> {
        let Some(mut changes) = Changes::between(told, next, &self.query) else { return Some(()) };
        timeout(LIST_TIME, self.message("change", next.sequence, || changes.next_piece(), "\n\n")).await.ok()?
    }

    /// Sends a message, its data a piece at a time.
    async fn message(
        &mut self,
        kind: &str,
        id: u64,
        mut next_piece: impl FnMut() -> Option<Bytes>,
        end: &'static str,
    ) -> Option<()> {
        self.send(format!("event: {kind}\nid: {id}\ndata: ").into()).await?;
        while let Some(piece) = next_piece() {
            if !piece.is_empty() {
                self.send(piece).await?;
            }
            // What is sent to this client is made by the threads that serve them all.
            tokio::task::yield_now().await;
        }
        self.send(Bytes::from_static(end.as_bytes())).await
    }

    async fn send(&mut self, piece: Bytes) -> Option<()> {
        timeout(PATIENCE, self.sender.send(piece)).await.ok()?.ok()?;
        self.sent = Instant::now();
        Some(())
    }
}
