//! What VDSM reports, for who fetches it without JSON-RPC. It has the time of asking in it, so no answer is like another, and
//! none has a tag.

use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};

use super::pieces::Whole;
use super::response::{self, Parts, WORTH_PACKING};
use crate::export::vdsm::{HostBody, View, VmList};

pub(super) const HOST: &str = "/api/v1/vdsm/host";
pub(super) const VMS: &str = "/api/v1/vdsm/vms";
/// Before a UUID.
pub(super) const VM: &str = "/api/v1/vdsm/vms/";

/// The `HostStats`.
pub(super) fn host(view: View, headers: &HeaderMap) -> Response<Parts> {
    if let Some(reason) = view.incomplete() {
        return not_ready(reason);
    }
    match HostBody::new(view) {
        None => not_ready("the host was not looked at lately"),
        Some(host) => response::made(headers, host, WORTH_PACKING),
    }
}

/// The `VmStats` of all domains that VDSM would know.
pub(super) fn vms(view: View, headers: &HeaderMap) -> Response<Parts> {
    match view.incomplete() {
        Some(reason) => not_ready(reason),
        None => response::made(headers, VmList::new(view), WORTH_PACKING),
    }
}

/// The `VmStats` of one domain.
pub(super) fn vm(view: &View, uuid: &str, headers: &HeaderMap) -> Response<Parts> {
    if let Some(reason) = view.incomplete() {
        return not_ready(reason);
    }
    let Some(domain) = view.find(uuid) else {
        let message = format!("no domain has the UUID {uuid:?}; /api/v1/domains lists them");
        return response::error(StatusCode::NOT_FOUND, "domain_not_found", &message);
    };
    let mut text = Vec::new();
    view.write_vm(domain, &mut text);
    whole(text, headers)
}

fn whole(mut text: Vec<u8>, headers: &HeaderMap) -> Response<Parts> {
    text.push(b'\n');
    response::made(headers, Whole(Some(text.into())), WORTH_PACKING)
}

fn not_ready(reason: &str) -> Response<Parts> {
    response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason)
}
