//! A client that speaks the protocol itself, so that it can misbehave, and see what libvirt.so hides.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use virtstat_sim::wire::{self, Header, KEEPALIVE, PING, REMOTE, kind, status};
use virtstat_sim::xdr::{Decoder, Encoder};

use super::{Lab, PATIENCE};

/// The state group of the bulk call, and its flag not to wait.
pub(crate) const NOWAIT: u32 = 1 << 29;

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    serial: u32,
}

/// A message that came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

/// A libvirt error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) domain: i32,
    pub(crate) message: String,
}

impl Message {
    pub(crate) fn is_error(&self) -> bool {
        self.header.status == status::ERROR
    }

    /// The payload, of a call that succeeded.
    pub(crate) fn ok(&self) -> Decoder<'_> {
        assert!(!self.is_error(), "{:?}", self.failure());
        Decoder::new(&self.payload)
    }

    pub(crate) fn failure(&self) -> Failure {
        assert!(self.is_error(), "{self:?}");
        let mut input = Decoder::new(&self.payload);
        let (code, domain) = (input.i32().unwrap(), input.i32().unwrap());
        Failure { code, domain, message: input.optional_text(9999).unwrap().unwrap_or_default().to_owned() }
    }
}

impl Client {
    /// Connected, and nothing more.
    pub(crate) fn raw(lab: &Lab) -> Self {
        let stream = UnixStream::connect(lab.simulator.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, serial: 0 }
    }

    /// Opened, as libvirt.so opens.
    pub(crate) fn open(lab: &Lab) -> Self {
        let mut client = Self::raw(lab);
        client.call(66, |_| {}).ok();
        let open = |out: &mut Encoder| {
            out.optional_text(Some("qemu:///system"));
            out.u32(1);
        };
        client.call(1, open).ok();
        client
    }

    /// Sends a call, and gives its serial.
    pub(crate) fn send(&mut self, procedure: u32, arguments: impl FnOnce(&mut Encoder)) -> u32 {
        let serial = self.serial;
        self.serial += 1;
        let header = Header { program: REMOTE, version: 1, procedure, kind: kind::CALL, serial, status: status::OK };
        let mut out = header.begin();
        arguments(&mut out);
        self.stream.write_all(&wire::finish(out)).unwrap();
        serial
    }

    pub(crate) fn ping(&mut self) {
        self.stream.write_all(&wire::bare(Header::message(KEEPALIVE, PING))).unwrap();
    }

    /// The next message; an error at the end of the stream.
    pub(crate) fn try_receive(&mut self) -> io::Result<Message> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.stream.read_exact(&mut rest)?;
        let payload = rest.split_off(24);
        let mut input = Decoder::new(&rest);
        let mut word = || input.u32().unwrap();
        let header = Header {
            program: word(),
            version: word(),
            procedure: word(),
            kind: word(),
            serial: word(),
            status: word(),
        };
        Ok(Message { header, payload })
    }

    pub(crate) fn receive(&mut self) -> Message {
        self.try_receive().unwrap()
    }

    /// Calls, and waits for the reply.
    pub(crate) fn call(&mut self, procedure: u32, arguments: impl FnOnce(&mut Encoder)) -> Message {
        let serial = self.send(procedure, arguments);
        let reply = self.receive();
        assert_eq!((reply.header.serial, reply.header.procedure, reply.header.kind), (serial, procedure, kind::REPLY));
        reply
    }

    /// Nothing has come. Only of use once something else shows that it could have.
    pub(crate) fn assert_nothing(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let nothing = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(&nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{nothing:?}");
    }

    pub(crate) fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// Asks for the library's version: served on a priority worker, and about nobody.
    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.call(157, |_| {}).ok().u64(), Ok(9_000_000));
    }
}

/// A domain as an argument; only its UUID counts.
pub(crate) fn domain(out: &mut Encoder, uuid: &[u8; 16]) {
    wire::put_domain(out, "any", uuid, 7);
}

/// Arguments of calls about one domain that have flags as well.
pub(crate) fn about(uuid: [u8; 16]) -> impl FnOnce(&mut Encoder) {
    move |out| {
        domain(out, &uuid);
        out.u32(0);
    }
}

/// Arguments of DomainGetBlockInfo.
pub(crate) fn disk(uuid: [u8; 16], target: &str) -> impl FnOnce(&mut Encoder) {
    let target = target.to_owned();
    move |out| {
        domain(out, &uuid);
        out.text(&target);
        out.u32(0);
    }
}

/// Arguments of the bulk call.
pub(crate) fn bulk(uuids: &[[u8; 16]], groups: u32, flags: u32) -> impl FnOnce(&mut Encoder) {
    let uuids = uuids.to_vec();
    move |out| {
        out.count(uuids.len());
        uuids.iter().for_each(|uuid| domain(out, uuid));
        out.u32(groups);
        out.u32(flags);
    }
}

/// The records of a bulk reply: name of the domain, names of the parameters.
pub(crate) fn records(reply: &Message) -> Vec<(String, Vec<String>)> {
    let mut input = reply.ok();
    let count = input.count(20_000).unwrap();
    (0..count)
        .map(|_| {
            let name = wire::get_domain(&mut input, 999).unwrap().name;
            let count = input.count(262_144).unwrap();
            let keys = (0..count).map(|_| {
                let key = input.text(79).unwrap().to_owned();
                match input.i32().unwrap() {
                    1 | 2 | 6 => _ = input.u32().unwrap(),
                    3..=5 => _ = input.u64().unwrap(),
                    7 => _ = input.text(9999).unwrap(),
                    other => panic!("{key} has type {other}"),
                }
                key
            });
            (name, keys.collect())
        })
        .collect()
}
