//! The memory of the runtime's work that is charged to the container, and the smallest limit under
//! which it starts.

use std::process::Command;

use coracle_integration::{Bundle, Runtime, json};

use crate::subject::{Subject, cost, docker_like};

pub(crate) fn part(subjects: &[Subject]) {
    println!(
        "\ndocker-like: memory charged to the container up to its start, at its peak, and the"
    );
    println!("smallest limit with which `true` runs, in KiB\n");
    println!("| runtime | charged | smallest limit |\n|---|---|---|");
    for subject in subjects {
        let runtime = Runtime::new();
        let bundle = docker_like(&runtime);
        let charged = charged(subject, &runtime, &bundle);
        let smallest = smallest(subject, &runtime, &bundle);
        println!("| {} | {charged} | {smallest} |", subject.name);
    }
}

fn charged(subject: &Subject, runtime: &Runtime, bundle: &Bundle) -> String {
    let sleeper = bundle.clone().args(["sleep", "1000"]);
    let id = runtime.id();
    let mut create = subject.command(runtime);
    create
        .args(["create", "--bundle"])
        .arg(&sleeper.write().dir)
        .arg(&id);
    if let Err(text) = cost(&mut create) {
        return text;
    }
    let mut state = subject.command(runtime);
    let output = state.args(["state", &id]).output().expect("state");
    let state: coracle_integration::Value = serde(&output.stdout);
    let pid = state["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0);
    let file = ("memory", "memory.max_usage_in_bytes");
    let file = coracle_integration::control_file(pid, file, "memory.peak");
    let bytes = std::fs::read_to_string(file).unwrap_or_default();
    let mut delete = subject.command(runtime);
    let _ = cost(delete.args(["delete", "--force", &id]));
    crate::verbs::reap();
    let bytes: u64 = bytes.trim().parse().unwrap_or(0);
    (bytes >> 10).to_string()
}

fn serde(bytes: &[u8]) -> coracle_integration::Value {
    String::from_utf8_lossy(bytes).parse().unwrap_or_default()
}

/// The smallest limit that works, by halves down to 32 KiB.
fn smallest(subject: &Subject, runtime: &Runtime, bundle: &Bundle) -> u64 {
    let (mut fails, mut runs) = (0_u64, 16 << 10);
    while runs - fails > 32 {
        let middle = fails.midpoint(runs);
        let limit = json!({"limit": middle << 10});
        let bundle = bundle.clone().set("/linux/resources/memory", limit);
        let mut run: Command = subject.command(runtime);
        run.args(["run", "--bundle"])
            .arg(&bundle.write().dir)
            .arg(runtime.id());
        match cost(&mut run) {
            Ok(_) => runs = middle,
            Err(_) => fails = middle,
        }
        crate::verbs::reap();
    }
    runs
}
