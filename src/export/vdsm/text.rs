//! Values in VDSM's spelling, written straight into the text: a host with ten thousand guests has a million of them.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use super::table::{self, Field, Record};

/// The place of a value. Its key is written with it, or not at all.
pub(super) struct Slot<'s> {
    out: &'s mut Vec<u8>,
    /// Where the record begins, behind its brace.
    begin: usize,
    name: &'s str,
}

impl<'s> Slot<'s> {
    pub(super) fn new(out: &'s mut Vec<u8>, begin: usize, name: &'s str) -> Self {
        Self { out, begin, name }
    }

    fn keyed(self) -> &'s mut Vec<u8> {
        if self.out.len() > self.begin {
            self.out.push(b',');
        }
        json_text(self.out, self.name);
        self.out.push(b':');
        self.out
    }

    /// A string.
    #[allow(clippy::unnecessary_wraps)] // All of these end an accessor, which has nothing to write where a value is not known.
    pub(super) fn text(self, text: &str) -> Option<()> {
        json_text(self.keyed(), text);
        Some(())
    }

    /// A string of what needs no escapes: a number, a UUID.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn quoted(self, value: impl Display) -> Option<()> {
        let out = self.keyed();
        // Into memory, which takes all.
        let _ = write!(out, "\"{value}\"");
        Some(())
    }

    /// A float in a string, with two decimals.
    pub(super) fn fixed(self, value: f64) -> Option<()> {
        if value.is_finite() { self.quoted(format_args!("{value:.2}")) } else { None }
    }

    /// A float in a string, with the digits that Python prints.
    pub(super) fn float(self, value: f64) -> Option<()> {
        if value.is_finite() { self.quoted(python(value)) } else { None }
    }

    /// A whole number.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn number(self, value: u64) -> Option<()> {
        let out = self.keyed();
        let _ = write!(out, "{value}");
        Some(())
    }

    /// A number of seconds.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn seconds(self, value: Duration) -> Option<()> {
        let out = self.keyed();
        let _ = write!(out, "{:?}", value.as_secs_f64());
        Some(())
    }

    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn boolean(self, value: bool) -> Option<()> {
        self.keyed().extend_from_slice(if value { b"true" } else { b"false" });
        Some(())
    }

    /// A record.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn object<R: Record>(self, fields: &[Field<R>], of: &R::Of<'_>) -> Option<()> {
        table::write(fields, of, self.keyed());
        Some(())
    }

    /// Records in order; also if there are none.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn list<'a, R: Record>(
        self,
        fields: &[Field<R>],
        records: impl Iterator<Item = R::Of<'a>>,
    ) -> Option<()> {
        let out = self.keyed();
        out.push(b'[');
        for (place, record) in records.enumerate() {
            if place > 0 {
                out.push(b',');
            }
            table::write(fields, &record, out);
        }
        out.push(b']');
        Some(())
    }

    /// Records by name, of which the caller gives each once; nothing if there are none.
    pub(super) fn map<'a, R: Record, K: AsRef<str>>(
        self,
        fields: &[Field<R>],
        records: impl Iterator<Item = (K, R::Of<'a>)>,
    ) -> Option<()> {
        let mut records = records.peekable();
        records.peek()?;
        let out = self.keyed();
        out.push(b'{');
        let begin = out.len();
        for (name, record) in records {
            table::write(fields, &record, Slot::new(out, begin, name.as_ref()).keyed());
        }
        out.push(b'}');
        Some(())
    }

    /// Strings by name, in the order given.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn strings<'a>(self, values: impl Iterator<Item = (&'a str, u64)>) -> Option<()> {
        let out = self.keyed();
        out.push(b'{');
        let begin = out.len();
        for (name, value) in values {
            let _ = Slot::new(out, begin, name).quoted(value);
        }
        out.push(b'}');
        Some(())
    }
}

/// A JSON string.
pub(super) fn json_text(out: &mut Vec<u8>, text: &str) {
    // Text can always be written, into memory as well.
    let _ = serde_json::to_writer(out, text);
}

/// As Python prints a float: the fewest digits that give it again, always with a point or an exponent of two digits.
fn python(value: f64) -> String {
    let text = format!("{value:?}");
    // Both change to exponents at the same numbers, and write these differently: 1e16 is 1e+16 there, 1e-5 is 1e-05.
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_printed_as_python_does() {
        for (value, expected) in [
            (0.0, "0.0"),
            (9_316.883_966_212_714, "9316.883966212714"),
            (1_000_000.0, "1000000.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.5e-10, "1.5e-10"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(python(value), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut out = Vec::new();
        assert_eq!(Slot::new(&mut out, 0, "a").fixed(f64::NAN), None);
        assert_eq!(Slot::new(&mut out, 0, "a").float(f64::INFINITY), None);
        assert!(out.is_empty());
        let _ = Slot::new(&mut out, 0, "a\"").fixed(12.5);
        let _ = Slot::new(&mut out, 0, "b").text("x\n");
        assert_eq!(String::from_utf8_lossy(&out), r#""a\"":"12.50","b":"x\n""#);
    }
}
