//! Lines of /metrics to deflate, much faster than a compressor that has to look for what repeats.
//!
//! Whoever writes a line knows what of it was there before: the family's name, the domain of the device before, the label of
//! the same device of the domain before, often the value. So a line becomes a few references and the bits of what is new. The
//! text itself is written too, a piece at a time: the references are checked against it where they are not certain, and the
//! checksum needs it. A piece is a block that refers to nothing before itself and ends on a byte (a sync flush), so pieces can
//! be put one behind the other in any order.

use flate2::Crc;

use super::code::{Bits, CODE, Code, FARTHEST, LONGEST, SHORTEST};
use super::labels::{DomainLabels, TAG, UUID};
use super::lines::{Line, Lines};

/// Devices of a domain whose lines are kept in mind, to be referred to by those of the next domain.
const PLACES: usize = 16;

/// Writes one piece after the other, with buffers that are used again.
pub(super) struct Packer {
    code: &'static Code,
    /// The text of the piece.
    text: Vec<u8>,
    /// How much of it is packed or pending.
    done: usize,
    bits: BitWriter,
    /// The reference that is not written yet, as it may grow: distance and length.
    pending: (usize, usize),
    before: Option<Mark>,
    places: [Option<Mark>; PLACES],
}

/// Where the parts of a line are in the text.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: usize,
    /// The label block.
    block: usize,
    /// The [`TAG`] in it.
    tag: usize,
    /// What comes behind the UUID.
    rest: usize,
    value: usize,
    /// The time, or the end of the line.
    stamp: usize,
    /// The line feed.
    end: usize,
    /// Whose line it is, by address.
    domain: usize,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self {
            code: &CODE,
            text: Vec::new(),
            done: 0,
            bits: BitWriter::default(),
            pending: (0, 0),
            before: None,
            places: [None; PLACES],
        }
    }

    /// Is there anything in the piece?
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Ends the piece, and begins another; returns it with the checksum and the length of its text.
    pub(super) fn finish(&mut self) -> (&[u8], Crc) {
        self.room();
        self.literals(self.text.len());
        let end = self.code.end;
        self.bits.put(end);
        let mut crc = Crc::new();
        crc.update(&self.text);
        self.text.clear();
        self.done = 0;
        self.before = None;
        self.places = [None; PLACES];
        (self.bits.finish(), crc)
    }

    fn room(&mut self) {
        if self.done == 0 {
            self.bits.room(1024);
            self.code.header.iter().for_each(|bits| self.bits.put(*bits));
        }
        // No byte takes more than two, and each of a handful of references no more than eight.
        self.bits.room((self.text.len() - self.done) * 2 + 256);
    }

    /// Packs the text up to there as it is.
    fn literals(&mut self, to: usize) {
        self.flush();
        self.bits.literals(self.code, &self.text[self.done..to]);
        self.done = to;
    }

    /// Packs the text up to there as what was so far before it.
    fn copy(&mut self, distance: usize, to: usize) {
        debug_assert_eq!(self.text[self.done..to], self.text[self.done - distance..to - distance]);
        if to == self.done {
            return;
        }
        if distance > FARTHEST {
            return self.literals(to);
        }
        if self.pending.0 != distance {
            self.flush();
            self.pending = (distance, 0);
        }
        self.pending.1 += to - self.done;
        self.done = to;
    }

    /// Writes the pending reference.
    fn flush(&mut self) {
        let (distance, mut left) = std::mem::take(&mut self.pending);
        if left < SHORTEST {
            let short = &self.text[self.done - left..self.done];
            return self.bits.literals(self.code, short);
        }
        let code = self.code;
        let far = code.distance(distance);
        while left > 0 {
            // What is left must be long enough to be said.
            let length =
                if left > LONGEST && left < LONGEST + SHORTEST { LONGEST - SHORTEST } else { left.min(LONGEST) };
            self.bits.put(code.lengths[length]);
            self.bits.put(far);
            left -= length;
        }
    }

    /// Packs what is like another place of the text at its beginning or its end.
    fn like(&mut self, (from, to): (usize, usize), (other, other_to): (usize, usize)) {
        let (this, that) = (&self.text[from..to], &self.text[other..other_to]);
        let same = common(this, that);
        let most = this.len().min(that.len()) - same;
        let tail = this.iter().rev().zip(that.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
        self.copy(from - other, from + same);
        if to - tail > from + same {
            self.literals(to - tail);
        }
        if tail > 0 {
            self.copy(to - other_to, to);
        }
    }

    /// Packs what is the same as in another place of the text, or not alike at all.
    fn same(&mut self, (from, to): (usize, usize), (other, other_to): (usize, usize)) {
        if self.text[from..to] == self.text[other..other_to] {
            self.copy(from - other, to);
        } else {
            self.literals(to);
        }
    }

    fn pack(&mut self, line: Mark, place: usize, domain: &DomainLabels) {
        self.room();
        // The line feed before a line is packed with it, as it was before the line that is referred to, if there was one.
        let begin = if self.before.is_some_and(|before| before.start > 0) { line.start - 1 } else { line.start };
        if begin > self.done {
            self.literals(begin);
        }
        match self.before {
            None => {
                self.literals(line.tag + TAG.len());
                self.uuid(domain);
            }
            Some(before) if before.domain == line.domain => self.copy(line.start - before.start, line.rest),
            Some(before) => {
                let same = common(&self.text[line.block..line.tag], &self.text[before.block..before.tag]);
                self.copy(line.start - before.start, line.block + same);
                if line.tag > line.block + same {
                    self.literals(line.tag);
                }
                self.copy(line.tag - before.tag, line.tag + TAG.len());
                self.uuid(domain);
            }
        }
        match self.places.get(place).copied().flatten().or(self.before) {
            None => self.literals(line.end),
            Some(like) => {
                self.like((line.rest, line.value), (like.rest, like.value));
                self.same((line.value, line.stamp), (like.value, like.stamp));
                self.same((line.stamp, line.end), (like.stamp, like.end));
            }
        }
        self.before = Some(line);
        if let Some(place) = self.places.get_mut(place) {
            *place = Some(line);
        }
    }

    /// Writes the bits of a UUID, which are known.
    fn uuid(&mut self, domain: &DomainLabels) {
        self.flush();
        domain.uuid.iter().for_each(|bits| self.bits.put(*bits));
        self.done += UUID;
    }
}

