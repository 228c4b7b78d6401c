//! Lists of domains, written while they are sent: a client holds a piece of them, not the whole.

use std::sync::Arc;

use bytes::Bytes;

use super::view::{View, is_listed};
use crate::model::DomainId;
use crate::store::Domain;

/// A piece is about so long.
pub(super) const PIECE: usize = 64 << 10;
/// So many domains are looked at for one piece, unless nothing came of them.
pub(super) const LOOKED_AT: usize = 512;

/// A JSON array of domains that is being written. It is a place in the view's domains, and grows with nothing but what was asked for.
pub(super) struct Listing {
    /// Those that are wanted and shown, in the order of lists; `None`: all that lists show.
    wanted: Option<Vec<DomainId>>,
    /// Where to go on, in `wanted`, or in the view's domains.
    next: usize,
    /// Was one written?
    begun: bool,
    write: fn(&View, &Domain, &mut Vec<u8>),
}

impl Listing {
    /// The `VmStats` of all.
    pub(super) fn of_stats() -> Self {
        Self { wanted: None, next: 0, begun: false, write: View::write_vm }
    }

    /// The short entries of these, each once, or of all if there are none.
    pub(super) fn of_entries(view: &View, ids: &[DomainId]) -> Self {
        let wanted = (!ids.is_empty()).then(|| {
            let known = ids.iter().filter_map(|id| view.snapshot.get(*id));
            let mut known: Vec<&Arc<Domain>> = known.filter(|domain| is_listed(domain)).collect();
            known.sort_unstable_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
            known.dedup_by_key(|domain| domain.id);
            known.into_iter().map(|domain| domain.id).collect()
        });
        Self { wanted, next: 0, begun: false, write: View::write_entry }
    }

    /// Writes until there is a piece in `out`, so many domains were looked at, or to the end; returns whether there is more to come.
    pub(super) fn write_some(&mut self, view: &View, out: &mut Vec<u8>, most: &mut usize) -> bool {
        while *most > 0 && out.len() < PIECE {
            let domain = match &self.wanted {
                None => view.snapshot.domains.get(self.next),
                Some(wanted) => wanted.get(self.next).and_then(|id| view.snapshot.get(*id)),
            };
            let Some(domain) = domain else {
                out.extend_from_slice(if self.begun { b"]" } else { b"[]" });
                return false;
            };
            self.next += 1;
            *most -= 1;
            if is_listed(domain) {
                out.push(if self.begun { b',' } else { b'[' });
                self.begun = true;
                (self.write)(view, domain, out);
            }
        }
        true
    }
}

/// The `VmStats` of all domains that lists show, as the result of `Host.getAllVmStats` has them.
pub struct VmList {
    view: View,
    listing: Option<Listing>,
}

impl VmList {
    /// As of the view's moment.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { view, listing: Some(Listing::of_stats()) }
    }

    /// Makes the next piece, which is never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let listing = self.listing.as_mut()?;
        let mut out = Vec::new();
        // Of many that lists do not show nothing comes.
        while out.is_empty() {
            if !listing.write_some(&self.view, &mut out, &mut { LOOKED_AT }) {
                out.push(b'\n');
                self.listing = None;
                break;
            }
        }
        Some(out.into())
    }

    /// Is there nothing more to come?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.listing.is_none()
    }
}
