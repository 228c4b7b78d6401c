//! The host lane where a file system hangs, as with a dead NFS server: from a real mount to what is served.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::daemon::{Daemon, config_file};
use support::exposition::{parse, value};
use support::lab::may_mount;
use support::storage::{Hang, Storage};
use support::wait_for;

/// What is told of a path.
fn told(daemon: &Daemon, path: &str) -> Option<Value> {
    let host = daemon.get("/api/v1/host").json();
    host["paths"].as_array()?.iter().find(|it| it["path"] == path).cloned()
}

fn threads_for_space(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name == "space\n").count()
}

#[test]
fn a_dead_mount_is_told_as_blocked_and_costs_nothing_else() {
    if !may_mount() {
        return;
    }
    let storage = Storage::mount("host-lane", &[]);
    let dead = storage.path_of("").trim_end_matches('/').to_owned();
    let text = |paths: &str| {
        format!(
            "[libvirt]\nuri = 'test:///default'\n[sampling.periods]\nhost = '1s'\n[host]\npaths = [{paths}]\n\
             [export]\nhost-metrics = true\n"
        )
    };
    let both = text(&format!("'{dead}', '/'"));
    let (_directory, path) = config_file(&both);
    let daemon = Daemon::start(&["--config", &path]);
    let before = wait_for("figures of both paths", || {
        told(&daemon, "/").filter(|it| it["total_bytes"].is_u64())?;
        told(&daemon, &dead).filter(|it| it["total_bytes"].is_u64())
    });
    assert_eq!((&before["blocked"], &before["total_bytes"]), (&false.into(), &(4096_u64 << 20).into()));

    let hanging = storage.hang(Hang::Paths);
    let blocked = wait_for("it to be told as blocked", || told(&daemon, &dead).filter(|it| it["blocked"] == true));
    assert!(blocked["blocked_since"].is_string(), "{blocked}");
    assert_eq!(blocked["total_bytes"], before["total_bytes"], "what it said last, and when that was: {blocked}");
    // The lane and the other path go on.
    for _ in 0..3 {
        let looked = |daemon: &Daemon| daemon.get("/api/v1/host").json()["sampled_at"].clone();
        let (last, root) = (looked(&daemon), told(&daemon, "/").unwrap()["sampled_at"].clone());
        wait_for("another look", || (looked(&daemon) != last).then_some(()));
        wait_for("another answer of /", || (told(&daemon, "/")?["sampled_at"] != root).then_some(()));
    }
    let series = parse(&daemon.scrape());
    let of = |name: &str, path: &str| value(&series, &format!("libvirt_host_filesystem_{name}"), &[("path", path)]);
    assert_eq!((of("blocked", &dead), of("blocked", "/")), (Some(1.0), Some(0.0)));
    assert!(of("size_bytes", "/").is_some());
    wait_for("what is old to leave the metrics", || {
        let series = parse(&daemon.scrape());
        value(&series, "libvirt_host_filesystem_size_bytes", &[("path", &dead)]).is_none().then_some(())
    });

    // Neither turns nor reloads make more threads.
    for paths in [text("'/'"), both] {
        std::fs::write(&path, paths).unwrap();
        let wanted = told(&daemon, &dead).is_none();
        daemon.signal("HUP");
        wait_for("the new paths", || (told(&daemon, &dead).is_some() == wanted).then_some(()));
    }
    assert_eq!(threads_for_space(&daemon), 2);
    assert_eq!(storage.most_waiting_of(daemon.pid()), 1);

    drop(hanging);
    wait_for("it to be well", || {
        told(&daemon, &dead).filter(|it| it["blocked"] == false && it["age_seconds"].as_f64() < Some(1.0))
    });
    for words in ["does not answer how full it is", "how full this is can be told again"] {
        let log = daemon.log();
        let of_it = log.lines().filter(|line| line.contains(words) && line.contains(&dead)).count();
        assert_eq!(of_it, 1, "{words:?}, once in the log");
    }
}
