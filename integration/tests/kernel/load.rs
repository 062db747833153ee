//! Many containers, many commands at once, and many in a row.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coracle_integration::runner::{is_full, patience, times};
use coracle_integration::{Command, Output, Runtime, groups};

/// Has several threads take numbers below `count` in turns.
fn each(count: usize, threads: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

#[test]
fn runs_at_once_all_succeed() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    bundle.write();
    let count = times(40, 500);
    each(count, count, |_| {
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        run.limit(120).output().ok();
    });
    runtime.is_clean();
}

#[test]
fn runs_in_a_row_leave_nothing_and_take_no_longer() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let count = times(200, 10_000);
    let keys = keyrings();
    let mut durations: Vec<Duration> = (0..count).map(|_| runtime.run(&bundle).ok().time).collect();
    let tenth = count / 10;
    let mut first: Vec<Duration> = durations.drain(..tenth).collect();
    let mut last = durations.split_off(durations.len() - tenth);
    // Other tests run meanwhile, and more of them at one end: the faster quarter of each tenth counts.
    let (first, last) = (quantile(&mut first, 4), quantile(&mut last, 4));
    assert!(last < 3 * first, "from {first:?} to {last:?} a run");
    assert!(keyrings() < keys + 100, "keyrings stay");
    runtime.is_clean();
}

fn keyrings() -> usize {
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    keys.lines().filter(|line| line.contains("_ses")).count()
}

/// The duration below which one of so many `parts` of all lies.
fn quantile(durations: &mut [Duration], parts: usize) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / parts]
}

#[test]
fn of_creates_with_one_id_one_wins() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.write();
    for _ in 0..times(2, 10) {
        let id = runtime.id();
        let won = AtomicUsize::new(0);
        each(50, 50, |_| {
            let create = runtime.with_bundle("create", &bundle).arg(&id);
            let output = create.limit(120).output();
            match output.code {
                0 => drop(won.fetch_add(1, Ordering::Relaxed)),
                _ => drop(output.fails(["already exists"])),
            }
        });
        assert_eq!(won.into_inner(), 1, "winners");
        runtime.command(["start", &id]).output().ok();
        runtime.command(["delete", "--force", &id]).output().ok();
        runtime.is_clean();
    }
}

/// A verb that the status allows succeeds; any other is refused in one line.
#[test]
fn verbs_at_once_on_one_id_neither_hang_nor_lie() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.write();
    let id = runtime.id();
    let end = Instant::now() + Duration::from_secs(if is_full() { 300 } else { 4 });
    thread::scope(|scope| {
        for number in 0..8 {
            let (runtime, bundle, id) = (&runtime, &bundle, &id);
            scope.spawn(move || {
                let mut turn = number * 7;
                while Instant::now() < end {
                    turn += 5;
                    let verb = VERBS[turn % VERBS.len()];
                    let command = match verb {
                        ["create"] => runtime.with_bundle("create", bundle).arg(id),
                        [first, rest @ ..] => with_id(runtime.command([first]), id, rest),
                        [] => unreachable!("a verb has a name"),
                    };
                    orderly(command.limit(60).output());
                }
            });
        }
    });
    runtime.command(["delete", "--force", &id]).output().ok();
    runtime.is_clean();
}

const VERBS: [&[&str]; 11] = [
    &["create"],
    &["start"],
    &["state"],
    &["exec", "true"],
    &["pause"],
    &["resume"],
    &["update", "--pids-limit", "100"],
    &["kill", "KILL"],
    &["delete"],
    &["create"],
    &["delete", "--force"],
];

/// `exec ID true`, `kill ID KILL`, `delete --force ID`.
fn with_id(command: Command, id: &str, rest: &[&str]) -> Command {
    match rest {
        [flag, ..] if flag.starts_with('-') => command.args(rest).arg(id),
        _ => command.arg(id).args(rest),
    }
}

#[track_caller]
fn orderly(output: Output) {
    if output.code == 0 {
        return;
    }
    // A process of `exec` may be killed with the container.
    let killed = output.code == 137 && output.stderr.is_empty();
    let lines = output.stderr.trim_end().lines().count();
    assert!(
        killed || (lines == 1 && output.signal.is_none()),
        "{output}"
    );
    assert!(!output.stderr.contains("panicked"), "{output}");
}

/// `state`, `exec`, `create` and `delete` beside many containers take what they take beside one.
#[test]
fn live_containers_do_not_slow_the_next() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.write();
    let few = round(&runtime, &bundle.dir);
    let count = times(30, 1000);
    each(count, 4, |_| {
        let run = runtime.with_bundle("run", &bundle).arg("--detach");
        run.arg(runtime.id()).limit(120).output().ok();
    });
    let many = round(&runtime, &bundle.dir);
    let list = runtime.command(["list", "--quiet"]).output().ok();
    assert_eq!(list.stdout.lines().count(), count);
    println!("a round of verbs beside 0 containers {few:?}, beside {count} {many:?}");
    // On a quiet machine the two are alike; this one runs other tests as well.
    assert!(many < 3 * few + patience(1), "{few:?}, then {many:?}");
    let ids: Vec<&str> = list.stdout.lines().collect();
    each(count, 4, |number| {
        let delete = runtime.command(["delete", "--force", ids[number]]);
        delete.limit(120).output().ok();
    });
    assert!(groups(runtime.marker()).is_empty());
    runtime.is_clean();
}

/// The median of some lives of a container.
fn round(runtime: &Runtime, bundle: &Path) -> Duration {
    let mut durations: Vec<Duration> = (0..7)
        .map(|_| {
            let id = runtime.id();
            let create = runtime.command(["create", "--bundle"]).arg(bundle);
            let mut time = create.arg(&id).output().ok().time;
            for words in [["start", &id].as_slice(), &["state", &id]] {
                time += runtime.command(words).output().ok().time;
            }
            time += runtime.command(["exec", &id, "true"]).output().ok().time;
            let delete = runtime.command(["delete", "--force", &id]);
            time + delete.output().ok().time
        })
        .collect();
    quantile(&mut durations, 2)
}
