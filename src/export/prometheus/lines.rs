//! What lines of /metrics are made of, and where they go: as they are, or packed.

use std::sync::Arc;

use super::labels::DomainLabels;
use super::value::Value;

/// Text is cut into chunks of about this many bytes: large enough to be few, small enough to be streamed and reused.
const CHUNK: usize = 64 * 1024;

/// One series of a domain, with its value.
pub(super) struct Line<'l> {
    pub(super) name: &'static str,
    pub(super) domain: &'l DomainLabels,
    /// Further labels, with a comma before each.
    pub(super) labels: &'l [u8],
    /// Which of the domain's series of that name it is: those of the same place are alike from domain to domain.
    pub(super) place: usize,
    pub(super) value: Value,
    /// The time of the value, in Unix milliseconds.
    pub(super) stamp: Option<u64>,
}

/// Where in the text the value of a line is, and what comes behind it.
pub(super) struct Written {
    pub(super) value: usize,
    pub(super) stamp: usize,
}

impl Line<'_> {
    /// Appends it as text.
    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Written {
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'{');
        out.extend_from_slice(self.domain.block());
        out.extend_from_slice(self.labels);
        out.extend_from_slice(b"} ");
        let value = out.len();
        self.value.write(out);
        let stamp = out.len();
        if let Some(millis) = self.stamp {
            out.push(b' ');
            Value::Int(millis).write(out);
        }
        out.push(b'\n');
        Written { value, stamp }
    }
}

/// Takes lines.
pub(super) trait Lines {
    /// Where to append what is no line of a domain.
    fn text(&mut self) -> &mut Vec<u8>;

    /// Appends a line of a domain.
    fn line(&mut self, line: &Line<'_>);
}

impl Lines for Vec<u8> {
    fn text(&mut self) -> &mut Vec<u8> {
        self
    }

    fn line(&mut self, line: &Line<'_>) {
        line.write(self);
    }
}

/// Text under construction, in chunks.
#[derive(Default)]
pub(super) struct Chunks {
    full: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

impl Chunks {
    /// Text that will be written into these buffers as far as they suffice.
    pub(super) fn new(mut spare: Vec<Vec<u8>>) -> Self {
        Self { full: Vec::new(), open: spare.pop().unwrap_or_default(), spare }
    }

    pub(super) fn finish(mut self) -> Vec<Arc<Vec<u8>>> {
        self.full.push(Arc::new(self.open));
        self.full
    }
}

impl Lines for Chunks {
    fn text(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= CHUNK {
            let next = self.spare.pop().unwrap_or_default();
            self.full.push(Arc::new(std::mem::replace(&mut self.open, next)));
        }
        &mut self.open
    }

    fn line(&mut self, line: &Line<'_>) {
        line.write(self.text());
    }
}

/// `# HELP` and `# TYPE`.
pub(super) fn header(name: &str, help: &str, kind: &str, out: &mut Vec<u8>) {
    for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
