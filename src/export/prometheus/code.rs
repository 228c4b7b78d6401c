//! The prefix code that packed lines are written in (RFC 1951: a block with a code of its own), the same for every block.
//!
//! A code made for each block would be a few percent shorter, and would have to be counted and built before the first bit is
//! written. What the lines of /metrics consist of is known: digits, UUIDs, and references to lines before.

use std::sync::LazyLock;

/// The symbol that ends a block, among those of literals and lengths.
const END: usize = 256;
/// How many symbols there are of literals and lengths, and of distances.
const SYMBOLS: (usize, usize) = (286, 30);
/// The most bits that a symbol may take, of text and of the table in a block's header.
const LIMIT: usize = 15;

/// The shortest and the longest reference, and the farthest.
pub(super) const SHORTEST: usize = 3;
pub(super) const LONGEST: usize = 258;
pub(super) const FARTHEST: usize = 32_768;

/// Of 10,000 symbols of a host with many guests, about so many are each of these literals; all others count as one.
const LITERALS: [(&[u8], u32); 5] =
    [(b"0123456789-", 580), (b"abcdef", 420), (b"\n\".", 40), (b",_= {}/", 8), (b"ghijklmnopqrstuvwxyz", 6)];
/// And each of these lengths, by symbol,
const LENGTHS: [(usize, u32); 4] = [(262, 150), (269, 40), (277, 60), (279, 60)];
/// and of these distances.
const DISTANCES: [(usize, u32); 3] = [(13, 1000), (14, 2000), (15, 2000)];

/// Some bits, the first to be written lowest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits {
    pub(super) bits: u64,
    pub(super) count: u32,
}

impl Bits {
    /// These, and then others.
    pub(super) fn and(self, others: Self) -> Self {
        Self { bits: self.bits | others.bits << self.count, count: self.count + others.count }
    }

    /// These, and then so many of a number.
    fn number(self, number: usize, count: u32) -> Self {
        self.and(Self { bits: number as u64, count })
    }
}

/// The code, as tables.
pub(super) struct Code {
    /// What begins a block that is not the last: its kind, and the code.
    pub(super) header: Vec<Bits>,
    /// What ends it.
    pub(super) end: Bits,
    pub(super) literals: [Bits; 256],
    /// By length; the first three cannot be.
    pub(super) lengths: [Bits; LONGEST + 1],
    distances: [Bits; SYMBOLS.1],
}

/// The one code.
pub(super) static CODE: LazyLock<Code> = LazyLock::new(Code::new);

impl Code {
    fn new() -> Self {
        let mut weights = [1; SYMBOLS.0];
        for (bytes, weight) in LITERALS {
            bytes.iter().for_each(|byte| weights[usize::from(*byte)] = weight);
        }
        LENGTHS.iter().for_each(|(symbol, weight)| weights[*symbol] = *weight);
        let mut far = [1; SYMBOLS.1];
        DISTANCES.iter().for_each(|(symbol, weight)| far[*symbol] = *weight);
        let (near, far) = (sizes(&weights), sizes(&far));
        let symbols = canonical(&near);
        let mut literals = [Bits::default(); 256];
        literals.copy_from_slice(&symbols[..END]);
        let mut lengths = [Bits::default(); LONGEST + 1];
        for (length, bits) in lengths.iter_mut().enumerate().skip(SHORTEST) {
            *bits = of_length(length, &symbols);
        }
        let mut distances = [Bits::default(); SYMBOLS.1];
        distances.copy_from_slice(&canonical(&far));
        Self { header: header(&[near, far].concat()), end: symbols[END], literals, lengths, distances }
    }

    /// The bits of a distance.
    pub(super) fn distance(&self, distance: usize) -> Bits {
        // Two symbols for each power of two; the rest is said as it is.
        let less = distance - 1;
        let extra = less.max(2).ilog2() - 1;
        let symbol = 2 * extra as usize + (less >> extra);
        self.distances[symbol].number(less & ((1 << extra) - 1), extra)
    }
}

