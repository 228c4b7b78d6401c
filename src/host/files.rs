//! Small files of /proc and /sys, read whole.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The buffer to begin with: all but the largest files fit.
const FIRST: usize = 16 << 10;

/// Reads files one after the other into the same buffer.
#[derive(Debug, Default)]
pub(super) struct Files {
    buffer: Vec<u8>,
}

impl Files {
    /// The text of a file; `None` if it cannot be read, or is no text.
    pub(super) fn text(&mut self, path: &Path) -> Option<&str> {
        match self.fill(path) {
            Ok(length) => std::str::from_utf8(&self.buffer[..length]).ok(),
            Err(error) => {
                // What a kernel or a host does not have is the usual case, as is a speed that a link does not tell.
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) {
                    tracing::debug!(path = %path.display(), %error, "cannot be read");
                }
                None
            }
        }
    }

    /// The number that a file consists of.
    pub(super) fn number(&mut self, path: &Path) -> Option<u64> {
        self.text(path)?.trim_end().parse().ok()
    }

    /// The names in a directory; none if it cannot be read.
    pub(super) fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Not fs::read, which asks for the size first: these files have none.
    fn fill(&mut self, path: &Path) -> io::Result<usize> {
        let mut file = File::open(path)?;
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize((length * 2).max(FIRST), 0);
            }
            match file.read(&mut self.buffer[length..])? {
                0 => return Ok(length),
                count => length += count,
            }
        }
    }
}

/// A tree of files in a temporary directory, for the tests of all readers.
#[cfg(test)]
pub(super) struct Tree(tempfile::TempDir);

#[cfg(test)]
impl Tree {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        std::fs::write(path, text).expect("written");
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_and_nothing_of_the_one_before_is_left() {
        let long = "long line\n".repeat(FIRST / 4);
        let tree = Tree::new(&[("long", &long), ("short", "short\n")]);
        let mut files = Files::default();
        assert_eq!(files.text(&tree.path().join("long")), Some(&*long));
        assert_eq!(files.text(&tree.path().join("short")), Some("short\n"));
    }

    #[test]
    fn what_is_no_text_or_no_number_is_nothing() {
        let tree = Tree::new(&[("number", "12\n"), ("word", "twelve\n"), ("empty", ""), ("negative", "-1\n")]);
        tree.write("bytes", b"\xff\xfe");
        let mut files = Files::default();
        let mut number = |name: &str| files.number(&tree.path().join(name));
        assert_eq!(number("number"), Some(12));
        for name in ["word", "empty", "negative", "bytes", "missing"] {
            assert_eq!(number(name), None, "{name}");
        }
        assert_eq!(files.text(&tree.path().join("word")), Some("twelve\n"));
        assert_eq!(files.text(tree.path()), None, "a directory");
    }
}
