use super::*;

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(Path::new("f.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = parse("").expect("valid");
    assert_eq!(settings.uri, "qemu:///system");
    assert_eq!(settings.listen, ["127.0.0.1:9177".parse().expect("valid")]);
    let period = |group| match group {
        Group::BlockInfo => Duration::from_secs(60),
        Group::Kernel => Duration::from_secs(5),
        _ => Duration::from_secs(15),
    };
    assert_eq!(settings.sampling.groups, Group::ALL.map(|group| (group, period(group))));
    assert!(settings.warnings.is_empty());
}

#[test]
fn groups_have_periods_of_their_own() {
    let settings =
        parse("[sampling]\ngroups = ['cpu', 'block', 'cpu']\nperiod = '10s'\nperiods = { block = '1m', vcpu = '5s' }")
            .expect("valid");
    let seconds = Duration::from_secs;
    assert_eq!(settings.sampling.groups, [(Group::Cpu, seconds(10)), (Group::Block, seconds(60))]);
    assert_eq!(settings.sampling.stale_after(seconds(10)), seconds(25));
    assert_eq!(settings.warnings, ["sampling.periods.vcpu has no effect: \"vcpu\" is not among sampling.groups"]);
}

#[test]
fn only_the_general_period_follows_the_scraper() {
    let sampling = parse("[sampling]\nperiod = 'auto'\nperiods = { block = '1m' }").expect("valid").sampling;
    assert_eq!(sampling.period, Duration::from_secs(15), "to start with");
    assert!(sampling.follows(Group::Cpu) && !sampling.follows(Group::Block));
    assert!(!sampling.follows(Group::BlockInfo), "sizes change slowly, whoever scrapes");
    let sampling = parse("").expect("valid").sampling;
    assert!(!sampling.auto && !sampling.follows(Group::Cpu));
}

#[test]
fn block_info_is_asked_for_every_minute_unless_all_is_asked_more_seldom_or_it_says_otherwise() {
    let period = |text: &str| parse(text).expect("valid").sampling.groups[0].1.as_secs();
    let only = "[sampling]\ngroups = ['block_info']\n";
    assert_eq!(period(only), 60);
    assert_eq!(period(&format!("{only}period = '5m'")), 300);
    assert_eq!(period(&format!("{only}period = '5m'\nperiods = {{ block-info = '20s' }}")), 20);
    let unused = parse("[sampling]\ngroups = ['cpu']\nperiods = { block-info = '20s' }").expect("valid").warnings;
    assert!(unused[0].starts_with("sampling.periods.block-info has no effect: \"block_info\""), "{unused:?}");
}

#[test]
fn the_kernel_is_looked_at_more_often_than_libvirt_unless_it_says_otherwise() {
    let sampling = |text: &str| parse(text).map(|settings| settings.sampling);
    let default = sampling("").expect("valid");
    assert_eq!((default.kernel(), default.cross_check), (Some(Duration::from_secs(5)), Duration::from_secs(60)));
    assert_eq!(sampling("[sampling]\nperiod = '2s'").expect("valid").kernel(), Some(Duration::from_secs(2)));
    let own = sampling("[sampling.periods]\nkernel = '100ms'\ncross-check = '5m'").expect("valid");
    assert_eq!((own.kernel(), own.cross_check), (Some(Duration::from_millis(100)), Duration::from_secs(300)));
    assert_eq!(sampling("[sampling]\ngroups = ['cpu']").expect("valid").kernel(), None);
    let error = sampling("[sampling.periods]\nkernel = '99ms'").expect_err("too short");
    assert_eq!(error, "f.toml:2:10: a period of \"99ms\" is out of range; expected 100ms to 1h");
    let faster = sampling("[sampling.periods]\ncpu = '1s'").expect("valid").kernel();
    assert_eq!(faster, Some(Duration::from_secs(1)), "no more seldom than what it feeds");
    let slower = parse("[sampling.periods]\nkernel = '1m'\nvcpu = '2m'").expect("valid").warnings;
    assert_eq!(slower.len(), 1);
    assert!(
        slower[0].starts_with("sampling.periods.kernel is longer than the period of cpu, interface:"),
        "{slower:?}"
    );
    assert!(sampling("[sampling.periods]\ncross-check = '100ms'").expect_err("too short").contains("1s to 1h"));
}

#[test]
fn default_paths_may_be_missing_and_configured_ones_may_not() {
    let host = |text: &str| parse(text).map(|settings| settings.host);
    let default = host("").expect("valid");
    assert_eq!(default.paths, ["/", "/var/lib/libvirt/images"]);
    assert_eq!((default.period, default.stale_after()), (Duration::from_secs(5), Duration::from_millis(12_500)));
    assert!(default.missing_is_fine);
    let own = host("[host]\npaths = ['/srv']\n[sampling.periods]\nhost = '10s'").expect("valid");
    assert_eq!((own.paths, own.missing_is_fine, own.period.as_secs()), (vec!["/srv".to_owned()], false, 10));
    assert!(host("[host]\npaths = []").expect("none is a choice").paths.is_empty());
    let many: Vec<String> = (0..33).map(|number| format!("'/{number}'")).collect();
    let error = host(&format!("[host]\npaths = [{}]", many.join(", "))).expect_err("too many");
    assert!(error.starts_with("f.toml:2:9: 33 paths are too many; expected 32 at most"), "{error}");
}

#[test]
fn stomp_is_off_unless_it_has_an_address_and_the_certificates_are_those_of_vdsm() {
    let vdsm = |text: &str| parse(text).expect("valid").vdsm;
    let default = vdsm("");
    assert_eq!(default.stomp_listen, []);
    assert_eq!(default.tls_certificate, Path::new("/etc/pki/vdsm/certs/vdsmcert.pem"));
    assert_eq!(default.tls_key, Path::new("/etc/pki/vdsm/keys/vdsmkey.pem"));
    assert_eq!(default.tls_ca, Path::new("/etc/pki/vdsm/certs/cacert.pem"));
    assert_eq!(vdsm("[vdsm]\nstomp-listen = []"), default);
    let own = vdsm("[vdsm]\nstomp-listen = ['[::1]:54321', '0.0.0.0:1']\ntls-key = '/k'");
    assert_eq!((own.stomp_listen.len(), own.tls_key.as_path()), (2, Path::new("/k")));
}

#[test]
fn a_budget_above_four_is_warned_of() {
    assert!(parse("[sampling]\nbudget = 4").expect("valid").warnings.is_empty());
    let settings = parse("[sampling]\nbudget = 5").expect("valid");
    assert_eq!(settings.sampling.budget, 5);
    assert!(settings.warnings[0].starts_with("sampling.budget = 5 lets 5 calls be open"), "{:?}", settings.warnings);
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        uri: Some("test:///default".to_owned()),
        listen: vec!["[::1]:1".parse().expect("valid")],
        log_level: Some("debug".parse().expect("valid")),
        ..Overrides::default()
    };
    let settings = parse("[libvirt]\nuri = 'qemu:///session'").expect("valid").with(&overrides);
    assert_eq!((&*settings.uri, settings.listen.len()), ("test:///default", 1));
    assert_eq!(settings.log_level.to_string(), "debug");
}

