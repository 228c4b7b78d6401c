//! What is answered to which frame, to the byte.

use super::super::frame::Parser;
use super::*;

const QUEUE: &str = "3b0e3a6a-4b6c-4f0e-9f5e-0b3d0f2f8c11";
const SUBSCRIPTION: &str = "9d7c2f35-7a51-4b59-8f43-4f3a1c0b6e22";

fn frames(text: &str) -> Vec<Frame> {
    let (mut parser, mut input, mut frames) = (Parser::default(), text.as_bytes(), Vec::new());
    while let Some(frame) = parser.next(&mut input).expect("valid") {
        frames.push(frame);
    }
    frames
}

/// What follows from the last of these frames; those before it are said to be fine.
fn last(session: &mut Session, text: &str) -> Reaction {
    let mut reactions: Vec<Reaction> = frames(text).into_iter().map(|frame| session.take(frame)).collect();
    let last = reactions.pop().expect("a frame");
    for reaction in reactions {
        assert!(matches!(reaction, Reaction::Say(_) | Reaction::Ask(_)), "{reaction:?}");
    }
    last
}

fn connected() -> Session {
    let mut session = Session::default();
    last(&mut session, "CONNECT\naccept-version:1.2\n\n\0");
    session
}

fn said(reaction: Reaction) -> String {
    match reaction {
        Reaction::Say(out) => String::from_utf8(out).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

fn refusal(reaction: Reaction) -> Refusal {
    match reaction {
        Reaction::Refuse(refusal, _) => refusal,
        other => panic!("{other:?}"),
    }
}

fn send(destination: &str, reply_to: &str) -> String {
    format!("SEND\ndestination:{destination}\nreply-to:{reply_to}\n\n[]\0")
}

fn subscribe(destination: &str, id: &str) -> String {
    format!("SUBSCRIBE\ndestination:{destination}\nack:auto\nid:{id}\n\n\0")
}

#[test]
fn what_vdsm_client_sends_is_answered_as_vdsm_does() {
    let mut session = Session::default();
    let connect = last(&mut session, "CONNECT\naccept-version:1.2\nheart-beat:0,24000\n\n\0");
    assert_eq!(said(connect), "CONNECTED\nversion:1.2\nheart-beat:24000,0\n\n\0");
    assert_eq!(session.beats(), Some(Beats { ours: Some(Duration::from_secs(24)), theirs: None }));
    assert_eq!(said(last(&mut session, &subscribe(QUEUE, SUBSCRIPTION))), "");
    let body = "[{\"jsonrpc\": \"2.0\", \"method\": \"Host.ping2\", \"params\": {}, \"id\": \"x\"}]";
    let request = last(
        &mut session,
        &format!(
            "SEND\ndestination:jms.topic.vdsm_requests\ncontent-type:application/json\nreply-to:{QUEUE}\n\
             ovirtCorrelationId:flow\ncontent-length:{}\n\n{body}\0",
            body.len()
        ),
    );
    let Reaction::Ask(Request { body: asked, reply, behind }) = request else { panic!("{request:?}") };
    assert_eq!((asked, behind), (body.as_bytes().to_vec(), Vec::new()));
    let head = |length| String::from_utf8(reply.head(length)).expect("UTF-8");
    let begin = format!(
        "MESSAGE\nsubscription:{SUBSCRIPTION}\ndestination:{QUEUE}\nmessage-id:1\ncontent-type:application/json\n"
    );
    assert_eq!(head(None), format!("{begin}\n"));
    assert_eq!(head(Some(17)), format!("{begin}content-length:17\n\n"));
}

#[test]
fn versions_are_negotiated() {
    for versions in ["1.2", "1.0,1.1,1.2", "1.2, 1.1", "1.1,1.2,2.0"] {
        let connect = last(&mut Session::default(), &format!("STOMP\naccept-version:{versions}\nhost:x\n\n\0"));
        assert_eq!(said(connect), "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0", "{versions}");
    }
    for header in ["accept-version:1.1\n", "accept-version:1.20\n", "accept-version:\n", "accept-version:1.0,1.1\n", ""]
    {
        let mut session = Session::default();
        let Reaction::Refuse(refusal, receipt) = last(&mut session, &format!("CONNECT\n{header}receipt:r\n\n\0"))
        else {
            panic!("{header}")
        };
        assert_eq!((&refusal, &receipt), (&Refusal::Version, &None), "CONNECT has no receipts");
        let error = "ERROR\nmessage:Version unsupported\nversion:1.2\ncontent-type:text/plain\ncontent-length:19\n\nVersion unsupported\0";
        assert_eq!(String::from_utf8(refusal.frame(None)).expect("UTF-8"), error);
        assert_eq!(session.beats(), None);
    }
}

#[test]
fn heart_beats_are_the_clients_numbers_exchanged_each_0_or_a_second_at_least() {
    for (asked, agreed, ours, theirs) in [
        ("0,0", "0,0", 0, 0),
        ("0,24000", "24000,0", 24000, 0),
        ("5000,6000", "6000,5000", 6000, 5000),
        ("1,1", "1000,1000", 1000, 1000),
        ("999,0", "0,1000", 0, 1000),
        ("4294967295,4294967295", "4294967295,4294967295", 4_294_967_295, 4_294_967_295),
    ] {
        let mut session = Session::default();
        let connect = last(&mut session, &format!("CONNECT\naccept-version:1.2\nheart-beat:{asked}\n\n\0"));
        assert_eq!(said(connect), format!("CONNECTED\nversion:1.2\nheart-beat:{agreed}\n\n\0"));
        let every = |millis: u64| (millis > 0).then(|| Duration::from_millis(millis));
        assert_eq!(session.beats(), Some(Beats { ours: every(ours), theirs: every(theirs) }), "{asked}");
    }
    for bad in ["", "1", "1,", "a,b", "-1,0", "1,2,3", "4294967296,0"] {
        let connect = format!("CONNECT\naccept-version:1.2\nheart-beat:{bad}\n\n\0");
        assert_eq!(refusal(last(&mut Session::default(), &connect)), Refusal::Header("heart-beat"), "{bad}");
    }
}

#[test]
fn connect_comes_first_and_once() {
    for command in ["SEND", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT", "ACK", "BEGIN"] {
        let other = format!("{command}\nreceipt:7\n\n\0");
        assert_eq!(
            last(&mut Session::default(), &other),
            Reaction::Refuse(Refusal::NotConnected, Some("7".to_owned()))
        );
    }
    assert_eq!(refusal(last(&mut connected(), "CONNECT\naccept-version:1.2\n\n\0")), Refusal::ConnectedAlready);
    let error = Refusal::NotConnected.frame(Some("7"));
    let text = "Not connected: the first frame must be CONNECT";
    let expected = format!(
        "ERROR\nmessage:Not connected\\c the first frame must be CONNECT\nreceipt-id:7\ncontent-type:text/plain\ncontent-length:{}\n\n{text}\0",
        text.len()
    );
    assert_eq!(String::from_utf8(error).expect("UTF-8"), expected);
}

#[test]
fn an_answer_goes_to_the_subscription_of_its_destination() {
    let mut session = connected();
    for (destination, id) in [("a", "1"), ("b", "2"), ("b", "3")] {
        last(&mut session, &subscribe(destination, id));
    }
    let mut to = |reply_to: &str| match last(&mut session, &send("jms.topic.vdsm_requests", reply_to)) {
        Reaction::Ask(request) => (request.reply.subscription, request.reply.destination, request.reply.message),
        other => panic!("{other:?}"),
    };
    assert_eq!(to("a"), ("1".to_owned(), "a".to_owned(), 1));
    assert_eq!(to("b"), ("2".to_owned(), "b".to_owned(), 2), "the first, if there are several");
    assert_eq!(said(last(&mut session, "UNSUBSCRIBE\nid:1\n\n\0")), "");
    assert_eq!(refusal(last(&mut session, &send("jms.topic.vdsm_requests", "a"))), Refusal::ReplyTo);
    assert_eq!(said(last(&mut connected(), "UNSUBSCRIBE\nid:1\n\n\0")), "", "not there, and no error");
    assert_eq!(refusal(last(&mut connected(), "UNSUBSCRIBE\n\n\0")), Refusal::Header("id"));
    let without = "SEND\ndestination:jms.topic.vdsm_requests\n\n[]\0";
    assert_eq!(refusal(last(&mut session, without)), Refusal::ReplyTo);
}

#[test]
fn requests_go_to_vdsms_queues_and_below_and_nowhere_else() {
    for queue in [
        "jms.topic.vdsm_requests",
        "jms.topic.vdsm_requests.x.y",
        "jms.topic.vdsm_irs_requests",
        "jms.topic.vdsm_irs_requests.x",
    ] {
        let mut session = connected();
        last(&mut session, &subscribe("a", "1"));
        assert!(matches!(last(&mut session, &send(queue, "a")), Reaction::Ask(_)), "{queue}");
    }
    for other in ["jms.topic.vdsm_requestsx", "jms.topic.vdsm", "jms.queue.events", "a", ""] {
        let mut session = connected();
        last(&mut session, &subscribe("a", "1"));
        assert_eq!(refusal(last(&mut session, &send(other, "a"))), Refusal::Destination, "{other}");
    }
    assert_eq!(Refusal::Destination.to_string(), "Subscription not available");
}

#[test]
fn subscriptions_have_ids_of_their_own_and_are_not_endless() {
    let mut session = connected();
    for number in 0..SUBSCRIPTIONS {
        assert_eq!(said(last(&mut session, &subscribe("a", &number.to_string()))), "");
    }
    let more = Refusal::TooManySubscriptions(SUBSCRIPTIONS);
    assert_eq!(refusal(last(&mut session, &subscribe("a", "more"))), more);
    last(&mut session, "UNSUBSCRIBE\nid:3\n\n\0");
    assert_eq!(said(last(&mut session, &subscribe("a", "more"))), "");
    let again = refusal(last(&mut connected(), &(subscribe("a", "1") + &subscribe("b", "1"))));
    assert_eq!(again, Refusal::SubscribedAlready);
    assert_eq!(refusal(last(&mut connected(), "SUBSCRIBE\nid:1\n\n\0")), Refusal::Header("destination"));
    assert_eq!(refusal(last(&mut connected(), "SUBSCRIBE\ndestination:a\n\n\0")), Refusal::Header("id"));
}

#[test]
fn receipts_are_given_and_disconnect_ends_it() {
    let mut session = connected();
    let receipt = |id: &str| format!("RECEIPT\nreceipt-id:{id}\n\n\0");
    let subscribed = last(&mut session, "SUBSCRIBE\ndestination:a\nid:1\nreceipt:s\\c1\n\n\0");
    assert_eq!(said(subscribed), receipt("s\\c1"));
    let asked = last(&mut session, "SEND\ndestination:jms.topic.vdsm_requests\nreply-to:a\nreceipt:2\n\n[]\0");
    let Reaction::Ask(request) = asked else { panic!("{asked:?}") };
    assert_eq!(request.behind, receipt("2").as_bytes(), "behind the answer");
    assert_eq!(said(last(&mut session, "ACK\nid:1\nreceipt:3\n\n\0")), receipt("3"));
    assert_eq!(last(&mut session, "DISCONNECT\nreceipt:4\n\n\0"), Reaction::End(receipt("4").into_bytes()));
    assert_eq!(last(&mut connected(), "DISCONNECT\n\n\0"), Reaction::End(Vec::new()));
}

#[test]
fn there_are_no_transactions() {
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        let frame = format!("{command}\ntransaction:t\n\n\0");
        assert_eq!(refusal(last(&mut connected(), &frame)), Refusal::Transaction);
    }
    let frame = "SEND\ndestination:jms.topic.vdsm_requests\ntransaction:t\n\n\0";
    assert_eq!(refusal(last(&mut connected(), frame)), Refusal::Transaction);
}
