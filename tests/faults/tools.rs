//! The tools of these tests do what they are said to do.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::lab::guest;
use crate::support::libvirtd::{BusyWorkers, busy_workers};
use crate::support::storage::{Hang, Storage};
use crate::support::{PATIENCE, wait_for};
use crate::{GUESTS, enter};

#[test]
fn storage_hangs_on_command_and_answers_again() {
    let Some(_lab) = enter() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, [7; 5000]).unwrap();
    let storage = Storage::mount("tool", &[("a.img", file.path()), ("b.img", file.path())]);
    let paths = [storage.path_of("a.img"), storage.path_of("b.img")];
    assert_eq!(fs::read(&paths[0]).unwrap(), [7; 5000]);
    fs::write(&paths[1], "x").unwrap();
    assert_eq!(fs::metadata(&paths[1]).unwrap().len(), 5000);
    let open = fs::File::open(&paths[0]).unwrap();
    for hang in [Hang::Paths, Hang::Everything, Hang::Paths] {
        let hanging = storage.hang(hang);
        let (sender, receiver) = mpsc::channel();
        if hang == Hang::Paths {
            assert_eq!(open.metadata().unwrap().len(), 5000);
        }
        for path in paths.clone() {
            let sender = sender.clone();
            thread::spawn(move || sender.send(fs::metadata(path).unwrap().len()));
        }
        assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err(), "it answered");
        drop(hanging);
        assert_eq!([receiver.recv_timeout(PATIENCE), receiver.recv_timeout(PATIENCE)], [Ok(5000), Ok(5000)]);
    }
}

#[test]
fn a_call_that_hangs_in_a_frozen_guest_shows_as_a_busy_worker() {
    let Some(lab) = enter() else { return };
    let name = guest(GUESTS);
    let rest = busy_workers().expect("virt-admin answers");
    let counting = BusyWorkers::start();
    lab.freeze(&name);
    let mut virsh = Command::new("virsh");
    let virsh = virsh.args(["-c", "qemu:///system", "domstats", "--block", &name]).stdout(Stdio::null());
    let mut caller = virsh.spawn().unwrap();
    wait_for("a busy worker", || (busy_workers()? > rest).then_some(()));
    thread::sleep(Duration::from_millis(500));
    lab.thaw_one(&name);
    assert!(caller.wait().unwrap().success());
    wait_for("the worker to be free", || (busy_workers()? <= rest).then_some(()));
    let busy = counting.finish();
    assert!(busy.most > rest && busy.looks > 2, "{busy:?}");
}
