//! Whatever comes in, nothing panics: a million mutated parameters, XML documents and requests, and damaged replies of libvirtd.
//!
//! Each target begins with the files of its corpus, as they are and mutated. A case that fails is written to the corpus, so
//! that it is tried first from then on. `VIRTSTATD_FUZZ_CASES` sets how many cases there are in all, `VIRTSTATD_FUZZ_SEED`
//! repeats a run.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../support/mod.rs"]
mod support;

mod http;
mod mutate;
mod params;
mod replies;
mod xml;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mutate::{Mutator, Random};

/// Cases of all targets.
const CASES: usize = 1_000_000;

/// What is fuzzed.
struct Target {
    /// Names its corpus.
    name: &'static str,
    /// Its share of all cases.
    per_mille: usize,
    /// What often matters in such input.
    words: &'static [&'static str],
}

impl Target {
    fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(self.name)
    }

    /// Tries its share of cases.
    fn run(&self, mut try_case: impl FnMut(&[u8])) {
        let seed = std::env::var("VIRTSTATD_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            u64::from(since.subsec_nanos()) ^ since.as_secs()
        });
        let cases = std::env::var("VIRTSTATD_FUZZ_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
        let cases = (cases * self.per_mille / 1000).max(1);
        let mut files: Vec<PathBuf> = fs::read_dir(self.corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(!corpus.is_empty(), "{} has no corpus", self.name);
        let begin = Instant::now();
        println!("{}: {cases} cases, VIRTSTATD_FUZZ_SEED={seed}", self.name);
        let mut slowest = Duration::ZERO;
        let mut one = |case: &[u8]| {
            let begin = Instant::now();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| try_case(case))) {
                let number = Random::new(seed ^ case.len() as u64).next();
                let path = self.corpus().join(format!("failed-{number:016x}"));
                fs::write(&path, case).unwrap();
                eprintln!("{}: the case is kept as {}; seed {seed}", self.name, path.display());
                resume_unwind(panic);
            }
            slowest = slowest.max(begin.elapsed());
        };
        corpus.iter().for_each(|case| one(case));
        let mut mutator = Mutator::new(seed, &corpus, self.words);
        for _ in corpus.len()..cases {
            one(mutator.next());
        }
        println!("{}: {cases} cases in {:.1?}, the slowest took {slowest:.1?}", self.name, begin.elapsed());
    }
}
