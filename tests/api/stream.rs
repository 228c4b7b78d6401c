//! The stream: who applies what it says has what the list says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use serde_json::Value;

use super::support::{PATIENCE, wait_for};
use super::{Guest, Host};

/// A client that keeps a picture.
struct Follower {
    reader: BufReader<TcpStream>,
    sequence: u64,
    domains: BTreeMap<String, Value>,
    messages: usize,
}

impl Follower {
    fn new(host: &Host, query: &str) -> Self {
        let mut stream = TcpStream::connect(host.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/v1/stream?{query} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/event-stream"), "{head}");
        let mut follower = Self { reader, sequence: 0, domains: BTreeMap::new(), messages: 0 };
        assert_eq!(follower.take(), "snapshot", "the first message has everything");
        follower
    }

    /// A line of the body, whatever chunks it came in.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            let mut size = String::new();
            self.reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            std::io::Read::read_exact(&mut self.reader, &mut chunk).unwrap();
            line.extend_from_slice(&chunk[..size]);
            if line.ends_with(b"\n\n") {
                return String::from_utf8(line).unwrap();
            }
        }
    }

    /// Takes a message, and returns what kind it is.
    fn take(&mut self) -> String {
        let message = self.line();
        let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
        let data: Value = serde_json::from_str(field("data")).unwrap();
        let kind = field("event").to_owned();
        let sequence = data["sequence"].as_u64().unwrap();
        assert_eq!(field("id"), sequence.to_string());
        assert!(sequence > self.sequence, "{sequence} after {}", self.sequence);
        self.sequence = sequence;
        self.messages += 1;
        for uuid in data["removed"].as_array().into_iter().flatten() {
            let gone = self.domains.remove(uuid.as_str().unwrap());
            assert!(gone.is_some(), "{uuid} was not there");
        }
        for domain in data["domains"].as_array().unwrap() {
            let mut domain = domain.clone();
            let uuid = domain["uuid"].as_str().unwrap().to_owned();
            let whole = domain.as_object_mut().unwrap().remove("whole");
            if kind == "snapshot" || whole == Some(Value::Bool(true)) {
                self.domains.insert(uuid, domain);
                continue;
            }
            let known = self.domains.get_mut(&uuid).expect("what is not whole is known");
            for (group, sample) in domain["samples"].as_object().expect("samples are new") {
                known["samples"][group] = sample.clone();
            }
        }
        kind
    }

    /// Follows until it has the newest snapshot, or nothing of it is new here.
    fn catch_up(&mut self, host: &Host, query: &str) {
        let list = || -> BTreeMap<String, Value> {
            // The stream always says which domain.
            let query = query.replace("fields=", "fields=uuid,name,");
            let list = host.get(&format!("/api/v1/domains?ages=false&{query}")).json();
            let domains = list["domains"].as_array().unwrap().clone();
            domains.into_iter().map(|domain| (domain["uuid"].as_str().unwrap().to_owned(), domain)).collect()
        };
        let expected = list();
        while self.domains != expected {
            self.take();
        }
    }
}

#[test]
fn only_what_is_new_is_told() {
    let mut guests: Vec<Guest> = (0..50).map(|n| Guest::new(n, &format!("g{n:02}"), 1)).collect();
    let host = Host::new(&guests);
    let mut follower = Follower::new(&host, "");
    assert_eq!(follower.domains.len(), 50);
    host.sample(&guests[7..8], 9);
    let message = follower.line();
    let data: Value =
        serde_json::from_str(message.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
    let domains = data["domains"].as_array().unwrap();
    assert_eq!(domains.len(), 1, "{message}");
    assert_eq!((&domains[0]["name"], &domains[0]["whole"]), (&"g07".into(), &false.into()));
    assert_eq!(domains[0]["samples"]["cpu"]["time_ns"], 9);
    assert!(domains[0].get("description").is_none(), "that is not new");
    guests[7].state = 3;
    host.sample(&guests[7..8], 10);
    let message = follower.line();
    assert!(message.contains("\"state\":\"paused\"") && message.contains("\"whole\":true"), "{message}");
}

#[test]
fn who_leaves_the_filter_is_removed_and_who_enters_is_whole() {
    let mut guests = vec![Guest::new(1, "web", 1), Guest::new(2, "db", 3)];
    let host = Host::new(&guests);
    let mut follower = Follower::new(&host, "state=paused&fields=name,uuid,state");
    assert_eq!(follower.domains.len(), 1);
    (guests[0].state, guests[1].state) = (3, 1);
    host.sample(&guests, 5);
    follower.catch_up(&host, "state=paused&fields=name,uuid,state");
    assert_eq!(follower.domains.values().map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(), ["web"]);
    let before = follower.messages;
    host.sample(&guests, 6);
    guests.remove(0);
    host.list(&guests);
    follower.catch_up(&host, "state=paused&fields=name,uuid,state");
    assert_eq!(follower.messages, before + 1, "samples were not asked for");
}

#[test]
fn who_is_told_nothing_gets_a_sign_of_life_though_others_have_news() {
    let guests = [Guest::new(1, "web", 1)];
    let host = Host::new(&guests);
    let mut follower = Follower::new(&host, "name=nobody");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                host.sample(&guests, step);
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        assert_eq!(follower.line(), ": still here\n\n");
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_great_change_comes_whole() {
    let mut guests: Vec<Guest> = (0..=255).map(|n| Guest::new(n, &format!("{n:03}-{}", "x".repeat(3000)), 1)).collect();
    let host = Host::new(&guests);
    let mut follower = Follower::new(&host, "");
    guests.iter_mut().for_each(|guest| guest.state = 3);
    guests.truncate(200);
    host.list(&guests);
    host.sample(&guests, 3);
    follower.catch_up(&host, "");
    assert_eq!(follower.domains.len(), 200);
}

#[test]
fn no_more_than_so_many_streams_are_open_and_places_come_back() {
    let host = Host::new(&[Guest::new(1, "web", 1)]);
    let mut open: Vec<Follower> = (0..64).map(|_| Follower::new(&host, "")).collect();
    let refused = host.get("/api/v1/stream");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &"too_many_streams".into()));
    assert_eq!(host.get("/api/v1/domains").status, 200, "all else is served");
    open.truncate(10);
    wait_for("places to come back", || {
        // Each that is gone is noticed when there is something to tell.
        host.sample(&[Guest::new(1, "web", 1)], 7);
        let mut stream = TcpStream::connect(host.address).unwrap();
        write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.contains("200").then_some(())
    });
}

