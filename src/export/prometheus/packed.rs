//! The text of a host with many guests, kept packed alone: an eighth of its length, in pieces that each reader sends or
//! unpacks one at a time.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use flate2::{Crc, Decompress, FlushDecompress};
use parking_lot::Mutex;

use super::packer::Packer;

/// Pieces are kept in slabs of so many bytes, which later renderings use again.
const SLAB: usize = 1 << 20;

/// A text in pieces.
#[derive(Debug)]
pub(super) struct Packed {
    slabs: Vec<Arc<Vec<u8>>>,
    /// In the order of the text.
    pieces: Vec<Piece>,
    /// Checksum and length of the whole text.
    pub(super) crc: Crc,
    pub(super) length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    slab: u32,
    begin: u32,
    end: u32,
    /// How long its text is.
    length: u32,
}

impl Packed {
    /// How many pieces there are.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// How much memory it takes.
    pub(super) fn size(&self) -> usize {
        self.slabs.iter().map(|slab| slab.capacity()).sum::<usize>() + self.pieces.capacity() * size_of::<Piece>()
    }

    /// A piece as it is.
    pub(super) fn piece(&self, number: usize) -> Bytes {
        let Piece { slab, begin, end, .. } = self.pieces[number];
        let slab = Bytes::from_owner(Shared(Arc::clone(&self.slabs[slab as usize])));
        slab.slice(begin as usize..end as usize)
    }

    /// Appends the text of a piece.
    pub(super) fn unpack(&self, number: usize, inflate: &mut Decompress, text: &mut Vec<u8>) {
        let Piece { slab, begin, end, length } = self.pieces[number];
        let packed = &self.slabs[slab as usize][begin as usize..end as usize];
        // One byte more, so that there is always room, and all input is read.
        text.reserve(length as usize + 1);
        inflate.reset(false);
        let result = inflate.decompress_vec(packed, text, FlushDecompress::Sync);
        debug_assert!(result.is_ok() && inflate.total_out() == u64::from(length), "{result:?}");
    }

    /// The buffers, for another text, as far as nobody reads them.
    pub(super) fn into_slabs(self) -> impl Iterator<Item = Vec<u8>> {
        self.slabs.into_iter().filter_map(Arc::into_inner)
    }
}

/// Lets `Bytes` share a buffer.
pub(super) struct Shared(pub(super) Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Texts that are out of date and still read, at most. A client that is slower than so many renderings loses its answer: else
/// each of some hundreds of slow clients could keep a text of its own.
const READ: usize = 2;

/// The texts that are out of date, and that somebody still reads.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<Weak<Lease>>);

impl Readers {
    /// Takes a text that is out of date, and returns it if nobody reads it.
    pub(super) fn retire(&mut self, lease: Arc<Lease>) -> Option<Packed> {
        let lease = match Arc::try_unwrap(lease) {
            Ok(lease) => return lease.end(),
            Err(lease) => lease,
        };
        self.0.retain(|lease| lease.strong_count() > 0);
        self.0.push(Arc::downgrade(&lease));
        while self.0.len() > READ {
            self.0.remove(0).upgrade().and_then(|oldest| oldest.end());
        }
        None
    }
}

/// Takes pieces in any order.
pub(super) struct Packing {
    slabs: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// By their place in the text, then as they came.
    pieces: Vec<Vec<(Piece, Crc)>>,
}

impl Packing {
    /// A text with so many places, in these buffers as far as they suffice.
    pub(super) fn new(places: usize, spare: Vec<Vec<u8>>) -> Self {
        Self { slabs: Vec::new(), open: Vec::new(), spare, pieces: (0..places).map(|_| Vec::new()).collect() }
    }

    /// Ends the packer's piece, and appends it to a place. A piece without text is left out.
    pub(super) fn take(&mut self, place: usize, packer: &mut Packer) {
        if packer.is_empty() {
            return;
        }
        let (packed, crc) = packer.finish();
        if self.open.capacity() - self.open.len() < packed.len() {
            let mut next = self.spare.pop().unwrap_or_default();
            next.clear();
            next.reserve_exact(SLAB.max(packed.len()));
            let full = std::mem::replace(&mut self.open, next);
            if !full.is_empty() {
                self.slabs.push(Arc::new(full));
            }
        }
        let begin = self.open.len();
        self.open.extend_from_slice(packed);
        let number = |number: usize| u32::try_from(number).expect("a piece is far from 4 GB");
        let (slab, begin, end) = (number(self.slabs.len()), number(begin), number(self.open.len()));
        self.pieces[place].push((Piece { slab, begin, end, length: crc.amount() }, crc));
    }

    pub(super) fn finish(mut self) -> Packed {
        self.slabs.push(Arc::new(self.open));
        let mut whole = Crc::new();
        let mut pieces = Vec::with_capacity(self.pieces.iter().map(Vec::len).sum());
        for (piece, crc) in self.pieces.into_iter().flatten() {
            whole.combine(&crc);
            pieces.push(piece);
        }
        let length = pieces.iter().map(|piece| piece.length as usize).sum();
        Packed { slabs: self.slabs, pieces, crc: whole, length }
    }
}

/// A packed text that can be taken from its readers: what a slow one is still to get must not stay for ever.
#[derive(Debug)]
pub(super) struct Lease(Mutex<Option<Arc<Packed>>>);

impl Lease {
    pub(super) fn new(packed: Packed) -> Self {
        Self(Mutex::new(Some(Arc::new(packed))))
    }

    /// The text; `None` if it was taken away.
    pub(super) fn get(&self) -> Option<Arc<Packed>> {
        self.0.lock().clone()
    }

    /// Takes it away.
    pub(super) fn end(&self) -> Option<Packed> {
        self.0.lock().take().and_then(Arc::into_inner)
    }
}
