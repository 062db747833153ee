//! Measures that do not depend on time: system calls, page faults and the most memory of each verb.

use coracle_integration::trace::{Trace, can_trace, trace};
use coracle_integration::{Command, Runtime};

use crate::subject::{Subject, docker_like};

pub(crate) fn part(subjects: &[Subject]) {
    if !can_trace() {
        println!("counts: skipped: needs x86_64");
        return;
    }
    println!(
        "\ndocker-like: system calls, page faults and peak memory (KiB) of the runtime and of"
    );
    println!("what it clones, up to the execution of another program\n");
    println!("| verb | runtime | system calls | page faults | peak KiB |\n|---|---|---|---|---|");
    for subject in subjects {
        // Other runtimes execute their own program again as init, and the count ends there.
        let runtime = Runtime::new();
        let bundle = docker_like(&runtime);
        let sleeper = docker_like(&runtime).args(["sleep", "1000"]);
        bundle.write();
        sleeper.write();
        let root = runtime.folder().join(format!("{}-state", subject.name));
        let root = root.to_str().expect("a UTF-8 path");
        let id = runtime.id();
        let command = |words: &[&str]| {
            let command = Command::new(&subject.program)
                .args(&subject.options)
                .args(["--root", root])
                .args(words);
            command.env("CORACLE_TEST", runtime.marker())
        };
        let (run, sleep) = (
            bundle.dir.display().to_string(),
            sleeper.dir.display().to_string(),
        );
        let verbs: [&[&str]; 8] = [
            &["run", "--bundle", &run, &id],
            &["create", "--bundle", &sleep, &id],
            &["start", &id],
            &["state", &id],
            &["exec", &id, "true"],
            &["update", "--pids-limit", "90", &id],
            &["kill", &id, "KILL"],
            &["delete", "--force", &id],
        ];
        for words in verbs {
            row(words[0], subject, &trace(command(words), None));
        }
        crate::verbs::reap();
    }
}

fn row(verb: &str, subject: &Subject, trace: &Trace) {
    let calls: usize = trace.calls.iter().map(Vec::len).sum();
    let faults: u64 = trace.faults.iter().sum();
    let failed = match trace.output.code {
        0 => String::new(),
        _ => format!(" (failed: {})", trace.output.stderr.trim_end()),
    };
    println!(
        "| {verb}{failed} | {} | {calls} | {faults} | {} |",
        subject.name, trace.peak_kib
    );
}
