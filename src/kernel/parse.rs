//! Numbers, fields and lines of the kernel's text files, as bytes: names in them may be of any encoding, and no text is copied.

/// The number that all of a text is: digits alone.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// The same of what fits 32 bits: numbers of processes, threads and vCPUs.
pub(super) fn small_number(text: &[u8]) -> Option<u32> {
    number(text)?.try_into().ok()
}

/// Milliseconds with a fraction, as nanoseconds.
pub(super) fn nanos_of_millis(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = number(parts.next()?)?.checked_mul(1_000_000)?;
    let Some(fraction) = parts.next() else { return Some(whole) };
    let digits = fraction.get(..fraction.len().min(6))?;
    let scale = 10_u64.pow(u32::try_from(6 - digits.len()).ok()?);
    whole.checked_add(number(digits)?.checked_mul(scale)?)
}

/// What stands between blanks.
pub(super) fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// The lines, without their ends.
pub(super) fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The first field behind a key that begins its line.
pub(super) fn value<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    fields(line.strip_prefix(key)?).next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "-1", "+1", "1 ", "18446744073709551616", "x", "1.5", "/", ":"] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(small_number(b"4294967296"), None);
    }

    #[test]
    fn milliseconds_may_have_a_fraction() {
        for (text, nanos) in [
            ("0.000000", Some(0)),
            ("12.000345", Some(12_000_345)),
            ("3", Some(3_000_000)),
            ("1.5", Some(1_500_000)),
            ("1.1234567", Some(1_123_456)),
            ("1.", None),
            (".5", None),
            ("-0.5", None),
            ("1.x", None),
        ] {
            assert_eq!(nanos_of_millis(text.as_bytes()), nanos, "{text}");
        }
    }

    #[test]
    fn a_value_is_of_its_key_alone() {
        assert_eq!(value(b"HugetlbPages:\t    2048 kB", b"HugetlbPages:"), Some(&b"2048"[..]));
        assert_eq!(value(b"nonvoluntary_ctxt_switches: 1", b"voluntary_ctxt_switches:"), None);
        assert_eq!(value(b"HugetlbPages:", b"HugetlbPages:"), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            number(&text);
            nanos_of_millis(&text);
            lines(&text).flat_map(fields).for_each(|field| { number(field); });
        }
    }
}
