//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An unusable configuration. Displays as `FILE:LINE:COLUMN: what was wrong and what was expected`.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    place: Option<(usize, usize)>,
    message: String,
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        let cure = match error.kind() {
            io::ErrorKind::NotFound => {
                "; name an existing file with --config, or leave the option out to run with defaults"
            }
            io::ErrorKind::PermissionDenied => "; let the user that runs virtstatd read it",
            io::ErrorKind::InvalidData => "; the file must be UTF-8 text",
            _ => "",
        };
        Self { file: file.to_owned(), place: None, message: format!("cannot be read: {error}{cure}") }
    }

    pub(super) fn invalid(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().map(|span| place(text, span.start));
        // The words of toml and serde, on one line, with our name for what TOML calls a field.
        let message = error.message().lines().collect::<Vec<_>>().join(", ").replace("unknown field", "unknown key");
        Self { file: file.to_owned(), place, message }
    }
}

/// Line and column of a byte offset, both from 1; columns count characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let text = "a\nböse = 1\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 2), (2, 1));
        assert_eq!(place(text, text.find('=').expect("there")), (2, 6));
        assert_eq!(place(text, 999), (3, 1));
    }
}
