//! What is wanted of /proc/PID/stat.

use crate::model::{Process, ProcessState};

use super::parse::{fields, number};

/// One reading of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Name of the program, or what it calls itself.
    pub(super) comm: &'a [u8],
    pub(super) state: ProcessState,
    pub(super) minor_faults: Option<u64>,
    pub(super) major_faults: Option<u64>,
    pub(super) user_ticks: Option<u64>,
    pub(super) system_ticks: Option<u64>,
    pub(super) threads: Option<u64>,
    /// With its pid, what no other process of this boot has.
    pub(super) start_ticks: u64,
    pub(super) resident_pages: Option<u64>,
}

impl<'a> Stat<'a> {
    /// The name in field 2 may hold anything, blanks and parentheses too; nothing behind it has a parenthesis.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let begin = text[..end].iter().position(|byte| *byte == b'(')? + 1;
        let mut fields = fields(&text[end + 1..]);
        let state = match fields.next()? {
            b"T" | b"t" => ProcessState::Stopped,
            b"D" => ProcessState::Uninterruptible,
            b"Z" | b"X" | b"x" => ProcessState::Ended,
            _ => ProcessState::Runs,
        };
        // The state was field 3 of proc_pid_stat(5).
        let mut field = 3;
        let mut take = |wanted: usize| {
            let skipped = wanted - field - 1;
            field = wanted;
            fields.nth(skipped).map(number)
        };
        Some(Self {
            comm: &text[begin..end],
            state,
            minor_faults: take(10)?,
            major_faults: take(12)?,
            user_ticks: take(14)?,
            system_ticks: take(15)?,
            threads: take(20)?,
            start_ticks: take(22)??,
            resident_pages: take(24).flatten(),
        })
    }

    /// `qemu-system-x86`, `qemu-kvm`, `qemu:NAME`, `kvm`.
    pub(super) fn is_qemu(&self) -> bool {
        self.comm.starts_with(b"qemu") || self.comm.starts_with(b"kvm")
    }

    pub(super) fn process(&self, pid: u32) -> Process {
        Process { pid, start_ticks: self.start_ticks, state: self.state }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "24403 (qemu) S (x86) S 1 24402 24402 0 -1 138412416 5045 0 15 0 17 32 0 0 20 0 5 0 4240733 \
                        393998336 7620 18446744073709551615 94370497069056\n";

    #[test]
    fn each_field_has_its_place() {
        let expected = Stat {
            comm: b"qemu) S (x86",
            state: ProcessState::Runs,
            minor_faults: Some(5045),
            major_faults: Some(15),
            user_ticks: Some(17),
            system_ticks: Some(32),
            threads: Some(5),
            start_ticks: 4_240_733,
            resident_pages: Some(7620),
        };
        assert_eq!(Stat::parse(TEXT.as_bytes()), Some(expected));
    }

    #[test]
    fn what_is_cut_short_is_none() {
        for text in ["", "41 (qemu) S 1 41", "41 qemu) S 1 41", ")("] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_field_that_is_no_number_is_none() {
        let text = TEXT.replace(" 5045 ", " -1 ").replace(" 7620 ", " many ");
        let stat = Stat::parse(text.as_bytes()).expect("the others are well");
        assert_eq!((stat.minor_faults, stat.resident_pages, stat.threads), (None, None, Some(5)));
        assert_eq!(Stat::parse(TEXT.replace("4240733", "soon").as_bytes()), None, "whose it is cannot be told");
    }

    proptest! {
        #[test]
        fn nothing_panics(cut in 0..TEXT.len(), at in 0..TEXT.len(), byte: u8) {
            let mut text = TEXT.as_bytes().to_vec();
            text[at] = byte;
            Stat::parse(&text);
            Stat::parse(&text[..cut]);
            Stat::parse(&text[cut..]);
        }
    }
}
