//! XDR, as far as libvirt's protocol needs it: everything in units of four bytes, big-endian.
//!
//! The decoder never panics and never believes a length: what it is told is compared with what is there before anything
//! is allocated.

use thiserror::Error;

/// What was read is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The payload ends too early.
    #[error("the payload ends too early")]
    Short,
    /// A length or a count is above its limit.
    #[error("a length of {0} is above its limit")]
    Long(u32),
    /// A string is not UTF-8, as all names that we gave are.
    #[error("a string is not UTF-8")]
    NotText,
    /// An optional field says neither yes nor no.
    #[error("{0} is no boolean")]
    NotBoolean(u32),
}

/// A place in an encoder where a word is put later.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Gap(usize);

/// Writes XDR at the end of a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes were written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Was nothing written?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all behind the first bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Adds zeros up to a length.
    pub(crate) fn fill_up(&mut self, len: usize) {
        self.bytes.resize(len.max(self.bytes.len()), 0);
    }

    /// Makes room, if it is known how much will come.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// An unsigned int.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// An int or an enum.
    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// An unsigned hyper.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A hyper.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A double.
    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    /// A boolean, and whether an optional field follows.
    pub fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    /// How many items of an array follow.
    pub fn count(&mut self, items: usize) {
        self.u32(word(items));
    }

    /// Bytes whose number the protocol fixes.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad(bytes.len());
    }

    /// Bytes, their number first.
    pub fn opaque(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.fixed(bytes);
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.opaque(text.as_bytes());
    }

    /// A string that may be absent.
    pub fn optional_text(&mut self, text: Option<&str>) {
        self.bool(text.is_some());
        if let Some(text) = text {
            self.text(text);
        }
    }

    /// Leaves out a word, to be filled when it is known: a count, a length.
    pub fn gap(&mut self) -> Gap {
        let gap = Gap(self.bytes.len());
        self.u32(0);
        gap
    }

    /// Fills it.
    pub fn fill(&mut self, gap: Gap, value: usize) {
        if let Some(place) = self.bytes.get_mut(gap.0..gap.0 + 4) {
            place.copy_from_slice(&word(value).to_be_bytes());
        }
    }

    fn pad(&mut self, len: usize) {
        self.bytes.extend_from_slice(&[0; 3][..padding(len)]);
    }
}

/// Reads XDR from the front of a buffer.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Begins at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// An unsigned int.
    ///
    /// # Errors
    /// [`Malformed`], as for all that is read here.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// An int or an enum.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// An unsigned hyper.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A hyper.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A double.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }

    /// A boolean, and whether an optional field follows.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::NotBoolean(other)),
        }
    }

    /// How many items follow, if that is no more than the limit and than there can be: each takes four bytes at least.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn count(&mut self, limit: usize) -> Result<usize, Malformed> {
        let count = self.u32()?;
        let items = usize::try_from(count).map_err(|_| Malformed::Long(count))?;
        if items > limit {
            return Err(Malformed::Long(count));
        }
        if items > self.rest.len() / 4 {
            return Err(Malformed::Short);
        }
        Ok(items)
    }

    /// As many bytes as the type says.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest.get(padding(N)..).ok_or(Malformed::Short)?;
        Ok(*head)
    }

    /// Bytes, their number first.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn opaque(&mut self, limit: usize) -> Result<&'a [u8], Malformed> {
        let count = self.u32()?;
        let len = usize::try_from(count).map_err(|_| Malformed::Long(count))?;
        if len > limit {
            return Err(Malformed::Long(count));
        }
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest.get(padding(len)..).ok_or(Malformed::Short)?;
        Ok(bytes)
    }

    /// A string.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn text(&mut self, limit: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.opaque(limit)?).map_err(|_| Malformed::NotText)
    }

    /// A string that may be absent.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn optional_text(&mut self, limit: usize) -> Result<Option<&'a str>, Malformed> {
        if self.bool()? { self.text(limit).map(Some) } else { Ok(None) }
    }
}

/// How many zeros follow so many bytes.
fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

/// A length as a word. What does not fit is over every limit of the protocol, and is refused for that later.
fn word(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
