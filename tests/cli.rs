//! The command line and the configuration, by the binary itself: exit codes and words.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpListener;
use std::process::Output;

use support::daemon::{Daemon, command, config_file};

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Bad files, and what is said behind `FILE:`.
const BAD: &[(&str, &str)] = &[
    ("[sampling]\nperod = '15s'\n", "2:1: unknown key `perod`, expected one of `groups`, `period`"),
    ("[sampling]\nperiod = '0s'\n", "2:10: a period of \"0s\" is out of range; expected 1s to 1h"),
    ("[sampling]\nworkers = 'two'\n", "2:11: invalid type: string \"two\", expected a whole number of threads"),
    (
        "[sampling]\n\ngroups = ['state', 'cpus']\n",
        "3:10: unknown stats group \"cpus\"; expected one of \"state\", \"cpu\"",
    ),
];

#[test]
fn bad_configurations_exit_2_with_the_place_and_what_was_expected() {
    for (text, expected) in BAD {
        let (_directory, path) = config_file(text);
        for verb in ["check", "run"] {
            let output = run(&[verb, "--config", &path]);
            assert_eq!(output.status.code(), Some(2), "{verb} with {text:?}");
            let said = stderr(&output);
            assert!(said.starts_with(&format!("virtstatd: {path}:{expected}")), "{verb} said {said:?}");
        }
    }
}

