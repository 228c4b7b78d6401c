//! Commands are carried out here, wherever they come from.

mod choose;
mod churn;
mod execute;
pub(crate) mod socket;
mod status;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use choose::exists;
pub(crate) use churn::Churning;
pub use status::{ConnectionStatus, GuestStatus, Status};

use crate::host::Refused;

/// What a command brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done.
    Done {
        /// The guests that are in another state now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guests: Vec<String>,
    },
    /// How it is.
    Status(Box<Status>),
    /// It was not done.
    Refused {
        /// Why.
        error: String,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No guest of that name, or none that matches.
    #[error("no domain '{0}'")]
    NoDomain(String),
    /// Neither a name nor a number nor all.
    #[error("which guests? Say a domain, a count, or all")]
    NobodyChosen,
    /// A domain or a count next to all, or a count of nobody.
    #[error("{0}")]
    Contradiction(&'static str),
    /// No such connection.
    #[error("no connection {0}")]
    NoConnection(u64),
    /// The guest cannot do that.
    #[error("{domain}: {refused}")]
    Refused {
        /// Who.
        domain: String,
        /// Why.
        refused: Refused,
    },
    /// A rate that is none.
    #[error("{0} is no rate: above 0 and up to 100000 a second")]
    NoRate(String),
    /// The simulator ends.
    #[error("the simulator ends")]
    Ending,
}
