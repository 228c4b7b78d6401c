//! Makes new cases of old ones.

/// Repeatable numbers without a pattern (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// No case is longer than that: long ones are slow, and seldom tell more.
const LONGEST: usize = 16 << 10;

/// Numbers at which code breaks.
const NUMBERS: [&str; 9] = [
    "0",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "99999999999999999999999999",
    "1e999",
];

pub(crate) struct Mutator<'c> {
    random: Random,
    corpus: &'c [Vec<u8>],
    words: &'c [&'c str],
    case: Vec<u8>,
}

impl<'c> Mutator<'c> {
    pub(crate) fn new(seed: u64, corpus: &'c [Vec<u8>], words: &'c [&'c str]) -> Self {
        Self { random: Random::new(seed), corpus, words, case: Vec::new() }
    }

    /// A file of the corpus with one to eight changes.
    pub(crate) fn next(&mut self) -> &[u8] {
        let chosen = self.random.below(self.corpus.len());
        self.case.clear();
        self.case.extend_from_slice(&self.corpus[chosen]);
        for _ in 0..=self.random.below(8) {
            self.change();
        }
        self.case.truncate(LONGEST);
        &self.case
    }

    fn change(&mut self) {
        let (from, to) = self.range();
        match self.random.below(10) {
            0 => {
                if let Some(byte) = self.case.get_mut(from) {
                    *byte ^= 1 << self.random.below(8);
                }
            }
            1 => {
                let byte = self.random.next() as u8;
                self.case.insert(from, byte);
            }
            2 => drop(self.case.drain(from..to)),
            3 => self.case.truncate(from),
            4 => {
                let piece = self.case[from..to].to_vec();
                let at = self.random.below(self.case.len() + 1);
                self.case.splice(at..at, piece);
            }
            5 => {
                let other = &self.corpus[self.random.below(self.corpus.len())];
                let begin = self.random.below(other.len() + 1);
                let length = self.random.below(other.len() - begin + 1).min(512);
                self.case.splice(from..from, other[begin..begin + length].iter().copied());
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.random.below(self.words.len())];
                self.case.splice(from..to.min(from + word.len()), word.bytes());
            }
            7 => self.number(from),
            8 => {
                let piece = self.case[from..to.min(from + 64)].repeat(1 + self.random.below(40));
                self.case.splice(from..from, piece);
            }
            _ => self.case[from..to].reverse(),
        }
        self.case.truncate(LONGEST);
    }

    /// Puts another number where there is one.
    fn number(&mut self, from: usize) {
        let Some(begin) = self.case[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
        let digits = self.case[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = NUMBERS[self.random.below(NUMBERS.len())];
        self.case.splice(begin..begin + digits, number.bytes());
    }

    /// A place in the case, and one behind it that is mostly near.
    fn range(&mut self) -> (usize, usize) {
        let from = self.random.below(self.case.len() + 1);
        let rest = self.case.len() - from;
        let length = self.random.below(rest + 1);
        (from, from + if self.random.below(4) > 0 { length.min(24) } else { length })
    }
}
