//! What the simulator can be told to do: one type for the scenario file, the control socket, the command line and tests.
//!
//! Texts are parsed into types at once, so that a mistake is found where it was written.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::values::{Distribution, Mix, ProcedureName, Share, Time};

/// A command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Subcommand)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// How it is: guests in trouble, workers, connections, calls, rules in force
    Status(Nothing),
    /// Stop the QEMU of guests: the first call that needs its monitor hangs, and holds the guest's job
    Freeze(Guests),
    /// Let the QEMU of guests go on
    Thaw(Guests),
    /// Let the storage of guests hang: calls for figures of disks hang, and hold the guest's job
    HangStorage(HangStorage),
    /// Let the storage of guests answer again
    ReleaseStorage(Guests),
    /// Hold the lock of domains: every call that names or lists one of them waits
    Lock(Guests),
    /// Let the lock go
    Unlock(Guests),
    /// Slow down calls: of a procedure, or what they do at a guest
    Latency(Latency),
    /// Answer calls with an error
    Fail(Fail),
    /// Damage replies
    Damage(Damage),
    /// Bound the length of bulk replies
    ReplyLimit(ReplyLimit),
    /// Keep events back
    SuppressEvents(SuppressEvents),
    /// Forget all rules: latency, fail, damage, reply-limit and suppress-events
    Clear(Nothing),
    /// Stop reading and answering on connections
    HangConnections(Connections),
    /// Go on with connections that hang
    ReleaseConnections(Connections),
    /// Close connections; calls that are stuck keep their workers
    DropConnections(Connections),
    /// End the daemon and start it again: calls and connections are gone, guests stay
    Restart(Restart),
    /// Let the whole daemon stand still, as SIGSTOP does: its socket accepts, and says nothing
    Silence(Silence),
    /// Something happens to guests
    Change(OneChange),
    /// Let things happen to guests all the time
    Churn(Churn),
    /// End that
    StopChurn(Nothing),
    /// Let all counters of guests begin at 0 again
    ResetCounters(Guests),
}

/// No arguments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which guests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guests {
    /// Name, with * and ? as in a shell
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// So many of those that are in no trouble yet, or that are in this one; those that came first first
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// All of them
    #[arg(long, conflicts_with_all = ["domain", "count"])]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Guests {
    /// The guests of that name.
    #[must_use]
    pub fn named(pattern: impl Into<String>) -> Self {
        Self { domain: Some(pattern.into()), ..Self::default() }
    }

    /// So many.
    #[must_use]
    pub fn some(count: u32) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    /// All.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }
}

/// Storage that hangs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct HangStorage {
    /// Name, with * and ? as in a shell
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// So many of them that are well, those that came first first
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// All of them
    #[arg(long, conflicts_with_all = ["domain", "count"])]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Paths hang, open files answer: block info alone hangs, and holds the domain's lock meanwhile
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paths: bool,
}

/// Slow calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Latency {
    /// "20ms", "uniform 10ms 50ms", "exponential 20ms", "pareto 5ms 1.5 cap 2s"
    pub distribution: Distribution,
    /// Calls of this procedure, say DomainGetInfo or ConnectGetAllDomainStats [default: all]
    #[arg(long, value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureName>,
    /// What calls do at these guests (name with * and ?); with the guest's job held if they need it
    #[arg(long, value_name = "GLOB")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Calls that fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fail {
    /// virErrorNumber: 1 internal, 38 system, 42 no domain, 55 invalid operation, 68 timeout, 86 agent
    pub code: i32,
    /// Calls of this procedure [default: all]
    #[arg(long, value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureName>,
    /// Calls about these guests (name with * and ?); a bulk call fails if one of its guests does
    #[arg(long, value_name = "GLOB")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// virErrorDomain: 7 RPC, 10 QEMU
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[serde(default = "qemu")]
    pub error_domain: i32,
    /// The text
    #[arg(long, default_value = "simulated failure")]
    #[serde(default = "simulated_failure")]
    pub message: String,
    /// The next N of them alone
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// This share of them, 0.1 for every tenth
    #[arg(long, value_name = "SHARE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

fn qemu() -> i32 {
    10
}

fn simulated_failure() -> String {
    "simulated failure".to_owned()
}

/// What is done to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Half of it is sent, and then nothing on this connection any more
    HalfThenSilence,
    /// Half of it is sent, and the connection is closed
    HalfThenClose,
    /// It says that there is more than there is
    WrongCount,
    /// A typed parameter has a type that there is not; replies without any are left alone
    WrongType,
    /// Its payload ends too early
    Truncated,
    /// It answers a call that nobody made: the client gives the connection up
    WrongSerial,
    /// Its payload is noise
    RandomBytes,
}

/// Replies that are damaged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Damage {
    /// How
    #[arg(value_enum)]
    pub kind: Harm,
    /// Replies of this procedure [default: all]
    #[arg(long, value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureName>,
    /// The next N of them alone
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// This share of them, 0.1 for every tenth
    #[arg(long, value_name = "SHARE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// A lower limit of the length of bulk replies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReplyLimit {
    /// The most bytes of a reply of ConnectGetAllDomainStats
    pub bytes: u32,
    /// Send a longer one after all, so long that the client gives the connection up
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub send: bool,
}

/// Events that are kept back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SuppressEvents {
    /// This share of them
    #[arg(default_value_t)]
    #[serde(default)]
    pub share: Share,
}

/// Which connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Connections {
    /// One, by its number: 1 is the first that ever came [default: all that there are]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
}

/// A restart of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restart {
    /// How long the socket is gone
    #[arg(default_value_t = Time::seconds(1))]
    #[serde(default = "one_second")]
    pub away: Time,
}

fn one_second() -> Time {
    Time::seconds(1)
}

/// A daemon that stands still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Silence {
    /// For how long
    #[arg(id = "for", value_name = "FOR")]
    #[serde(rename = "for")]
    pub lasting: Time,
}

/// The kinds of things that happen to guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // Their names say it.
pub enum Happening {
    Define,
    Undefine,
    Start,
    Stop,
    Shutdown,
    /// Its QEMU ends badly.
    Crash,
    /// The guest's kernel panics; as `on_crash` says by default, that is its end.
    Panic,
    Pause,
    /// It is paused because a disk is full.
    IoError,
    Resume,
    AttachDisk,
    DetachDisk,
    AttachNic,
    DetachNic,
    /// Takes some seconds, in which there is a job.
    MigrateOut,
    MigrateIn,
    Metadata,
    /// Its watchdog fires; told, and nothing else.
    Watchdog,
    /// Somebody connects to its graphics; told, and nothing else.
    Connect,
    /// Who connected to its graphics leaves.
    Disconnect,
    /// It sets its clock; told, and nothing else.
    SetClock,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OneChange {
    /// What
    #[arg(value_enum)]
    pub kind: Happening,
    /// To whom: a name, with * and ? as in a shell; none with define and migrate-in
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// To so many that it can happen to, those that came first first; so many new ones
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// To all
    #[arg(long, conflicts_with_all = ["domain", "count"])]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Things that happen all the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Churn {
    /// How many a second
    pub rate: f64,
    /// What, and how often next to the others: "start=4,stop=4,define=1"
    #[arg(long, default_value_t)]
    #[serde(default)]
    pub mix: Mix,
    /// For how long [default: until stop-churn]
    #[arg(long = "for", id = "for", value_name = "TIME")]
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Time>,
    /// The same seed does the same to the same guests [default: the simulator's]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}
