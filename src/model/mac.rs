//! Addresses of NICs.

use std::fmt;

/// A MAC address of 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Reads `52:54:00:12:34:56`, `52-54-00-12-34-56`, `5254.0012.3456` and `525400123456`, in letters of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut separators = text.chars().filter(|c| !c.is_ascii_hexdigit());
        let (separator, count) = match separators.next() {
            Some(first) if separators.clone().all(|other| other == first) => (Some(first), 1 + separators.count()),
            Some(_) => return None,
            None => (None, 0),
        };
        let digits = match (separator, count) {
            (None, 0) => 12,
            (Some(':' | '-'), 5) => 2,
            (Some('.'), 2) => 4,
            _ => return None,
        };
        let parts = text.split(|c: char| !c.is_ascii_hexdigit());
        let mut bytes = [0; 6];
        let mut at = 0;
        for part in parts {
            if part.len() != digits {
                return None;
            }
            for pair in part.as_bytes().chunks_exact(2) {
                let text = std::str::from_utf8(pair).ok()?;
                *bytes.get_mut(at)? = u8::from_str_radix(text, 16).ok()?;
                at += 1;
            }
        }
        (at == 6).then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_notation_is_read() {
        for text in ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00ab.cdef", "525400ABCDEF"] {
            assert_eq!(Mac::parse(text).map(|mac| mac.to_string()).as_deref(), Some("52:54:00:ab:cd:ef"), "{text}");
        }
        for bad in [
            "",
            "52",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:01",
            "52:54-00:ab:cd:ef",
            "5:54:00:ab:cd:eff",
            "5254.00abcdef",
            "52:54:00:ab:cd:eg",
            "52 54 00 ab cd ef",
            "525400abcdeé",
            "::::::",
            "5254:00ab:cdef",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
