//! Calls about single domains. Each is a call to libvirt of its own, so they are for few domains.

use std::ffi::CString;
use std::time::Duration;

use virt::error::Error;
use virt::sys;

use super::connection::{LibvirtSource, no_domain};
use super::ffi::{Handle, Params};
use crate::model::{
    Block, BlockInfo, BlockSample, BulkReply, Control, ControlState, DomainId, DomainRecord, Figures, RunId,
    SourceError,
};

/// An answer that is known to be of one run.
struct OfRun<T> {
    answer: T,
    name: Box<str>,
    run: Option<RunId>,
}

impl<T> OfRun<T> {
    fn record(self, id: DomainId, figures: impl FnOnce(T) -> Figures) -> DomainRecord {
        DomainRecord { id, name: self.name, run: self.run, figures: figures(self.answer) }
    }
}

impl LibvirtSource {
    pub(super) fn control_of(&mut self, ids: &[DomainId]) -> Result<Vec<(DomainId, Control)>, SourceError> {
        self.keep_few_handles(ids);
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(handle) = self.handle(*id)? else { continue };
            match handle.control() {
                Ok((state, millis)) => {
                    answers.push((*id, Control { state: control_state(state), since: Duration::from_millis(millis) }));
                }
                Err(error) => self.leave_out("virDomainGetControlInfo", *id, &error)?,
            }
        }
        Ok(answers)
    }

    pub(super) fn cpu_totals_of(&mut self, ids: &[DomainId]) -> Result<BulkReply, SourceError> {
        self.keep_few_handles(ids);
        let mut reply = BulkReply::default();
        for id in ids {
            match self.of_one_run(*id, Handle::cpu_totals)? {
                Ok(None) => {}
                Ok(Some(totals)) => {
                    let cpu = self.decoder.cpu_totals(totals.answer.iter(), &mut reply.decode);
                    let cpu = cpu.time_ns.is_some().then_some(cpu);
                    reply.records.push(totals.record(*id, |_| Figures { cpu, ..Figures::default() }));
                }
                Err(error) => self.leave_out("virDomainGetCPUStats", *id, &error)?,
            }
        }
        Ok(reply)
    }

    pub(super) fn block_info_of(&mut self, id: DomainId, target: &str) -> Result<Option<BlockInfo>, SourceError> {
        self.keep_few_handles(&[id]);
        let Ok(target) = CString::new(target) else { return Ok(None) };
        let Some(handle) = self.handle(id)? else { return Ok(None) };
        match handle.block_info(&target) {
            Ok(info) => Ok(Some(info)),
            Err(error) if self.is_gone(id, &error) || no_disk(&error) => Ok(None),
            Err(error) => Err(self.error("virDomainGetBlockInfo", &error)),
        }
    }

    pub(super) fn block_counters_of(&mut self, id: DomainId, targets: &[Box<str>]) -> Result<BulkReply, SourceError> {
        self.keep_few_handles(&[id]);
        let ask = |handle: &Handle| {
            let mut disks = Vec::with_capacity(targets.len());
            for (index, name) in (0..).zip(targets) {
                let Ok(target) = CString::new(&**name) else { continue };
                match handle.block_stats(&target) {
                    Ok(params) => disks.push((index, &**name, params)),
                    Err(error) if no_disk(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(disks)
        };
        let mut reply = BulkReply::default();
        match self.of_one_run(id, ask)? {
            Ok(None) => {}
            Ok(Some(counters)) => {
                let mut disk = |(index, name, params): (u32, &str, Params)| Block {
                    index,
                    name: Some(name.into()),
                    ..self.decoder.block_counters(params.iter(), &mut reply.decode)
                };
                let record = counters.record(id, |disks| {
                    let disks: Vec<_> = disks.into_iter().map(&mut disk).collect();
                    let block = (!disks.is_empty()).then_some(BlockSample { count: None, disks });
                    Figures { block, ..Figures::default() }
                });
                reply.records.push(record);
            }
            Err(error) if self.is_gone(id, &error) => {}
            Err(error) => return Err(self.error("virDomainBlockStatsFlags", &error)),
        }
        Ok(reply)
    }

    /// The handle that is kept, or else a new one; `None` if the domain is gone.
    fn handle(&mut self, id: DomainId) -> Result<Option<&Handle>, SourceError> {
        if self.handles.contains_key(&id) {
            return Ok(self.handles.get(&id));
        }
        self.look_up(id)
    }

    /// Asks about a domain, and finds out which run of it answered: libvirt finds it by its UUID, so a handle of the
    /// last run gets the figures of this one. They are of the handle's run if a look-up after the call still finds that
    /// run.
    fn of_one_run<T>(
        &mut self,
        id: DomainId,
        ask: impl Fn(&Handle) -> Result<T, Error>,
    ) -> Result<Result<Option<OfRun<T>>, Error>, SourceError> {
        for _ in 0..2 {
            let Some(kept) = self.handle(id)? else { return Ok(Ok(None)) };
            let run = kept.run();
            let answer = match ask(kept) {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error)),
            };
            let Some(fresh) = self.look_up(id)? else { return Ok(Ok(None)) };
            if fresh.run() == run {
                return Ok(Ok(Some(OfRun { answer, name: fresh.name(), run })));
            }
        }
        // It has started anew twice; the next time will tell.
        Ok(Ok(None))
    }

    /// A call about one domain of several failed: goes on with the others, unless the connection is gone.
    fn leave_out(&mut self, call: &'static str, id: DomainId, error: &Error) -> Result<(), SourceError> {
        if self.is_gone(id, error) {
            return Ok(());
        }
        match self.error(call, error) {
            error @ SourceError::Disconnected { .. } => Err(error),
            error => {
                tracing::debug!(domain = %id, %error, "one domain is left out");
                Ok(())
            }
        }
    }

    /// Does the error say that the domain is gone, or not running? Then its handle goes too.
    fn is_gone(&mut self, id: DomainId, error: &Error) -> bool {
        let gone = no_domain(error) || error.code().to_raw() == sys::VIR_ERR_OPERATION_INVALID;
        if gone {
            self.handles.remove(&id);
        }
        gone
    }
}

/// What QEMU's driver says when there is no disk of that target.
fn no_disk(error: &Error) -> bool {
    error.code().to_raw() == sys::VIR_ERR_INVALID_ARG
}

/// A state that is not known yet is taken for the worst.
fn control_state(state: u32) -> ControlState {
    match state {
        sys::VIR_DOMAIN_CONTROL_OK => ControlState::Ok,
        sys::VIR_DOMAIN_CONTROL_JOB => ControlState::Job,
        sys::VIR_DOMAIN_CONTROL_OCCUPIED => ControlState::Occupied,
        _ => ControlState::Error,
    }
}