/// What may happen to guest 0 to 4.
#[derive(Debug, Clone)]
enum Happening {
    Sample(u64),
    State(usize, i64),
    Restart(usize),
    Rename(usize, u8),
    Go(usize),
    Come(usize),
    Tag(usize),
    Ill(usize, bool),
    Pause(usize),
    Sizes(usize, u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (1_u64..1000).prop_map(Happening::Sample),
        (0_usize..5, prop::sample::select(vec![1_i64, 3, 5])).prop_map(|(guest, state)| Happening::State(guest, state)),
        (0_usize..5).prop_map(Happening::Restart),
        (0_usize..5, any::<u8>()).prop_map(|(guest, name)| Happening::Rename(guest, name)),
        (0_usize..5).prop_map(Happening::Go),
        (0_usize..5).prop_map(Happening::Come),
        (0_usize..5).prop_map(Happening::Tag),
        (0_usize..5, any::<bool>()).prop_map(|(guest, ill)| Happening::Ill(guest, ill)),
        (0_usize..5).prop_map(Happening::Pause),
        (0_usize..5, 1_u64..1000).prop_map(|(guest, bytes)| Happening::Sizes(guest, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn who_follows_has_the_same_picture(happenings in prop::collection::vec(happening(), 1..30), query in 0_usize..4) {
        let queries = ["", "state=running,paused", "name=*1*&fields=state,samples.cpu", "fields=samples.block_info,life"];
        let query = queries[query];
        let mut guests: Vec<Option<Guest>> = (0..5).map(|n| Some(Guest::new(n, &format!("g{n}"), 1))).collect();
        let present = |guests: &[Option<Guest>]| -> Vec<Guest> { guests.iter().flatten().cloned().collect() };
        let host = Host::new(&present(&guests));
        let mut follower = Follower::new(&host, query);
        for (step, happening) in happenings.into_iter().enumerate() {
            match happening {
                Happening::Sample(cpu) => host.sample(&present(&guests), cpu),
                Happening::Go(at) => guests[at] = None,
                Happening::Come(at) => {
                    let number = u8::try_from(at).unwrap();
                    guests[at].get_or_insert_with(|| Guest::new(number, &format!("g{at}"), 1));
                }
                Happening::State(at, state) => guests[at].iter_mut().for_each(|it| it.state = state),
                Happening::Restart(at) => guests[at].iter_mut().for_each(|it| it.run += 1),
                Happening::Rename(at, name) => guests[at].iter_mut().for_each(|it| it.name = format!("n{at}-{name}")),
                Happening::Ill(at, ill) => host.set_ill(u8::try_from(at).unwrap(), ill),
                Happening::Pause(at) => host.pause(u8::try_from(at).unwrap()),
                Happening::Sizes(at, bytes) => host.set_size(u8::try_from(at).unwrap(), bytes),
                Happening::Tag(at) => guests[at].iter_mut().for_each(|it| it.metadata.push(("a", "b"))),
            }
            host.list(&present(&guests));
            if step % 5 == 4 {
                follower.catch_up(&host, query);
            }
        }
        follower.catch_up(&host, query);
    }
}