#[test]
fn every_error_tells_the_place_and_what_was_expected() {
    let cases = [
        ("[sampling]\nperod = '15s'", "f.toml:2:1: unknown key `perod`, expected one of `groups`"),
        ("[samplin]", "f.toml:1:2: unknown key `samplin`, expected one of `libvirt`"),
        ("[sampling]\n\nperiod = '0s'", "f.toml:3:10: a period of \"0s\" is out of range; expected 1s to 1h"),
        ("[sampling]\nperiod = 15", "f.toml:2:10: invalid type: integer `15`, expected a duration with its unit"),
        ("[sampling]\nperiod = '15 parsecs'", "f.toml:2:10: \"15 parsecs\" is no duration"),
        (
            "[sampling]\nperiod = 'automatic'",
            "f.toml:2:10: \"automatic\" is no duration (expected number at 0); expected a duration with its unit, such as \"15s\" or \"1m\", or \"auto\"",
        ),
        ("[sampling.periods]\nblock = 'auto'", "f.toml:2:9: only sampling.period can be \"auto\"; expected a duration"),
        ("[export]\ntimestamps = 'yes'", "f.toml:2:14: invalid type: string \"yes\", expected a boolean"),
        ("[sampling.periods]\nblok = '15s'", "f.toml:2:1: unknown key `blok`"),
        ("[sampling]\nworkers = 'four'", "f.toml:2:11: invalid type: string \"four\", expected a whole number"),
        ("[sampling]\nworkers = 0", "f.toml:2:11: 0 workers are not possible; expected a whole number"),
        ("[sampling]\nbudget = 0", "f.toml:2:10: a budget of 0 calls is not possible; expected a whole number"),
        ("[sampling]\nworkers = 1.5", "f.toml:2:11: invalid type: floating point `1.5`, expected a whole number"),
        ("[sampling]\ngroups = ['cpus']", "f.toml:2:10: unknown stats group \"cpus\"; expected one of \"state\", "),
        ("[sampling]\ngroups = []", "f.toml:2:10: no stats group at all"),
        ("[sampling]\ngroups = 'cpu'", "f.toml:2:10: invalid type: string \"cpu\", expected a list of stats groups"),
        ("[http]\nlisten = ['localhost']", "f.toml:2:10: \"localhost\" is no address to listen on; expected IP:PORT"),
        ("[http]\nlisten = ['[::1]:1', '[::1]:1']", "f.toml:2:10: [::1]:1 is listed twice"),
        ("[http]\nlisten = []", "f.toml:2:10: no address at all"),
        ("[libvirt]\nuri = 'system'", "f.toml:2:7: \"system\" is no libvirt URI"),
        ("[host]\npaths = ['srv']", "f.toml:2:9: \"srv\" is no absolute path; expected one that begins with a slash"),
        ("[host]\npaths = ['/a', '/b', '/a']", "f.toml:2:9: \"/a\" is listed twice; expected each path once"),
        ("[host]\npaths = '/a'", "f.toml:2:9: invalid type: string \"/a\", expected a list of paths"),
        ("[host]\npath = ['/a']", "f.toml:2:1: unknown key `path`, expected `paths`"),
        ("[sampling.periods]\nhost = 'auto'", "f.toml:2:8: only sampling.period can be \"auto\""),
        ("[export]\nhost-metrics = 1", "f.toml:2:16: invalid type: integer `1`, expected a boolean"),
        (
            "[vdsm]\nstomp-listen = ['localhost']",
            "f.toml:2:16: \"localhost\" is no address to listen on; expected IP:PORT",
        ),
        ("[vdsm]\nstomp-listen = ['[::1]:1', '[::1]:1']", "f.toml:2:16: [::1]:1 is listed twice"),
        ("[vdsm]\ntls-ca = 'ca.pem'", "f.toml:2:10: \"ca.pem\" is no absolute path; expected the path of a PEM file"),
        ("[vdsm]\ntls = 1", "f.toml:2:1: unknown key `tls`, expected one of `stomp-listen`"),
        ("[log]\nlevel = 'loud'", "f.toml:2:9: unknown log level \"loud\"; expected one of error, "),
        ("[log]\nlevel = 'info'\nlevel = 'warn'", "f.toml:3:1: duplicate key"),
        ("[log\nlevel = 'info'", "f.toml:1:5: "),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(expected), "{text:?}\n  gave     {error}\n  expected {expected}");
    }
}
