//! Log lines on stderr, for people and for the journal.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

/// Changes the level of a running log.
pub struct Logging {
    filter: reload::Handle<LevelFilter, Registry>,
}

/// Starts logging. The journal stamps its lines itself, so they bear no time of ours there.
#[must_use]
pub fn start(level: tracing::Level) -> Logging {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process keeps the first, which only a test can see.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines.with_timer(UtcTime)).try_init()
    };
    Logging { filter: handle }
}

impl Logging {
    /// Logs that level and what is graver from now on.
    pub fn set_level(&self, level: tracing::Level) {
        if let Err(error) = self.filter.modify(|filter| *filter = LevelFilter::from_level(level)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

struct UtcTime;

impl tracing_subscriber::fmt::time::FormatTime for UtcTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> fmt::Result {
        write!(writer, "{}", humantime::format_rfc3339_millis(std::time::SystemTime::now()))
    }
}
