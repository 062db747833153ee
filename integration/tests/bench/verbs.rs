//! How long each verb takes, and how much processor time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_integration::{Bundle, Runtime, build_folder, json};

use crate::plot::{Bars, bars};
use crate::subject::{Cost, Subject, cost, docker_like, minimal};
use crate::{Options, median, quantile};

/// The first rounds fill caches and are not counted.
const WARM_UP: usize = 2;

pub(crate) const VERBS: [&str; 10] = [
    "run", "create", "start", "state", "exec", "update", "ps", "pause", "kill", "delete",
];

/// A verb's costs, a list a subject; the last is the floor's, which has `run` alone.
type Costs = Vec<Vec<Cost>>;

pub(crate) fn part(subjects: &[Subject], options: &Options) {
    let runtime = Runtime::new();
    let floor = floor(&runtime);
    for (name, bundle) in [
        ("minimal", minimal(&runtime)),
        ("docker-like", docker_like(&runtime)),
    ] {
        bundle.write();
        let able: Vec<&Subject> = subjects
            .iter()
            .filter(|s| s.can_run(&runtime, &bundle))
            .collect();
        let table = measure(&runtime, &bundle, (&able, floor.as_deref()), options.rounds);
        print(name, &able, &table);
        if let Some(folder) = &options.plots {
            plot(folder, name, &able, &table);
        }
    }
}

/// The minimal program, compiled by the machine's C compiler if there is one.
fn floor(runtime: &Runtime) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/floor.c");
    let program = build_folder().join("floor");
    let options = ["-static", "-O2", "-o"];
    let compiler = Command::new("cc")
        .args(options)
        .arg(&program)
        .arg(&source)
        .status();
    let made = compiler.is_ok_and(|status| status.success());
    let bundle = minimal(runtime);
    let runs = made && cost(Command::new(&program).arg(bundle.rootfs()).arg("/bin/true")).is_ok();
    if !runs {
        println!("floor: left out: cannot be compiled or run");
    }
    runs.then_some(program)
}

fn measure(
    runtime: &Runtime,
    bundle: &Bundle,
    (able, floor): (&[&Subject], Option<&Path>),
    rounds: usize,
) -> Vec<Costs> {
    let mut table = vec![vec![Vec::new(); able.len() + 1]; VERBS.len()];
    let root = json!(bundle.rootfs());
    let sleeper = bundle
        .clone()
        .args(["sleep", "1000"])
        .set("/root/path", root);
    let sleeping = runtime.folder().folder("sleeping");
    fs::write(sleeping.join("config.json"), sleeper.config.to_string()).expect("config.json");
    for round in 0..rounds + WARM_UP {
        for (number, subject) in able.iter().enumerate() {
            let costs = life(runtime, subject, &bundle.dir, &sleeping);
            let kept = costs
                .into_iter()
                .zip(&mut table)
                .filter(|_| round >= WARM_UP);
            kept.for_each(|(cost, row)| row[number].push(cost));
        }
        if let (Some(program), true) = (floor, round >= WARM_UP) {
            let mut command = Command::new(program);
            let cost = cost(command.arg(bundle.rootfs()).arg("/bin/true"));
            table[0][able.len()].push(cost.expect("the floor"));
        }
    }
    table
}

/// One container through all verbs, in the order of [`VERBS`].
pub(crate) fn life(
    runtime: &Runtime,
    subject: &Subject,
    bundle: &Path,
    sleeping: &Path,
) -> Vec<Cost> {
    let id = runtime.id();
    let verb = |words: &[&str], after: &[&str]| {
        let mut command = subject.command(runtime);
        command.args(words).arg(&id).args(after);
        cost(&mut command).unwrap_or_else(|text| panic!("{text}"))
    };
    let with_bundle = |verb: &str, bundle: &Path| {
        let mut command = subject.command(runtime);
        command.args([verb, "--bundle"]).arg(bundle).arg(&id);
        cost(&mut command).unwrap_or_else(|text| panic!("{text}"))
    };
    let mut costs = vec![with_bundle("run", bundle), with_bundle("create", sleeping)];
    costs.push(verb(&["start"], &[]));
    costs.push(verb(&["state"], &[]));
    costs.push(verb(&["exec"], &["true"]));
    costs.push(verb(&["update", "--pids-limit", "90"], &[]));
    costs.push(verb(&["ps"], &[]));
    costs.push(verb(&["pause"], &[]));
    verb(&["resume"], &[]);
    costs.push(verb(&["kill"], &["KILL"]));
    await_end(runtime, subject, &id);
    costs.push(verb(&["delete"], &[]));
    costs
}

/// Until the runtime itself says that the container has stopped.
fn await_end(runtime: &Runtime, subject: &Subject, id: &str) {
    coracle_integration::wait_until("the container's end", || {
        reap();
        let output = subject.command(runtime).args(["state", id]).output();
        output.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("stopped"))
    });
}

/// Collects inits that were left to this process.
pub(crate) fn reap() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while matches!(
        waitpid(None::<nix::unistd::Pid>, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    ) {}
}

fn print(name: &str, able: &[&Subject], table: &[Costs]) {
    println!(
        "\n{name}: median wall ms (processor ms), 95th percentile, and ours as a part of it\n"
    );
    print!("| verb |");
    for subject in able {
        print!(" {} |", subject.name);
    }
    println!(" floor |\n|---|{}", "---|".repeat(able.len() + 1));
    for (verb, row) in VERBS.iter().zip(table) {
        print!("| {verb} |");
        let ours = row.first().map_or(f64::NAN, |costs| wall(costs));
        for costs in row {
            match costs.is_empty() {
                true => print!(" |"),
                false => print!(
                    " {:.2} ({:.2}), {:.2}, {:.2} |",
                    wall(costs),
                    processor(costs),
                    quantile(&walls(costs), 0.95),
                    ours / wall(costs)
                ),
            }
        }
        println!();
    }
}

fn walls(costs: &[Cost]) -> Vec<f64> {
    costs.iter().map(|cost| cost.wall_ms).collect()
}

fn wall(costs: &[Cost]) -> f64 {
    median(&walls(costs))
}

fn processor(costs: &[Cost]) -> f64 {
    let times: Vec<f64> = costs.iter().map(|cost| cost.cpu_ms).collect();
    median(&times)
}

fn plot(folder: &Path, name: &str, able: &[&Subject], table: &[Costs]) {
    let mut names: Vec<&str> = able.iter().map(|subject| subject.name.as_str()).collect();
    names.push("floor");
    let groups = VERBS.iter().zip(table);
    let groups = groups.map(|(verb, row)| {
        let values = row
            .iter()
            .map(|costs| if costs.is_empty() { 0.0 } else { wall(costs) });
        ((*verb).to_owned(), values.collect())
    });
    let title = format!("{name} container, median wall time in ms");
    let chart = Bars {
        title: &title,
        series: &names,
        groups: groups.collect(),
    };
    bars(&folder.join(format!("verbs-{name}.svg")), &chart);
}
