//! Files that an output is held to, to the letter.

use std::path::Path;

/// The text must be that of the file, which `VIRTSTATD_BLESS` writes anew.
pub(crate) fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("VIRTSTATD_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = expected.lines().zip(text.lines()).enumerate().find(|(_, (expected, found))| expected != found);
    assert!(
        expected == text,
        "{name} is not current; first difference: {difference:?}\nVIRTSTATD_BLESS=1 writes it anew, if this is meant"
    );
}
