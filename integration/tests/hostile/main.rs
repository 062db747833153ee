//! Images that are made to mislead the runtime: every name that it touches below the root, each as
//! everything that it does not expect. As root:
//!
//!     hostile [--all | --count N] [--seed N] [FILTER...]     a sample of 300, or all
//!     hostile --exact NAME                                   one, as a failure prints it
//!
//! `--verbose` prints the refusals.
//!
//! Whatever the image is, the command ends in time, with the program's output or with one line that
//! says why not; nothing outside the root has changed; what must be masked is; nothing is left.

mod image;
mod judge;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use image::{Case, cases};

const SAMPLE: usize = 300;

struct Asked {
    /// `None` is all.
    count: Option<usize>,
    seed: u64,
    exact: bool,
    verbose: bool,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let asked = asked();
    println!("seed {}", asked.seed);
    let chosen = chosen(&asked);
    let mut failed = 0;
    let mut refused = 0;
    for case in &chosen {
        match judge::judge(case) {
            Ok(None) => {}
            Ok(Some(line)) => {
                refused += 1;
                if asked.verbose {
                    println!("{}: {line}", case.name());
                }
            }
            Err(text) => {
                failed += 1;
                println!("FAILED: {}: {text}", case.name());
            }
        }
    }
    println!(
        "{} images, {refused} refused by one line, {failed} failed",
        chosen.len()
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn asked() -> Asked {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut asked = Asked {
        count: Some(SAMPLE),
        seed: clock.map_or(1, |time| time.as_secs()),
        exact: false,
        verbose: false,
        filters: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok());
        match word.as_str() {
            "--all" => asked.count = None,
            "--count" => asked.count = number().and_then(|n| usize::try_from(n).ok()),
            "--seed" => asked.seed = number().expect("--seed NUMBER"),
            "--exact" => asked.exact = true,
            "--verbose" => asked.verbose = true,
            _ => asked.filters.push(word),
        }
    }
    asked
}

/// The cases that the command line names; of these a sample, each with the same chance.
fn chosen(asked: &Asked) -> Vec<Case> {
    let mut all = cases();
    all.retain(|case| {
        let name = case.name();
        let matches = |filter: &String| match asked.exact {
            true => name == *filter,
            false => name.contains(filter.as_str()),
        };
        asked.filters.is_empty() || asked.filters.iter().any(matches)
    });
    println!("{} images can be made", all.len());
    let Some(count) = asked.count else { return all };
    let mut seed = asked.seed;
    while all.len() > count {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = u64::try_from(all.len()).unwrap_or(1);
        all.swap_remove(usize::try_from((seed >> 33) % length).unwrap_or(0));
    }
    all
}
