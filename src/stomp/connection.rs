//! One client: reads its frames, answers one after the other, and lets it go when it breaks the rules or falls silent.
//!
//! Nothing is read while an answer is under way, so that a client which asks faster than it reads waits, in TCP, for itself.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::Parser;
use super::refusal::{Reason, Refusal};
use super::session::{Reaction, Request, Session};
use crate::export::Pieces;

/// What is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;
/// A client connects in order to say something; who has not said CONNECT within this time has something else in mind.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A frame that has begun is complete within this time; a megabyte takes a moment.
const FRAME_TIME: Duration = Duration::from_secs(30);
/// How long a client may be silent that has not promised heart-beats, so that places are not held for ever. VDSM's own client
/// waits for its one answer and leaves.
const SILENCE: Duration = Duration::from_secs(600);
/// What is granted beyond twice the interval that a client promised for its heart-beats.
const SLACK: Duration = Duration::from_secs(5);
/// An answer holds its snapshot while it is sent. Two periods' worth of figures is what that may cost, as with lists over HTTP.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long anything else that is sent may stay unread.
const SEND_TIME: Duration = Duration::from_secs(30);
/// What is not longer is sent together with what comes before it, in bytes: copying that costs less than sending it by itself.
const TOGETHER: usize = 4096;
/// How long is read on, and thrown away, when we close first: a socket that is closed with something unread in it takes back
/// what the other side has not read yet, the ERROR that says why.
const LINGER: Duration = Duration::from_secs(2);

/// How it ended.
enum End {
    /// The client left, or is to be left, in order.
    Done,
    /// The connection is of no more use.
    Gone,
    /// The client did not take what it asked for.
    TooSlow,
    /// The client is told so; `Option` is the receipt that it wished.
    Refused(Refusal, Option<String>),
    /// The service ends.
    Stopped,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        tracing::debug!(%error, "a STOMP connection ended early");
        Self::Gone
    }
}

/// Serves a client until one of both sides ends it; the result is why it was let go, if it was.
pub(super) async fn serve<S, A>(
    stream: S,
    mut answer: impl FnMut(&[u8]) -> Option<A>,
    mut stopped: watch::Receiver<bool>,
) -> Option<Reason>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Pieces,
{
    let now = Instant::now();
    let mut connection = Connection {
        stream,
        buffer: vec![0; READ_BYTES],
        parser: Parser::default(),
        session: Session::default(),
        heard: now,
        told: now,
        frame_since: None,
    };
    let Err(end) = connection.run(&mut answer, &mut stopped).await;
    let reason = match end {
        End::Gone => return None,
        End::TooSlow => return Some(Reason::TooSlow),
        End::Done | End::Stopped => None,
        End::Refused(refusal, receipt) => {
            tracing::debug!("a STOMP client was let go: {refusal}");
            let _ = connection.say(&refusal.frame(receipt.as_deref())).await;
            Some(refusal.reason())
        }
    };
    tokio::select! {
        biased;
        () = connection.leave() => {}
        () = stop(&mut stopped) => {}
    }
    reason
}

