//! Answers and their bodies.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::pieces::Gzip;
use crate::export::api::{ErrorBody, ErrorText};
use crate::export::prometheus::Stream;
use crate::export::{Pieces, TooSlow};

/// What is made in pieces holds its snapshot while it is sent. Two periods' worth of figures is what that may cost.
pub(super) const LIST_TIME: Duration = Duration::from_secs(30);

/// A body of parts that are there, which may be shared with other answers, and of a rest that is made while it is sent.
#[derive(Default)]
pub struct Parts {
    parts: VecDeque<Bytes>,
    left: u64,
    rest: Option<Rest>,
    /// Was the last part made, so that others are to have their turn?
    made: bool,
    /// Held until all is sent, or the client is gone.
    _place: Option<OwnedSemaphorePermit>,
}

/// What is made while it is sent.
pub(super) enum Rest {
    Metrics(Box<Stream>),
    /// Until that moment.
    Pieces(Box<dyn Pieces>, Instant),
    /// As it happens.
    Events(mpsc::Receiver<Bytes>),
}

impl Rest {
    /// The next part, and whether making it was work.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<(Result<Bytes, TooSlow>, bool)>> {
        Poll::Ready(match self {
            Self::Metrics(stream) => stream.next_part().map(|part| (part, stream.is_work())),
            Self::Pieces(_, until) if Instant::now() > *until => Some((Err(TooSlow), false)),
            Self::Pieces(pieces, _) => pieces.next_piece().map(|piece| (Ok(piece), true)),
            Self::Events(events) => {
                return events.poll_recv(context).map(|piece| piece.map(|piece| (Ok(piece), false)));
            }
        })
    }
}

impl Parts {
    pub(super) fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self { left: parts.iter().map(|part| part.len() as u64).sum(), parts, ..Self::default() }
    }

    pub(super) fn and(self, rest: Option<Rest>) -> Self {
        Self { rest, ..self }
    }

    /// A text with its first piece, if that is made. If there is but one, the length is known.
    fn of_pieces(begin: Option<Bytes>, mut pieces: impl Pieces) -> Self {
        let begin = begin.or_else(|| pieces.next_piece());
        let rest = (!pieces.is_finished()).then(|| Rest::Pieces(Box::new(pieces), Instant::now() + LIST_TIME));
        Self::new(begin).and(rest)
    }

    pub(super) fn holding(self, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { _place: place, ..self }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        if let Some(part) = self.parts.pop_front() {
            self.left -= part.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let Self { rest: Some(rest), made, .. } = &mut *self else { return Poll::Ready(None) };
        if std::mem::take(made) {
            // What is sent to this client is made by the thread that serves them all.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(part) = rest.next(context) else { return Poll::Pending };
        let Some((part, work)) = part else { return Poll::Ready(None) };
        *made = work;
        if part.as_ref().is_ok_and(Bytes::is_empty) {
            // Nothing came of it yet.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() { SizeHint::new() } else { SizeHint::with_exact(self.left) }
    }
}

/// Below this, compressing costs more than it saves.
pub(super) const WORTH_PACKING: usize = 1 << 10;

/// The text format that Prometheus scrapes.
pub(super) const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// The format of our own answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer with its length said, if it is known, which a HEAD request wants too.
pub(super) fn answer(status: StatusCode, content_type: HeaderValue, body: Parts) -> Response<Parts> {
    let length = body.size_hint().exact();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    // Every answer is of this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// JSON that is made while it is sent. It is compressed, for who accepts that, if it has `least` bytes.
pub(super) fn made(headers: &HeaderMap, mut pieces: impl Pieces, least: usize) -> Response<Parts> {
    let begin = pieces.next_piece();
    begun(headers, begin, pieces, least)
}

/// The same of what was begun to be made.
pub(super) fn begun(headers: &HeaderMap, begin: Option<Bytes>, pieces: impl Pieces, least: usize) -> Response<Parts> {
    let is_long = !pieces.is_finished() || begin.as_ref().is_some_and(|begin| begin.len() >= least);
    let gzip = is_long && accepts_gzip(headers);
    let body = if gzip { Parts::of_pieces(None, Gzip::new(begin, pieces)) } else { Parts::of_pieces(begin, pieces) };
    let mut response = answer(StatusCode::OK, JSON, body);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Parts> {
    answer(status, JSON, Parts::new([written(value).into()]))
}

/// JSON with a newline behind it.
pub(super) fn written(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be written as JSON; this is a bug");
        Vec::new()
    });
    text.push(b'\n');
    text
}

/// `{"error":{"code":…,"message":…}}`.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Parts> {
    json(status, &ErrorBody { error: ErrorText { code, message } })
}

/// An entity tag for whatever has this content, or is told apart by it.
pub(super) fn tag(content: &[u8]) -> HeaderValue {
    // Two of 64 bits, with keys that are always the same.
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(content);
        hasher.finish()
    };
    let tag = format!("\"{:016x}{:016x}\"", hash(0), hash(1));
    HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Has the client an answer with this tag already?
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// No body, and no word of one.
pub(super) fn empty(status: StatusCode) -> Response<Parts> {
    let mut response = Response::new(Parts::default());
    *response.status_mut() = status;
    response
}

/// 304: what the client has is good.
pub(super) fn not_modified(tag: HeaderValue) -> Response<Parts> {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    tagged(response.headers_mut(), tag);
    response
}

/// Says which answer this is, and that it must be asked for again each time before it is used.
pub(super) fn tagged(headers: &mut HeaderMap, tag: HeaderValue) {
    headers.insert(header::ETAG, tag);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
}

/// 405 with the methods that are allowed.
pub(super) fn method_not_allowed(method: &Method, allowed: &'static str) -> Response<Parts> {
    let message = format!("{method} is not possible here; use {}", allowed.replace(", ", " or "));
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Does the client accept gzip? `q=0` says that it does not.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(Ok(text)) = headers.get(header::ACCEPT_ENCODING).map(HeaderValue::to_str) else { return false };
    let quality = |coding: &str| {
        text.split(',').find_map(|item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight =
                parameters.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim_start().strip_prefix('='));
            let weight = weight.map_or(Ok(1.0), |weight| weight.trim().parse::<f32>());
            name.trim().eq_ignore_ascii_case(coding).then_some(weight.unwrap_or(0.0))
        })
    };
    quality("gzip").or_else(|| quality("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_who_asks() {
        for (value, expected) in [
            (None, false),
            (Some("gzip"), true),
            (Some("deflate, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("gzip; Q = 0"), false),
            (Some("gzip; q=0.0, *"), false),
            (Some("*"), true),
            (Some("identity"), false),
            (Some(""), false),
            (Some("gzip;q=lots"), false),
        ] {
            let headers = value.map(|value| (header::ACCEPT_ENCODING, HeaderValue::from_static(value)));
            assert_eq!(accepts_gzip(&headers.into_iter().collect()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_tag_is_known_in_every_form_that_clients_send() {
        let tag = tag(b"content");
        let text = tag.to_str().expect("plain").to_owned();
        let known = |value: &str| {
            let value = HeaderValue::try_from(value).expect("plain");
            is_known(&[(header::IF_NONE_MATCH, value)].into_iter().collect(), &tag)
        };
        assert!(known(&text) && known("*") && known(&format!("W/{text}")) && known(&format!("\"a\", {text}")));
        assert!(!known("\"a\"") && !known("") && !known(text.trim_matches('"')));
        assert!(!is_known(&HeaderMap::new(), &tag));
        assert_ne!(tag, super::tag(b"other content"));
        assert_eq!(tag, super::tag(b"content"));
    }
}
