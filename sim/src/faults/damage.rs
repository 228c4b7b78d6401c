//! Damaged replies. The bytes are those of a whole message, length and header first.

use crate::command::Harm;
use crate::limits::{MESSAGE_BYTES_MIN, STRING_BYTES};
use crate::procedures::Procedure;
use crate::server::Then;
use crate::wire::get_domain;
use crate::xdr::{Decoder, Malformed};

/// Where in a message the serial is.
const SERIAL: usize = 4 + 4 * 4;
/// A count that no reply has room for.
const TOO_MANY: u32 = 0x7fff_ffff;
/// No `virTypedParameterType`.
const NO_TYPE: u32 = 99;

/// Is there something in the reply that can be damaged so?
pub(super) fn possible(kind: Harm, procedure: &Procedure, reply: &[u8]) -> bool {
    match kind {
        Harm::HalfThenSilence | Harm::HalfThenClose | Harm::WrongSerial => true,
        Harm::WrongCount | Harm::Truncated | Harm::RandomBytes => reply.len() > MESSAGE_BYTES_MIN,
        Harm::WrongType => type_of_first(procedure, reply).is_some(),
    }
}

/// Damages it.
pub(super) fn harm(kind: Harm, procedure: &Procedure, reply: &mut Vec<u8>, random: &mut fastrand::Rng) -> Then {
    match kind {
        Harm::HalfThenSilence => {
            reply.truncate(reply.len() / 2);
            return Then::Silence;
        }
        Harm::HalfThenClose => {
            reply.truncate(reply.len() / 2);
            return Then::Close;
        }
        Harm::WrongCount => put(reply, MESSAGE_BYTES_MIN, TOO_MANY),
        Harm::WrongType => {
            if let Some(place) = type_of_first(procedure, reply) {
                put(reply, place, NO_TYPE);
            }
        }
        Harm::Truncated => {
            let kept = (reply.len() - MESSAGE_BYTES_MIN) / 2 / 4 * 4;
            reply.truncate(MESSAGE_BYTES_MIN + kept);
            put(reply, 0, u32::try_from(MESSAGE_BYTES_MIN + kept).unwrap_or(u32::MAX));
        }
        Harm::WrongSerial => put(reply, SERIAL, random.u32(0x4000_0000..)),
        Harm::RandomBytes => random.fill(&mut reply[MESSAGE_BYTES_MIN..]),
    }
    Then::Continue
}

fn put(reply: &mut [u8], place: usize, word: u32) {
    if let Some(bytes) = reply.get_mut(place..place + 4) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

/// Where the type of the first typed parameter is, in replies that have some.
fn type_of_first(procedure: &Procedure, reply: &[u8]) -> Option<usize> {
    let payload = reply.get(MESSAGE_BYTES_MIN..)?;
    let mut input = Decoder::new(payload);
    find(procedure.name, &mut input).ok()??;
    Some(reply.len() - input.left())
}

/// Reads up to it.
fn find(procedure: &str, input: &mut Decoder<'_>) -> Result<Option<()>, Malformed> {
    match procedure {
        "ConnectGetAllDomainStats" => {
            if input.u32()? == 0 {
                return Ok(None);
            }
            get_domain(input, STRING_BYTES)?;
        }
        "DomainGetJobStats" => {
            input.i32()?;
        }
        "DomainBlockStatsFlags" | "DomainGetCPUStats" => {}
        _ => return Ok(None),
    }
    if input.u32()? == 0 {
        return Ok(None);
    }
    input.text(STRING_BYTES)?;
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::host::Value;
    use crate::procedures;
    use crate::wire::{Header, REMOTE, TypedParams, finish};

    const ALL: [Harm; 7] = [
        Harm::HalfThenSilence,
        Harm::HalfThenClose,
        Harm::WrongCount,
        Harm::WrongType,
        Harm::Truncated,
        Harm::WrongSerial,
        Harm::RandomBytes,
    ];

    fn reply() -> Vec<u8> {
        let mut out = Header::message(REMOTE, 243).begin();
        TypedParams::array(&mut out, |sink| sink.put("rd_bytes", Value::LLong(7)));
        out.count(1);
        finish(out)
    }

    #[test]
    fn each_kind_damages() {
        let procedure = procedures::find(243).unwrap();
        for kind in ALL {
            let mut damaged = reply();
            assert!(possible(kind, procedure, &damaged));
            harm(kind, procedure, &mut damaged, &mut fastrand::Rng::with_seed(1));
            assert_ne!(damaged, reply(), "{kind:?}");
        }
    }

    #[test]
    fn the_type_is_where_it_is() {
        let mut damaged = reply();
        let procedure = procedures::find(243).unwrap();
        harm(Harm::WrongType, procedure, &mut damaged, &mut fastrand::Rng::with_seed(1));
        let mut input = Decoder::new(&damaged[MESSAGE_BYTES_MIN..]);
        assert_eq!((input.u32(), input.text(99), input.u32()), (Ok(1), Ok("rd_bytes"), Ok(NO_TYPE)));
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), number in 0_u32..450) {
            let Some(procedure) = procedures::find(number) else { return Ok(()) };
            for kind in ALL {
                let mut bytes = vec![0; MESSAGE_BYTES_MIN];
                bytes.extend_from_slice(&payload);
                if possible(kind, procedure, &bytes) {
                    harm(kind, procedure, &mut bytes, &mut fastrand::Rng::with_seed(1));
                }
            }
        }
    }
}
