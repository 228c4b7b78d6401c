//! How it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::daemon::{Daemon, ProcedureCount};
use crate::faults::Look;
use crate::server::PoolStatus;

/// How the simulator is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Of the guests.
    pub guests: GuestStatus,
    /// Workers and queue, as `virt-admin srv-threadpool-info` says it; `most-busy` is of all lives of the daemon.
    pub pool: PoolStatus,
    /// Connections that were ever accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub connections: Vec<ConnectionStatus>,
    /// Calls by procedure.
    pub calls: BTreeMap<String, ProcedureCount>,
    /// Does the daemon stand still?
    pub silent: bool,
    /// Does something happen to guests all the time?
    pub churn: bool,
    /// The rules in force, as commands.
    pub rules: Vec<Command>,
}

/// Numbers of guests by state, and who is in trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestStatus {
    /// All.
    pub total: usize,
    /// Those that run.
    pub running: usize,
    /// Those that are paused.
    pub paused: usize,
    /// Those that are shut off.
    pub shut_off: usize,
    /// Those whose QEMU is stopped.
    pub frozen: Vec<String>,
    /// Those whose storage hangs.
    pub storage_hangs: Vec<String>,
    /// Those whose lock is held.
    pub locked: Vec<String>,
    /// Those whose job a call holds.
    pub occupied: Vec<String>,
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionStatus {
    /// Counted from 1.
    pub number: u64,
    /// Calls that are open on it.
    pub open_calls: usize,
    /// Is it neither read nor written?
    pub hung: bool,
}

impl Daemon {
    /// How it is.
    pub(crate) fn status(&self) -> Status {
        let connections = self.clients.all().into_iter().map(|client| ConnectionStatus {
            number: client.number,
            open_calls: client.open_calls(),
            hung: client.is_hung(),
        });
        Status {
            guests: self.guest_status(),
            pool: self.pool_status(),
            accepted: self.clients.accepted(),
            connections: connections.collect(),
            calls: self.counts.all(),
            silent: *self.silent.borrow(),
            churn: self.churns(),
            rules: self.rules.all(),
        }
    }

    fn guest_status(&self) -> GuestStatus {
        let host = self.host.read();
        let mut status = GuestStatus { total: host.len(), ..GuestStatus::default() };
        for guest in host.guests() {
            match guest.state().0 {
                1 => status.running += 1,
                3 => status.paused += 1,
                5 => status.shut_off += 1,
                _ => {}
            }
        }
        for (uuid, Look { frozen, storage_hangs, locked, occupied }) in self.troubles.all() {
            let Some(guest) = host.get(&uuid) else { continue };
            let lists = [
                (frozen, &mut status.frozen),
                (storage_hangs, &mut status.storage_hangs),
                (locked, &mut status.locked),
                (occupied, &mut status.occupied),
            ];
            lists.into_iter().filter(|(is, _)| *is).for_each(|(_, list)| list.push(guest.name().to_owned()));
        }
        for list in [&mut status.frozen, &mut status.storage_hangs, &mut status.locked, &mut status.occupied] {
            list.sort_unstable();
        }
        status
    }
}
