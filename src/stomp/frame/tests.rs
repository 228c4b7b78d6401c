//! Frames, to the byte.

use super::*;

/// All frames of these bytes, given in pieces of a size.
fn parse_by(bytes: &[u8], size: usize) -> Result<Vec<Frame>, FrameError> {
    let (mut parser, mut frames) = (Parser::default(), Vec::new());
    for mut piece in bytes.chunks(size) {
        while let Some(frame) = parser.next(&mut piece)? {
            frames.push(frame);
        }
        assert!(piece.is_empty(), "all is taken");
    }
    Ok(frames)
}

/// The same however the bytes arrive.
fn parse(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let whole = parse_by(bytes, bytes.len().max(1));
    for size in [1, 2, 3, 7] {
        assert_eq!(parse_by(bytes, size), whole, "in pieces of {size}");
    }
    whole
}

fn only(bytes: &[u8]) -> Frame {
    let mut frames = parse(bytes).expect("valid");
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

/// What vdsm-client sends, without waiting for anything.
const CLIENT: &[u8] = b"CONNECT\naccept-version:1.2\nheart-beat:0,24000\n\n\0\
SUBSCRIBE\ndestination:3b0e3a6a-4b6c-4f0e-9f5e-0b3d0f2f8c11\nack:auto\nid:9d7c2f35-7a51-4b59-8f43-4f3a1c0b6e22\n\n\0\
SEND\ndestination:jms.topic.vdsm_requests\ncontent-type:application/json\n\
reply-to:3b0e3a6a-4b6c-4f0e-9f5e-0b3d0f2f8c11\ncontent-length:74\n\n\
[{\"jsonrpc\": \"2.0\", \"method\": \"Host.ping2\", \"params\": {}, \"id\": \"abcdef\"}]\0";

#[test]
fn what_the_client_sends_at_once_is_three_frames_wherever_it_is_cut() {
    let frames = parse(CLIENT).expect("valid");
    let commands: Vec<Command> = frames.iter().map(|frame| frame.command).collect();
    assert_eq!(commands, [Command::Connect, Command::Subscribe, Command::Send]);
    assert_eq!(frames[0].header("heart-beat"), Some("0,24000"));
    assert_eq!(frames[1].header("id"), Some("9d7c2f35-7a51-4b59-8f43-4f3a1c0b6e22"));
    assert_eq!(frames[2].header("reply-to"), frames[1].header("destination"));
    assert!(frames[2].body.starts_with(b"[{\"jsonrpc\"") && frames[2].body.ends_with(b"\"abcdef\"}]"));
    for cut in 0..=CLIENT.len() {
        let (mut parser, mut again) = (Parser::default(), Vec::new());
        for mut part in [&CLIENT[..cut], &CLIENT[cut..]] {
            while let Some(frame) = parser.next(&mut part).expect("valid") {
                again.push(frame);
            }
        }
        assert_eq!(again, frames, "cut at {cut}");
        assert!(!parser.is_within());
    }
}

#[test]
fn lines_may_end_in_cr_lf_and_heart_beats_may_be_between_frames() {
    let frames = parse(b"\n\r\n\nSTOMP\r\naccept-version:1.2\r\n\r\n\0\n\n\r\nDISCONNECT\n\n\0\n").expect("valid");
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].command, frames[0].header("accept-version")), (Command::Connect, Some("1.2")));
    assert_eq!(frames[1].command, Command::Disconnect);
    let mut parser = Parser::default();
    assert_eq!(parser.next(&mut &b"\n\n"[..]), Ok(None));
    assert!(!parser.is_within(), "a heart-beat begins no frame");
    assert_eq!(parser.next(&mut &b"SEN"[..]), Ok(None));
    assert!(parser.is_within());
}

#[test]
fn the_first_of_repeated_headers_counts_and_blanks_are_kept() {
    let frame = only(b"SEND\na:1\na:2\nb: x \nc:\nd:e:f\n\n\0");
    assert_eq!((frame.header("a"), frame.header("b"), frame.header("c")), (Some("1"), Some(" x "), Some("")));
    assert_eq!((frame.header("d"), frame.header("e")), (Some("e:f"), None));
}

#[test]
fn escapes_are_undone_but_for_connect() {
    let frame = only(b"SEND\na\\cb:1\\c2\\n3\\r4\\\\5\n\n\0");
    assert_eq!(frame.header("a:b"), Some("1:2\n3\r4\\5"));
    assert_eq!(only(b"CONNECT\nlogin:a\\tb\\\n\n\0").header("login"), Some("a\\tb\\"));
    for bad in [&b"SEND\na:\\t\n\n\0"[..], b"SEND\na:x\\\n\n\0", b"SEND\n\\x:1\n\n\0"] {
        assert_eq!(parse(bad), Err(FrameError::Escape));
    }
}

