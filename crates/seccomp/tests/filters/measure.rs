//! How long programs are, and how long it takes to make and to load them. Only lengths are
//! asserted, since times depend on the machine:
//! `cargo test -p coracle-seccomp --profile checked measure -- --nocapture`.

use crate::interpreter::{Call, run};
use crate::oracle::Oracle;
use crate::profiles;
use coracle_bundle::{Seccomp, SeccompArchitecture as Architecture};
use coracle_seccomp::{Abi, Plan, UnknownNames, load, plan};
use nix::sys::prctl;
use std::time::{Duration, Instant};

fn least(runs: usize, mut body: impl FnMut() -> Duration) -> Duration {
    (0..runs).map(|_| body()).min().unwrap()
}

fn made(profile: &Seccomp) -> Duration {
    least(30, || {
        let start = Instant::now();
        plan(profile, Some(Abi::X86_64), UnknownNames::Skipped).unwrap();
        start.elapsed()
    })
}

fn loaded(plan: &Plan) -> Duration {
    least(30, || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                prctl::set_no_new_privs().unwrap();
                let start = Instant::now();
                load(plan).unwrap();
                start.elapsed()
            });
            thread.join().unwrap()
        })
    })
}

/// The most instructions that any call takes, the arguments all zero.
fn longest(plan: &Plan) -> usize {
    let calls = plan.abis.iter().flat_map(|abi| {
        let base = if *abi == Abi::X32 { 0x4000_0000 } else { 0 };
        (0..500).map(move |number| Call {
            arch: abi.audit_arch(),
            number: base + number,
            args: [0; 6],
        })
    });
    calls.map(|call| run(&plan.program, &call).1).max().unwrap()
}

#[test]
fn measure() {
    if Abi::native() != Some(Abi::X86_64) {
        eprintln!("skipped: the figures are of x86_64");
        return;
    }
    for (name, mut profile) in profiles::of_engines() {
        for architectures in [vec![], vec![Architecture::X86, Architecture::X32]] {
            profile.architectures = architectures;
            let plan = plan(&profile, Some(Abi::X86_64), UnknownNames::Skipped).unwrap();
            eprintln!(
                "{name}, {} machines: {} instructions, at most {} a call, made in {:?}, loaded in \
                 {:?}",
                plan.abis.len(),
                plan.program.len(),
                longest(&plan),
                made(&profile),
                loaded(&plan)
            );
            assert!(plan.program.len() < 300 * plan.abis.len());
            assert!(longest(&plan) < 60);
            if let Ok(mut oracle) = Oracle::start("measure") {
                let theirs = oracle.filter(&profile, &plan.abis, 2).ok().unwrap();
                let (length, made) = (theirs.program.len(), theirs.microseconds);
                eprintln!(
                    "    libseccomp: {length} instructions, made in {made}µs, loaded in {}µs",
                    oracle.load() / 1000
                );
                assert!(plan.program.len() < length);
            }
        }
    }
}
