//! Connections over a pipe, on a clock that runs ahead when everybody waits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;

use super::*;

const CONNECT: &str = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0";
const CONNECTED: &str = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0";
const SUBSCRIBE: &str = "SUBSCRIBE\ndestination:q\nid:s\n\n\0";
const SEND: &str = "SEND\ndestination:jms.topic.vdsm_requests\nreply-to:q\n\nhello\0";

impl Pieces for VecDeque<Bytes> {
    fn next_piece(&mut self) -> Option<Bytes> {
        self.pop_front()
    }

    fn is_finished(&self) -> bool {
        self.is_empty()
    }
}

struct Client {
    stream: DuplexStream,
    end: JoinHandle<Option<Reason>>,
    stop: watch::Sender<bool>,
}

impl Client {
    /// A client whose requests are answered with the pieces that `answer` gives.
    fn new(answer: impl Fn(&[u8]) -> Option<Vec<&'static str>> + Send + 'static) -> Self {
        let (stream, ours) = duplex(4096);
        let (stop, stopped) = watch::channel(false);
        let pieces = move |request: &[u8]| {
            answer(request).map(|pieces| pieces.into_iter().map(Bytes::from).collect::<VecDeque<_>>())
        };
        Self { stream, end: tokio::spawn(serve(ours, pieces, stopped)), stop }
    }

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("somebody reads");
    }

    async fn hears(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.stream.read_exact(&mut bytes).await.expect("somebody writes");
        assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expected);
    }

    /// All that is still said until the other side closes, and why it did.
    async fn hears_the_end(mut self) -> (String, Option<Reason>) {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).await.expect("UTF-8");
        drop(self.stream);
        (text, self.end.await.expect("no panic"))
    }
}

fn error_of(text: &str) -> &str {
    let body = text.strip_prefix("ERROR\nmessage:").and_then(|rest| rest.split_once("\n\n")).expect("an ERROR").1;
    body.strip_suffix('\0').expect("a whole frame")
}

const MESSAGE: &str = "MESSAGE\nsubscription:s\ndestination:q\nmessage-id:1\ncontent-type:application/json\n";

#[tokio::test(start_paused = true)]
async fn an_answer_of_one_piece_has_a_length_and_one_of_many_ends_with_its_nul() {
    let mut client = Client::new(|request| {
        assert_eq!(request, b"hello");
        Some(vec!["[1]"])
    });
    client.say(&[CONNECT, SUBSCRIBE, SEND].concat()).await;
    client.hears(CONNECTED).await;
    client.hears(&format!("{MESSAGE}content-length:3\n\n[1]\0")).await;

    let mut client = Client::new(|_| Some(vec!["[1", ",2", ",3]"]));
    client.say(&[CONNECT, SUBSCRIBE, &SEND.replace("\n\n", "\nreceipt:r\n\n")].concat()).await;
    client.hears(&format!("{CONNECTED}{MESSAGE}\n[1,2,3]\0RECEIPT\nreceipt-id:r\n\n\0")).await;
    drop(client.stream);
    assert_eq!(client.end.await.expect("no panic"), None);
}

