//! What the kernel lane brings, and how it does.

use std::sync::Arc;
use std::time::Duration;

use super::lanes::{KernelRecord, Verdict};
use super::state::State;
use super::store::Store;
use crate::model::{DomainId, Group, KernelState, Moment, Stamp, Unseen};

/// One turn of the kernel lane.
#[derive(Debug, Default)]
pub struct KernelTurn {
    /// Just before the look at the network, which is about all domains; `None` if nobody was looked at.
    pub network: Option<Stamp>,
    /// What came.
    pub records: Vec<KernelRecord>,
    /// Of whom nothing came, and why.
    pub unseen: Vec<(DomainId, Unseen)>,
    /// How it was done.
    pub state: KernelState,
    /// How long it took.
    pub took: Duration,
}

/// How the kernel lane does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KernelStatus {
    /// It does not look, for that reason.
    Off(Arc<str>),
    /// It has not looked yet.
    #[default]
    Waiting,
    /// It looks.
    On {
        /// Domains that it saw in its newest turn.
        seen: usize,
        /// Domains that it did not see, by reason.
        unseen: Vec<(Unseen, usize)>,
        /// When that turn began; `None` if nobody was looked at.
        began: Option<Stamp>,
        /// How long it took.
        took: Duration,
        /// What it looks with, and what is lacking.
        state: KernelState,
    },
}

/// What a turn gave reason to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelNews {
    /// A domain has another process than before: the list is to be read again.
    pub restarted: bool,
    /// Domains about which libvirt is believed from now on, each with a group.
    pub distrusted: Vec<(DomainId, Arc<str>, Group)>,
}

impl Store {
    /// Says why the kernel is not looked at, or that it will be.
    pub fn set_kernel(&self, status: KernelStatus) {
        let mut state = self.state.lock();
        if *state.kernel != status {
            state.kernel = Arc::new(status);
            self.publish(&mut state);
        }
    }

    /// Takes a turn of the kernel lane.
    pub fn apply_kernel(&self, turn: KernelTurn) -> KernelNews {
        let now = self.moment();
        let KernelTurn { network, records, unseen, state: lane, took } = turn;
        let mut state = self.state.lock();
        let mut news = KernelNews::default();
        let seen = records.len();
        let mut went_back = 0;
        if let Some(network) = network {
            state.note_sampled(network);
            for record in records {
                let id = record.id;
                let Some(verdict) = self.take_record(&mut state, now, network, record, &mut news) else { continue };
                went_back += verdict.went_back;
                for group in verdict.disagreed.iter() {
                    self.metrics.lane_disagreements.with_label_values(&[group.label()]).inc();
                }
                let name = |state: &State| state.domains.get(&id).map(|known| Arc::clone(&known.domain.name));
                let lasting = verdict.lasting.iter().filter_map(|group| Some((id, name(&state)?, group)));
                news.distrusted.extend(lasting);
            }
        }
        self.metrics.samples_dropped.with_label_values(&["went_back"]).inc_by(went_back);
        let mut reasons: Vec<(Unseen, usize)> = Vec::new();
        for (id, reason) in unseen {
            state.lose_kernel(id);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason, 1)),
            }
        }
        state.kernel = Arc::new(KernelStatus::On { seen, unseen: reasons, began: network, took, state: lane });
        self.publish(&mut state);
        news
    }

    /// One domain's part of a turn; `None` if it is not running any more, or in another run.
    fn take_record(
        &self,
        state: &mut State,
        now: Moment,
        network: Stamp,
        record: KernelRecord,
        news: &mut KernelNews,
    ) -> Option<Verdict> {
        let KernelRecord { id, run, started, figures } = record;
        let process = state.take_process(now, (id, run, figures.process));
        self.metrics.count_startup(process.startup);
        news.restarted |= process.another;
        state.take_kernel(started, network, (id, run), figures)
    }
}
