//! Texts for the same hands as those that are made while they are sent: one that is there already, and any of them compressed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::export::Pieces;

/// A text that is there already.
pub(super) struct Whole(pub(super) Option<Bytes>);

impl Pieces for Whole {
    fn next_piece(&mut self) -> Option<Bytes> {
        self.0.take()
    }

    fn is_finished(&self) -> bool {
        self.0.is_none()
    }
}

/// Compresses pieces as they come.
pub(super) struct Gzip<P> {
    /// A piece that is made already.
    begin: Option<Bytes>,
    pieces: P,
    gzip: GzEncoder<Vec<u8>>,
}

impl<P> Gzip<P> {
    pub(super) fn new(begin: Option<Bytes>, pieces: P) -> Self {
        Self { begin, pieces, gzip: GzEncoder::new(Vec::new(), Compression::fast()) }
    }
}

impl<P: Pieces> Pieces for Gzip<P> {
    fn next_piece(&mut self) -> Option<Bytes> {
        let piece = self.begin.take().or_else(|| self.pieces.next_piece())?;
        // Into memory, which takes all.
        drop(self.gzip.write_all(&piece));
        if self.is_finished() {
            drop(self.gzip.try_finish());
        }
        Some(std::mem::take(self.gzip.get_mut()).into())
    }

    fn is_finished(&self) -> bool {
        self.begin.is_none() && self.pieces.is_finished()
    }
}
