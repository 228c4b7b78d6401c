//! A socket between the daemon and libvirtd that can be cut or fall silent, so that libvirtd itself need not be harmed.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const LIBVIRTD: &str = "/run/libvirt/libvirt-sock-ro";

pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    open: Arc<Mutex<Vec<UnixStream>>>,
    mute: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        Self::listen(false)
    }

    /// Takes connections and says nothing on them, as a libvirtd does that hangs before its first word.
    pub(crate) fn start_mute() -> Self {
        Self::listen(true)
    }

    fn listen(mute: bool) -> Self {
        let (open, mute) = (Arc::default(), Arc::new(AtomicBool::new(mute)));
        let proxy = Self { directory: tempfile::tempdir().unwrap(), open, mute };
        proxy.resume();
        proxy
    }

    /// From now on connections reach libvirtd. Those that were taken before stay silent for ever: whoever waits on one
    /// has to give it up.
    pub(crate) fn speak(&self) {
        self.mute.store(false, Ordering::Relaxed);
    }

    /// How many connections hear nothing.
    pub(crate) fn held(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("libvirt-sock-ro")
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// Ends every connection, and refuses new ones.
    pub(crate) fn cut(&self) {
        std::fs::remove_file(self.socket()).unwrap();
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections again.
    pub(crate) fn resume(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (open, mute) = (Arc::clone(&self.open), Arc::clone(&self.mute));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if mute.load(Ordering::Relaxed) {
                    open.lock().unwrap().push(client);
                    continue;
                }
                let Ok(server) = UnixStream::connect(LIBVIRTD) else { continue };
                let both = |stream: &UnixStream| stream.try_clone().unwrap();
                open.lock().unwrap().extend([both(&client), both(&server)]);
                for (mut from, mut to) in [(both(&client), both(&server)), (server, client)] {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
    }
}