#[test]
fn with_a_length_the_body_may_hold_nul_and_without_one_nul_ends_it() {
    let frames =
        parse(b"SEND\ncontent-length:5\n\na\0b\n\0\0SEND\n\nab\n\0SEND\ncontent-length:0\n\n\0").expect("valid");
    let bodies: Vec<&[u8]> = frames.iter().map(|frame| &frame.body[..]).collect();
    assert_eq!(bodies, [&b"a\0b\n\0"[..], b"ab\n", b""]);
    assert_eq!(parse(b"SEND\ncontent-length:2\n\nabc\0"), Err(FrameError::End));
    for bad in ["", "-1", "+1", "1x", " 1", "0x1"] {
        assert_eq!(parse(format!("SEND\ncontent-length:{bad}\n\n\0").as_bytes()), Err(FrameError::Length), "{bad:?}");
    }
}

#[test]
fn who_speaks_something_else_is_told_before_a_line_ends() {
    for other in
        [&b"GET / HTTP/1.1"[..], b"\x16\x03\x01\x02\x00\x01", b"connect", b"\0", b"{\"jsonrpc\"", b"ABCDEFGHIJKLM"]
    {
        assert_eq!(parse(other), Err(FrameError::Command), "{other:?}");
    }
    for other in [&b"MESSAGE\n"[..], b"CONNECTED\n", b"SENDS\n", b"S\rEND\n"] {
        assert_eq!(parse(other), Err(FrameError::Command), "{other:?}");
    }
}

#[test]
fn headers_that_are_none_are_refused() {
    for bad in [&b"SEND\nabc\n\n\0"[..], b"SEND\n:abc\n\n\0", b"SEND\na:b\0", b"SEND\0"] {
        let expected = if bad == b"SEND\0" { FrameError::Command } else { FrameError::Header };
        assert_eq!(parse(bad), Err(expected), "{bad:?}");
    }
    assert_eq!(parse(b"SEND\na:\xff\n\n\0"), Err(FrameError::Encoding));
}

#[test]
fn sizes_are_limited_however_the_bytes_arrive() {
    let fed = |head: &[u8], filling: &[u8]| {
        let mut parser = Parser::default();
        let mut fed = 0;
        let mut pieces = std::iter::once(head).chain(std::iter::repeat(filling));
        loop {
            let mut piece = pieces.next().expect("endless");
            fed += piece.len();
            match parser.next(&mut piece) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("no frame"),
                Err(error) => return (error, fed),
            }
            let kept = parser.line.capacity() + parser.frame.as_ref().map_or(0, |frame| frame.body.capacity());
            assert!(kept <= 2 * BODY_BYTES, "{kept}");
        }
    };
    let (error, bytes) = fed(b"SEND\n", b"x");
    assert_eq!((error, bytes), (FrameError::HeadTooLong, HEAD_BYTES + 1));
    assert_eq!(fed(b"SEND\n", b"a:b\n"), (FrameError::TooManyHeaders, 5 + 4 * (HEADERS + 1)));
    let (error, bytes) = fed(b"SEND\n\n", &[b'x'; 1000]);
    assert_eq!(error, FrameError::BodyTooLong);
    assert!(bytes < BODY_BYTES + 2000, "{bytes}");
    // Announced is refused before any of it comes.
    for length in ["1048577", "100000000", "99999999999999999999999999"] {
        let head = format!("SEND\ncontent-length:{length}\n\n");
        assert_eq!(fed(head.as_bytes(), b""), (FrameError::BodyTooLong, head.len()));
    }
    let longest = [format!("SEND\ncontent-length:{BODY_BYTES}\n\n").as_bytes(), &vec![0; BODY_BYTES], b"\0"].concat();
    assert_eq!(parse_by(&longest, 16 * 1024).expect("just not too long")[0].body.len(), BODY_BYTES);
}

#[test]
fn frames_are_written_with_escapes_but_for_connected() {
    let mut out = Vec::new();
    write_frame(&mut out, Told::Receipt, &[("receipt-id", "a:b\n\r\\")], b"");
    assert_eq!(out, b"RECEIPT\nreceipt-id:a\\cb\\n\\r\\\\\n\n\0");
    out.clear();
    write_frame(&mut out, Told::Connected, &[("version", "1.2"), ("server", "a:b")], b"");
    assert_eq!(out, b"CONNECTED\nversion:1.2\nserver:a:b\n\n\0");
}

#[test]
fn nothing_makes_it_panic() {
    use proptest::prelude::*;
    // From the pieces that frames are made of, so that it comes further than the first byte.
    let token = prop::sample::select(vec![
        &b"CONNECT"[..],
        b"SEND",
        b"\n",
        b"\r\n",
        b"\0",
        b":",
        b"a:b",
        b"content-length:3",
        b"\\",
        b"\\c",
        b"xyz",
        b"\xff",
    ]);
    proptest!(|(tokens in prop::collection::vec(token, 0..30), size in 1_usize..9)| {
        let bytes = tokens.concat();
        let whole = parse_by(&bytes, bytes.len().max(1));
        prop_assert_eq!(parse_by(&bytes, size), whole);
    });
}
