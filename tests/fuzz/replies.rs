//! Bytes of libvirtd's replies, damaged on their way to libvirt.so and our calls of it.
//!
//! A proxy stands between a client and the simulator, and changes bytes behind the length word of each message that comes
//! from there, so that messages keep their places and every part of them can be wrong.

use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};
use virtstatd::libvirt::LibvirtFactory;
use virtstatd::model::{BulkRequest, Group, InventoryRequest, Scope, Source, SourceFactory as _};

use super::mutate::Random;

/// A share of all cases; each is a call over a real connection.
const PER_MILLE: usize = 20;

/// One message of libvirtd's in so many is damaged.
const ONE_IN: usize = 3;

/// `virDomainGetCPUStats`. libvirt.so takes a remainder by a number in its reply without a look at it (seen with 9.0), and
/// zero there ends any client, whatever it does.
const FATAL_TO_LIBVIRT: u32 = 262;

/// Passes messages from libvirtd to the client, some of them damaged. What opens a connection is left alone.
fn pass(mut from: UnixStream, mut to: UnixStream, seed: u64, damaged: &AtomicU64) {
    let mut random = Random::new(seed);
    let mut message = Vec::new();
    for number in 0_u64.. {
        let mut length = [0; 4];
        if from.read_exact(&mut length).is_err() {
            break;
        }
        let size = (u32::from_be_bytes(length) as usize).saturating_sub(4);
        message.resize(size, 0);
        if from.read_exact(&mut message).is_err() {
            break;
        }
        let procedure = message.get(8..12).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        if procedure != Some(FATAL_TO_LIBVIRT) && number > 8 && random.below(ONE_IN) == 0 && message.len() > 24 {
            damaged.fetch_add(1, Ordering::Relaxed);
            for _ in 0..=random.below(6) {
                // The payload more often than the header.
                let first = if random.below(8) == 0 { 0 } else { 24 };
                let at = first + random.below(message.len() - first);
                message[at] = match random.below(4) {
                    0 => 0xff,
                    1 => 0,
                    2 => message[at] ^ (1 << random.below(8)),
                    _ => random.next() as u8,
                };
            }
        }
        if to.write_all(&length).and_then(|()| to.write_all(&message)).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn proxy(socket: &Path, libvirtd: &Path, seed: u64) -> Arc<AtomicU64> {
    let damaged = Arc::new(AtomicU64::new(0));
    let (listener, libvirtd) = (UnixListener::bind(socket).unwrap(), libvirtd.to_owned());
    let counted = Arc::clone(&damaged);
    thread::spawn(move || {
        for (number, client) in (0_u64..).zip(listener.incoming().map_while(Result::ok)) {
            let server = UnixStream::connect(&libvirtd).unwrap();
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut up, &mut down);
                let _ = down.shutdown(Shutdown::Both);
            });
            let counted = Arc::clone(&counted);
            thread::spawn(move || pass(server, client, seed ^ number, &counted));
        }
    });
    damaged
}

/// One call; how it ends is libvirt.so's to say.
fn call(source: &mut dyn Source, number: usize, everybody: &mut Vec<virtstatd::model::DomainId>) -> bool {
    let groups = Group::ALL.into_iter().filter(|group| group.is_bulk()).collect();
    match number % 6 {
        0 => match source.inventory(&InventoryRequest { full: true, ..InventoryRequest::default() }) {
            Ok(reply) => {
                everybody.clear();
                everybody.extend(reply.domains.iter().map(|listed| listed.id));
                false
            }
            Err(error) => error.is_disconnect(),
        },
        1 => source.bulk(&BulkRequest { groups, scope: Scope::All }).is_err_and(|error| error.is_disconnect()),
        2 => {
            let request = BulkRequest { groups, scope: Scope::Only(everybody.clone()) };
            source.bulk(&request).is_err_and(|error| error.is_disconnect())
        }
        3 => source.control(everybody).is_err_and(|error| error.is_disconnect()),
        4 => source.cpu_stats(everybody).is_err_and(|error| error.is_disconnect()),
        _ => {
            let first = everybody.first().copied();
            first.is_some_and(|id| source.block_info(id, "vda").is_err_and(|error| error.is_disconnect()))
        }
    }
}

#[test]
fn no_reply_of_libvirtd_makes_a_call_panic_or_crash() {
    let cases: usize =
        std::env::var("VIRTSTATD_FUZZ_CASES").map_or(super::CASES, |cases| cases.parse().expect("a number"));
    let wanted = (cases * PER_MILLE / 1000).max(1) as u64;
    let seed = std::env::var("VIRTSTATD_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
    });
    println!("replies: {wanted} damaged messages, VIRTSTATD_FUZZ_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { domains: 6, seed, ..Settings::new(directory.path().join("libvirtd")) };
    let simulator = Simulator::start(settings).expect("the simulator starts");
    let socket = directory.path().join("proxy");
    let damaged = proxy(&socket, simulator.socket(), seed);
    let factory = Arc::new(LibvirtFactory::new(format!("qemu+unix:///system?socket={}", socket.display())));
    let begin = Instant::now();
    let (mut calls, mut opened, mut given_up) = (0_u64, 0_u64, 0_u64);
    while damaged.load(Ordering::Relaxed) < wanted {
        // A length in a damaged message may make the client wait for ever, as a call that hangs does: each connection has a
        // thread, and is left behind if it says nothing more.
        let (sender, receiver) = std::sync::mpsc::channel();
        let opener = Arc::clone(&factory);
        let caller = thread::spawn(move || {
            let Ok(mut source) = opener.open() else { return };
            let mut everybody = Vec::new();
            for number in 0..600 {
                let lost = call(source.as_mut(), number, &mut everybody);
                if sender.send(lost).is_err() || lost {
                    return;
                }
            }
        });
        opened += 1;
        loop {
            match receiver.recv_timeout(Duration::from_secs(2)) {
                Ok(_) => calls += 1,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    caller.join().expect("no call panics");
                    break;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    given_up += 1;
                    break;
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(300), "{damaged:?} damaged messages in {:?}", begin.elapsed());
    }
    println!(
        "replies: {} damaged messages in {calls} calls on {opened} connections, {given_up} of which fell silent, in {:.1?}",
        damaged.load(Ordering::Relaxed),
        begin.elapsed()
    );
    // Through all of that, a good connection is good.
    let good = LibvirtFactory::new(simulator.uri()).open().expect("opened");
    drop(good);
}
