//! The pool of workers, and the five calls of a connection.

use virtstat_sim::command::{Command, Connections, Guests, Restart};
use virtstat_sim::values::Time;

use crate::support::Lab;
use crate::support::client::{Client, about, bulk, disk};

#[test]
fn five_calls_are_open_and_then_the_connection_is_not_read() {
    let lab = Lab::new(3);
    let name = lab.name(0);
    let uuid = lab.uuid(&name);
    lab.tell(Command::Lock(Guests::named(&name)));
    let mut client = Client::open(&lab);
    for _ in 0..6 {
        client.send(16, about(uuid));
    }
    client.ping();
    let is_full =
        |status: &virtstat_sim::Status| status.connections.iter().any(|connection| connection.open_calls == 5);
    lab.until("five calls are open", is_full);
    assert_eq!(lab.simulator.status().calls["DomainGetInfo"].open, 5);
    Client::open(&lab).assert_alive();
    client.assert_nothing();
    lab.tell(Command::Unlock(Guests::all()));
    let answers: Vec<u32> = (0..7).map(|_| client.receive().header.procedure).collect();
    // The pong is procedure 2 of its program; it came after the first places were free again.
    assert_eq!(answers.iter().filter(|procedure| **procedure == 16).count(), 6, "{answers:?}");
    assert!(answers.contains(&2) && answers[0] == 16, "{answers:?}");
}

#[test]
fn twenty_stuck_calls_take_the_whole_pool() {
    let lab = Lab::new(30);
    lab.tell(Command::Freeze(Guests::all()));
    let free = Guests::named(lab.name(25));
    let healthy = lab.uuid(&lab.name(25));
    lab.tell(Command::Thaw(free));
    let mut stuck: Vec<Client> = (0..20)
        .map(|number| {
            let mut client = Client::open(&lab);
            client.send(344, bulk(&[lab.uuid(&lab.name(number))], 0, 0));
            client
        })
        .collect();
    let status = lab.until("all workers are busy", |status| status.pool.busy == 20);
    assert_eq!((status.pool.workers, status.pool.queued), (20, 0));

    // Ordinary calls wait, about the healthy too; those of high priority are served.
    let mut waiting = Client::open(&lab);
    waiting.send(14, about(healthy));
    waiting.send(194, disk(healthy, "vda"));
    lab.until("two calls wait", |status| status.pool.queued == 2);
    let mut client = Client::open(&lab);
    for procedure in [212, 229] {
        client.call(procedure, about(healthy)).ok();
    }
    client.call(273, |out| {
        out.i32(1);
        out.u32(0);
    });
    waiting.assert_nothing();

    // A closed connection does not free the worker of its call.
    stuck.truncate(5);
    lab.until("they are closed", |status| status.connections.len() == 7);
    assert_eq!(lab.simulator.status().pool.busy, 20);
    lab.tell(Command::DropConnections(Connections::default()));
    waiting.assert_closed();
    assert_eq!(lab.simulator.status().pool.busy, 20);

    lab.tell(Command::Thaw(Guests::all()));
    let status = lab.until("all are served", |status| status.pool.busy == 0 && status.pool.queued == 0);
    assert_eq!((status.pool.most_busy, status.pool.workers), (20, 20));
    assert_eq!(status.calls["ConnectGetAllDomainStats"].served, 20);
}

#[test]
fn a_restart_frees_what_was_stuck_and_keeps_the_guests() {
    let lab = Lab::new(5);
    let name = lab.name(0);
    lab.tell(Command::Freeze(Guests::named(&name)));
    let mut stuck = Client::open(&lab);
    stuck.send(344, bulk(&[], 0, 0));
    lab.until("it hangs", |status| status.guests.occupied == [name.as_str()]);
    lab.tell(Command::Restart(Restart { away: Time::seconds(0) }));
    stuck.assert_closed();
    let status = lab.until("it is back", |_| std::os::unix::net::UnixStream::connect(lab.simulator.socket()).is_ok());
    assert_eq!((status.guests.total, status.guests.occupied.len(), status.pool.busy), (5, 0, 0));
    assert_eq!((status.guests.frozen, status.pool.most_busy), (vec![name], 1));
    Client::open(&lab).assert_alive();
}

#[test]
fn while_it_is_away_there_is_no_socket() {
    let lab = Lab::new(1);
    lab.tell(Command::Restart(Restart { away: Time::seconds(3600) }));
    assert!(!lab.simulator.socket().exists());
    lab.tell(Command::Restart(Restart { away: Time::seconds(0) }));
    lab.until("it is back", |_| lab.simulator.socket().exists());
    Client::open(&lab).assert_alive();
}
