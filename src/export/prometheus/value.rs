//! Sample values, written as text without a detour through floating point.

use std::fmt::Write as _;

/// The value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// A whole number; exact beyond 2^53, which f64 is not.
    Int(u64),
    /// A whole number that may be negative.
    Signed(i64),
    /// Nanoseconds, exported as seconds, exactly.
    Nanos(u64),
    /// Anything else.
    Float(f64),
}

/// KiB as bytes; `None` where that many cannot be.
pub(super) fn kib(kib: Option<u64>) -> Option<Value> {
    Some(Value::Int(kib?.checked_mul(1024)?))
}

/// Nanoseconds as seconds.
pub(super) fn nanos(nanos: Option<u64>) -> Option<Value> {
    nanos.map(Value::Nanos)
}

/// A plain number.
pub(super) fn int(number: Option<u64>) -> Option<Value> {
    number.map(Value::Int)
}

/// A plain number with a sign.
pub(super) fn signed(number: Option<i64>) -> Option<Value> {
    number.map(Value::Signed)
}

impl Value {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        match self {
            Self::Int(number) => out.extend_from_slice(buffer.format(number).as_bytes()),
            Self::Signed(number) => out.extend_from_slice(buffer.format(number).as_bytes()),
            Self::Nanos(nanos) => {
                out.extend_from_slice(buffer.format(nanos / 1_000_000_000).as_bytes());
                let mut fraction = nanos % 1_000_000_000;
                if fraction > 0 {
                    let mut digits = *b".000000000";
                    for digit in digits[1..].iter_mut().rev() {
                        *digit += u8::try_from(fraction % 10).unwrap_or_default();
                        fraction /= 10;
                    }
                    let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
                    out.extend_from_slice(&digits[..end]);
                }
            }
            Self::Float(number) if number.is_nan() => out.extend_from_slice(b"NaN"),
            Self::Float(number) => {
                let mut text = String::new();
                if write!(text, "{number}").is_ok() {
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        for (value, expected) in [
            (Value::Int(u64::MAX), "18446744073709551615"),
            (Value::Int(9_007_199_254_740_993), "9007199254740993"),
            (Value::Signed(-3), "-3"),
            (Value::Nanos(0), "0"),
            (Value::Nanos(1), "0.000000001"),
            (Value::Nanos(1_500_000_000), "1.5"),
            (Value::Nanos(12_000_000_000), "12"),
            (Value::Nanos(u64::MAX), "18446744073.709551615"),
            (Value::Nanos(10_010_000_000), "10.01"),
            (Value::Float(12.25), "12.25"),
            (Value::Float(f64::NAN), "NaN"),
        ] {
            let mut out = Vec::new();
            value.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn kib_that_overflow_are_no_value() {
        assert_eq!(kib(Some(3)), Some(Value::Int(3072)));
        assert_eq!(kib(Some(u64::MAX / 1000)), None);
        assert_eq!(kib(None), None);
    }
}
