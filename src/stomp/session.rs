//! What a client has said so far, and what follows from its next frame. Pure: no sockets, no time.

use std::time::Duration;

use super::frame::{Command, Frame, Told, write_frame, write_head};
use super::refusal::Refusal;

/// Where requests are sent: VDSM's queues, and whatever is below them.
const REQUESTS: [&str; 2] = ["jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests"];
/// Subscriptions of a client at most. VDSM's clients have one, engines two.
const SUBSCRIPTIONS: usize = 16;
/// The shortest interval of heart-beats that is agreed to, as VDSM has it.
const SHORTEST_BEAT: u32 = 1000;

/// How often each side is to be heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beats {
    /// We are, at least so often; `None` if the client does not mind.
    pub(super) ours: Option<Duration>,
    /// The client is, by its own promise.
    pub(super) theirs: Option<Duration>,
}

/// What follows from a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// To be sent; may be empty.
    Say(Vec<u8>),
    /// A request to be answered.
    Ask(Request),
    /// To be sent, and the connection is to be closed.
    End(Vec<u8>),
    /// The client is to be told so, and let go.
    Refuse(Refusal, Option<String>),
}

/// A request, and where its answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) body: Vec<u8>,
    pub(super) reply: Reply,
    /// To be sent when it is answered; may be empty.
    pub(super) behind: Vec<u8>,
}

/// The envelope of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    subscription: String,
    destination: String,
    message: u64,
}

impl Reply {
    /// The MESSAGE up to where its body begins. Its length is said if it is known.
    pub(super) fn head(&self, length: Option<usize>) -> Vec<u8> {
        let (message, length) = (self.message.to_string(), length.map(|length| length.to_string()));
        let mut headers = vec![
            ("subscription", self.subscription.as_str()),
            ("destination", self.destination.as_str()),
            ("message-id", message.as_str()),
            ("content-type", "application/json"),
        ];
        headers.extend(length.as_deref().map(|length| ("content-length", length)));
        let mut out = Vec::new();
        write_head(&mut out, Told::Message, &headers);
        out
    }
}

struct Subscription {
    id: String,
    destination: String,
}

/// One client's side of the protocol.
#[derive(Default)]
pub(super) struct Session {
    beats: Option<Beats>,
    subscriptions: Vec<Subscription>,
    /// Answers so far.
    messages: u64,
}

impl Session {
    /// What was agreed on heart-beats; `None` before CONNECT.
    pub(super) fn beats(&self) -> Option<Beats> {
        self.beats
    }

    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: Frame) -> Reaction {
        let receipt = frame.header("receipt").filter(|_| frame.command != Command::Connect).map(str::to_owned);
        let last = frame.command == Command::Disconnect;
        match self.react(frame) {
            Err(refusal) => Reaction::Refuse(refusal, receipt),
            Ok(Done::Ask(body, reply)) => Reaction::Ask(Request { body, reply, behind: receipted(receipt.as_deref()) }),
            Ok(Done::Say(mut out)) => {
                out.append(&mut receipted(receipt.as_deref()));
                if last { Reaction::End(out) } else { Reaction::Say(out) }
            }
        }
    }

    fn react(&mut self, frame: Frame) -> Result<Done, Refusal> {
        if self.beats.is_none() && frame.command != Command::Connect {
            return Err(Refusal::NotConnected);
        }
        match frame.command {
            Command::Connect => return self.connect(&frame),
            Command::Send => return self.send(frame),
            Command::Subscribe => self.subscribe(&frame)?,
            Command::Unsubscribe => self.unsubscribe(&frame)?,
            // Nothing is sent twice, so it does not matter whether the client has it.
            Command::Ack | Command::Nack | Command::Disconnect => {}
            Command::Begin | Command::Commit | Command::Abort => return Err(Refusal::Transaction),
        }
        Ok(Done::Say(Vec::new()))
    }

    fn connect(&mut self, frame: &Frame) -> Result<Done, Refusal> {
        if self.beats.is_some() {
            return Err(Refusal::ConnectedAlready);
        }
        // Without the header it is STOMP 1.0.
        let versions = frame.header("accept-version").unwrap_or("1.0");
        if !versions.split(',').any(|version| version.trim() == "1.2") {
            return Err(Refusal::Version);
        }
        let (theirs, ours) = beats(frame.header("heart-beat").unwrap_or("0,0"))?;
        let every = |beat: u32| (beat > 0).then(|| Duration::from_millis(beat.into()));
        self.beats = Some(Beats { ours: every(ours), theirs: every(theirs) });
        // As VDSM does, the client's two numbers exchanged.
        let agreed = format!("{ours},{theirs}");
        let mut out = Vec::new();
        write_frame(&mut out, Told::Connected, &[("version", "1.2"), ("heart-beat", &agreed)], b"");
        Ok(Done::Say(out))
    }

    fn subscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let destination = frame.header("destination").ok_or(Refusal::Header("destination"))?;
        let id = frame.header("id").ok_or(Refusal::Header("id"))?;
        if self.subscriptions.iter().any(|known| known.id == id) {
            return Err(Refusal::SubscribedAlready);
        }
        if self.subscriptions.len() == SUBSCRIPTIONS {
            return Err(Refusal::TooManySubscriptions(SUBSCRIPTIONS));
        }
        self.subscriptions.push(Subscription { id: id.to_owned(), destination: destination.to_owned() });
        Ok(())
    }

    fn unsubscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header("id").ok_or(Refusal::Header("id"))?;
        // One that is not there is no error to VDSM either.
        self.subscriptions.retain(|known| known.id != id);
        Ok(())
    }

    fn send(&mut self, frame: Frame) -> Result<Done, Refusal> {
        let destination = frame.header("destination").ok_or(Refusal::Header("destination"))?;
        if !is_request(destination) {
            return Err(Refusal::Destination);
        }
        if frame.header("transaction").is_some() {
            return Err(Refusal::Transaction);
        }
        // VDSM would drop the answer, and the client would wait for it until it gives up.
        let subscription = frame
            .header("reply-to")
            .and_then(|reply_to| self.subscriptions.iter().find(|known| known.destination == reply_to))
            .ok_or(Refusal::ReplyTo)?;
        self.messages += 1;
        let reply = Reply {
            subscription: subscription.id.clone(),
            destination: subscription.destination.clone(),
            message: self.messages,
        };
        Ok(Done::Ask(frame.body, reply))
    }
}

enum Done {
    Say(Vec<u8>),
    Ask(Vec<u8>, Reply),
}

fn is_request(destination: &str) -> bool {
    let below =
        |queue: &str| destination.strip_prefix(queue).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    REQUESTS.into_iter().any(below)
}

/// The RECEIPT that a frame asked for, if it did.
fn receipted(receipt: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(receipt) = receipt {
        write_frame(&mut out, Told::Receipt, &[("receipt-id", receipt)], b"");
    }
    out
}

/// What the client promises, and what it wishes, in milliseconds: 0, or not below the shortest.
fn beats(text: &str) -> Result<(u32, u32), Refusal> {
    let number =
        |text: &str| text.trim().parse().ok().map(|beat: u32| if beat == 0 { 0 } else { beat.max(SHORTEST_BEAT) });
    let both = text.split_once(',').and_then(|(promise, wish)| Some((number(promise)?, number(wish)?)));
    both.ok_or(Refusal::Header("heart-beat"))
}

#[cfg(test)]
mod tests;
