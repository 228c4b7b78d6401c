//! Frames from the host to guests, for counters of what they receive.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::lab::run;

/// Datagrams to each at a time, and how long between: about 160 a second.
const AT_ONCE: usize = 8;
const BETWEEN: Duration = Duration::from_millis(50);

/// Sends to taps until it is dropped. What no guest takes fills the tap's queue within seconds, and is dropped then.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    addresses: Vec<(String, String)>,
}

impl Traffic {
    /// Each tap gets an address out of a net that is for measurements, and broadcasts need no neighbour that answers.
    pub(crate) fn to(taps: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut traffic = Self { stop: Arc::clone(&stop), thread: None, addresses: Vec::new() };
        let mut sockets = Vec::new();
        for (number, tap) in taps.iter().enumerate() {
            let address = format!("198.18.{number}.1");
            let with_net = format!("{address}/24");
            run("ip", &["address", "replace", &with_net, "broadcast", "+", "dev", tap])
                .unwrap_or_else(|error| panic!("{error}"));
            traffic.addresses.push((with_net, tap.clone()));
            let socket = UdpSocket::bind((address.as_str(), 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect((format!("198.18.{number}.255"), 9)).unwrap();
            sockets.push(socket);
        }
        traffic.thread = Some(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for socket in sockets.iter().flat_map(|socket| [socket; AT_ONCE]) {
                    // A tap may go, or be full; who counts is the kernel.
                    let _ = socket.send(&[0; 100]);
                }
                thread::sleep(BETWEEN);
            }
        }));
        traffic
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for (address, tap) in &self.addresses {
            // It went with its tap, where that is gone.
            let _ = run("ip", &["address", "delete", address, "dev", tap]);
        }
    }
}