/// Long pieces that are counted as long as anybody holds one of them.
struct Counted {
    left: usize,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Memory of a piece.
struct Held(Arc<AtomicUsize>);

impl Counted {
    const LENGTH: usize = 64 << 10;
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &[b'1'; Counted::LENGTH]
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pieces for Counted {
    fn next_piece(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(held, Ordering::Relaxed);
        Some(Bytes::from_owner(Held(Arc::clone(&self.held))))
    }

    fn is_finished(&self) -> bool {
        self.left == 0
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_long_answer_one_piece_is_held_at_a_time() {
    for left in [1, 5] {
        let (held, most) = (Arc::default(), Arc::<AtomicUsize>::default());
        let mut answer = Some(Counted { left, held: Arc::clone(&held), most: Arc::clone(&most) });
        let (mut stream, ours) = duplex(4096);
        let (_stop, stopped) = watch::channel(false);
        let end = tokio::spawn(serve(ours, move |_: &[u8]| answer.take(), stopped));
        stream.write_all([CONNECT, SUBSCRIBE, SEND, "DISCONNECT\n\n\0"].concat().as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("UTF-8");
        assert!(text.ends_with(&format!("\n\n{}\0", "1".repeat(left * Counted::LENGTH))), "{}", text.len());
        assert_eq!(text.contains("content-length:65536\n"), left == 1);
        assert_eq!((most.load(Ordering::Relaxed), held.load(Ordering::Relaxed)), (1, 0));
        drop(stream);
        assert_eq!(end.await.expect("no panic"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_are_answered_with_nothing_but_their_receipt() {
    let mut client = Client::new(|_| None);
    client
        .say(&[CONNECT, SUBSCRIBE, SEND, &SEND.replace("\n\n", "\nreceipt:r\n\n"), "DISCONNECT\n\n\0"].concat())
        .await;
    let (text, reason) = client.hears_the_end().await;
    assert_eq!((text, reason), (format!("{CONNECTED}RECEIPT\nreceipt-id:r\n\n\0"), None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closed_its_side_gets_its_answers() {
    let mut client = Client::new(|_| Some(vec!["1", "2"]));
    client.say(&[CONNECT, SUBSCRIBE, SEND, SEND].concat()).await;
    client.stream.shutdown().await.expect("open");
    let (text, reason) = client.hears_the_end().await;
    assert_eq!((text.matches("\n\n12\0").count(), reason), (2, None), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_connect_in_time_is_let_go() {
    for said in ["", "\n", "CONN", "CONNECT\naccept-version:1.2\n"] {
        let begin = Instant::now();
        let mut client = Client::new(|_| Some(vec![]));
        client.say(said).await;
        let (text, reason) = client.hears_the_end().await;
        assert_eq!((error_of(&text), reason), ("No CONNECT came within 10 s", Some(Reason::NoConnect)));
        assert_eq!(begin.elapsed().as_secs(), CONNECT_TIME.as_secs());
    }
    // Byte by byte is no way around it.
    let mut client = Client::new(|_| Some(vec![]));
    for _ in 0..11 {
        let _ = client.stream.write_all(b"\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(client.hears_the_end().await.1, Some(Reason::NoConnect));
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_let_go_after_ten_minutes_or_twice_its_promise() {
    for (beats, agreed, after) in
        [("0,0", "0,0", 600), ("20000,0", "0,20000", 45), ("4000000000,0", "0,4000000000", 600)]
    {
        let begin = Instant::now();
        let mut client = Client::new(|_| Some(vec![]));
        client.say(&CONNECT.replace("0,0", beats)).await;
        client.hears(&CONNECTED.replace("0,0", agreed)).await;
        let (text, reason) = client.hears_the_end().await;
        assert_eq!((error_of(&text), reason), (&*format!("Nothing came for {after} s"), Some(Reason::Idle)));
        assert_eq!(begin.elapsed().as_secs(), after);
    }
    // Heart-beats alone keep it.
    let mut client = Client::new(|_| Some(vec!["1"]));
    client.say(&CONNECT.replace("0,0", "1000,0")).await;
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        client.say("\n").await;
    }
    client.say(&[SUBSCRIBE, SEND].concat()).await;
    client.hears(&CONNECTED.replace("0,0", "0,1000")).await;
    client.hears(MESSAGE).await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_never_finished_is_no_heart_beat() {
    let begin = Instant::now();
    let mut client = Client::new(|_| Some(vec![]));
    client.say(&[CONNECT, "SEND\n"].concat()).await;
    client.hears(CONNECTED).await;
    for _ in 0..29 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.say("a:b\n").await;
    }
    let (text, reason) = client.hears_the_end().await;
    assert_eq!((error_of(&text), reason), ("A frame was not complete after 30 s", Some(Reason::TooSlow)));
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn heart_beats_are_sent_as_agreed_while_there_is_nothing_else() {
    let mut client = Client::new(|_| Some(vec!["1"]));
    client.say(&CONNECT.replace("0,0", "0,24000")).await;
    client.hears(&CONNECTED.replace("0,0", "24000,0")).await;
    let begin = Instant::now();
    client.hears("\n\n\n").await;
    assert_eq!(begin.elapsed().as_secs(), 36, "at half the interval");
    client.say(&[SUBSCRIBE, SEND].concat()).await;
    client.hears(&format!("{MESSAGE}content-length:1\n\n1\0\n")).await;
    assert_eq!(begin.elapsed().as_secs(), 48);
    // They are no sign of the client.
    let (text, reason) = client.hears_the_end().await;
    assert!(text.starts_with("\n\n\n") && text.contains("ERROR\n"), "{text}");
    assert_eq!(reason, Some(Reason::Idle));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_its_answer_is_let_go() {
    let begin = Instant::now();
    let mut client = Client::new(|_| Some(vec!["0123456789abcdef"; 1000]));
    client.say(&[CONNECT, SUBSCRIBE, SEND].concat()).await;
    assert_eq!(client.end.await.expect("no panic"), Some(Reason::TooSlow));
    assert_eq!(begin.elapsed().as_secs(), ANSWER_TIME.as_secs());

    // One that reads, but too little, is too.
    let mut client = Client::new(|_| Some(vec!["0123456789abcdef"; 10_000]));
    client.say(&[CONNECT, SUBSCRIBE, SEND].concat()).await;
    let begin = Instant::now();
    while !client.end.is_finished() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut some = [0; 1000];
        let _ = client.stream.read(&mut some).await;
    }
    assert_eq!(client.end.await.expect("no panic"), Some(Reason::TooSlow));
    assert!(begin.elapsed().as_secs() <= ANSWER_TIME.as_secs() + 1);
}

#[tokio::test(start_paused = true)]
async fn errors_are_told_before_the_connection_is_closed() {
    for (said, told, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "This is no STOMP: a frame begins with its command", Reason::BadFrame),
        ("\x16\x03\x01", "This is no STOMP: a frame begins with its command", Reason::BadFrame),
        ("SEND\ncontent-length:100000000\n\nx", "The body is too long: 1048576 bytes are possible", Reason::TooLarge),
        ("CONNECT\naccept-version:1.1\n\n\0", "Version unsupported", Reason::BadVersion),
        (SEND, "Not connected: the first frame must be CONNECT", Reason::NoConnect),
    ] {
        let mut client = Client::new(|_| Some(vec![]));
        client.say(said).await;
        let (text, why) = client.hears_the_end().await;
        assert_eq!((error_of(&text), why), (told, Some(reason)));
    }
    let mut client = Client::new(|_| Some(vec![]));
    client.say(&[CONNECT, SUBSCRIBE, &SEND.replace("_requests", "_events")].concat()).await;
    let (text, reason) = client.hears_the_end().await;
    assert_eq!(error_of(text.strip_prefix(CONNECTED).expect("connected")), "Subscription not available");
    assert_eq!(reason, Some(Reason::BadRequest));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_service_answers_under_way_are_finished_and_no_more_begun() {
    let mut client = Client::new(|_| Some(vec!["0123456789abcdef"; 1000]));
    client.say(&[CONNECT, SUBSCRIBE, SEND].concat()).await;
    client.hears(CONNECTED).await;
    client.hears(MESSAGE).await;
    client.stop.send(true).expect("it is served");
    client.say(SEND).await;
    let (text, reason) = client.hears_the_end().await;
    assert_eq!((text.matches('\0').count(), text.len(), reason), (1, 1 + 16_000 + 1, None));
    let client = Client::new(|_| Some(vec![]));
    client.stop.send(true).expect("it is served");
    assert_eq!(client.hears_the_end().await, (String::new(), None));
}

/// A client that sends the same text for ever, without a pause, and takes whatever it is told. After a thousand reads it ends.
struct Flood {
    begin: &'static str,
    text: &'static str,
    reads: usize,
    heard: Vec<u8>,
}

impl Flood {
    const READS: usize = 1000;

    fn new(begin: &'static str, text: &'static str) -> Self {
        Self { begin, text, reads: 0, heard: Vec::new() }
    }
}

impl AsyncRead for Flood {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.reads += 1;
        if self.reads < Self::READS {
            buffer.put_slice(std::mem::take(&mut self.begin).as_bytes());
            while buffer.remaining() >= self.text.len() {
                buffer.put_slice(self.text.as_bytes());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // Nobody is left who would read on.
        self.reads = Self::READS;
        Poll::Ready(Ok(()))
    }
}

/// Serves a flood while another task has its turns, and a second goes by in each; what was said to it, why it ended, and after
/// how many seconds.
async fn flooded(mut flood: Flood, most: usize) -> (String, Option<Reason>, u64) {
    let (_stop, stopped) = watch::channel(false);
    let turns = async move {
        for _ in 0..most {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    };
    let turns = tokio::spawn(turns);
    let begin = Instant::now();
    let served = serve(&mut flood, |_| Some(VecDeque::<Bytes>::new()), stopped);
    let reason = tokio::select! {
        reason = served => reason,
        turns = turns => {
            turns.expect("no panic");
            None
        }
    };
    let seconds = begin.elapsed().as_secs();
    (String::from_utf8(flood.heard).expect("UTF-8"), reason, seconds)
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_limited_as_silence_is_and_lets_others_have_their_turn() {
    let (text, reason, seconds) = flooded(Flood::new("", "\n"), 100).await;
    assert_eq!((error_of(&text), reason), ("No CONNECT came within 10 s", Some(Reason::NoConnect)));
    assert!((10..13).contains(&seconds), "{seconds}");
    // These break no rule.
    for text in ["\n", "ACK\nid:1\n\n\0"] {
        let (heard, reason, seconds) =
            flooded(Flood::new("CONNECT\naccept-version:1.2\nheart-beat:0,20000\n\n\0", text), 100).await;
        assert!(reason.is_none() && seconds >= 100, "{reason:?} after {seconds} s");
        let beats = heard.strip_prefix("CONNECTED\nversion:1.2\nheart-beat:20000,0\n\n\0").expect("connected");
        assert!(beats.len() >= 8 && beats.bytes().all(|byte| byte == b'\n'), "{heard:?}");
    }
}
