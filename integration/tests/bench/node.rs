//! A node full of containers: what a verb takes beside them, what an agent takes that watches all
//! of them, and many creators at once.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use coracle_integration::{Runtime, json};

use crate::subject::{Subject, cost, docker_like, processor_ms};
use crate::verbs::{VERBS, life, reap};
use crate::{Options, median};

const LIVE: usize = 1000;
const CREATORS: usize = 100;
/// Containers that each of the creators makes.
const EACH: usize = 20;

pub(crate) fn part(subjects: &[Subject], options: &Options) {
    println!(
        "\ndocker-like, processor ms of a verb alone and beside {LIVE} live containers, and the change \
         in proportion to `--version`\n"
    );
    println!("| runtime | {} |", VERBS.join(" | "));
    println!("|---|{}", "---|".repeat(VERBS.len()));
    let watched: Vec<String> = subjects.iter().map(|it| node(it, options)).collect();
    println!(
        "\nprocessor ms to look once at each of {LIVE} containers, and at all by one `list`\n"
    );
    watched.iter().for_each(|line| println!("- {line}"));
    println!("\n{CREATORS} at once, `create` and `delete --force`, {EACH} times each\n");
    subjects.iter().for_each(creators);
}

/// Prints the row of the verbs when all is deleted again; returns what an agent takes.
fn node(subject: &Subject, options: &Options) -> String {
    let runtime = Runtime::new();
    let bundle = docker_like(&runtime);
    bundle.write();
    let folder = runtime.folder().folder("sleeping");
    let sleeper = bundle.clone().args(["sleep", "100000"]);
    let sleeper = sleeper.set("/root/path", json!(bundle.rootfs()));
    std::fs::write(folder.join("config.json"), sleeper.config.to_string()).expect("config.json");
    let look = || verbs(subject, &runtime, (&bundle.dir, &folder), options.rounds);
    let before = look();
    let ids: Vec<String> = (0..LIVE).map(|_| runtime.id()).collect();
    for id in &ids {
        let mut run = subject.command(&runtime);
        run.args(["run", "--detach", "--bundle"])
            .arg(&folder)
            .arg(id);
        cost(&mut run).unwrap_or_else(|text| panic!("{text}"));
    }
    let beside = look();
    let watched = agent(subject, &runtime, &ids);
    for id in ids {
        let _ = cost(subject.command(&runtime).args(["delete", "--force", &id]));
        reap();
    }
    let after = look();
    print!("| {} |", subject.name);
    for verb in 0..VERBS.len() {
        let alone = f64::midpoint(before.ms[verb], after.ms[verb]);
        let relative = f64::midpoint(before.relative(verb), after.relative(verb));
        let more = (beside.relative(verb) / relative - 1.0) * 100.0;
        print!(" {alone:.2}, {:.2}, {more:+.0} % |", beside.ms[verb]);
    }
    println!();
    watched
}

/// Medians of the processor time.
struct Medians {
    /// Of the verbs.
    ms: Vec<f64>,
    /// Of `--version`: only the speed of the machine at that time changes it.
    version_ms: f64,
}

impl Medians {
    fn relative(&self, verb: usize) -> f64 {
        self.ms[verb] / self.version_ms
    }
}

fn verbs(
    subject: &Subject,
    runtime: &Runtime,
    (bundle, sleeping): (&Path, &Path),
    rounds: usize,
) -> Medians {
    let mut versions = Vec::new();
    let mut lives: Vec<Vec<f64>> = Vec::new();
    for _ in 0..rounds {
        let costs = life(runtime, subject, bundle, sleeping);
        lives.push(costs.iter().map(|cost| cost.cpu_ms).collect());
        for _ in 0..5 {
            let version = cost(subject.command(runtime).arg("--version"));
            versions.push(version.expect("--version").cpu_ms);
        }
    }
    let of_verb = |verb: usize| lives.iter().map(|life| life[verb]).collect::<Vec<_>>();
    Medians {
        ms: (0..VERBS.len()).map(|it| median(&of_verb(it))).collect(),
        version_ms: median(&versions),
    }
}

fn agent(subject: &Subject, runtime: &Runtime, ids: &[String]) -> String {
    let sweep = |words: &[&str]| {
        let costs = ids.iter().map(|id| {
            let mut command = subject.command(runtime);
            cost(command.args(words).arg(id)).map(|cost| cost.cpu_ms)
        });
        let sum = costs.sum::<Result<f64, String>>();
        sum.map_or_else(|_| "none".to_owned(), |ms| format!("{ms:.0}"))
    };
    let (state, events) = (sweep(&["state"]), sweep(&["events", "--stats"]));
    let lists = (0..5).filter_map(|_| {
        let mut list = subject.command(runtime);
        cost(list.args(["list", "--format", "json"])).ok()
    });
    let list: Vec<f64> = lists.map(|cost| cost.cpu_ms).collect();
    let list = median(&list);
    format!(
        "{}: state {state}, events {events}, list {list:.0}",
        subject.name
    )
}

fn creators(subject: &Subject) {
    let runtime = Runtime::new();
    let bundle = docker_like(&runtime).args(["sleep", "1000"]);
    bundle.write();
    let failed = AtomicUsize::new(0);
    let (start, before) = (Instant::now(), processor_ms());
    thread::scope(|scope| {
        for _ in 0..CREATORS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let id = runtime.id();
                    let mut create = subject.command(&runtime);
                    create.args(["create", "--bundle"]).arg(&bundle.dir);
                    let mut delete = subject.command(&runtime);
                    delete.args(["delete", "--force", &id]);
                    let done = [cost(create.arg(&id)), cost(&mut delete)];
                    let is_failed = done.iter().any(Result::is_err);
                    failed.fetch_add(usize::from(is_failed), Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let cpu_s = (processor_ms() - before) / 1000.0;
    reap();
    let failed = failed.into_inner();
    let name = &subject.name;
    println!("- {name}: {failed} failed, {seconds:.1} s, {cpu_s:.1} s of processor time");
}
