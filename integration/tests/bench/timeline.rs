//! What a `run` spends its time on, by the spans of `--trace`.

use std::fs;

use coracle_integration::{Runtime, Value};

use crate::plot::{Span, spans};
use crate::subject::{Subject, cost, docker_like};
use crate::{Options, median};

/// Shorter spans are printed as a sum.
const SHOWN_MS: f64 = 0.05;

/// A span in one round.
struct Measured {
    lane: &'static str,
    name: String,
    /// How many spans of this name came before in the lane.
    nth: usize,
    from_ms: f64,
    ms: f64,
}

/// Only the program under test writes a trace.
pub(crate) fn part(subjects: &[Subject], options: &Options) {
    let Some(subject) = subjects.first() else {
        return;
    };
    let (total, rows) = medians(subject, options.rounds);
    println!(
        "\ndocker-like `run` of {}: {total:.2} ms with --trace, of which\n",
        subject.name
    );
    println!("| from ms | ms | by | |\n|---|---|---|---|");
    let (shown, short): (Vec<&Span>, Vec<&Span>) = rows.iter().partition(|row| row.ms >= SHOWN_MS);
    for row in shown {
        println!(
            "| {:.2} | {:.2} | {} | {} |",
            row.from_ms, row.ms, row.lane, row.name
        );
    }
    for lane in LANES {
        let times: Vec<f64> = short
            .iter()
            .filter(|row| row.lane == lane)
            .map(|row| row.ms)
            .collect();
        let (count, sum) = (times.len(), times.iter().sum::<f64>());
        println!("| | {sum:.2} | {lane} | {count} shorter ones |");
    }
    if let Some(folder) = &options.plots {
        let title = format!("docker-like run of {}, ms", subject.name);
        spans(&folder.join("timeline.svg"), &title, &LANES, &rows);
    }
}

const LANES: [&str; 2] = ["runtime", "init"];

/// The whole time and the spans, each the median of all rounds.
fn medians(subject: &Subject, rounds: usize) -> (f64, Vec<Span>) {
    let runtime = Runtime::new();
    let bundle = docker_like(&runtime);
    bundle.write();
    let folder = runtime.folder().path().display().to_string();
    let file = runtime.folder().join("trace.json");
    let mut all: Vec<Vec<Measured>> = Vec::new();
    let mut totals = Vec::new();
    for _ in 0..rounds.max(1) {
        let id = runtime.id();
        let mut run = subject.command(&runtime);
        run.arg("--trace")
            .arg(&file)
            .args(["run", "--bundle"])
            .arg(&bundle.dir)
            .arg(&id);
        let ran = cost(&mut run).unwrap_or_else(|text| panic!("{text}"));
        let text = fs::read_to_string(&file).expect("a trace");
        all.push(measured(
            &text,
            &[
                (&id, "ID"),
                (&bundle.dir.display().to_string(), "BUNDLE"),
                (&folder, "FOLDER"),
            ],
        ));
        totals.push(ran.wall_ms);
    }
    let first = all.first().map_or(&[][..], Vec::as_slice);
    let rows = first.iter().map(|span| {
        // One plan has the same steps in each round.
        let is_same = |other: &&Measured| {
            (other.lane, &other.name, other.nth) == (span.lane, &span.name, span.nth)
        };
        let of = |part: fn(&Measured) -> f64| {
            let each = all.iter().filter_map(|round| round.iter().find(is_same));
            median(&each.map(part).collect::<Vec<_>>())
        };
        Span {
            lane: span.lane,
            name: span.name.clone(),
            from_ms: of(|span| span.from_ms),
            ms: of(|span| span.ms),
        }
    });
    (median(&totals), rows.collect())
}

/// The spans of a trace, their names without what differs between rounds.
fn measured(text: &str, words: &[(&str, &str)]) -> Vec<Measured> {
    let events: Vec<Value> = serde_json::from_str(text).expect("a JSON list");
    let spans = events.iter().filter(|event| event["ph"] == "X");
    let number = |event: &Value, key: &str| event[key].as_f64().unwrap_or(0.0) / 1000.0;
    let begins = spans.clone().map(|span| number(span, "ts"));
    let begin = begins.fold(f64::INFINITY, f64::min);
    let mut measured: Vec<Measured> = Vec::new();
    for span in spans {
        let lane = LANES[usize::from(span["tid"] != 1)];
        let name = span["name"].as_str().unwrap_or_default().trim();
        let name = name.split(", process ").next().unwrap_or_default();
        let name = match span["cat"] == "wait" && !name.starts_with("wait") {
            true => format!("wait for {name}"),
            false => name.to_owned(),
        };
        let name = words
            .iter()
            .fold(name, |name, (word, short)| name.replace(word, short));
        let before = measured
            .iter()
            .filter(|other| other.lane == lane && other.name == name);
        measured.push(Measured {
            lane,
            nth: before.count(),
            from_ms: number(span, "ts") - begin,
            ms: number(span, "dur"),
            name,
        });
    }
    measured
}
