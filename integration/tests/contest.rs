//! Drives youki's contest, a suite of tests for runtimes: `contest [FILTER]...`.
//!
//! `CORACLE_CONTEST` names a checkout in which `contest` and `runtimetest` were built; without it
//! everything is skipped. Each group runs in a process of its own with a time limit, since a panic
//! ends it. Tests that fail for a reason that is not ours stand in
//! `integration/conformance/contest.txt`; one of them that passes fails the run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle_integration::runner::{self, Verdict};
use coracle_integration::{Command, Folder, Layout, Output, expected, machine, program};

/// Seconds for one group.
const LIMIT_S: u64 = 120;
/// The group with a test for cgroup v2 that panics on v1, and its other tests.
const PANICS_ON_V1: (&str, &str) = (
    "exec",
    "exec::capabilities_by_flag_test_case1,capabilities_by_flag_test_case2,ignore_paused_test,\
     mount_test,new_privileges_test,no_capabilities_test,preserve_fds_test,\
     some_capabilities_test,unset_bounding_capabilities_test",
);

fn main() -> ExitCode {
    let checkout = match std::env::var_os("CORACLE_CONTEST").map(PathBuf::from) {
        Some(_) if !nix::unistd::geteuid().is_root() => return skipped("needs root"),
        Some(checkout) => checkout,
        None => return skipped("CORACLE_CONTEST names no checkout of youki"),
    };
    let suite = Suite {
        build: built(&checkout),
        folder: Folder::new(),
    };
    let image = checkout.join("tests/contest/contest/bundle.tar.gz");
    std::fs::copy(image, suite.folder.join("bundle.tar.gz")).expect("the root filesystem");
    let expected = expected::read(include_str!("../conformance/contest.txt"));
    let mut verdicts = Vec::new();
    for group in groups(&suite) {
        if !runner::is_requested(&group) {
            continue;
        }
        for (title, result) in results(&group, &run(&suite, &group)) {
            let verdict = match result {
                Report::Skipped => Verdict::Skipped("by the suite".to_owned()),
                Report::Ok => expected::judge(None, expected.get(&title)),
                Report::NotOk(text) => expected::judge(Some(text), expected.get(&title)),
            };
            verdicts.push(runner::print_verdict(title, verdict));
        }
    }
    runner::report(verdicts)
}

fn skipped(reason: &str) -> ExitCode {
    let verdict = Verdict::Skipped(reason.to_owned());
    runner::report(vec![runner::print_verdict("contest".to_owned(), verdict)])
}

/// The suite's programs, and where they run.
struct Suite {
    build: PathBuf,
    folder: Folder,
}

/// The folder with the two programs.
fn built(checkout: &Path) -> PathBuf {
    let folders = ["release", "debug"].map(|profile| checkout.join("target").join(profile));
    let is_built = |folder: &&PathBuf| {
        ["contest", "runtimetest"]
            .iter()
            .all(|program| folder.join(program).exists())
    };
    let found = folders.iter().find(is_built);
    found.expect("contest and runtimetest, built").clone()
}

fn groups(suite: &Suite) -> Vec<String> {
    let command = Command::new(suite.build.join("contest")).args(["list"]);
    let output = command.folder(suite.folder.path()).output().ok();
    output.stdout.lines().map(str::to_owned).collect()
}

/// Runs a group; afterwards nothing of it runs.
fn run(suite: &Suite, group: &str) -> Output {
    let tests = match PANICS_ON_V1 {
        (name, others) if name == group && machine().layout != Layout::V2 => others,
        _ => group,
    };
    // The suite leaves containers behind: they end with their pid namespace.
    let command = Command::new("unshare").args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    let command = command.arg(suite.build.join("contest"));
    let command = command.args(["run", "--runtime"]).arg(program());
    let command = command
        .arg("--runtimetest")
        .arg(suite.build.join("runtimetest"));
    let command = command.args(["-t", tests]).folder(suite.folder.path());
    let command = command.env("RUNTIME_KIND", "runc").limit(LIMIT_S);
    let before = control_groups();
    let output = command
        .env("TMPDIR", suite.folder.folder("tmp"))
        .output_or_kill();
    for group in control_groups() {
        if !before.contains(&group) {
            let _ = std::fs::remove_dir(group);
        }
    }
    output
}

/// Those that may be the suite's, which forgets some: its containers are called by a UUID.
fn control_groups() -> Vec<PathBuf> {
    let is_suites = |group: &PathBuf| {
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        let lengths: Vec<usize> = name.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12] || group.to_string_lossy().contains("/runtime-test")
    };
    let mut groups = coracle_integration::groups("-");
    groups.retain(is_suites);
    groups
}

/// The suite's result of a test.
enum Report {
    Ok,
    NotOk(String),
    Skipped,
}

/// Lines `1 / 4 : NAME : ok`, `not ok` or `skipped`; what follows a failure says why.
fn results(group: &str, output: &Output) -> Vec<(String, Report)> {
    let mut results: Vec<(String, Report)> = Vec::new();
    for line in output.stdout.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(3, " : ").collect();
        let report = match fields.get(2) {
            Some(&"ok") => Report::Ok,
            Some(&"not ok") => Report::NotOk(String::new()),
            Some(&"skipped") => Report::Skipped,
            _ => {
                if let Some((_, Report::NotOk(text))) = results.last_mut() {
                    *text += line.trim();
                    *text += "\n";
                }
                continue;
            }
        };
        results.push((format!("{group}::{}", fields[1]), report));
    }
    if output.code != 0 || results.is_empty() {
        let text = format!("the group ended without results: {output}");
        results.push((group.to_owned(), Report::NotOk(text)));
    }
    results
}
