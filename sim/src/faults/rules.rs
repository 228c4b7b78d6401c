//! Rules about calls: which are slow, which fail, whose replies are damaged. And noise, seeded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::damage;
use crate::command::{Command, Damage, Fail, Latency, ReplyLimit, SuppressEvents};
use crate::procedures::Procedure;
use crate::server::Then;
use crate::values::{ProcedureName, Share, glob};
use crate::wire::RpcError;

/// All rules in force.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Mostly there are none, and then nobody needs the lock.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    latencies: Vec<Latency>,
    failures: Vec<Fail>,
    damages: Vec<Damage>,
    reply_limit: Option<ReplyLimit>,
    suppressed: Option<SuppressEvents>,
}

/// What a rule is about: calls as such, or what they do at one guest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Call,
    Guest(&'a str),
}

impl About<'_> {
    fn is(self, pattern: Option<&str>) -> bool {
        match (self, pattern) {
            (Self::Call, None) => true,
            (Self::Guest(name), Some(pattern)) => glob(pattern, name),
            _ => false,
        }
    }
}

fn of(rule: Option<ProcedureName>, procedure: &Procedure) -> bool {
    rule.is_none_or(|name| name.is(procedure))
}

/// Does a rule that is for the next N, or for a share, apply this time?
fn applies(next: &mut Option<u32>, share: Option<Share>, random: &mut fastrand::Rng) -> bool {
    if *next == Some(0) || !share.is_none_or(|share| share.applies(random)) {
        return false;
    }
    if let Some(left) = next {
        *left -= 1;
    }
    true
}

