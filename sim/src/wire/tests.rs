#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const CALL: Header =
    Header { program: REMOTE, version: 1, procedure: 3, kind: kind::CALL, serial: 7, status: status::OK };

async fn read(mut bytes: &[u8]) -> std::io::Result<Option<Incoming>> {
    Incoming::read(&mut bytes).await
}

#[tokio::test]
async fn a_message_is_read_as_it_was_written() {
    let mut out = CALL.begin();
    out.text("hello");
    let message = read(&finish(out)).await.unwrap().unwrap();
    assert_eq!(message.header, CALL);
    assert_eq!(Decoder::new(message.payload()).text(9), Ok("hello"));
    assert!(read(&[]).await.unwrap().is_none());
}

#[tokio::test]
async fn lengths_that_no_message_has_are_refused() {
    for length in [0_u32, 4, 27, 33_554_437, u32::MAX] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.resize(64, 0);
        assert!(read(&bytes).await.is_err(), "{length}");
    }
    let mut cut = bare(CALL);
    cut.pop();
    assert!(read(&cut).await.is_err());
}

#[test]
fn an_error_has_what_libvirt_so_reads() {
    let bytes = RpcError::unknown_procedure(999).answer(CALL);
    let mut input = Decoder::new(&bytes[4..]);
    assert_eq!(Header::read(&mut input).unwrap(), Header { kind: kind::REPLY, status: status::ERROR, ..CALL });
    assert_eq!((input.i32(), input.i32()), (Ok(39), Ok(7)));
    assert_eq!(input.optional_text(99), Ok(Some("unknown procedure: 999")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read(&bytes));
    }
}