/// The bits of a length: four symbols for each power of two, the rest as it is, and one symbol for the longest.
fn of_length(length: usize, symbols: &[Bits]) -> Bits {
    let less = length - SHORTEST;
    if length == LONGEST {
        return symbols[SYMBOLS.0 - 1];
    }
    let extra = less.max(4).ilog2() - 2;
    let symbol = END + 1 + 4 * extra as usize + (less >> extra);
    symbols[symbol].number(less & ((1 << extra) - 1), extra)
}

/// How many bits each symbol takes so that all together take fewest, and none more than the format allows: the
/// package-merge method.
fn sizes(weights: &[u32]) -> Vec<u8> {
    let mut leaves: Vec<(u64, Vec<usize>)> =
        weights.iter().enumerate().map(|(symbol, weight)| (u64::from(*weight), vec![symbol])).collect();
    leaves.sort();
    let mut packages: Vec<(u64, Vec<usize>)> = Vec::new();
    for _ in 0..LIMIT {
        let mut merged = [leaves.clone(), packages].concat();
        merged.sort();
        packages = merged
            .chunks_exact(2)
            .map(|pair| (pair[0].0 + pair[1].0, [&pair[0].1[..], &pair[1].1[..]].concat()))
            .collect();
    }
    let mut sizes = vec![0; weights.len()];
    for (_, symbols) in &packages[..weights.len() - 1] {
        symbols.iter().for_each(|symbol| sizes[*symbol] += 1);
    }
    sizes
}

/// The bits of each symbol, from how many they are: shorter ones first, then in the order of the symbols.
fn canonical(sizes: &[u8]) -> Vec<Bits> {
    let mut codes = vec![Bits::default(); sizes.len()];
    let mut next = 0_u64;
    for size in 1..=15_u8 {
        for (symbol, _) in sizes.iter().enumerate().filter(|(_, has)| **has == size) {
            codes[symbol] = Bits { bits: next.reverse_bits() >> (64 - size), count: size.into() };
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// The header of a block: its kind, and the sizes of all symbols, in a code of their own that has 4 bits for each of the
/// sizes 1 to 15 and for "the last one again, so many times".
fn header(sizes: &[u8]) -> Vec<Bits> {
    const AGAIN: u8 = 16;
    /// The order in which the sizes of this code are told.
    const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let own: Vec<u8> = (0..19).map(|symbol| if (1..=AGAIN).contains(&symbol) { 4 } else { 0 }).collect();
    let codes = canonical(&own);
    let counts = Bits::default().number(0b100, 3).number(SYMBOLS.0 - 257, 5).number(SYMBOLS.1 - 1, 5);
    let mut header = vec![counts.number(ORDER.len() - 4, 4)];
    header.extend(ORDER.map(|symbol| Bits::default().number(own[usize::from(symbol)].into(), 3)));
    for run in sizes.chunk_by(|one, other| one == other) {
        header.push(codes[usize::from(run[0])]);
        for again in run[1..].chunks(6) {
            if again.len() < 3 {
                header.extend(again.iter().map(|size| codes[usize::from(*size)]));
            } else {
                header.push(codes[usize::from(AGAIN)].number(again.len() - 3, 2));
            }
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete_and_within_the_limit() {
        let of = |bits: &[Bits]| bits.iter().map(|bits| 1_u64 << (15 - bits.count)).sum::<u64>();
        let code = Code::new();
        assert_eq!(of(&code.distances), 1 << 15);
        assert!(code.literals.iter().all(|bits| (1..=15).contains(&bits.count)));
    }

    #[test]
    fn distances_are_those_of_the_format() {
        let code = Code::new();
        // Symbol, the first distance of it, its extra bits.
        for (symbol, first, extra) in
            [(0, 1, 0), (1, 2, 0), (3, 4, 0), (4, 5, 1), (5, 7, 1), (6, 9, 2), (29, 24_577, 13)]
        {
            for distance in [first, first + (1 << extra) - 1] {
                let bits = code.distance(distance);
                let plain = code.distances[symbol];
                assert_eq!(bits.count, plain.count + extra, "{distance}");
                assert_eq!(bits.bits, plain.bits | ((distance - first) as u64) << plain.count, "{distance}");
            }
        }
    }
}
