//! The real binary, as a process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A daemon that does not listen by then is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The real binary, ended when it is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_virtstatd"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some((_, address)) = line.split_once("http://") {
                    // Nobody listens any more once the address is known.
                    let _ = sender.send(address.trim().parse());
                } else if line.contains("WARN") || line.contains("ERROR") {
                    eprint!("{line}");
                }
                line.clear();
            }
            let _ = log.read_to_end(&mut Vec::new());
        });
        let address = receiver.recv_timeout(PATIENCE).expect("it listens").expect("an address");
        Self { child, address }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
