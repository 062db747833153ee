//! Benchmark of the verbs, compared with other runtimes and with a minimal program that makes the
//! same container. As root:
//!
//!     bench [--rounds N] [--plots DIR] [--systemd-cgroup] [PART...] [RUNTIME...]
//!
//! Parts: verbs counts memory throughput growth node timeline checkpoint; default: all. A RUNTIME is a
//! path; without any, runc and crun are taken as far as they are installed. Programs take turns
//! within a round, so that a busy moment of the machine meets all of them; what is printed are
//! medians and ratios.

mod checkpoint;
mod counts;
mod growth;
mod memory;
mod node;
mod plot;
mod subject;
mod throughput;
mod timeline;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

const PARTS: [&str; 8] = [
    "verbs",
    "counts",
    "memory",
    "throughput",
    "growth",
    "node",
    "timeline",
    "checkpoint",
];

/// crun runs on a hybrid machine only if it does not see version 2. All subjects get the same: this
/// process's own mount namespace loses it.
fn hide_version_2() {
    use coracle_integration::{Layout, machine};
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    if machine().layout != Layout::Hybrid {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a private tree");
    umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH).expect("no version 2");
    println!("version 2 of cgroups is hidden: this is a hybrid machine");
}

/// The options on the command line.
struct Options {
    rounds: usize,
    plots: Option<PathBuf>,
    parts: Vec<String>,
    runtimes: Vec<PathBuf>,
    /// Global options of every runtime.
    globals: Vec<String>,
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    hide_version_2();
    let options = options();
    let subjects = subject::all(&options.runtimes, &options.globals);
    println!("machine: {}", coracle_integration::machine());
    for subject in &subjects {
        println!("{}: {}", subject.name, subject.program.display());
    }
    for part in &options.parts {
        match part.as_str() {
            "verbs" => verbs::part(&subjects, &options),
            "counts" => counts::part(&subjects),
            "memory" => memory::part(&subjects),
            "throughput" => throughput::part(&subjects, &options),
            "growth" => growth::part(&subjects, &options),
            "node" => node::part(&subjects, &options),
            "timeline" => timeline::part(&subjects, &options),
            _ => checkpoint::part(&subjects, &options),
        }
    }
    ExitCode::SUCCESS
}

fn options() -> Options {
    let mut options = Options {
        rounds: 20,
        plots: None,
        parts: Vec::new(),
        runtimes: Vec::new(),
        globals: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => {
                let rounds = words.next().and_then(|word| word.parse().ok());
                options.rounds = rounds.expect("--rounds NUMBER");
            }
            "--plots" => options.plots = words.next().map(PathBuf::from),
            "--systemd-cgroup" => options.globals.push(word),
            part if PARTS.contains(&part) => options.parts.push(word),
            path => options.runtimes.push(PathBuf::from(path)),
        }
    }
    if options.parts.is_empty() {
        options.parts = PARTS.map(str::to_owned).to_vec();
    }
    options
}

/// The median of numbers.
fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this part of the numbers lies.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to last"
    )]
    #[expect(clippy::cast_precision_loss, reason = "few values")]
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
