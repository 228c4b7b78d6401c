//! A small client of STOMP, over TCP or TLS, which sends what oVirt's vdsm-client sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::support::PATIENCE;

pub(crate) const CONNECT: &str = "CONNECT\naccept-version:1.2\nheart-beat:0,24000\n\n\0";
pub(crate) const QUEUE: &str = "3b0e3a6a-4b6c-4f0e-9f5e-0b3d0f2f8c11";
pub(crate) const SUBSCRIPTION: &str = "9d7c2f35-7a51-4b59-8f43-4f3a1c0b6e22";

pub(crate) fn subscribe() -> String {
    format!("SUBSCRIBE\ndestination:{QUEUE}\nack:auto\nid:{SUBSCRIPTION}\n\n\0")
}

/// A request for a sign of life, which is answered with true.
pub(crate) fn ping(id: &str) -> String {
    let body = format!(r#"[{{"jsonrpc": "2.0", "method": "Host.ping2", "params": {{}}, "id": "{id}"}}]"#);
    format!(
        "SEND\ndestination:jms.topic.vdsm_requests\ncontent-type:application/json\nreply-to:{QUEUE}\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) command: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// Its one answer, alone or in an array: clients take both.
    pub(crate) fn answer(&self) -> serde_json::Value {
        assert_eq!(self.command, "MESSAGE", "{self:?}");
        assert_eq!((self.header("subscription"), self.header("destination")), (Some(SUBSCRIPTION), Some(QUEUE)));
        assert_eq!(self.header("content-type"), Some("application/json"));
        match serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text())) {
            serde_json::Value::Array(mut answers) => {
                assert_eq!(answers.len(), 1);
                answers.remove(0)
            }
            answer => answer,
        }
    }

    /// Is it the answer to that ping?
    pub(crate) fn assert_answers(&self, id: &str) {
        let answer = self.answer();
        assert_eq!((&answer["id"], &answer["result"]), (&id.into(), &true.into()), "{answer}");
        assert!(answer.get("error").is_none(), "{answer}");
    }
}

/// A connection.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }

    /// One that has said CONNECT and SUBSCRIBE, and heard CONNECTED.
    pub(crate) fn subscribed(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        client.say(&[CONNECT, &subscribe()].concat());
        assert_eq!(client.next().command, "CONNECTED");
        client
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next frame; the end of the stream is an error.
    pub(crate) fn next(&mut self) -> Frame {
        self.try_next().unwrap().expect("a frame")
    }

    /// The next frame, or `None` at the end of the stream.
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let beats = self.read.iter().take_while(|byte| **byte == b'\n').count();
            self.read.drain(..beats);
            if let Some((frame, length)) = complete(&self.read) {
                self.read.drain(..length);
                return Ok(Some(frame));
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer)? {
                0 if self.read.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// What the ERROR says that must come next, with nothing behind it.
    pub(crate) fn error(&mut self) -> String {
        let error = self.next();
        assert_eq!(error.command, "ERROR", "{error:?}");
        assert!(self.try_next().unwrap().is_none(), "it is closed behind an error");
        error.text().to_owned()
    }

    /// The whole of what vdsm-client does.
    pub(crate) fn asks(&mut self, id: &str) {
        self.say(&[CONNECT, &subscribe(), &ping(id)].concat());
        let connected = self.next();
        assert_eq!((connected.command.as_str(), connected.header("version")), ("CONNECTED", Some("1.2")));
        assert_eq!(connected.header("heart-beat"), Some("24000,0"));
        self.next().assert_answers(id);
    }
}

/// The frame at the begin of these bytes, and its length, if it is all there.
fn complete(bytes: &[u8]) -> Option<(Frame, usize)> {
    let head_end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).expect("UTF-8");
    let mut lines = head.split('\n');
    let command = lines.next().expect("a command").to_owned();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(':').expect("a header")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let rest = &bytes[head_end + 2..];
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
    let length: usize = match length {
        Some(length) => length,
        None => rest.iter().position(|byte| *byte == 0)?,
    };
    assert_eq!(*rest.get(length)?, 0, "NUL ends a frame");
    Some((Frame { command, headers, body: rest[..length].to_vec() }, head_end + 2 + length + 1))
}