impl Rules {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            latencies: Vec::new(),
            failures: Vec::new(),
            damages: Vec::new(),
            reply_limit: None,
            suppressed: None,
        };
        Self { any: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.any.store(true, Ordering::Release);
    }

    /// A rule for the same calls replaces the one before.
    pub(crate) fn add_latency(&self, rule: Latency) {
        self.change(|state| {
            state.latencies.retain(|old| (old.procedure, &old.domain) != (rule.procedure, &rule.domain));
            state.latencies.push(rule);
        });
    }

    pub(crate) fn add_failure(&self, rule: Fail) {
        self.change(|state| state.failures.push(rule));
    }

    pub(crate) fn add_damage(&self, rule: Damage) {
        self.change(|state| state.damages.push(rule));
    }

    pub(crate) fn limit_replies(&self, rule: ReplyLimit) {
        self.change(|state| state.reply_limit = Some(rule));
    }

    pub(crate) fn suppress_events(&self, rule: SuppressEvents) {
        self.change(|state| state.suppressed = Some(rule));
    }

    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        *state = State {
            random: state.random.clone(),
            latencies: Vec::new(),
            failures: Vec::new(),
            damages: Vec::new(),
            reply_limit: None,
            suppressed: None,
        };
        self.any.store(false, Ordering::Release);
    }

    /// All that are in force, as the commands that made them; of those for the next N, how many are left.
    pub(crate) fn all(&self) -> Vec<Command> {
        let state = self.state.lock();
        let latencies = state.latencies.iter().cloned().map(Command::Latency);
        let failures = state.failures.iter().cloned().map(Command::Fail);
        let damages = state.damages.iter().cloned().map(Command::Damage);
        let limit = state.reply_limit.iter().cloned().map(Command::ReplyLimit);
        let suppressed = state.suppressed.iter().cloned().map(Command::SuppressEvents);
        latencies.chain(failures).chain(damages).chain(limit).chain(suppressed).collect()
    }

    fn quiet(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// How much longer a call takes.
    pub(crate) fn delay(&self, procedure: &Procedure, about: About<'_>) -> Duration {
        if self.quiet() {
            return Duration::ZERO;
        }
        let State { random, latencies, .. } = &mut *self.state.lock();
        let meant = |rule: &&Latency| of(rule.procedure, procedure) && about.is(rule.domain.as_deref());
        latencies.iter().filter(meant).map(|rule| rule.distribution.sample(random)).sum()
    }

    /// The error that a call is to fail with.
    pub(crate) fn failure(&self, procedure: &Procedure, about: About<'_>) -> Option<RpcError> {
        if self.quiet() {
            return None;
        }
        let State { random, failures, .. } = &mut *self.state.lock();
        let failed = failures.iter_mut().find_map(|rule| {
            let meant = of(rule.procedure, procedure) && about.is(rule.domain.as_deref());
            (meant && applies(&mut rule.next, rule.share, random)).then(|| RpcError {
                code: rule.code,
                domain: rule.error_domain,
                message: rule.message.clone().into(),
            })
        });
        failures.retain(|rule| rule.next != Some(0));
        failed
    }

    /// Damages a reply, if a rule says so, and tells what then becomes of the connection.
    pub(crate) fn harm(&self, procedure: &Procedure, reply: &mut Vec<u8>) -> Then {
        if self.quiet() {
            return Then::Continue;
        }
        let State { random, damages, .. } = &mut *self.state.lock();
        let mut then = Then::Continue;
        for rule in damages.iter_mut().filter(|rule| of(rule.procedure, procedure)) {
            if damage::possible(rule.kind, procedure, reply) && applies(&mut rule.next, rule.share, random) {
                then = damage::harm(rule.kind, procedure, reply, random);
                break;
            }
        }
        damages.retain(|rule| rule.next != Some(0));
        then
    }

    /// The lower limit of bulk replies.
    pub(crate) fn reply_limit(&self) -> Option<ReplyLimit> {
        if self.quiet() { None } else { self.state.lock().reply_limit.clone() }
    }

    /// Is this event kept back?
    pub(crate) fn suppresses_event(&self) -> bool {
        if self.quiet() {
            return false;
        }
        let State { random, suppressed, .. } = &mut *self.state.lock();
        suppressed.as_ref().is_some_and(|rule| rule.share.applies(random))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::command::Harm;
    use crate::procedures::find;

    fn fail(next: Option<u32>, procedure: &str, domain: Option<&str>) -> Fail {
        Fail {
            code: 38,
            procedure: Some(procedure.parse().unwrap()),
            domain: domain.map(str::to_owned),
            error_domain: 7,
            message: "no".to_owned(),
            next,
            share: None,
        }
    }

    #[test]
    fn the_next_two_calls_fail_and_then_none() {
        let rules = Rules::new(1);
        let (info, state) = (find(16).unwrap(), find(212).unwrap());
        rules.add_failure(fail(Some(2), "DomainGetInfo", None));
        assert_eq!(rules.failure(state, About::Call), None);
        assert_eq!(rules.failure(info, About::Guest("vm")), None);
        assert_eq!(rules.failure(info, About::Call).unwrap().code, 38);
        assert_eq!(rules.all().len(), 1);
        assert!(rules.failure(info, About::Call).is_some());
        assert_eq!((rules.failure(info, About::Call), rules.all().len()), (None, 0));
    }

    #[test]
    fn a_rule_about_guests_is_about_those_alone() {
        let rules = Rules::new(1);
        let info = find(16).unwrap();
        rules.add_failure(fail(None, "domain-get-info", Some("vm-*")));
        assert!(rules.failure(info, About::Guest("vm-1")).is_some());
        assert_eq!(rules.failure(info, About::Guest("other")), None);
        rules.clear();
        assert_eq!(rules.failure(info, About::Guest("vm-1")), None);
    }

    #[test]
    fn a_latency_replaces_the_one_for_the_same_calls() {
        let rules = Rules::new(1);
        let info = find(16).unwrap();
        for text in ["20ms", "30ms"] {
            let distribution = text.parse().unwrap();
            rules.add_latency(Latency { distribution, procedure: None, domain: None });
        }
        assert_eq!(rules.delay(info, About::Call), Duration::from_millis(30));
        assert_eq!(rules.delay(info, About::Guest("vm")), Duration::ZERO);
    }

    #[test]
    fn what_cannot_be_damaged_does_not_count() {
        let rules = Rules::new(1);
        rules.add_damage(Damage { kind: Harm::WrongType, procedure: None, next: Some(1), share: None });
        let mut reply = vec![0; 32];
        assert_eq!(rules.harm(find(16).unwrap(), &mut reply), Then::Continue);
        assert_eq!(rules.all().len(), 1);
    }
}
