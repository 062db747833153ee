//! Images that are made to mislead the runtime: every name that it touches below the root, each as
//! everything that it does not expect. As root:
//!
//!     hostile [--all | --count N] [--seed N] [FILTER...]     a sample of 300, or all
//!     hostile --exact NAME                                   one, as a failure prints it
//!     hostile races [--all | --count N] [--seed N] [FILTER...]    exchanges while the runtime works
//!
//! `--verbose` prints the refusals of images. Of races a sample is 30 of 50 tries each.
//!
//! Whatever the image is, the command ends in time, with the program's output or with one line that
//! says why not; nothing outside the root has changed; what must be masked is; nothing is left.

mod image;
mod judge;
mod races;

use std::process::ExitCode;

use coracle_integration::sample::{Sample, choose};
use image::{Case, cases};
use races::{Race, Tally};

const SAMPLE: usize = 300;
const RACES: usize = 30;
/// Names are exchanged some dozens of times in each try, at whatever the runtime does at that
/// moment.
const TRIES: u64 = 50;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "races").is_some() {
        return race(&Sample::read(words, RACES));
    }
    let sample = Sample::read(words, SAMPLE);
    println!("seed {}", sample.seed);
    let is_verbose = sample.words.iter().any(|word| word == "--verbose");
    let chosen = sampled(cases(), &sample, Case::name);
    let mut failed = 0;
    let mut refused = 0;
    for case in &chosen {
        match judge::judge(case) {
            Ok(None) => {}
            Ok(Some(line)) => {
                refused += 1;
                if is_verbose {
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

fn race(sample: &Sample) -> ExitCode {
    println!("seed {}", sample.seed);
    let chosen = sampled(races::races(), sample, Race::name);
    let mut total = Tally::default();
    let mut failed = 0;
    for race in &chosen {
        match race.judge(TRIES) {
            Ok(tally) => total += tally,
            Err(text) => {
                failed += 1;
                println!("FAILED: {}: {text}", race.name());
            }
        }
    }
    println!("{} races: {total}, {failed} failed", chosen.len());
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Those that the command line names; of these a sample, each with the same chance.
fn sampled<T>(mut all: Vec<T>, sample: &Sample, name: impl Fn(&T) -> String) -> Vec<T> {
    let is_exact = sample.words.iter().any(|word| word == "--exact");
    all.retain(|one| {
        let name = name(one);
        match is_exact {
            true => sample.words.contains(&name),
            false => sample.wants(&name),
        }
    });
    println!("{} can be made", all.len());
    let mut seed = sample.seed;
    while sample.count.is_some_and(|count| all.len() > count) {
        all.swap_remove(choose(all.len(), &mut seed));
    }
    all
}
