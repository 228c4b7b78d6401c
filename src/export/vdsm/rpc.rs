//! JSON-RPC 2.0, as VDSM speaks it: one dispatcher for all carriers.

use std::sync::Arc;

use bytes::Bytes;

use super::View;
use crate::store::Store;

/// Answers requests.
pub struct Rpc {
    store: Arc<Store>,
}

impl Rpc {
    /// From what a store knows.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Answers a request or a batch; `None` if there was nothing in it but notifications.
    #[must_use]
    pub fn answer(&self, request: &[u8]) -> Option<Answer> {
        let _ = request;
        Some(Answer { view: View::new(&self.store), ended: false })
    }
}

/// An answer, made while it is sent: ten thousand guests are some tens of megabytes, and a batch can ask for them a thousand times.
pub struct Answer {
    view: View,
    ended: bool,
}

impl Answer {
    /// Makes the next piece of the JSON text, about 64 KiB long and never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let mut out = Vec::new();
        self.view.write_host(&mut out);
        Some(out.into())
    }
}
