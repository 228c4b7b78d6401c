//! Frames of STOMP 1.2: a parser that takes bytes as they come, and a writer. Pure.
//!
//! However the bytes arrive, no more is kept than the limits below allow.

use thiserror::Error;

/// Command and headers of a frame at most, in bytes. Those of VDSM's clients have some 250.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a frame at most, repeated ones included. VDSM's clients send five.
pub(super) const HEADERS: usize = 64;
/// The body of a frame at most, in bytes: the limit of a request over HTTP. One with the UUIDs of ten thousand guests has 400 kB.
pub(super) const BODY_BYTES: usize = 1024 * 1024;
/// Room that is made for a body before it comes; more only as it does, so that announcing alone costs us nothing.
const BODY_AT_FIRST: usize = 4096;
/// The longest command, with the carriage return that may be behind it.
const COMMAND_BYTES: usize = "UNSUBSCRIBE\r".len();

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    #[error("This is no STOMP: a frame begins with its command")]
    Command,
    #[error("A header without a colon, without a name, or with a NUL")]
    Header,
    #[error("A header that is not UTF-8")]
    Encoding,
    #[error("A header with an escape that STOMP 1.2 does not have")]
    Escape,
    #[error("content-length is no number")]
    Length,
    #[error("No NUL behind the body")]
    End,
    #[error("Command and headers are too long: {HEAD_BYTES} bytes are possible")]
    HeadTooLong,
    #[error("Too many headers: {HEADERS} are possible")]
    TooManyHeaders,
    #[error("The body is too long: {BODY_BYTES} bytes are possible")]
    BodyTooLong,
}

impl FrameError {
    /// Is it a limit that was passed?
    pub(super) const fn is_size(self) -> bool {
        matches!(self, Self::HeadTooLong | Self::TooManyHeaders | Self::BodyTooLong)
    }
}

/// What clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// CONNECT or STOMP, which mean the same.
    Connect,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
}

impl Command {
    fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"CONNECT" | b"STOMP" => Self::Connect,
            b"SEND" => Self::Send,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UNSUBSCRIBE" => Self::Unsubscribe,
            b"ACK" => Self::Ack,
            b"NACK" => Self::Nack,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"DISCONNECT" => Self::Disconnect,
            _ => return None,
        })
    }

    /// Are headers of its frames escaped? STOMP 1.0 had no escapes, and this frame is read before the version is known.
    const fn escapes(self) -> bool {
        !matches!(self, Self::Connect)
    }
}

/// What servers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Connected,
    Message,
    Receipt,
    Error,
}

impl Told {
    const fn name(self) -> &'static str {
        match self {
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    /// As [`Command::escapes`].
    const fn escapes(self) -> bool {
        !matches!(self, Self::Connected)
    }
}

/// A frame that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) command: Command,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// The first header of that name, which is the one that counts.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Takes bytes, gives frames. After an error it is of no more use.
#[derive(Default)]
pub(super) struct Parser {
    /// The line of command or header that is under way.
    line: Vec<u8>,
    /// Bytes of command and headers so far.
    head: usize,
    frame: Option<Frame>,
    body: Option<Body>,
}

/// What ends the body that is under way.
#[derive(Clone, Copy)]
enum Body {
    /// So many bytes, and a NUL behind them.
    Long(usize),
    Nul,
}

impl Parser {
    /// Has a frame begun that is not complete?
    pub(super) fn is_within(&self) -> bool {
        self.head > 0
    }

