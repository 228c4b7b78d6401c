//! Storage that hangs, and storage that is slow.

use super::*;
use crate::model::Standing;

const MOUNTS: [&str; 24] = [
    "/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i", "/j", "/k", "/l", "/m", "/n", "/o", "/p", "/q", "/r", "/s",
    "/t", "/u", "/v", "/w", "/x",
];

/// An engine over that many domains, each with its disk on a mount of its own, where a look at storage takes so long.
fn slow(domains: u8, look: Duration) -> Lab {
    let mut lab = Lab::started(domains);
    for (number, mount) in (1..=domains).zip(MOUNTS) {
        lab.world.change(number, |domain| domain.disks = vec![mount]);
        lab.announce(id(number));
    }
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=domains, &MONITOR), []);
    lab.world.edit(|host| host.probe_takes = look);
    lab
}

#[test]
fn storage_that_hangs_ages_what_needs_a_look_at_it_and_nothing_else() {
    let mut lab = Lab::new(6);
    lab.world.change(1, |domain| domain.disks = vec!["/images", "/nfs"]);
    lab.world.change(2, |domain| domain.disks = vec!["/nfs"]);
    lab.run(SECOND);
    lab.world.edit(|host| host.hung.insert("/nfs"));
    for _ in 0..10 {
        lab.run(PERIOD);
        assert_eq!(lab.late(1..=6, &[Group::State, Group::Interface, Group::Cpu, Group::Vcpu, Group::Balloon]), []);
        assert_eq!(lab.late(1..=6, &[Group::Block]), [], "counters come disk by disk");
        assert_eq!(lab.late(3..=6, &[Group::BlockInfo]), []);
        let looks = lab.pending.iter().filter(|it| it.lane == Lane::Storage).count();
        assert_eq!(looks, 1, "one look at a time, whatever the number of disks");
        assert_eq!(lab.open(), 0, "and no call is stuck");
    }
    assert_eq!(lab.health(1).blocked_storage.as_deref(), Some("/nfs"));
    assert_eq!(lab.health(1).unresponsive_since, None, "its QEMU is well");
    let snapshot = lab.store.snapshot();
    let sizes = |target: &str| {
        let domain = snapshot.get(id(1)).expect("known");
        domain.windows.block_info.get(target).map(|(_, stamp)| lab.store.now() - stamp.at)
    };
    assert!(sizes("vda") < Some(2 * PERIOD) && sizes("vdb") > Some(5 * PERIOD), "the other disk goes on");
    lab.world.edit(|host| host.hung.clear());
    lab.run(2 * PERIOD);
    assert_eq!(lab.health(1), DomainHealth::default());
    assert_eq!(lab.late(1..=6, &MONITOR), []);
}

#[test]
fn a_call_that_is_caught_by_hanging_storage_is_blamed_on_that_and_not_on_the_domain() {
    let mut lab = Lab::new(6);
    lab.world.change(2, |domain| domain.disks = vec!["/nfs"]);
    lab.run(PERIOD - 10 * MS);
    // Between the look at the storage and the call.
    lab.clock.advance(10 * MS);
    loop {
        lab.core.tick();
        lab.order();
        if lab.pending.iter().any(|it| it.lane == Lane::Monitor) {
            break;
        }
        // The free call, and the look.
        let answer = lab.answer_of(0).expect("nothing hangs yet");
        lab.finish(0, answer);
    }
    lab.world.edit(|host| host.hung.insert("/nfs"));
    lab.run(2 * SECOND);
    let health = lab.health(2);
    assert_eq!(lab.timed_out("virDomainListGetStats"), 1);
    assert_eq!((health.standing, health.unresponsive_since), (Standing::Healthy, None));
    assert_eq!(health.blocked_call, Some("virDomainListGetStats"));
    lab.run(4 * PERIOD);
    assert_eq!(lab.late([1, 3, 4, 5, 6], &MONITOR), []);
    assert_eq!(lab.late([2], &[Group::State, Group::Interface, Group::Cpu, Group::Vcpu]), []);
    assert_eq!(lab.timed_out("virDomainListGetStats"), 1, "once is enough");
    lab.world.edit(|host| host.hung.clear());
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=6, &MONITOR), []);
    assert_eq!(lab.health(2), DomainHealth::default());
}

#[test]
fn looks_at_many_slow_mounts_age_no_counters() {
    let mut lab = slow(10, 60 * MS);
    lab.run(20 * PERIOD);
    assert_eq!(lab.late(1..=10, &[Group::Block]), []);
}

#[test]
fn however_long_looks_at_storage_take_nobody_loses_two_samples_of_what_needs_none() {
    for look in [30 * MS, 60 * MS, 100 * MS] {
        let mut lab = slow(24, look);
        lab.run(20 * PERIOD);
        let worst = (1..=24).map(|number| lab.age(number, Group::Vcpu)).max();
        assert!(worst <= Some(2 * PERIOD), "{look:?}: {worst:?}");
    }
}

#[test]
fn with_all_storage_hanging_every_shard_has_its_counters_in_the_same_period() {
    let mut lab = Lab::started(100);
    lab.world.edit(|host| {
        host.hung.insert("/images");
        (host.takes, host.counters_take) = (100 * MS, 10 * MS);
    });
    lab.run(20 * PERIOD);
    assert_eq!(lab.late(1..=100, &[Group::Block]), []);
}
