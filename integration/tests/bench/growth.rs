//! Whether what is there already makes the next container slower: live containers, mounts of the
//! config, and the config's size. Measured is processor time, which a busy machine changes least.

use coracle_integration::{Bundle, Runtime, json};

use crate::plot::{Lines, lines};
use crate::subject::{Subject, cost, minimal};
use crate::{Options, median};

const LIVE: [u32; 4] = [0, 100, 300, 1000];
const MOUNTS: [u32; 4] = [0, 10, 100, 1000];
const MEBIBYTES: [u32; 3] = [0, 1, 10];
const ROUNDS: usize = 5;

type Series = Vec<(String, Vec<(f64, f64)>)>;

pub(crate) fn part(subjects: &[Subject], options: &Options) {
    let mut series: [Series; 3] = Default::default();
    for subject in subjects {
        series[0].push((subject.name.clone(), live(subject)));
        series[1].push((subject.name.clone(), mounts(subject)));
        series[2].push((subject.name.clone(), size(subject)));
    }
    let titles = [
        (
            "live",
            "`run` beside live containers, processor ms",
            "live containers",
        ),
        ("mounts", "`run` with tmpfs mounts, processor ms", "mounts"),
        (
            "config",
            "`run` with annotations, processor ms",
            "MiB of config.json",
        ),
    ];
    for ((file, title, along), series) in titles.into_iter().zip(series) {
        println!("\n{title}, by {along}\n");
        for (name, points) in &series {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x}: {y:.1}")).collect();
            println!("- {name}: {}", points.join(", "));
        }
        if let Some(folder) = &options.plots {
            let chart = Lines {
                title,
                along,
                series,
            };
            lines(&folder.join(format!("growth-{file}.svg")), &chart);
        }
    }
}

fn run(subject: &Subject, runtime: &Runtime, bundle: &Bundle) -> f64 {
    let times: Vec<f64> = (0..ROUNDS)
        .filter_map(|_| {
            let mut run = subject.command(runtime);
            run.args(["run", "--bundle"])
                .arg(&bundle.dir)
                .arg(runtime.id());
            cost(&mut run).ok().map(|cost| cost.cpu_ms)
        })
        .collect();
    median(&times)
}

fn live(subject: &Subject) -> Vec<(f64, f64)> {
    let runtime = Runtime::new();
    let bundle = minimal(&runtime);
    let sleeper = minimal(&runtime).args(["sleep", "1000"]);
    bundle.write();
    sleeper.write();
    let mut ids: Vec<String> = Vec::new();
    let mut points = Vec::new();
    for wanted in LIVE {
        while ids.len() < usize::try_from(wanted).unwrap_or(0) {
            let id = runtime.id();
            let mut command = subject.command(&runtime);
            command
                .args(["run", "--detach", "--bundle"])
                .arg(&sleeper.dir)
                .arg(&id);
            cost(&mut command).unwrap_or_else(|text| panic!("{text}"));
            ids.push(id);
        }
        points.push((f64::from(wanted), run(subject, &runtime, &bundle)));
    }
    for id in ids {
        let _ = cost(subject.command(&runtime).args(["delete", "--force", &id]));
        crate::verbs::reap();
    }
    points
}

fn mounts(subject: &Subject) -> Vec<(f64, f64)> {
    let runtime = Runtime::new();
    let with = |count: u32| {
        let mut bundle = minimal(&runtime);
        for number in 0..count {
            bundle = bundle.mount(
                &format!("/m/{number}"),
                "tmpfs",
                "tmpfs",
                ["size=16k", "mode=755"],
            );
        }
        bundle.write();
        (f64::from(count), run(subject, &runtime, &bundle))
    };
    MOUNTS.map(with).to_vec()
}

fn size(subject: &Subject) -> Vec<(f64, f64)> {
    let runtime = Runtime::new();
    let with = |mebibytes: u32| {
        let length = usize::try_from(mebibytes).unwrap_or(0) << 20;
        let bundle = minimal(&runtime).set("/annotations/org.example", json!("x".repeat(length)));
        bundle.write();
        (f64::from(mebibytes), run(subject, &runtime, &bundle))
    };
    MEBIBYTES.map(with).to_vec()
}