    /// The next frame, and `input` is what is behind it; `None` if all of it was taken and more is needed.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        while self.body.is_none() {
            let Some(line) = self.next_line(input)? else { return Ok(None) };
            self.take_line(&line)?;
        }
        if !self.take_body(input)? {
            return Ok(None);
        }
        (self.head, self.body) = (0, None);
        Ok(self.frame.take())
    }

    /// The next line, without its end.
    fn next_line(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let part = &input[..end.unwrap_or(input.len())];
        self.head += part.len() + usize::from(end.is_some());
        if self.frame.is_none() {
            // Who speaks another protocol is told at once: HTTP has a blank in its first line, TLS begins with a control character.
            let odd = |byte: &u8| !(byte.is_ascii_uppercase() || *byte == b'\r');
            if part.iter().any(odd) || self.line.len() + part.len() > COMMAND_BYTES {
                return Err(FrameError::Command);
            }
        } else if part.contains(&0) {
            return Err(FrameError::Header);
        }
        if self.head > HEAD_BYTES {
            return Err(FrameError::HeadTooLong);
        }
        self.line.extend_from_slice(part);
        *input = &input[end.map_or(input.len(), |end| end + 1)..];
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), FrameError> {
        let Some(frame) = &mut self.frame else {
            if line.is_empty() {
                // A heart-beat, or the line's end that may be behind a frame.
                self.head = 0;
            } else {
                let command = Command::parse(line).ok_or(FrameError::Command)?;
                self.frame = Some(Frame { command, headers: Vec::new(), body: Vec::new() });
            }
            return Ok(());
        };
        if line.is_empty() {
            let body = match frame.header("content-length").map(length) {
                None => Body::Nul,
                Some(length) => Body::Long(length?),
            };
            self.body = Some(body);
            return Ok(());
        }
        if frame.headers.len() == HEADERS {
            return Err(FrameError::TooManyHeaders);
        }
        let line = std::str::from_utf8(line).map_err(|_| FrameError::Encoding)?;
        let (name, value) = line.split_once(':').ok_or(FrameError::Header)?;
        if name.is_empty() {
            return Err(FrameError::Header);
        }
        let header = match frame.command.escapes() {
            true => (unescaped(name)?, unescaped(value)?),
            false => (name.to_owned(), value.to_owned()),
        };
        frame.headers.push(header);
        Ok(())
    }

    /// Is the body complete?
    fn take_body(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        let (Some(frame), Some(end)) = (&mut self.frame, self.body) else { return Ok(false) };
        let body = &mut frame.body;
        let (part, ended) = match end {
            Body::Long(length) => {
                let missing = length - body.len();
                (&input[..missing.min(input.len())], input.get(missing).copied())
            }
            Body::Nul => {
                let nul = input.iter().position(|byte| *byte == 0);
                (&input[..nul.unwrap_or(input.len())], nul.map(|_| 0))
            }
        };
        if body.len() + part.len() > BODY_BYTES {
            return Err(FrameError::BodyTooLong);
        }
        if body.capacity() == 0 && !part.is_empty() {
            body.reserve(BODY_AT_FIRST.max(part.len()));
        }
        body.extend_from_slice(part);
        *input = &input[part.len() + usize::from(ended.is_some())..];
        match ended {
            Some(0) => Ok(true),
            Some(_) => Err(FrameError::End),
            None => Ok(false),
        }
    }
}

/// The value of content-length. A sign, which Rust's parser would take, is none of a length.
fn length(text: &str) -> Result<usize, FrameError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FrameError::Length);
    }
    text.parse().ok().filter(|length| *length <= BODY_BYTES).ok_or(FrameError::BodyTooLong)
}

fn unescaped(text: &str) -> Result<String, FrameError> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('c') => ':',
                Some('\\') => '\\',
                _ => return Err(FrameError::Escape),
            },
            other => other,
        });
    }
    Ok(out)
}

/// Writes command and headers, up to where the body begins.
pub(super) fn write_head(out: &mut Vec<u8>, command: Told, headers: &[(&str, &str)]) {
    out.extend_from_slice(command.name().as_bytes());
    out.push(b'\n');
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        if command.escapes() {
            write_escaped(out, value);
        } else {
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Writes a whole frame.
pub(super) fn write_frame(out: &mut Vec<u8>, command: Told, headers: &[(&str, &str)], body: &[u8]) {
    write_head(out, command, headers);
    out.extend_from_slice(body);
    out.push(0);
}

fn write_escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
