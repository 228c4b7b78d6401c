//! A blocking HTTP client that does what a scrape needs and nothing that would be measured along with it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that says nothing for so long is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, and a buffer that is used again for every answer on it.
pub(crate) struct Client {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// A whole answer.
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    framing: Framing,
    raw: &'c [u8],
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { address, stream: open(address)?, buffer: vec![0; 1 << 20], filled: 0 })
    }

    /// Takes a new connection, and keeps the buffer.
    pub(crate) fn reconnect(&mut self) -> io::Result<()> {
        self.stream = open(self.address)?;
        Ok(())
    }

    /// Asks, and returns when the last byte of the answer is here.
    pub(crate) fn get(&mut self, path: &str, gzip: bool) -> io::Result<Answer<'_>> {
        let encoding = if gzip { "accept-encoding: gzip\r\n" } else { "" };
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{encoding}\r\n"))
    }

    /// The same with a body.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<Answer<'_>> {
        let length = body.len();
        self.ask(&format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    fn ask(&mut self, request: &str) -> io::Result<Answer<'_>> {
        self.stream.write_all(request.as_bytes())?;
        self.filled = 0;
        let (status, framing, head) = loop {
            self.read()?;
            if let Some(found) = parse_head(&self.buffer[..self.filled])? {
                break found;
            }
        };
        loop {
            let raw = &self.buffer[head..self.filled];
            let complete = match framing {
                Framing::Length(length) => raw.len() >= length,
                Framing::Chunked => chunks(raw, |_| {})?,
            };
            if complete {
                return Ok(Answer { status, framing, raw: &self.buffer[head..self.filled] });
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Answer<'_> {
    /// The body, freed from what the transfer put around it.
    pub(crate) fn body(&self) -> io::Result<Vec<u8>> {
        match self.framing {
            Framing::Length(length) => Ok(self.raw[..length].to_vec()),
            Framing::Chunked => {
                let mut body = Vec::new();
                chunks(self.raw, |chunk| body.extend_from_slice(chunk))?;
                Ok(body)
            }
        }
    }
}

/// Status, framing, and where the body begins; `None` while the head is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(u16, Framing, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let length = header("content-length").and_then(|length| length.parse().ok()).map(Framing::Length);
    let chunked = header("transfer-encoding").filter(|coding| *coding == "chunked").map(|_| Framing::Chunked);
    match (status, length.or(chunked)) {
        (Some(status), Some(framing)) => Ok(Some((status, framing, end + 4))),
        _ => Err(invalid()),
    }
}

/// Walks over the chunks that are there; true if the last one is.
fn chunks(mut raw: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some(line) = raw.windows(2).position(|window| window == b"\r\n") {
        let length = std::str::from_utf8(&raw[..line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let (begin, length) = (line + 2, length.ok_or_else(invalid)?);
        let Some(chunk) = raw.get(begin..begin + length) else { return Ok(false) };
        let Some(rest) = raw.get(begin + length + 2..) else { return Ok(false) };
        if length == 0 {
            return Ok(true);
        }
        take(chunk);
        raw = rest;
    }
    Ok(false)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP answer")
}
