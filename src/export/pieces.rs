//! Texts that are made while they are sent, whatever carries them.

use bytes::Bytes;

use super::api::ListBody;
use super::vdsm::{Answer, HostBody, VmList};

/// A text that is made a piece at a time.
pub(crate) trait Pieces: Send + 'static {
    /// Makes the next piece, which may be empty; `None` at the end.
    fn next_piece(&mut self) -> Option<Bytes>;

    /// Is there nothing more to come?
    fn is_finished(&self) -> bool;
}

macro_rules! pieces {
    ($($made:ty),*) => {$(
        impl Pieces for $made {
            fn next_piece(&mut self) -> Option<Bytes> {
                self.next_piece()
            }

            fn is_finished(&self) -> bool {
                self.is_finished()
            }
        }
    )*};
}

pieces!(ListBody, HostBody, VmList, Answer);
