//! `{"error":{"code":…,"message":…}}`.

use schemars::JsonSchema;
use serde::Serialize;

/// What every error is told as.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct ErrorBody<'a> {
    /// What is wrong.
    pub error: ErrorText<'a>,
}

/// What is wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorText<'a> {
    /// For programs; it stays.
    pub code: &'a str,
    /// For people; it may change.
    pub message: &'a str,
}
