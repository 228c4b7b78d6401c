//! libvirt's messages: a length, a header of six words, a payload. And errors, which are a payload too.

use std::borrow::Cow;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::host::{GuestRef, Params, Value};
use crate::limits::{MESSAGE_BYTES, MESSAGE_BYTES_MIN};
use crate::xdr::{Decoder, Encoder, Malformed};

/// The program of everything but keepalive, and its version.
pub const REMOTE: u32 = 0x2000_8086;
/// The program of keepalive.
pub const KEEPALIVE: u32 = 0x6b65_6570;
/// Version of both.
pub const VERSION: u32 = 1;
/// Procedure of a keepalive message that asks.
pub const PING: u32 = 1;
/// Procedure of the answer.
pub const PONG: u32 = 2;

/// `VIR_NET_CALL` and its siblings.
pub mod kind {
    #![allow(missing_docs)] // libvirt's names.
    pub const CALL: u32 = 0;
    pub const REPLY: u32 = 1;
    pub const MESSAGE: u32 = 2;
    pub const STREAM: u32 = 3;
}

/// `VIR_NET_OK` and its sibling.
pub mod status {
    #![allow(missing_docs)] // libvirt's names.
    pub const OK: u32 = 0;
    pub const ERROR: u32 = 1;
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // libvirt's names.
pub struct Header {
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub kind: u32,
    pub serial: u32,
    pub status: u32,
}

impl Header {
    /// The header of what we send on our own account.
    #[must_use]
    pub fn message(program: u32, procedure: u32) -> Self {
        Self { program, version: VERSION, procedure, kind: kind::MESSAGE, serial: 0, status: status::OK }
    }

    /// The header of the answer to a call.
    #[must_use]
    pub fn reply(self) -> Self {
        Self { kind: kind::REPLY, status: status::OK, ..self }
    }

    /// Begins a message: behind the header comes the payload.
    #[must_use]
    pub fn begin(self) -> Encoder {
        let mut out = Encoder::new();
        out.u32(0);
        for word in [self.program, self.version, self.procedure, self.kind, self.serial, self.status] {
            out.u32(word);
        }
        out
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            program: input.u32()?,
            version: input.u32()?,
            procedure: input.u32()?,
            kind: input.u32()?,
            serial: input.u32()?,
            status: input.u32()?,
        })
    }
}

/// Ends a message: its length goes to its front.
#[must_use]
pub fn finish(message: Encoder) -> Vec<u8> {
    let mut bytes = message.into_bytes();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if let Some(front) = bytes.first_chunk_mut() {
        *front = len.to_be_bytes();
    }
    bytes
}

/// A message without payload.
#[must_use]
pub fn bare(header: Header) -> Vec<u8> {
    finish(header.begin())
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    /// Its header.
    pub header: Header,
    bytes: Vec<u8>,
}

impl Incoming {
    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(MESSAGE_BYTES_MIN - 4..).unwrap_or_default()
    }

    /// Reads the next message, or None at the end of the stream. Memory is taken as bytes come, not as they are promised.
    ///
    /// # Errors
    /// If the stream fails, ends inside a message, or says a length that no message has.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Self>> {
        let mut length = [0; 4];
        if stream.read(&mut length[..1]).await? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut length[1..]).await?;
        let length = u32::from_be_bytes(length);
        let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let Some(body) = usize::try_from(length).ok().filter(|len| (MESSAGE_BYTES_MIN..=MESSAGE_BYTES).contains(len))
        else {
            return Err(invalid(format!("a message of {length} bytes")));
        };
        let body = body - 4;
        let mut bytes = Vec::with_capacity(body.min(1 << 16));
        let read = stream.take(body as u64).read_to_end(&mut bytes).await?;
        if read < body {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let header = Header::read(&mut Decoder::new(&bytes)).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Self { header, bytes }))
    }
}

/// `virErrorNumber` and `virErrorDomain`, as far as they are needed.
pub mod code {
    #![allow(missing_docs)] // libvirt's names.
    pub const INTERNAL: i32 = 1;
    pub const INVALID_ARG: i32 = 8;
    pub const NO_SUPPORT: i32 = 3;
    pub const RPC: i32 = 39;
    pub const NO_DOMAIN: i32 = 42;
    pub const OPERATION_INVALID: i32 = 55;
    pub const OPERATION_TIMEOUT: i32 = 68;
    pub const ARGUMENT_UNSUPPORTED: i32 = 74;
    pub const FROM_RPC: i32 = 7;
    pub const FROM_QEMU: i32 = 10;
}

