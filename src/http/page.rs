//! Small JSON answers with an entity tag: whoever has the same already is told so, and nothing else.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;

use super::response::{self, Parts, WORTH_PACKING};
use crate::store::Domain;

/// Pages of single domains that are kept: of those that are asked for often, some MiB.
const KEPT: usize = 256;

/// A body, and its tag.
pub(super) struct Page {
    plain: Form,
    gzip: OnceLock<Form>,
}

struct Form {
    body: Bytes,
    tag: HeaderValue,
}

impl Form {
    /// The tag is made from the body, so that the same body has the same tag, and no other.
    fn new(body: Vec<u8>) -> Self {
        let tag = response::tag(&body);
        Self { body: body.into(), tag }
    }
}

impl Page {
    pub(super) fn new(value: &impl Serialize) -> Self {
        Self { plain: Form::new(response::written(value)), gzip: OnceLock::new() }
    }

    /// The answer to a request with these headers.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<Parts> {
        let gzip = self.plain.body.len() >= WORTH_PACKING && response::accepts_gzip(headers);
        let form = if gzip { self.gzip.get_or_init(|| packed(&self.plain.body)) } else { &self.plain };
        if response::is_known(headers, &form.tag) {
            return response::not_modified(form.tag.clone());
        }
        let mut answer = response::answer(StatusCode::OK, response::JSON, Parts::new([form.body.clone()]));
        response::tagged(answer.headers_mut(), form.tag.clone());
        if gzip {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }
}

fn packed(body: &[u8]) -> Form {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory, which takes all.
    let body = gzip.write_all(body).and_then(|()| gzip.finish()).unwrap_or_default();
    Form::new(body)
}

/// The pages of domains that are asked for again and again, as many engines and scripts do, each for as long as it is true.
#[derive(Default)]
pub(super) struct Pages {
    /// By the address of the domain as it was then, which nobody else has while it is kept here.
    kept: Mutex<HashMap<usize, Kept>>,
}

struct Kept {
    _domain: Arc<Domain>,
    second: Instant,
    page: Arc<Page>,
}

impl Pages {
    /// The page of a domain in this second.
    pub(super) fn get(&self, domain: &Arc<Domain>, second: Instant, make: impl FnOnce() -> Page) -> Arc<Page> {
        let address = Arc::as_ptr(domain).addr();
        if let Some(it) = self.kept.lock().get(&address).filter(|it| it.second == second) {
            return Arc::clone(&it.page);
        }
        // Not under the lock, which others need meanwhile.
        let page = Arc::new(make());
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, it| it.second == second);
            if kept.len() >= KEPT {
                kept.clear();
            }
        }
        kept.insert(address, Kept { _domain: Arc::clone(domain), second, page: Arc::clone(&page) });
        page
    }
}
