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

use coracle_integration::sample::{Sample, choose};
use image::{Case, cases};

const SAMPLE: usize = 300;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let sample = Sample::read(std::env::args().skip(1), SAMPLE);
    println!("seed {}", sample.seed);
    let is_verbose = sample.words.iter().any(|word| word == "--verbose");
    let chosen = chosen(&sample);
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

/// The cases that the command line names; of these a sample, each with the same chance.
fn chosen(sample: &Sample) -> Vec<Case> {
    let mut all = cases();
    let is_exact = sample.words.iter().any(|word| word == "--exact");
    all.retain(|case| {
        let name = case.name();
        match is_exact {
            true => sample.words.contains(&name),
            false => sample.wants(&name),
        }
    });
    println!("{} images can be made", all.len());
    let mut seed = sample.seed;
    while sample.count.is_some_and(|count| all.len() > count) {
        all.swap_remove(choose(all.len(), &mut seed));
    }
    all
}
