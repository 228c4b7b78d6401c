//! The procedures of the remote program: which there are, what they need of a guest, and how a call is answered.

mod bulk;
mod connect;
mod device;
mod domain;
mod filter;
mod table;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::daemon::Daemon;
use crate::faults::{Patience, Uuid, Wants};
use crate::host::{Guest, Host};
use crate::limits::{MESSAGE_BYTES, STRING_BYTES};
use crate::server::{Client, Then};
use crate::wire::{self, Incoming, RpcError, code};
use crate::xdr::{Decoder, Encoder};

pub(crate) use table::{Procedure, Serve, find};

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
    let written = if out.len() > MESSAGE_BYTES { written.and(Err(RpcError::too_long())) } else { written };
    match written {
        Ok(()) => Answer { bytes: wire::finish(out), failed: false, then: Then::Continue },
        Err(error) => Answer { bytes: error.answer(header), failed: true, then: Then::Continue },
    }
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
    if !get(&caller.daemon.host.read(), guest)?.is_running() {
        // Nothing to enter; the file is there.
        if wants.file {
            troubles.open_file(guest).await;
        }
        return Ok(());
    }
    let patience = Patience::For(caller.daemon.times.job_wait);
    troubles.enter(guest, wants, caller.procedure.name, patience, Duration::ZERO).await.map_err(|busy| {
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
