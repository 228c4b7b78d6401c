//! `POST /jsonrpc`: the one request with a body. How long, how slow and how many bodies may be is limited here, and how many
//! answers that are made while they are sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::response::{self, Parts, WORTH_PACKING};
use crate::export::vdsm::Rpc;
use crate::store::Store;

pub(super) const PATH: &str = "/jsonrpc";

/// A body is at most so long, in bytes: a batch that asks for ten thousand VMs one by one fits.
const LONGEST: usize = 1 << 20;
/// Longer ones need a place. So short: every connection may have one under way at the same time.
const SHORT: usize = 64 << 10;
/// Long requests that are read and answered at the same time, and short ones whose answer has more than one piece: until that is
/// read to its end it holds a snapshot, a piece, and what of a batch is still to be answered, 3 MiB at most.
const PLACES: usize = 16;
/// How long a body may take, and the wait for a place with it. Who waits with an answer holds no more than its first piece.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much of a body that is too long is read and thrown away. A client that is still sending when the connection is closed
/// would not see why.
const THROWN_AWAY: usize = 4 << 20;
/// When nothing of it comes for so long, the client has stopped sending, or reads to the end of the connection.
const SILENCE: Duration = Duration::from_millis(500);

/// Reads requests, and has them answered.
pub(super) struct Posts {
    rpc: Rpc,
    bodies: Bodies,
}

/// Takes bodies in, as many long ones as there are places, which long answers need as well.
struct Bodies {
    places: Arc<Semaphore>,
}

/// A body, and the place that it needed.
type Taken = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    TooLong,
    TooSlow,
    NoPlace,
    Broken,
}

impl Posts {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { rpc: Rpc::new(store), bodies: Bodies::new() }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Parts> {
        let (head, mut body) = request.into_parts();
        if head.method != Method::POST {
            return response::method_not_allowed(&head.method, "POST");
        }
        let until = Instant::now() + PATIENCE;
        let (request, mut place) = match self.bodies.take(&mut body, until).await {
            Ok(taken) => taken,
            Err(refusal) => {
                if refusal == Refusal::TooLong && is_coming(&head.headers) {
                    tokio::spawn(timeout(PATIENCE, throw_away(body)));
                }
                return refused(refusal);
            }
        };
        let Some(mut answer) = self.rpc.answer(&request) else { return response::empty(StatusCode::NO_CONTENT) };
        // An answer may be held for long; the request need not be.
        drop(request);
        let begin = answer.next_piece();
        if !answer.is_finished()
            && let Err(refusal) = self.bodies.admit(&mut place, until).await
        {
            return refused(refusal);
        }
        response::begun(&head.headers, begin, answer, WORTH_PACKING).map(|body| body.holding(place))
    }
}

impl Bodies {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// Takes a body, until that moment at most.
    async fn take<B: Body<Data = Bytes> + Unpin>(&self, body: &mut B, until: Instant) -> Result<Taken, Refusal> {
        if body.size_hint().lower() > LONGEST as u64 {
            return Err(Refusal::TooLong);
        }
        let (mut bytes, mut place) = (Vec::new(), None);
        while let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| Refusal::TooSlow)? {
            let Ok(frame) = frame.map_err(|_| Refusal::Broken)?.into_data() else { continue };
            self.allow(bytes.len() + frame.len(), &mut place, until).await?;
            bytes.extend_from_slice(&frame);
        }
        Ok((bytes, place))
    }

    /// May a body be so long? Waits for a place if it needs one. What a client only says that it will send takes none.
    async fn allow(
        &self,
        length: usize,
        place: &mut Option<OwnedSemaphorePermit>,
        until: Instant,
    ) -> Result<(), Refusal> {
        if length > LONGEST {
            return Err(Refusal::TooLong);
        }
        if length > SHORT { self.admit(place, until).await } else { Ok(()) }
    }

    /// Waits for a place, unless there is one already.
    async fn admit(&self, place: &mut Option<OwnedSemaphorePermit>, until: Instant) -> Result<(), Refusal> {
        if place.is_none() {
            let free = timeout_at(until, Arc::clone(&self.places).acquire_owned()).await;
            // The semaphore is never closed.
            *place = free.map_err(|_| Refusal::NoPlace)?.ok();
        }
        Ok(())
    }
}

/// Does the client send its body whatever we say? One that waits for our word has its answer now, and sends nothing.
fn is_coming(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::EXPECT)
}

async fn throw_away(mut body: Incoming) {
    let mut left = THROWN_AWAY;
    while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

fn refused(refusal: Refusal) -> Response<Parts> {
    let (status, code, message) = match refusal {
        Refusal::TooLong => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_long",
            format!("a request has {LONGEST} bytes at most; send a batch in parts"),
        ),
        Refusal::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("the request was not there within {} s", PATIENCE.as_secs()),
        ),
        Refusal::NoPlace => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_requests",
            format!("{PLACES} long requests or long answers are under way; try again, or send a batch in parts"),
        ),
        Refusal::Broken => {
            (StatusCode::BAD_REQUEST, "bad_body", "the body ended early, or is badly chunked".to_owned())
        }
    };
    response::error(status, code, &message)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// Chunks that are there, and after them an end or nothing for ever.
    struct Chunks(VecDeque<usize>, bool);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(length) => Poll::Ready(Some(Ok(Frame::data(vec![b' '; length].into())))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    async fn take(bodies: &Bodies, chunks: &[usize], ends: bool) -> Result<Taken, Refusal> {
        bodies.take(&mut Chunks(chunks.iter().copied().collect(), ends), soon()).await
    }

    #[tokio::test]
    async fn a_body_is_cut_at_its_limit() {
        let bodies = Bodies::new();
        let length = |taken: Result<Taken, Refusal>| taken.map(|(bytes, place)| (bytes.len(), place.is_some()));
        assert_eq!(length(take(&bodies, &[], true).await), Ok((0, false)));
        assert_eq!(length(take(&bodies, &[SHORT], true).await), Ok((SHORT, false)));
        assert_eq!(length(take(&bodies, &[SHORT, 1], true).await), Ok((SHORT + 1, true)));
        assert_eq!(length(take(&bodies, &[LONGEST - 1, 1], true).await), Ok((LONGEST, true)));
        assert_eq!(length(take(&bodies, &[LONGEST, 1], true).await), Err(Refusal::TooLong));
        assert_eq!(length(take(&bodies, &[LONGEST + 1], false).await), Err(Refusal::TooLong));
        assert_eq!(bodies.places.available_permits(), PLACES, "every place was given back");
    }

    #[tokio::test]
    async fn who_sends_no_more_is_refused_in_time() {
        let bodies = Bodies::new();
        assert_eq!(take(&bodies, &[], false).await.err(), Some(Refusal::TooSlow));
        assert_eq!(take(&bodies, &[1, SHORT], false).await.err(), Some(Refusal::TooSlow));
        assert_eq!(bodies.places.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn long_bodies_wait_for_a_place_and_short_ones_do_not() {
        let bodies = Bodies::new();
        let mut held = Vec::new();
        for _ in 0..PLACES {
            held.push(take(&bodies, &[SHORT + 1], true).await.expect("a place"));
        }
        assert_eq!(take(&bodies, &[SHORT + 1], true).await.err(), Some(Refusal::NoPlace));
        assert!(take(&bodies, &[SHORT], true).await.is_ok());
        let (waited, ()) = tokio::join!(take(&bodies, &[SHORT + 1], true), async { held.truncate(PLACES - 1) });
        assert!(waited.is_ok(), "it had the place that was given back");
    }
}
