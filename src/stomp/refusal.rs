//! Why a client is let go: what it is told, and what is counted.

use thiserror::Error;

use super::frame::{FrameError, Told, write_frame};

/// What was wrong, as `virtstatd_stomp_refused_total` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Not STOMP.
    BadFrame,
    /// A frame above the limits.
    TooLarge,
    /// Another version of STOMP.
    BadVersion,
    /// Something else than CONNECT came first, or nothing in time.
    NoConnect,
    /// A frame of STOMP that is not possible here.
    BadRequest,
    /// A client that fell silent.
    Idle,
    /// A client that leaves its answer unread, or that does not finish a frame.
    TooSlow,
    /// No TLS, or a certificate that is not accepted.
    Tls,
}

impl Reason {
    #[cfg(test)]
    pub(super) const ALL: [Self; 8] = [
        Self::BadFrame,
        Self::TooLarge,
        Self::BadVersion,
        Self::NoConnect,
        Self::BadRequest,
        Self::Idle,
        Self::TooSlow,
        Self::Tls,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::TooLarge => "too_large",
            Self::BadVersion => "bad_version",
            Self::NoConnect => "no_connect",
            Self::BadRequest => "bad_request",
            Self::Idle => "idle",
            Self::TooSlow => "too_slow",
            Self::Tls => "tls",
        }
    }
}

/// Why a client is let go. The words are for its people; those in VDSM's own words are what its clients know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("Version unsupported")]
    Version,
    #[error("Not connected: the first frame must be CONNECT")]
    NotConnected,
    #[error("Connected already")]
    ConnectedAlready,
    #[error("No CONNECT came within {0} s")]
    NoConnect(u64),
    #[error("Header {0} is missing, or its value is not possible")]
    Header(&'static str),
    #[error("Subscription not available")]
    Destination,
    #[error("Subscription id already exists")]
    SubscribedAlready,
    #[error("Too many subscriptions: {0} are possible")]
    TooManySubscriptions(usize),
    #[error("The answer has nowhere to go: reply-to must be the destination of a SUBSCRIBE")]
    ReplyTo,
    #[error("Transactions are not available")]
    Transaction,
    #[error("Nothing came for {0} s")]
    Silent(u64),
    #[error("A frame was not complete after {0} s")]
    SlowFrame(u64),
}

impl Refusal {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Frame(error) if error.is_size() => Reason::TooLarge,
            Self::Frame(_) => Reason::BadFrame,
            Self::Version => Reason::BadVersion,
            Self::NotConnected | Self::NoConnect(_) => Reason::NoConnect,
            Self::Silent(_) => Reason::Idle,
            Self::SlowFrame(_) => Reason::TooSlow,
            Self::ConnectedAlready
            | Self::Header(_)
            | Self::Destination
            | Self::SubscribedAlready
            | Self::TooManySubscriptions(_)
            | Self::ReplyTo
            | Self::Transaction => Reason::BadRequest,
        }
    }

    /// The ERROR frame that tells it; STOMP wants the connection closed behind it. `receipt` is what the frame at fault asked for.
    pub(super) fn frame(&self, receipt: Option<&str>) -> Vec<u8> {
        let text = self.to_string();
        let length = text.len().to_string();
        // VDSM's clients read the body, others the header.
        let mut headers = vec![("message", text.as_str())];
        if *self == Self::Version {
            headers.push(("version", "1.2"));
        }
        headers.extend(receipt.map(|receipt| ("receipt-id", receipt)));
        headers.extend([("content-type", "text/plain"), ("content-length", length.as_str())]);
        let mut out = Vec::new();
        write_frame(&mut out, Told::Error, &headers, text.as_bytes());
        out
    }
}
