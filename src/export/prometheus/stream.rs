//! An answer that is made while it is sent, a piece at a time: a client that reads slowly holds a piece, not the text.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use flate2::{Crc, Decompress};

use super::ages::Ages;
use super::gzip::{self, Deflate};
use super::packed::{Lease, Packed};
use super::packer::Packer;
use crate::export::TooSlow;

/// The rest of an answer.
pub struct Stream {
    lease: Arc<Lease>,
    ages: Arc<Ages>,
    /// The moment of the scrape.
    now: Instant,
    /// Our own metrics, behind all else.
    own: String,
    form: Form,
    next: Next,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Begin,
    Piece(usize),
    Age(usize),
    Own,
    End,
}

enum Form {
    Plain(Box<Decompress>),
    /// With the checksum so far.
    Gzip(Box<Packer>, Crc),
}

impl Stream {
    pub(super) fn new(lease: Arc<Lease>, ages: Arc<Ages>, now: Instant, own: String, gzip: bool) -> Self {
        let form = if gzip {
            Form::Gzip(Box::new(Packer::new()), Crc::new())
        } else {
            Form::Plain(Box::new(Decompress::new(false)))
        };
        Self { lease, ages, now, own, form, next: Next::Begin }
    }

    /// Makes the next part; `None` at the end.
    ///
    /// # Errors
    /// [`TooSlow`], and then there is nothing more.
    pub fn next_part(&mut self) -> Option<Result<Bytes, TooSlow>> {
        loop {
            let (part, next) = match self.next {
                Next::Begin => (self.begin(), Next::Piece(0)),
                Next::Piece(number) => {
                    let Some(packed) = self.lease.get() else {
                        self.next = Next::End;
                        return Some(Err(TooSlow));
                    };
                    if number < packed.len() {
                        (self.piece(&packed, number), Next::Piece(number + 1))
                    } else {
                        if let Form::Gzip(_, crc) = &mut self.form {
                            crc.combine(&packed.crc);
                        }
                        (Bytes::new(), Next::Age(0))
                    }
                }
                Next::Age(part) if part < self.ages.parts() => (self.age(part), Next::Age(part + 1)),
                Next::Age(_) => (Bytes::new(), Next::Own),
                Next::Own => (self.own(), Next::End),
                Next::End => return None,
            };
            self.next = next;
            if !part.is_empty() {
                return Some(Ok(part));
            }
        }
    }

    /// Does the next part take more than to look it up?
    #[must_use]
    pub fn is_work(&self) -> bool {
        matches!((&self.form, self.next), (Form::Plain(_), _) | (_, Next::Age(_) | Next::Own))
    }

    fn begin(&self) -> Bytes {
        match self.form {
            Form::Plain(_) => Bytes::new(),
            Form::Gzip(..) => Bytes::from_static(&gzip::HEADER),
        }
    }

    fn piece(&mut self, packed: &Packed, number: usize) -> Bytes {
        match &mut self.form {
            Form::Gzip(..) => packed.piece(number),
            Form::Plain(inflate) => {
                let mut text = Vec::new();
                packed.unpack(number, inflate, &mut text);
                text.into()
            }
        }
    }

    fn age(&mut self, part: usize) -> Bytes {
        match &mut self.form {
            Form::Plain(_) => {
                let mut text = Vec::new();
                self.ages.write(part, self.now, &mut text);
                text.into()
            }
            Form::Gzip(packer, crc) => {
                self.ages.write(part, self.now, &mut **packer);
                let (packed, own) = packer.finish();
                crc.combine(&own);
                Bytes::copy_from_slice(packed)
            }
        }
    }

    fn own(&mut self) -> Bytes {
        let own = std::mem::take(&mut self.own);
        match &self.form {
            Form::Plain(_) => own.into(),
            Form::Gzip(_, crc) => Deflate::new().tail(crc, own.as_bytes()).into(),
        }
    }
}