#[test]
fn unreadable_files_exit_2_and_name_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let output = run(&["check", "--config", missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot be read: No such file"), "{}", stderr(&output));
    assert!(stderr(&output).contains("name an existing file with --config"), "{}", stderr(&output));
    let output = run(&["run", "--config", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot be read: Is a directory"), "{}", stderr(&output));
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    let output = run(&["check", "--config", binary.to_str().unwrap()]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("must be UTF-8"), "{}", stderr(&output));
}

#[test]
fn the_shipped_configuration_says_the_defaults() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/virtstatd.toml");
    let (_directory, empty) = config_file("");
    let (shipped, defaults) = (run(&["check", "--config", shipped]), run(&["check", "--config", &empty]));
    assert_eq!(shipped.status.code(), Some(0), "{}", stderr(&shipped));
    assert_eq!(String::from_utf8_lossy(&shipped.stdout), String::from_utf8_lossy(&defaults.stdout));
    assert_eq!(stderr(&shipped), "");
}

#[test]
fn the_shipped_configuration_documents_every_key() {
    let text = include_str!("../config/virtstatd.toml");
    // What the program itself lists as possible.
    for (section, key) in [
        ("", "x"),
        ("libvirt", "x"),
        ("http", "x"),
        ("sampling", "x"),
        ("host", "x"),
        ("export", "x"),
        ("vdsm", "x"),
        ("log", "x"),
    ] {
        let bad = if section.is_empty() { format!("{key} = 1\n") } else { format!("[{section}]\n{key} = 1\n") };
        let (_directory, path) = config_file(&bad);
        let said = stderr(&run(&["check", "--config", &path]));
        let known = said.split_once("expected ").expect("a list").1;
        for name in known.split('`').skip(1).step_by(2) {
            let written = |line: &str| {
                line.starts_with(&format!("{name} ="))
                    || line.starts_with(&format!("[{name}]"))
                    || line == format!("[sampling.{name}]")
            };
            assert!(text.lines().any(written), "{section}.{name} is not in config/virtstatd.toml");
        }
    }
}

#[test]
fn check_says_what_follows_the_scraper_and_what_carries_times() {
    let (_directory, path) =
        config_file("[sampling]\nperiod = 'auto'\nperiods = { block = '1m' }\n[export]\ntimestamps = true\n");
    let output = run(&["check", "--config", &path]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("state auto, ") && said.contains("block 1m") && said.contains("timestamps on"), "{said}");
}

#[test]
fn check_warns_of_what_has_no_effect() {
    let (_directory, path) = config_file("[sampling]\ngroups = ['state']\n[sampling.periods]\nblock = '1m'\n");
    let output = run(&["check", "--config", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("warning: sampling.periods.block has no effect"), "{}", stderr(&output));
}

#[test]
fn check_opens_no_port_and_run_names_one_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--listen", &address, "--uri", "test:///default"];
    assert_eq!(run(&[&["check"], &arguments[..]].concat()).status.code(), Some(0));
    let output = run(&[&["run"], &arguments[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains(&format!(
            "cannot listen on {address}: another program, or another of our addresses, has this port"
        )),
        "{said}"
    );
}

#[test]
fn bad_options_exit_2() {
    for arguments in [
        &["--listen", "nowhere"][..],
        &["--uri", "system"],
        &["--log-level", "loud"],
        &["snapshot", "--format", "xml"],
        &["fly"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_snapshot_is_printed_in_both_formats() {
    let json = run(&["snapshot", "--uri", "test:///default"]);
    assert_eq!(json.status.code(), Some(0), "{}", stderr(&json));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["domains"][0]["name"], "test");
    let text = run(&["snapshot", "--format", "prometheus", "--uri", "test:///default"]);
    let text = String::from_utf8(text.stdout).unwrap();
    support::exposition::assert_promtool_is_silent(&text);
    let series = support::exposition::parse(&text);
    assert_eq!(support::exposition::value(&series, "libvirt_domain_info_state", &[("domain", "test")]), Some(1.0));
}

#[test]
fn a_snapshot_without_libvirt_exits_1_with_the_reason() {
    let output = run(&["snapshot", "--uri", "qemu+unix:///system?socket=/nonexistent/socket"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot connect to qemu+unix:///system"), "{}", stderr(&output));
}

#[test]
fn find_without_a_daemon_exits_1_with_the_cure() {
    let output = run(&["find", "52:54:00:12:34:56", "--listen", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is virtstatd running there? (--listen"), "{}", stderr(&output));
}

#[test]
fn help_teaches() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for word in
        ["run", "check", "snapshot", "find", "--config", "--uri", "--listen", "--log-level", "/metrics", "Exit status"]
    {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
}

#[test]
fn hangup_reads_the_configuration_again_and_keeps_the_old_one_if_the_new_is_bad() {
    let text = "[libvirt]\nuri = 'test:///default'\n[http]\nlisten = ['127.0.0.1:0']\n";
    let (_directory, path) = config_file(&format!("{text}[sampling]\ngroups = ['state']\n"));
    let daemon = Daemon::start_anyhow(&["--config", &path]);
    daemon.wait_ready();
    let groups = |daemon: &Daemon| daemon.get("/api/v1/status").json()["groups"].as_array().unwrap().len();
    assert_eq!(groups(&daemon), 1);

    std::fs::write(&path, format!("{text}[sampling]\ngroups = ['state', 'cpu']\n")).unwrap();
    daemon.signal("HUP");
    support::wait_for("the new groups", || (groups(&daemon) == 2).then_some(()));

    let timed = |daemon: &Daemon| {
        let text = daemon.scrape();
        text.lines().any(|line| line.starts_with("libvirt_domain_info_state{") && line.split(' ').count() == 3)
    };
    assert!(!timed(&daemon));
    std::fs::write(&path, format!("{text}[sampling]\ngroups = ['state', 'cpu']\n[export]\ntimestamps = true\n"))
        .unwrap();
    daemon.signal("HUP");
    support::wait_for("times in /metrics", || timed(&daemon).then_some(()));

    std::fs::write(&path, "[sampling]\nperiod = '0s'\n").unwrap();
    daemon.signal("HUP");
    support::wait_for("the complaint", || daemon.log().contains("the old one stays in force").then_some(()));
    assert!(daemon.log().contains("2:10: a period of \"0s\" is out of range"), "{}", daemon.log());
    assert_eq!(groups(&daemon), 2);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(&path, format!("[libvirt]\nuri = 'test:///default'\n[http]\nlisten = ['{free}']\n")).unwrap();
    daemon.signal("HUP");
    support::wait_for("the new address", || (daemon.address() == free).then_some(()));
    assert_eq!(daemon.get("/-/healthy").status, 200);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("[http]\nlisten = ['{}']\n", taken.local_addr().unwrap());
    std::fs::write(&path, format!("[libvirt]\nuri = 'test:///default'\n{other}")).unwrap();
    daemon.signal("HUP");
    support::wait_for("the complaint", || daemon.log().contains("the old addresses stay in force").then_some(()));
    support::wait_for("the old address", || (daemon.address() == free).then_some(()));
    assert_eq!(daemon.get("/-/healthy").status, 200);
}

#[test]
fn another_uri_is_another_host() {
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node.xml");
    let domain = "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os></domain>";
    std::fs::write(&node, format!("<node>{domain}</node>")).unwrap();
    let (_directory, path) = config_file("[libvirt]\nuri = 'test:///default'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let names = || -> Vec<String> {
        let list = daemon.get("/api/v1/domains").json();
        list["domains"].as_array().unwrap().iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["test"]);
    std::fs::write(&path, format!("[libvirt]\nuri = 'test://{}'\n", node.display())).unwrap();
    daemon.signal("HUP");
    support::wait_for("the other host", || (names() == ["other"]).then_some(()));
    std::fs::write(&path, "[libvirt]\nuri = 'qemu+unix:///system?socket=/nonexistent'\n").unwrap();
    daemon.signal("HUP");
    support::wait_for("the old host to go", || names().is_empty().then_some(()));
}

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&["--uri", "test:///default"]);
        daemon.wait_ready();
        daemon.signal(signal);
        assert_eq!(daemon.wait().0.code(), Some(0));
    }
}
