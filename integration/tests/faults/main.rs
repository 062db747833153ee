//! Faults at the system calls of every verb: the process that makes the call is killed, or the call
//! fails with an errno. Afterwards `state` and `list` must answer at once and truly, and
//! `delete --force` must clear everything within five seconds. As root:
//!
//!     faults [--count N] [--seed N] [SCENARIO...]     a sample, 400 tries
//!     faults --all [--seed N] [SCENARIO...]           every point, with each kind of fault
//!     faults --every-errno [SCENARIO...]              every point, failing with each errno
//!     faults SCENARIO POINT FAULT                     one try, as a failure prints it
//!
//! A scenario is a verb and a variant, `run/hooks`; a part of the name chooses all that have it. A
//! point is PROCESS:CALL: the runtime is process 0, what it clones follows in order. A fault is
//! KILL, STRAND (the process is stopped and the runtime killed) or an errno, `EIO`.

mod scenario;
mod tries;

use std::process::ExitCode;

use coracle_integration::sample::Sample;
use coracle_integration::trace::{Fault, Point};
use nix::errno::Errno;

use scenario::{SCENARIOS, Scenario};
use tries::{Choice, Tally};

/// Errnos that any call may return, on a machine that is full, busy, old or forbids it.
const ERRNOS: [Errno; 11] = [
    Errno::ENOSPC,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENOMEM,
    Errno::EINTR,
    Errno::EPERM,
    Errno::EACCES,
    Errno::EIO,
    Errno::EAGAIN,
    Errno::EBUSY,
    Errno::ENOSYS,
];

/// Tries of a sample, over all scenarios.
const SAMPLE: usize = 400;

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    if !coracle_integration::trace::can_trace() {
        println!("skipped: needs x86_64, whose registers the tracer knows");
        return ExitCode::SUCCESS;
    }
    coracle_integration::collect_orphans();
    let tries = std::thread::spawn(|| tally(std::env::args().skip(1).collect()));
    match tries.join() {
        Ok(Some(tally)) if tally.failed == 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Tries what the words choose; nothing if they name no scenario.
fn tally(words: Vec<String>) -> Option<Tally> {
    if let [name, point, fault] = &words[..]
        && let (Ok(point), Some(fault)) = (point.parse(), fault_of(fault))
    {
        return one(name, point, fault);
    }
    let sample = Sample::read(words, SAMPLE);
    println!("seed {}", sample.seed);
    let wanted = SCENARIOS.iter().filter(|it| sample.wants(&it.name()));
    let chosen: Vec<&Scenario> = wanted.collect();
    let mut tally = Tally::default();
    let mut seed = sample.seed;
    for scenario in &chosen {
        let choice = match sample.count {
            _ if sample.has("--every-errno") => Choice::EveryErrno,
            Some(count) => Choice::Sample(count.div_ceil(chosen.len())),
            None => Choice::EveryPoint,
        };
        tally.add(tries::scenario(scenario, choice, &mut seed));
    }
    println!("\n{tally}");
    Some(tally)
}

fn fault_of(text: &str) -> Option<Fault> {
    match text {
        "KILL" => Some(Fault::Kill),
        "STRAND" => Some(Fault::Strand),
        text => {
            let named = |errno: &&Errno| format!("{errno:?}") == text;
            ERRNOS.iter().find(named).copied().map(Fault::Fail)
        }
    }
}

fn one(name: &str, point: Point, fault: Fault) -> Option<Tally> {
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name() == name) else {
        println!("no scenario is called {name}");
        return None;
    };
    let tally = tries::single(scenario, point, fault);
    println!("{tally}");
    Some(tally)
}
