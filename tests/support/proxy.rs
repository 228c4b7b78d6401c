//! A socket between the daemon and libvirtd that can be cut, so that libvirtd itself need not be harmed.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

const LIBVIRTD: &str = "/run/libvirt/libvirt-sock-ro";

pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let proxy = Self { directory: tempfile::tempdir().unwrap(), open: Arc::default() };
        proxy.resume();
        proxy
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
        let open = Arc::clone(&self.open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
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
