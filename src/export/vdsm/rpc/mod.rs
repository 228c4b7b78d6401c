//! JSON-RPC 2.0, as VDSM speaks it: one dispatcher for all carriers.
//!
//! `request.rs` reads requests, `methods.rs` is the table of what can be called, `error.rs` has what is said when it cannot, and
//! `answer.rs` writes what is answered, while it is sent.
//!
//! Where this is not what VDSM does, it is what JSON-RPC says, since clients that go by VDSM's ways do not see the difference:
//!
//! - A request is answered once, VDSM answers an invalid one twice. A notification is not answered, VDSM does so with `id` null.
//!   A request with `"id": null` is none, and is answered; VDSM takes it for one.
//! - Batches are answered with an array, in the order of the requests. One of more than [`MOST`] is refused as a whole.
//! - What is wrong with a request is said in any state; VDSM says "recovering" to all calls until it knows its VMs. Here
//!   `Host.ping` and `Host.ping2` are answered then too: they ask for nothing that is not known yet.
//! - `method` must be a string; in VDSM anything but null is a method, which then does not exist. A member that is there twice
//!   makes a request invalid: the last one wins in VDSM, and another one elsewhere.
//! - An `id` must be text, a number or null, and no longer than 1 KiB. It is echoed byte for byte, so that 1e400, or an integer
//!   that has more digits than anybody's numbers, comes back as it was sent.
//! - What VDSM without its strict mode takes for whatever Python makes of it (a `vmID` that is no UUID, a parameter that does
//!   not exist) is refused with the code that VDSM's strict mode, or its API elsewhere, has for that.
//!
//! A request is taken apart without decoding more of it than is needed, and nothing here goes down into what is nested: ten
//! thousand levels in an `id`, in parameters or in an element of a batch are an invalid request, an invalid parameter, or
//! ignored, as shallow ones would be, and harm no other element.

mod answer;
mod error;
mod methods;
mod request;

use std::sync::Arc;

pub use answer::Answer;
pub(super) use error::described as errors;
pub use methods::{METHODS, Method, Parameter};

use super::View;
use crate::store::Store;

/// Elements of a batch that are answered at most. Each is some bytes long at least, and an invalid one is two, so that their
/// number has to have a limit of its own. An engine asks for a handful at once.
const MOST: usize = 10_000;

/// Answers requests.
pub struct Rpc {
    store: Arc<Store>,
}

impl Rpc {
    /// From what a store knows.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        for method in METHODS {
            store.metrics.rpc_calls.with_label_values(&[method.name, "0"]);
        }
        Self { store }
    }

    /// Answers a request or a batch; `None` if there was nothing in it but notifications. All of a batch is answered as of one
    /// moment, which is now.
    #[must_use]
    pub fn answer(&self, request: &[u8]) -> Option<Answer> {
        let asked = request::read(request)?;
        Some(Answer::new(View::new(&self.store), Arc::clone(&self.store), asked))
    }
}
