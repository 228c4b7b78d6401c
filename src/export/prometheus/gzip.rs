//! One gzip stream whose first part is compressed once per snapshot, and whose end is compressed per scrape.
//!
//! Two gzip members in a row would do for Prometheus, but curl and others stop with an error at the second. So both parts
//! are blocks of one deflate stream: the first ends with a sync flush on a byte boundary, the second refers to nothing
//! before itself, and the checksums are combined.

use std::sync::Arc;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Magic, deflate, no flags, no time, no hints, unknown system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The fastest level: 3 to 5 times smaller for 3 ms a MB. More would cost the host CPU to save loopback traffic.
const LEVEL: u32 = 1;

/// A compressor whose state is kept from use to use.
pub(super) struct Deflate {
    state: Compress,
}

/// The beginning of a stream.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Header and blocks.
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) crc: Crc,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self { state: Compress::new(Compression::new(LEVEL), false) }
    }

    /// Compresses the part that many answers share, into a buffer that may be a used one.
    pub(super) fn head<'a>(&mut self, chunks: impl Iterator<Item = &'a [u8]>, mut buffer: Vec<u8>) -> Head {
        buffer.clear();
        buffer.extend_from_slice(&HEADER);
        let mut crc = Crc::new();
        self.state.reset();
        for chunk in chunks {
            crc.update(chunk);
            self.run(chunk, &mut buffer, FlushCompress::None);
        }
        self.run(&[], &mut buffer, FlushCompress::Sync);
        Head { bytes: Arc::new(buffer), crc }
    }

    /// Compresses the end of one answer, with the trailer for the whole; `head` is the checksum of what comes before.
    pub(super) fn tail(&mut self, head: &Crc, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() / 4 + 64);
        self.state.reset();
        self.run(text, &mut bytes, FlushCompress::Finish);
        let mut crc = Crc::new();
        crc.update(text);
        let mut whole = Crc::new();
        whole.combine(head);
        whole.combine(&crc);
        bytes.extend_from_slice(&whole.sum().to_le_bytes());
        bytes.extend_from_slice(&whole.amount().to_le_bytes());
        bytes
    }

    fn run(&mut self, input: &[u8], output: &mut Vec<u8>, flush: FlushCompress) {
        let begin = self.state.total_in();
        loop {
            output.reserve(input.len() / 4 + 1024);
            let consumed = usize::try_from(self.state.total_in() - begin).unwrap_or(input.len());
            // Deflate cannot fail on any input, only want more room.
            let _ = self.state.compress_vec(&input[consumed.min(input.len())..], output, flush);
            let all_read = self.state.total_in() - begin == input.len() as u64;
            // Room left over means that nothing more is to be written.
            if all_read && output.len() < output.capacity() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // The decoder for exactly one member.
        let mut decoder = flate2::read::GzDecoder::new(bytes);
        decoder.read_to_end(&mut text).expect("valid gzip with a right checksum");
        assert!(decoder.into_inner().is_empty(), "nothing behind the one member");
        text
    }

    #[test]
    fn both_parts_are_one_member() {
        let mut deflate = Deflate::new();
        let line = b"libvirt_domain_info_virtual_cpus{domain=\"a\"} 1\n";
        for repeat in [0, 1, 7, 5000, 200_000] {
            let chunks: Vec<Vec<u8>> = line.repeat(repeat).chunks(65_536).map(<[u8]>::to_vec).collect();
            let head = deflate.head(chunks.iter().map(Vec::as_slice), vec![1, 2, 3]);
            for tail in [&b""[..], b"tail 1\n", &b"tail 2\n".repeat(3000)] {
                let end = deflate.tail(&head.crc, tail);
                let whole = [&head.bytes[..], &end].concat();
                assert!(gunzip(&whole) == [&line.repeat(repeat)[..], tail].concat(), "{repeat} lines");
            }
        }
    }
}