impl Lines for Packer {
    fn text(&mut self) -> &mut Vec<u8> {
        // Packed when a line comes, or at the end.
        self.before = None;
        &mut self.text
    }

    fn line(&mut self, line: &Line<'_>) {
        let start = self.text.len();
        let mark = line.write(&mut self.text);
        let block = start + line.name.len() + 1;
        let rest = block + line.domain.block().len() - 1;
        let mark = Mark {
            start,
            block,
            tag: rest - UUID - TAG.len(),
            rest,
            value: mark.value,
            stamp: mark.stamp,
            end: self.text.len() - 1,
            domain: std::ptr::from_ref(line.domain).addr(),
        };
        self.pack(mark, line.place, line.domain);
    }
}

/// Bits, from the lowest of each byte on.
#[derive(Default)]
struct BitWriter {
    /// Longer than what is written.
    out: Vec<u8>,
    at: usize,
    /// Fewer than 8 bits that do not fill a byte yet.
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Makes room for so many bytes.
    fn room(&mut self, bytes: usize) {
        let needed = self.at + bytes + size_of::<u64>();
        if self.out.len() < needed {
            self.out.resize(needed.next_power_of_two(), 0);
        }
    }

    /// Writes up to 56 bits, for which there must be room.
    #[inline]
    fn put(&mut self, Bits { bits, count }: Bits) {
        self.held |= bits << self.count;
        self.count += count;
        self.out[self.at..self.at + size_of::<u64>()].copy_from_slice(&self.held.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.held >>= self.count & !7;
        self.count &= 7;
    }

    #[inline]
    fn literals(&mut self, code: &Code, bytes: &[u8]) {
        // Three take 45 bits at most.
        for three in bytes.chunks(3) {
            let bits = three.iter().fold(Bits::default(), |bits, byte| bits.and(code.literals[usize::from(*byte)]));
            self.put(bits);
        }
    }

    /// Ends on a byte, with an empty block that says so, and begins anew.
    fn finish(&mut self) -> &[u8] {
        self.put(Bits { bits: 0, count: 3 });
        self.put(Bits { bits: 0, count: (8 - self.count) % 8 });
        self.put(Bits { bits: 0xffff_0000, count: 32 });
        &self.out[..std::mem::take(&mut self.at)]
    }
}

/// How many bytes are the same at the beginning.
fn common(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let mut same = 0;
    for (one, other) in words {
        let differ = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differ != 0 {
            return same + differ.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}
