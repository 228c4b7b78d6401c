//! Answers and their bodies.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use crate::export::prometheus::{Stream, TooSlow};

/// A body of parts that are there, which may be shared with other answers, and of a rest that is made while it is sent.
#[derive(Default)]
pub struct Parts {
    parts: VecDeque<Bytes>,
    left: u64,
    rest: Option<Stream>,
    /// Was the last part made, so that others are to have their turn?
    made: bool,
}

impl Parts {
    pub(super) fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self { left: parts.iter().map(|part| part.len() as u64).sum(), parts, ..Self::default() }
    }

    pub(super) fn and(self, rest: Option<Stream>) -> Self {
        Self { rest, ..self }
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
        let part = rest.next_part();
        *made = part.is_some() && rest.is_work();
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() { SizeHint::new() } else { SizeHint::with_exact(self.left) }
    }
}

/// The text format that Prometheus scrapes.
pub(super) const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Parts> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            answer(status, JSON, Parts::new([text.into()]))
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON; this is a bug");
            answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, Parts::default())
        }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    code: &'a str,
    message: &'a str,
}

/// `{"error":{"code":…,"message":…}}`.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Parts> {
    json(status, &ErrorBody { error: ErrorText { code, message } })
}

/// 405 with the methods that are allowed.
pub(super) fn method_not_allowed(method: &Method) -> Response<Parts> {
    let message = format!("{method} is not possible here; use GET or HEAD");
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// Does the client accept gzip? `q=0` says that it does not.
pub(super) fn accepts_gzip(accept_encoding: Option<&HeaderValue>) -> bool {
    let Some(Ok(text)) = accept_encoding.map(HeaderValue::to_str) else { return false };
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
        for (header, expected) in [
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
            let value = header.map(HeaderValue::from_static);
            assert_eq!(accepts_gzip(value.as_ref()), expected, "{header:?}");
        }
    }
}