/// What libvirt answers in the place of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// `virErrorNumber`.
    pub code: i32,
    /// `virErrorDomain`.
    pub domain: i32,
    /// For people.
    pub message: Cow<'static, str>,
}

impl RpcError {
    /// An error of libvirtd itself.
    pub fn rpc(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, domain: code::FROM_RPC, message: message.into() }
    }

    /// An error of the QEMU driver.
    pub fn qemu(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, domain: code::FROM_QEMU, message: message.into() }
    }

    /// A procedure that is not served. The client makes "not supported" of it, by the first words of the text.
    #[must_use]
    pub fn unknown_procedure(number: u32) -> Self {
        Self::rpc(code::RPC, format!("unknown procedure: {number}"))
    }

    /// The reply would be longer than a message may be.
    #[must_use]
    pub fn too_long() -> Self {
        Self::rpc(code::RPC, "Unable to encode message payload")
    }

    /// Writes it as a payload.
    pub fn encode(&self, out: &mut Encoder) {
        const LEVEL_ERROR: i32 = 2;
        out.i32(self.code);
        out.i32(self.domain);
        out.optional_text(Some(&self.message));
        out.i32(LEVEL_ERROR);
        out.bool(false); // dom
        out.optional_text(Some(&self.message)); // str1
        out.optional_text(None);
        out.optional_text(None);
        out.i32(0); // int1
        out.i32(0); // int2
        out.bool(false); // net
    }

    /// The whole message that answers a call with it.
    #[must_use]
    pub fn answer(&self, call: Header) -> Vec<u8> {
        let mut out = Header { status: status::ERROR, ..call.reply() }.begin();
        self.encode(&mut out);
        finish(out)
    }
}

impl From<Malformed> for RpcError {
    fn from(_: Malformed) -> Self {
        Self::rpc(code::RPC, "Unable to decode message payload")
    }
}

/// Writes a domain.
pub fn put_domain(out: &mut Encoder, name: &str, uuid: &[u8; 16], id: i32) {
    out.text(name);
    out.fixed(uuid);
    out.i32(id);
}

/// Reads one.
///
/// # Errors
/// [`Malformed`].
pub fn get_domain(input: &mut Decoder<'_>, limit: usize) -> Result<GuestRef, Malformed> {
    Ok(GuestRef { name: input.text(limit)?.to_owned(), uuid: input.array()?, id: input.i32()? })
}

/// Writes typed parameters, and counts them.
#[derive(Debug)]
pub struct TypedParams<'a> {
    out: &'a mut Encoder,
    count: usize,
}

impl<'a> TypedParams<'a> {
    /// Writes behind what is there.
    pub fn new(out: &'a mut Encoder) -> Self {
        Self { out, count: 0 }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// An array of them: their number, then what the closure puts.
    pub fn array(out: &'a mut Encoder, fill: impl FnOnce(&mut dyn Params)) -> usize {
        let gap = out.gap();
        let mut params = TypedParams { out, count: 0 };
        fill(&mut params);
        let TypedParams { out, count } = params;
        out.fill(gap, count);
        count
    }
}

impl Params for TypedParams<'_> {
    fn put(&mut self, name: &str, value: Value<'_>) {
        self.count += 1;
        self.out.text(name);
        match value {
            Value::Int(value) => {
                self.out.i32(1);
                self.out.i32(value);
            }
            Value::UInt(value) => {
                self.out.i32(2);
                self.out.u32(value);
            }
            Value::LLong(value) => {
                self.out.i32(3);
                self.out.i64(value);
            }
            Value::ULLong(value) => {
                self.out.i32(4);
                self.out.u64(value);
            }
            Value::Double(value) => {
                self.out.i32(5);
                self.out.f64(value);
            }
            Value::Boolean(value) => {
                self.out.i32(6);
                self.out.bool(value);
            }
            Value::Text(value) => {
                self.out.i32(7);
                self.out.text(value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
