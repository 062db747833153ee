//! Suites of which a sample is run: what their command lines have in common, and the choice.

use std::time::{SystemTime, UNIX_EPOCH};

/// `[--all | --count N] [--seed N] [WORD...]`
#[derive(Clone, Debug)]
pub struct Sample {
    /// How many; `None` is all.
    pub count: Option<usize>,
    /// The seed of the choice; by default the current time in seconds.
    pub seed: u64,
    /// All other words.
    pub words: Vec<String>,
}

impl Sample {
    /// Reads a command line without its program; `count` where none is given.
    pub fn read(words: impl IntoIterator<Item = String>, count: usize) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut sample = Self {
            count: Some(count),
            seed: clock.map_or(1, |time| time.as_secs()),
            words: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
            match word.as_str() {
                "--all" => sample.count = None,
                "--count" => {
                    let count = number().and_then(|number| usize::try_from(number).ok());
                    sample.count = Some(count.expect("--count NUMBER"));
                }
                "--seed" => sample.seed = number().expect("--seed NUMBER"),
                _ => sample.words.push(word),
            }
        }
        sample
    }

    /// Whether an option of the suite's own is among the words.
    pub fn has(&self, option: &str) -> bool {
        self.words.iter().any(|word| word == option)
    }

    /// Whether no filter is among the words, or one that is a part of the name.
    pub fn wants(&self, name: &str) -> bool {
        let mut filters = self.words.iter().filter(|word| !word.starts_with('-'));
        let none = filters.clone().next().is_none();
        none || filters.any(|filter| name.contains(filter.as_str()))
    }
}

/// A number from 0 to below `length`, which is more than 0; the seed moves on (xorshift64*).
pub fn choose(length: usize, seed: &mut u64) -> usize {
    // xorshift never leaves 0.
    *seed = (*seed).max(1);
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    let number = seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
    let length = u64::try_from(length).expect("a length");
    usize::try_from(number % length).expect("below a length")
}
