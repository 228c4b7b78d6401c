//! The procedures of the remote program: which there are, what they need of a guest, and how a call is answered.

mod bulk;
mod connect;
mod device;
mod domain;
mod filter;
mod table;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::command::ReplyLimit;
use crate::daemon::Daemon;
use crate::faults::{About, Patience, Uuid, Wants};
use crate::host::{Guest, Host};
use crate::limits::{MESSAGE_BYTES, STRING_BYTES};
use crate::server::{Client, Then};
use crate::wire::{self, Incoming, RpcError, code};
use crate::xdr::{Decoder, Encoder};

pub(crate) use table::{Procedure, Serve, TABLE, find};

/// A reply's payload was written, or there is an error instead.
pub(crate) type Written = Result<(), RpcError>;

/// Who calls, and when.
pub(crate) struct Caller<'a> {
    pub(crate) daemon: &'a Arc<Daemon>,
    pub(crate) client: &'a Client,
    pub(crate) procedure: &'static Procedure,
    pub(crate) now: SystemTime,
}

/// What goes back.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) failed: bool,
    pub(crate) then: Then,
}

/// Serves a call. It may take for ever.
pub(crate) async fn answer(
    daemon: &Arc<Daemon>,
    client: &Client,
    procedure: Option<&'static Procedure>,
    message: &Incoming,
) -> Answer {
    let header = message.header;
    let mut out = header.reply().begin();
    let written = match procedure {
        None => Err(unknown(header.procedure)),
        Some(procedure) => serve(daemon, client, procedure, message.payload(), &mut out).await,
    };
    let written = written.and_then(|()| bound(daemon, procedure, &mut out));
    let failed = written.is_err();
    let mut bytes = match written {
        Ok(()) => wire::finish(out),
        Err(error) => error.answer(header),
    };
    let then = procedure.map_or(Then::Continue, |procedure| daemon.rules.harm(procedure, &mut bytes));
    Answer { bytes, failed, then }
}

/// Refuses a reply that is longer than a message may be.
fn bound(daemon: &Daemon, procedure: Option<&Procedure>, out: &mut Encoder) -> Written {
    let bulk = procedure.is_some_and(|procedure| matches!(procedure.serve, Serve::Bulk));
    let rule = if bulk { daemon.rules.reply_limit() } else { None };
    let over = |limit: u32| u32::try_from(out.len()).is_ok_and(|len| len > limit);
    match rule {
        Some(ReplyLimit { bytes, send: true }) if over(bytes) => {
            // So long that libvirt.so believes none of it.
            out.fill_up(MESSAGE_BYTES + 4);
            Ok(())
        }
        Some(ReplyLimit { bytes, send: false }) if over(bytes) => Err(RpcError::too_long()),
        _ if out.len() > MESSAGE_BYTES => Err(RpcError::too_long()),
        _ => Ok(()),
    }
}

/// What the rules about calls, or about a guest's part in them, have to say: a wait, or an error.
async fn obey(caller: &Caller<'_>) -> Written {
    let rules = &caller.daemon.rules;
    let delay = rules.delay(caller.procedure, About::Call);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    rules.failure(caller.procedure, About::Call).map_or(Ok(()), Err)
}

async fn serve(
    daemon: &Arc<Daemon>,
    client: &Client,
    procedure: &'static Procedure,
    payload: &[u8],
    out: &mut Encoder,
) -> Written {
    if !procedure.before_open && !client.is_open() {
        return Err(RpcError::rpc(code::INTERNAL, "internal error: connection not open"));
    }
    let caller = Caller { daemon, client, procedure, now: SystemTime::now() };
    obey(&caller).await?;
    // What time it is after the wait.
    let caller = Caller { now: SystemTime::now(), ..caller };
    let mut input = Decoder::new(payload);
    match procedure.serve {
        Serve::Host(answer) => answer(&caller, &mut input, out),
        Serve::List(answer) => {
            for guest in daemon.troubles.any_locked() {
                daemon.troubles.lock_free(&guest).await;
            }
            answer(&caller, &mut input, out)
        }
        Serve::LookUp(find) => {
            let uuid = *find(&daemon.host.read(), &mut input.clone())?.uuid();
            daemon.troubles.lock_free(&uuid).await;
            let host = daemon.host.read();
            domain::put(out, find(&host, &mut input)?);
            Ok(())
        }
        Serve::Guest(wants, answer) => {
            let guest = wire::get_domain(&mut input, STRING_BYTES)?.uuid;
            daemon.troubles.lock_free(&guest).await;
            enter(&caller, &guest, wants).await?;
            let host = daemon.host.read();
            // What time it is when QEMU has answered.
            let caller = Caller { now: SystemTime::now(), ..caller };
            answer(&caller, get(&host, &guest)?, &mut input, out)
        }
        Serve::Bulk => bulk::answer(&caller, &mut input, out).await,
    }
}

/// Waits for what a call about one guest needs of it.
async fn enter(caller: &Caller<'_>, guest: &Uuid, wants: Wants) -> Written {
    let troubles = &caller.daemon.troubles;
    let (rules, procedure) = (&caller.daemon.rules, caller.procedure);
    let (runs, delay, failure) = {
        let host = caller.daemon.host.read();
        let guest = get(&host, guest)?;
        let about = About::Guest(guest.name());
        (guest.is_running(), rules.delay(procedure, about), rules.failure(procedure, about))
    };
    failure.map_or(Ok(()), Err)?;
    // Of one that is off there is no monitor to enter; its files are there.
    let wants = if runs { wants } else { Wants { file: wants.file, ..Wants::default() } };
    let patience = Patience::For(caller.daemon.times.job_wait);
    troubles.enter(guest, wants, procedure.name, patience, delay).await.map_err(|busy| {
        RpcError::qemu(
            code::OPERATION_TIMEOUT,
            format!(
                "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatch{})",
                busy.by
            ),
        )
    })?;
    if wants.file {
        troubles.open_file(guest).await;
    }
    Ok(())
}

/// A guest by its UUID.
pub(crate) fn get<'h>(host: &'h Host, uuid: &Uuid) -> Result<&'h Guest, RpcError> {
    host.get(uuid).ok_or_else(|| {
        let uuid = uuid::Uuid::from_bytes(*uuid);
        RpcError::qemu(code::NO_DOMAIN, format!("Domain not found: no domain with matching uuid '{uuid}'"))
    })
}

/// What we do not serve is said once in the log, for whoever wants to add it.
fn unknown(number: u32) -> RpcError {
    /// Enough for all procedures that there are.
    const REMEMBERED: usize = 1000;
    static SAID: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let mut said = SAID.lock();
    if said.len() < REMEMBERED && !said.contains(&number) {
        said.push(number);
        tracing::debug!(procedure = number, "not served");
    }
    RpcError::unknown_procedure(number)
}
