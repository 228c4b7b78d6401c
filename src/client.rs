//! A client of a daemon's HTTP API, for the commands that ask one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;

/// A daemon answers in microseconds, if it answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens, or something else does.
    #[error("no answer from {address}: {reason}; is virtstatd running there? (--listen says where to ask)")]
    NoAnswer {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The daemon says why not.
    #[error("{0}")]
    Refused(String),
    /// The question has no answer.
    #[error("{0}")]
    NotFound(String),
}

/// A domain that was found.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// State, in words, if it is known.
    pub state: Option<String>,
}

#[derive(Deserialize)]
struct FoundList {
    domains: Vec<Found>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorText,
}

#[derive(Deserialize)]
struct ErrorText {
    code: String,
    message: String,
}

/// Asks which domains have `value` as their `by`.
///
/// # Errors
/// [`ClientError`]; [`ClientError::NotFound`] if there is none.
pub fn lookup(address: SocketAddr, by: &str, value: &str) -> Result<Vec<Found>, ClientError> {
    let address = reachable(address);
    let no_answer = |reason: String| ClientError::NoAnswer { address, reason };
    let query: String = form_urlencoded::Serializer::new(String::new()).append_pair(by, value).finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| no_answer(error.to_string()))?;
    let path = format!("/api/v1/lookup?{query}");
    let answer = runtime.block_on(async {
        let answer = get(address, &path);
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    });
    let (status, body) = answer.map_err(no_answer)?;
    if status == 200 {
        let list: FoundList = serde_json::from_slice(&body).map_err(|error| no_answer(error.to_string()))?;
        return Ok(list.domains);
    }
    let Ok(ErrorBody { error }) = serde_json::from_slice(&body) else {
        return Err(no_answer(format!("HTTP status {status}, and no word of virtstatd's")));
    };
    Err(if error.code == "domain_not_found" {
        ClientError::NotFound(error.message)
    } else {
        ClientError::Refused(error.message)
    })
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, Bytes), String> {
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// Where a daemon that listens on all addresses is asked.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0:9177", "127.0.0.1:9177"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("valid");
            assert_eq!(reachable(parse(listens)), parse(asked));
        }
    }
}
