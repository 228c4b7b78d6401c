//! The engine's part of the rhythm: who scraped, how long turns take, and where that moves the timers of the lanes.
//!
//! The free lane and the monitor's begin their turns at the same moments, and stay in step: one move is worked out for the
//! timers of both. The lane of disks' sizes moves along.

use std::time::{Duration, Instant};

use super::complaint::Complaint;
use super::core::Core;
use super::rhythm::{LOOK, Lead, Rhythm};
use super::schedule;
use crate::config::Sampling;
use crate::model::{Group, GroupSet, Stamp};
use crate::store::StaleAfter;

/// What is known of scrapers and turns.
pub(super) struct Steering {
    /// As they are in force: the general period may follow a scraper.
    settings: Sampling,
    rhythm: Rhythm,
    pub(super) lead: Lead,
    /// Since when both lanes have been at their present turn, if it will tell how long turns take.
    turn: Option<Instant>,
    looked: Option<Instant>,
    complaint: Complaint,
}

impl Steering {
    pub(super) fn new(settings: &Sampling) -> Self {
        Self {
            rhythm: Rhythm::new(settings.period, settings.auto),
            settings: settings.clone(),
            lead: Lead::default(),
            turn: None,
            looked: None,
            complaint: Complaint::default(),
        }
    }

    /// When to look for scrapes at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.looked.map(|looked| looked + LOOK)
    }

    /// A turn begins. One that is still under way never ends as a whole, and tells nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        self.turn = Some(now);
    }

    /// The present turn says nothing of others: something hung, or failed.
    pub(super) fn forget_turn(&mut self) {
        self.turn = None;
    }
}

impl Core {
    /// Takes the scrapes that came, and draws the conclusions.
    pub(super) fn listen(&mut self, now: Stamp) {
        let Steering { rhythm, looked, .. } = &mut self.steering;
        *looked = Some(now.at);
        for (client, at) in self.store.take_scrapes(rhythm.followed()) {
            rhythm.observe(client, at);
        }
        rhythm.settle(now.at);
        if let Some(period) = rhythm.period()
            && period != self.steering.settings.period
        {
            self.set_period(period);
        }
        let Steering { rhythm, complaint, .. } = &mut self.steering;
        // Never settled: a scraper that comes and goes would be complained of each time.
        if self.store.set_hint(rhythm.hint())
            && let Some(hint) = rhythm.hint()
            && complaint.is_news(hint, now.at)
        {
            tracing::warn!("{hint}");
        }
    }

    /// Puts another general period in force.
    fn set_period(&mut self, period: Duration) {
        let settings = &mut self.steering.settings;
        let follow: GroupSet =
            settings.groups.iter().map(|(group, _)| *group).filter(|group| settings.follows(*group)).collect();
        settings.period = period;
        for (_, known) in settings.groups.iter_mut().filter(|(group, _)| follow.contains(*group)) {
            *known = period;
        }
        tracing::info!(?period, "the sampling period follows the scraper's interval");
        self.store.configure(limits(settings));
        self.shortest = shortest(settings);
        self.inventory.set_shortest(self.shortest);
        self.free.set_period(follow, period);
        self.monitor.set_period(follow, period);
        let lanes = &mut [self.free.schedule(), self.monitor.schedule()];
        schedule::set_period(lanes, |group| follow.contains(group), period);
    }

    /// Moves the timers, once a turn, towards the moment that lets a turn end just before a scrape.
    pub(super) fn steer(&mut self, now: Stamp) {
        let Steering { rhythm, lead, .. } = &self.steering;
        let lanes = &mut [self.free.schedule(), self.monitor.schedule()];
        let Some(shift) = schedule::steer(lanes, |timers| rhythm.advise(now.at, timers, lead.time())) else { return };
        // What is a twentieth of the lanes' period may be more of a shorter one.
        if self.block.schedule().fastest() >= schedule::fastest(lanes) {
            self.block.schedule().shift(shift);
        }
    }

    /// Notes how long the turn took, when the last of its calls has ended.
    pub(super) fn time_turn(&mut self) {
        let Some(begun) = self.steering.turn else { return };
        let queued = self.free.has_work() || self.monitor.has_work() || !self.aside.is_empty();
        // Who is on probation is asked when there is time, and may take long.
        let mut calls = self.calls.values().filter(|open| open.ask.is_some() && !open.probation && !open.overdue);
        if !self.link.admitting && !queued && calls.next().is_none() {
            self.steering.lead.note(self.store.now().saturating_duration_since(begun));
            self.steering.turn = None;
        }
    }
}

/// When each group is stale, and the list.
pub(super) fn limits(settings: &Sampling) -> StaleAfter {
    let mut stale_after = StaleAfter::default();
    for (group, period) in &settings.groups {
        stale_after.set(*group, settings.stale_after(*period));
    }
    stale_after.set_list(settings.stale_after(settings.inventory));
    stale_after
}

/// The shortest period of what is asked of libvirt.
pub(super) fn shortest(settings: &Sampling) -> Duration {
    let asked = settings.groups.iter().filter(|(group, _)| *group != Group::Kernel);
    asked.map(|(_, period)| *period).min().unwrap_or(settings.inventory)
}
