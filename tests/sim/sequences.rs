//! Whatever the order of faults: who is well keeps its samples, no more calls are open than may be, threads have their cap, and
//! no counter goes back that did not.
//!
//! `VIRTSTATD_TEST_SEQUENCES` sets how many sequences are tried. One that fails is kept beside this file and tried first.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use virtstat_sim::command::{
    Command, Connections, Damage, Fail, Guests, HangStorage, Harm, Latency, Nothing, ReplyLimit, Restart, Silence,
};
use virtstat_sim::values::Time;

use crate::{BULK, Trial};

const GUESTS: u32 = 24;
/// The last of them are those to whom something happens.
const VICTIMS: usize = 8;

/// A fault; numbers choose a victim.
#[derive(Debug, Clone)]
enum Fault {
    Freeze(usize),
    Thaw(usize),
    HangStorage(usize),
    ReleaseStorage(usize),
    Lock(usize),
    Unlock(usize),
    Poison(usize),
    Slow,
    Damage(Harm, u32),
    FailSome,
    SmallReplies,
    Clear,
    Drop,
    Restart,
    Silence,
}

fn fault() -> impl Strategy<Value = Fault> {
    let victim = || 0..VICTIMS;
    let harm = prop::sample::select(vec![
        Harm::HalfThenClose,
        Harm::WrongCount,
        Harm::WrongType,
        Harm::Truncated,
        Harm::WrongSerial,
        Harm::RandomBytes,
    ]);
    prop_oneof![
        4 => victim().prop_map(Fault::Freeze),
        2 => victim().prop_map(Fault::Thaw),
        2 => victim().prop_map(Fault::HangStorage),
        1 => victim().prop_map(Fault::ReleaseStorage),
        1 => victim().prop_map(Fault::Lock),
        2 => victim().prop_map(Fault::Unlock),
        1 => victim().prop_map(Fault::Poison),
        1 => Just(Fault::Slow),
        2 => (harm, 1_u32..4).prop_map(|(harm, count)| Fault::Damage(harm, count)),
        1 => Just(Fault::FailSome),
        1 => Just(Fault::SmallReplies),
        2 => Just(Fault::Clear),
        1 => Just(Fault::Drop),
        1 => Just(Fault::Restart),
        1 => Just(Fault::Silence),
    ]
}

fn bulk() -> Option<virtstat_sim::values::ProcedureName> {
    Some("ConnectGetAllDomainStats".parse().expect("a procedure"))
}

impl Fault {
    fn command(&self, victims: &[String]) -> Command {
        let one = |number: &usize| Guests::named(victims[*number].as_str());
        let failure = |domain, share: Option<f64>| {
            Command::Fail(Fail {
                code: 1,
                procedure: bulk(),
                domain,
                error_domain: 10,
                message: "simulated".to_owned(),
                next: None,
                share: share.map(|share| share.try_into().expect("a share")),
            })
        };
        match self {
            Self::Freeze(number) => Command::Freeze(one(number)),
            Self::Thaw(number) => Command::Thaw(one(number)),
            Self::HangStorage(number) => {
                Command::HangStorage(HangStorage { domain: one(number).domain, ..HangStorage::default() })
            }
            Self::ReleaseStorage(number) => Command::ReleaseStorage(one(number)),
            Self::Lock(number) => Command::Lock(one(number)),
            Self::Unlock(number) => Command::Unlock(one(number)),
            Self::Poison(number) => failure(Some(victims[*number].clone()), None),
            Self::Slow => Command::Latency(Latency {
                distribution: "exponential 4ms".parse().expect("a distribution"),
                procedure: None,
                domain: None,
            }),
            Self::Damage(kind, count) => {
                Command::Damage(Damage { kind: *kind, procedure: bulk(), next: Some(*count), share: None })
            }
            Self::FailSome => failure(None, Some(0.1)),
            Self::SmallReplies => Command::ReplyLimit(ReplyLimit { bytes: 100_000, send: false }),
            Self::Clear => Command::Clear(Nothing {}),
            Self::Drop => Command::DropConnections(Connections::default()),
            Self::Restart => Command::Restart(Restart { away: Time::seconds(0) }),
            Self::Silence => Command::Silence(Silence { lasting: Time::seconds(1) }),
        }
    }

    /// What it may cost everybody, in seconds, beyond the period.
    fn cost(&self) -> f64 {
        match self {
            // A lock keeps the list waiting, and whoever shares a call with it; the others cost a connection.
            Self::Lock(_) | Self::Drop | Self::Restart | Self::Damage(..) => 2.0,
            Self::Silence => 3.0,
            Self::FailSome | Self::Slow => 1.0,
            _ => 0.5,
        }
    }
}

fn try_sequence(faults: &[(Fault, u64)]) {
    let trial = Trial::running(GUESTS);
    let (healthy, victims) = trial.victims(VICTIMS);
    let begin = trial.watcher.now();
    let mut cost = 2.0;
    for (fault, millis) in faults {
        // What there is to undo may not be there, and whom something happens to twice is none the worse.
        let _ = trial.simulator.control(fault.command(&victims));
        cost += fault.cost();
        trial.watcher.observe(std::time::Duration::from_millis(*millis));
    }
    let end = trial.watcher.now();
    let longest = trial.watcher.longest(&healthy, BULK, (begin, end)).max(trial.watcher.longest(
        &healthy,
        &["state"],
        (begin, end),
    ));
    assert!(
        longest < 1.0 + cost,
        "{longest:.2} s without a sample of somebody who is well; {cost} s were to be expected"
    );
    for undo in [Command::Thaw(Guests::all()), Command::ReleaseStorage(Guests::all()), Command::Unlock(Guests::all())] {
        let _ = trial.simulator.control(undo);
    }
    trial.tell(Command::Clear(Nothing {}));
    trial.assert_all_back(&trial.names, trial.watcher.now(), 20.0);
    let open = trial.simulator.status();
    assert!(open.guests.occupied.len() <= 4, "{:?}", open.guests);
    trial.finish();
}

#[test]
fn no_order_of_faults_costs_who_is_well_its_samples_or_leaves_anything_behind() {
    let cases = std::env::var("VIRTSTATD_TEST_SEQUENCES").map_or(5, |cases| cases.parse().expect("a number"));
    let config = Config { cases, max_shrink_iters: 12, ..Config::with_source_file(file!()) };
    let sequence = prop::collection::vec((fault(), 100_u64..1_200), 3..10);
    let mut runner = TestRunner::new(config);
    let result = runner.run(&sequence, |faults| {
        println!("{faults:?}");
        try_sequence(&faults);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