/// Returns when the service ends.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
    parser: Parser,
    session: Session,
    /// When something was read last, or could have been.
    heard: Instant,
    /// When something was sent last.
    told: Instant,
    /// When the frame began that is not complete yet.
    frame_since: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run<A: Pieces>(
        &mut self,
        answer: &mut impl FnMut(&[u8]) -> Option<A>,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, End> {
        loop {
            let (limit, refusal) = self.limit();
            let beat = self.beat();
            let count = tokio::select! {
                biased;
                () = stop(stopped) => return Err(End::Stopped),
                count = self.stream.read(&mut self.buffer) => count?,
                () = sleep_until(limit) => return Err(refusal.into()),
                () = sleep_until(beat.unwrap_or(limit)), if beat.is_some() => {
                    self.say(b"\n").await?;
                    continue;
                }
            };
            if count == 0 {
                // Whoever only asks, and closes its side, has had its answers by now.
                return Err(End::Done);
            }
            // The parser's copy of what is read is bounded, and the buffer is free for the answer's time.
            let buffer = std::mem::take(&mut self.buffer);
            let mut input = &buffer[..count];
            while let Some(frame) = self.parser.next(&mut input).map_err(Refusal::from)? {
                self.frame_since = None;
                match self.session.take(frame) {
                    Reaction::Say(out) => self.say(&out).await?,
                    Reaction::Ask(request) => {
                        let pieces = answer(&request.body);
                        let sent = timeout(ANSWER_TIME, self.reply(request, pieces)).await;
                        sent.map_err(|_| End::TooSlow)??;
                        // Many small requests at once are work as well.
                        tokio::task::yield_now().await;
                    }
                    Reaction::End(out) => {
                        self.say(&out).await?;
                        return Err(End::Done);
                    }
                    Reaction::Refuse(refusal, receipt) => return Err(End::Refused(refusal, receipt)),
                }
            }
            self.buffer = buffer;
            self.heard = Instant::now();
            self.frame_since = self.parser.is_within().then(|| self.frame_since.unwrap_or(self.heard));
            // A client that never pauses lets the others have their turn, and gets around neither its limits nor our heart-beats:
            // the timers above are looked at only when there is nothing to read.
            tokio::task::yield_now().await;
            let (limit, refusal) = self.limit();
            if Instant::now() >= limit {
                return Err(refusal.into());
            }
            if self.beat().is_some_and(|beat| Instant::now() >= beat) {
                self.say(b"\n").await?;
            }
        }
    }

    /// Until when the client has to be heard, and what it is told if not.
    fn limit(&self) -> (Instant, Refusal) {
        let Some(beats) = self.session.beats() else {
            // `heard` moves with every byte, and that is no CONNECT.
            return (self.told + CONNECT_TIME, Refusal::NoConnect(CONNECT_TIME.as_secs()));
        };
        let silence = beats.theirs.map_or(SILENCE, |promise| (promise * 2 + SLACK).min(SILENCE));
        let silent = (self.heard + silence, Refusal::Silent(silence.as_secs()));
        match self.frame_since.map(|since| since + FRAME_TIME) {
            Some(limit) if limit < silent.0 => (limit, Refusal::SlowFrame(FRAME_TIME.as_secs())),
            _ => silent,
        }
    }

    /// When the next heart-beat is to be sent, if the client wants any: at half the interval, so that it never waits for one.
    fn beat(&self) -> Option<Instant> {
        Some(self.told + self.session.beats()?.ours? / 2)
    }

    async fn say(&mut self, out: &[u8]) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        timeout(SEND_TIME, self.write(out)).await.map_err(|_| End::TooSlow)?
    }

    async fn write(&mut self, out: &[u8]) -> Result<(), End> {
        self.stream.write_all(out).await?;
        self.stream.flush().await?;
        self.told = Instant::now();
        Ok(())
    }

    /// Sends an answer in a MESSAGE. Only one that is a single piece has a content-length: to know the length of any other, it
    /// would have to be made twice or kept whole. JSON holds no NUL, so the one behind it ends the frame.
    async fn reply(&mut self, request: Request, pieces: Option<impl Pieces>) -> Result<(), End> {
        let Request { reply, behind, body } = request;
        // A snapshot may be held for long; the request need not be.
        drop(body);
        let mut out = Vec::new();
        if let Some(mut pieces) = pieces {
            let first = pieces.next_piece().unwrap_or_default();
            out = reply.head(pieces.is_finished().then_some(first.len()));
            self.append(first, &mut out).await?;
            while !pieces.is_finished() {
                // The thread that makes it serves all the others.
                tokio::task::yield_now().await;
                let Some(piece) = pieces.next_piece() else { break };
                self.append(piece, &mut out).await?;
            }
            out.push(0);
        }
        out.extend_from_slice(&behind);
        if out.is_empty() { Ok(()) } else { self.write(&out).await }
    }

    /// Sends a piece with what is to be sent before it, or puts it there if it is short, so that none is held but the newest.
    async fn append(&mut self, piece: Bytes, out: &mut Vec<u8>) -> Result<(), End> {
        if out.len() + piece.len() <= TOGETHER {
            out.extend_from_slice(&piece);
            return Ok(());
        }
        self.stream.write_all(out).await?;
        out.clear();
        self.stream.write_all(&piece).await?;
        Ok(())
    }

    /// Closes in order.
    async fn leave(&mut self) {
        self.buffer.resize(READ_BYTES, 0);
        let read_on = async {
            let _ = self.stream.shutdown().await;
            while self.stream.read(&mut self.buffer).await.is_ok_and(|count| count > 0) {}
        };
        let _ = timeout(LINGER, read_on).await;
    }
}

#[cfg(test)]
mod tests;
