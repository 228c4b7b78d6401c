//! Answers, made while they are sent.

use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;

use super::error::Problem;
use super::methods::Task;
use super::request::{Asked, Element};
use crate::export::vdsm::View;
use crate::export::vdsm::host::Writing;
use crate::export::vdsm::list::{LOOKED_AT, Listing, PIECE};
use crate::store::Store;

/// An answer, made while it is sent: ten thousand guests are some tens of megabytes, and a batch can ask for them a thousand times.
pub struct Answer {
    view: View,
    /// Where calls are counted.
    store: Arc<Store>,
    left: IntoIter<Element>,
    /// What is still to be written of the result of the call under way.
    rest: Option<Rest>,
    batch: Batch,
}

/// A result that is long on a large host.
enum Rest {
    List(Listing),
    Host(Writing),
}

impl Rest {
    fn write_some(&mut self, view: &View, out: &mut Vec<u8>, most: &mut usize) -> bool {
        match self {
            Self::List(listing) => listing.write_some(view, out, most),
            Self::Host(writing) => writing.write_some(view, out, most),
        }
    }
}

/// Where the brackets of a batch are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// A single request has none, and after a batch there are none to come.
    No,
    ToBegin,
    Begun,
}

impl Answer {
    pub(super) fn new(view: View, store: Arc<Store>, asked: Asked) -> Self {
        let (left, batch) = match asked {
            Asked::One(element) => (vec![element], Batch::No),
            Asked::Batch(elements) => (elements, Batch::ToBegin),
        };
        Self { view, store, left: left.into_iter(), rest: None, batch }
    }

    /// Makes the next piece of the JSON text, about 64 KiB long and never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let (mut out, mut most) = (Vec::new(), LOOKED_AT);
        while out.len() < PIECE && !self.is_finished() {
            let Some(rest) = &mut self.rest else {
                self.next_call(&mut out);
                continue;
            };
            if rest.write_some(&self.view, &mut out, &mut most) {
                if out.is_empty() {
                    // Lists show none of those.
                    most = LOOKED_AT;
                    continue;
                }
                break;
            }
            out.push(b'}');
            self.rest = None;
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// Is there nothing more to come?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.left.len() == 0 && self.rest.is_none() && self.batch == Batch::No
    }

    /// Writes the answer to the next call, but for a long one, which it begins; behind the last one it ends the batch.
    fn next_call(&mut self, out: &mut Vec<u8>) {
        let Some(element) = self.left.next() else {
            out.push(b']');
            self.batch = Batch::No;
            return;
        };
        match self.batch {
            Batch::No => {}
            Batch::ToBegin => out.push(b'['),
            Batch::Begun => out.push(b','),
        }
        if self.batch == Batch::ToBegin {
            self.batch = Batch::Begun;
        }
        let (id, label, task) = match element {
            Element::Call(call) => (call.id, call.method.map_or("other", |method| method.name), call.task),
            Element::Invalid(reason) => ("null".into(), "other", Err(Problem::NoRequest(reason))),
            Element::Refused(problem) => ("null".into(), "other", Err(*problem)),
        };
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        out.extend_from_slice(id.as_bytes());
        let place = out.len();
        let code = match task.and_then(|task| self.result(task, out)) {
            Ok(()) => 0,
            Err(problem) => {
                // Of a result there may be a beginning.
                out.truncate(place);
                out.extend_from_slice(b",\"error\":");
                problem.write(out);
                problem.code()
            }
        };
        if self.rest.is_none() {
            out.push(b'}');
        }
        self.store.metrics.rpc_calls.with_label_values(&[label, itoa::Buffer::new().format(code)]).inc();
    }

    /// Writes a result, or begins it.
    fn result(&mut self, task: Task, out: &mut Vec<u8>) -> Result<(), Problem> {
        if self.view.incomplete().is_some() && task != Task::Ping {
            return Err(Problem::Recovering);
        }
        out.extend_from_slice(b",\"result\":");
        let known = |writing: Option<Writing>| writing.ok_or(Problem::Recovering);
        match task {
            Task::Ping => out.extend_from_slice(b"true"),
            Task::HostStats => self.rest = Some(Rest::Host(known(Writing::of_stats(&self.view, out))?)),
            Task::Network => self.rest = Some(Rest::Host(known(Writing::of_network(&self.view, out))?)),
            Task::AllVmStats => self.rest = Some(Rest::List(Listing::of_stats())),
            Task::VmStats(uuid) => {
                let Some(domain) = self.view.find(&uuid) else { return Err(Problem::NoSuchVm(uuid)) };
                out.push(b'[');
                self.view.write_vm(domain, out);
                out.push(b']');
            }
            Task::VmList(ids) => self.rest = Some(Rest::List(Listing::of_entries(&self.view, &ids))),
        }
        Ok(())
    }
}
