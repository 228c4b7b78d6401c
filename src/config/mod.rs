//! The configuration: file shapes, checked into settings. Every default and limit is in [`defaults`], with its reason.
//!
//! Uses `model` only. Whatever is wrong is told with the file, the line, what was expected and how to mend it.

pub mod defaults;
mod error;
mod file;
mod settings;

pub use error::ConfigError;
pub use settings::{Export, Host, LogLevel, Overrides, Sampling, Settings, Vdsm};
