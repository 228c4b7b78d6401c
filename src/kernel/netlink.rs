//! Dumps over a netlink socket: the request, and the walk through what the kernel answers.
//!
//! A message is believed no further than its bytes reach.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The kernel fills at most 32 KiB at a time, and learns from a large buffer that it may.
const BUFFER: usize = 64 << 10;
/// An answer that does not come is no reason to wait for ever. The kernel answers at once, unless it dropped a message.
const PATIENCE: Duration = Duration::from_secs(1);

const HEADER: usize = 16;
const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
/// `NLM_F_DUMP_INTR`.
const INTERRUPTED: u16 = 0x10;
/// `NLA_TYPE_MASK`.
const TYPE: u16 = 0x3fff;

/// Why a dump is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// What is dumped changed meanwhile: something may be missing.
    Changed,
    /// By the kernel, or by who confines this process.
    Refused(Errno),
    /// The answer makes no sense.
    Garbled,
}

/// Asks for all of a kind.
pub(super) trait Dump: Send {
    /// Hands each message's type and what follows its header to `each`.
    fn dump(&mut self, kind: u16, body: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> Result<(), Failure>;
}

/// The kernel's `NETLINK_ROUTE`. The socket lasts until something goes wrong.
#[derive(Debug, Default)]
pub(super) struct Route {
    socket: Option<OwnedFd>,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dump for Route {
    fn dump(&mut self, kind: u16, body: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> Result<(), Failure> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open().map_err(Failure::Refused)?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.resize(BUFFER, 0);
        let request = request(kind, self.sequence, body);
        send(&socket, &request, SendFlags::empty()).map_err(Failure::Refused)?;
        let mut is_whole = true;
        loop {
            // TRUNC: the length that it would have had.
            let received = retry_on_intr(|| recv(&socket, &mut self.buffer[..], RecvFlags::TRUNC));
            let (_, length) = received.map_err(Failure::Refused)?;
            let answer = self.buffer.get(..length).filter(|answer| !answer.is_empty()).ok_or(Failure::Garbled)?;
            let walked = walk(answer, self.sequence, each)?;
            is_whole &= !walked.is_interrupted;
            if walked.is_done {
                break;
            }
        }
        // Nothing of this dump is left in it.
        self.socket = Some(socket);
        if is_whole { Ok(()) } else { Err(Failure::Changed) }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    // NETLINK_ROUTE is protocol 0, which is what none is.
    let socket = socket_with(family, SocketType::RAW, flags, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

fn request(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// How far a walk got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Walked {
    is_done: bool,
    is_interrupted: bool,
}

/// Goes through the messages of one answer.
fn walk(answer: &[u8], sequence: u32, each: &mut dyn FnMut(u16, &[u8])) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    let mut rest = answer;
    while !rest.is_empty() {
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()).ok_or(Failure::Garbled)?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER).ok_or(Failure::Garbled)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags) = u16_at(message, 4).zip(u16_at(message, 6)).ok_or(Failure::Garbled)?;
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        walked.is_interrupted |= flags & INTERRUPTED != 0;
        let body = &message[HEADER..];
        match kind {
            NOOP => {}
            DONE | ERROR => {
                if let Some(code) = u32_at(body, 0).map(u32::cast_signed).filter(|code| *code < 0) {
                    return Err(Failure::Refused(Errno::from_raw_os_error(code.saturating_neg())));
                }
                walked.is_done = true;
                break;
            }
            kind => each(kind, body),
        }
    }
    Ok(walked)
}

/// Type and value of each attribute; ends where they make no sense any more.
pub(super) fn attributes(text: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(text: &[u8], at: usize) -> Option<u16> {
    text.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

pub(super) fn u64_at(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = request(kind, sequence, body);
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    /// Types and bodies.
    type Seen = Vec<(u16, Vec<u8>)>;

    fn walked(answer: &[u8]) -> (Result<Walked, Failure>, Seen) {
        let mut seen = Seen::new();
        let result = walk(answer, 5, &mut |kind, body| seen.push((kind, body.to_vec())));
        (result, seen)
    }

    #[test]
    fn messages_come_until_it_is_done() {
        let parts = [
            message(92, 2, 5, &[1, 2, 3]),
            message(92, 2, 4, &[9]),
            message(NOOP, 0, 5, &[]),
            message(92, 2, 5, &[4]),
            message(DONE, 2, 5, &[0; 4]),
        ];
        let (result, seen) = walked(&parts.concat());
        assert_eq!(result, Ok(Walked { is_done: true, is_interrupted: false }));
        assert_eq!(seen, [(92, vec![1, 2, 3]), (92, vec![4])], "an answer to an older question is passed over");
        assert_eq!(walked(&parts[..4].concat()).0, Ok(Walked::default()), "more is to come");
    }

    #[test]
    fn what_went_wrong_is_told() {
        let refusal = message(ERROR, 0, 5, &(-95_i32).to_ne_bytes());
        assert_eq!(walked(&refusal).0, Err(Failure::Refused(Errno::OPNOTSUPP)));
        assert_eq!(walked(&message(DONE, 0, 5, &(-22_i32).to_ne_bytes())).0, Err(Failure::Refused(Errno::INVAL)));
        let interrupted = [message(92, INTERRUPTED, 5, &[]), message(DONE, 0, 5, &[0; 4])].concat();
        assert_eq!(walked(&interrupted).0, Ok(Walked { is_done: true, is_interrupted: true }));
        let whole = message(92, 0, 5, &[1, 2, 3, 4]);
        for cut in 1..whole.len() {
            assert_eq!(walked(&whole[..cut]).0, Err(Failure::Garbled), "{cut}");
        }
        let mut empty = whole;
        empty[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(walked(&empty).0, Err(Failure::Garbled), "and no endless walk");
    }

    #[test]
    fn attributes_end_where_they_make_no_sense() {
        let text = [5, 0, 3, 0x80, b'a', 0, 0, 0, 4, 0, 7, 0, 200, 0, 1, 0, 1];
        let found: Vec<_> = attributes(&text).collect();
        if cfg!(target_endian = "little") {
            assert_eq!(found, [(3, &b"a"[..]), (7, &b""[..])]);
        }
        assert_eq!(attributes(&[0; 16]).count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_everything_ends(answer in proptest::collection::vec(0_u8..24, 0..200)) {
            let _ = walk(&answer, 0, &mut |_, body| { attributes(body).count(); });
            attributes(&answer).count();
        }
    }
}
