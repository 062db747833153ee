//! Drives the validation programs of the OCI runtime-tools: `conformance [FILTER]...`.
//!
//! The programs are built by `integration/conformance/build` from Debian's packages, on first use;
//! or `CORACLE_RUNTIME_TOOLS` names a checkout in which `make runtimetest validation-executables`
//! was run.
//! Each runs with a time limit against a wrapper that gives the runtime a private state root; what
//! it prints is read strictly. Programs that fail for a reason that is not ours stand in
//! `integration/conformance/expected.txt`; one of them that passes fails the run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle_integration::runner::{self, Verdict};
use coracle_integration::{Command, Folder, Output, build_folder, expected, groups, program};

/// Seconds for one program; the slowest takes about ten.
const LIMIT_S: u64 = 60;
/// Files of the suite that are no programs.
const OTHERS: [&str; 4] = [
    "complete",
    "runtimetest",
    "rootfs-386.tar.gz",
    "rootfs-amd64.tar.gz",
];

/// Programs that print nothing if all is well, and end with 1 otherwise.
const SILENT: [&str; 2] = ["process_rlimits_fail", "process_capabilities_fail"];

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        let verdict = match std::env::var_os("CORACLE_TEST_NEEDS_ROOT") {
            Some(_) => Verdict::Failed("needs root".to_owned()),
            None => Verdict::Skipped("needs root".to_owned()),
        };
        return runner::report(vec![("conformance".to_owned(), verdict)]);
    }
    let suite = suite();
    let expected = expected::read(include_str!("../conformance/expected.txt"));
    let mut verdicts = Vec::new();
    for name in programs(&suite) {
        if runner::is_requested(&name) {
            let output = run(&suite, &name);
            let complaint = complaint(&name, &output).map(|text| format!("{text}\n{output}"));
            let verdict = expected::judge(complaint, expected.get(&name));
            verdicts.push(runner::print_verdict(name, verdict));
        }
    }
    runner::report(verdicts)
}

/// The folder of the built suite: the programs, and what they open in their working directory.
fn suite() -> PathBuf {
    if let Some(checkout) = std::env::var_os("CORACLE_RUNTIME_TOOLS") {
        return gathered(Path::new(&checkout));
    }
    let folder = build_folder()
        .ancestors()
        .nth(2)
        .expect("the target folder")
        .join("conformance");
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/build");
    Command::new(build).arg(&folder).limit(600).output().ok();
    folder.join("suite")
}

/// The programs of a checkout side by side, as a build from packages has them.
fn gathered(checkout: &Path) -> PathBuf {
    let suite = build_folder().join("runtime-tools");
    let _ = std::fs::remove_dir_all(&suite);
    std::fs::create_dir_all(&suite).expect("a folder for the suite");
    let programs = std::fs::read_dir(checkout.join("validation")).expect("validation programs");
    for name in programs.flatten().map(|entry| entry.file_name()) {
        let program = checkout.join("validation").join(&name).join(&name);
        let program = program.with_added_extension("t");
        if program.exists() {
            std::os::unix::fs::symlink(program, suite.join(name)).expect("a link");
        }
    }
    // They are put into bundles as they are: a link would lead nowhere.
    for name in OTHERS.iter().filter(|name| checkout.join(name).exists()) {
        std::fs::copy(checkout.join(name), suite.join(name)).expect("a copy");
    }
    suite
}

fn programs(suite: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(suite).expect("the suite").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter(|name| !OTHERS.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

fn run(suite: &Path, name: &str) -> Output {
    let folder = Folder::new();
    let state = folder.folder("state");
    let line = format!(
        "exec {} --root {} \"$@\"",
        program().display(),
        state.display()
    );
    let wrapper = folder.script("runtime", &line);
    let command = Command::new(suite.join(name)).folder(suite).limit(LIMIT_S);
    // By default an engine may delete a created container; the specification forbids it.
    let command = command
        .env("RUNTIME", &wrapper)
        .env("CORACLE_STRICT_DELETE", "1");
    let output = command.env("TMPDIR", folder.folder("tmp")).output_or_kill();
    for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
        let delete = Command::new(program()).arg("--root").arg(&state);
        delete
            .args(["delete", "--force"])
            .arg(entry.file_name())
            .output();
    }
    // The suite's own names; it never removes the parent of the second.
    for group in ["/cgrouptest", "/testdir"]
        .iter()
        .flat_map(|name| groups(name))
    {
        let _ = std::fs::remove_dir(group);
    }
    output
}

/// The errors in a program's output, by the rules of the Test Anything Protocol; some programs
/// never print an `ok` line, but a plan of none and a block with an error, and exit with 0.
fn complaint(name: &str, output: &Output) -> Option<String> {
    if output.code != 0 {
        return Some(format!("exit code {}", output.code));
    }
    let (mut plan, mut count) = (None, 0);
    for line in output.stdout.lines() {
        if let Some(number) = line.strip_prefix("1..") {
            // Programs of several parts announce each part's, an empty one last.
            plan = plan.max(number.trim().parse::<u32>().ok());
        } else if line.starts_with("not ok") && !line.contains("# TODO") {
            return Some(line.to_owned());
        } else if line.starts_with("ok ") || line.starts_with("not ok") {
            count += 1;
        } else if count == 0 && line.trim_start().starts_with("\"error\":") {
            return Some(line.trim().to_owned());
        }
    }
    match plan {
        None if output.stdout.is_empty() && SILENT.contains(&name) => None,
        None => Some("no plan".to_owned()),
        Some(plan) if plan != count => Some(format!("plan of {plan}, but {count} results")),
        Some(_) => None,
    }
}
