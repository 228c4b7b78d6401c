//! How domains answer: told by the sampler, kept for one run.

use super::*;
use crate::model::{DomainHealth, Standing};

impl Bench {
    fn hung(&self) -> DomainHealth {
        DomainHealth {
            standing: Standing::Quarantined,
            unresponsive_since: Some(self.tick()),
            blocked_call: Some("virDomainListGetStats"),
            blocked_storage: None,
        }
    }

    fn health(&self) -> DomainHealth {
        self.store.snapshot().domains[0].health.clone()
    }
}

#[test]
fn it_is_published_once_and_only_if_it_changed() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1), record(2, 2, 1)]);
    let hung = bench.hung();
    let sequence = bench.store.snapshot().sequence;
    bench.store.apply_health(vec![(id(1), hung.clone()), (id(2), hung.clone()), (id(9), hung.clone())]);
    let snapshot = bench.store.snapshot();
    assert_eq!((snapshot.sequence, bench.health()), (sequence + 1, hung.clone()));
    assert_eq!(snapshot.domains[1].health, hung);
    bench.store.apply_health(vec![(id(1), hung.clone()), (id(9), hung.clone())]);
    assert_eq!(bench.store.snapshot().sequence, sequence + 1);
    bench.clock.advance(Duration::from_secs(5));
    let domain = &snapshot.domains[0];
    assert_eq!(domain.unresponsive_for(bench.clock.now()), Duration::from_secs(5));
    bench.store.apply_health(vec![(id(1), DomainHealth::default())]);
    assert_eq!(bench.health(), DomainHealth::default());
}

#[test]
fn it_ends_with_the_run() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1)]);
    bench.store.apply_health(vec![(id(1), bench.hung())]);
    bench.bulk(bench.tick(), vec![record(1, 2, 1)]);
    assert_eq!(bench.health(), DomainHealth::default(), "another run");
    bench.store.apply_health(vec![(id(1), bench.hung())]);
    bench.inventory(bench.tick(), vec![described(1, None, &[], &[])]);
    assert_eq!(bench.health(), DomainHealth::default(), "shut off");
    bench.store.apply_health(vec![(id(1), bench.hung())]);
    assert_eq!(bench.health(), DomainHealth::default(), "who does not run has nothing to answer with");
}
