//! Lists of domains, written while they are sent: a client holds a piece of them, not the whole.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::View;
use crate::model::DomainId;
use crate::store::Domain;

/// A piece is about so long.
pub(super) const PIECE: usize = 64 << 10;
/// So many domains are written into one piece at most.
pub(super) const LOOKED_AT: usize = 512;

/// The domains that lists show, so that a list can go on where its last piece ended.
pub(super) struct Roll {
    domains: Vec<Arc<Domain>>,
    /// Made when it is wanted first.
    places: Option<HashMap<DomainId, usize>>,
}

impl Roll {
    pub(super) fn new(view: &View) -> Self {
        Self { domains: view.listed().cloned().collect(), places: None }
    }

    /// Where these are, in the order of lists and each once; those that lists do not show are left out.
    fn places_of(&mut self, ids: &[DomainId]) -> Vec<usize> {
        let all = self
            .places
            .get_or_insert_with(|| self.domains.iter().enumerate().map(|(place, domain)| (domain.id, place)).collect());
        let mut places: Vec<usize> = ids.iter().filter_map(|id| all.get(id).copied()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// A JSON array of domains that is being written.
pub(super) struct Listing {
    /// `None`: all of them.
    places: Option<Vec<usize>>,
    next: usize,
    write: fn(&View, &Domain, &mut Vec<u8>),
}

impl Listing {
    /// The `VmStats` of all.
    pub(super) fn of_stats() -> Self {
        Self { places: None, next: 0, write: View::write_vm }
    }

    /// The short entries of these, or of all if there are none.
    pub(super) fn of_entries(roll: &mut Roll, ids: &[DomainId]) -> Self {
        let places = (!ids.is_empty()).then(|| roll.places_of(ids));
        Self { places, next: 0, write: View::write_entry }
    }

    /// Writes until there is a piece in `out`, so many domains were written, or to the end; returns whether there is more to come.
    pub(super) fn write_some(&mut self, view: &View, roll: &Roll, out: &mut Vec<u8>, most: &mut usize) -> bool {
        while *most > 0 && out.len() < PIECE {
            let place = match &self.places {
                None => Some(self.next),
                Some(places) => places.get(self.next).copied(),
            };
            let Some(domain) = place.and_then(|place| roll.domains.get(place)) else {
                out.extend_from_slice(if self.next == 0 { b"[]" } else { b"]" });
                return false;
            };
            out.push(if self.next == 0 { b'[' } else { b',' });
            (self.write)(view, domain, out);
            self.next += 1;
            *most -= 1;
        }
        true
    }
}

/// The `VmStats` of all domains that lists show, as the result of `Host.getAllVmStats` has them.
pub struct VmList {
    view: View,
    roll: Roll,
    listing: Option<Listing>,
}

impl VmList {
    /// As of the view's moment.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { roll: Roll::new(&view), view, listing: Some(Listing::of_stats()) }
    }

    /// Makes the next piece, which is never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let listing = self.listing.as_mut()?;
        let (mut out, mut most) = (Vec::new(), LOOKED_AT);
        if !listing.write_some(&self.view, &self.roll, &mut out, &mut most) {
            out.push(b'\n');
            self.listing = None;
        }
        Some(out.into())
    }

    /// Is there nothing more to come?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.listing.is_none()
    }
}
