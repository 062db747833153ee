//! How long checkpoint and restore take, by the same criu, and how large the images are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use coracle_integration::{Bundle, Runtime, copy_program, criu};

use crate::subject::{Cost, Subject, cost};
use crate::{Options, median};

/// What the container's process has in memory.
const MEGABYTES: &str = "64";

/// The costs of one checkpoint and one restore, and the megabytes of the images.
struct Round {
    dump: Cost,
    restore: Cost,
    megabytes: f64,
}

pub(crate) fn part(subjects: &[Subject], options: &Options) {
    let path = match criu::found() {
        Ok(path) => path,
        Err(reason) => return println!("\ncheckpoint: left out: {reason}"),
    };
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["worker", "memory", MEGABYTES]);
    copy_program(criu::worker(), &bundle.path("bin/worker"));
    bundle.write();
    let mut able = Vec::new();
    for subject in subjects {
        match life(&runtime, subject, &bundle, path) {
            Ok(_) => able.push((subject, Vec::new())),
            Err(text) => println!("{}: left out: {text}", subject.name),
        }
    }
    for _ in 0..options.rounds {
        for (subject, rounds) in &mut able {
            let round = life(&runtime, subject, &bundle, path);
            rounds.push(round.unwrap_or_else(|text| panic!("{text}")));
        }
    }
    println!("\n{MEGABYTES} MB of memory: median wall ms (processor ms), and MB of images\n");
    println!("| runtime | checkpoint | restore | images |\n|---|---|---|---|");
    for (subject, rounds) in &able {
        let of = |number: fn(&Round) -> f64| {
            let numbers: Vec<f64> = rounds.iter().map(number).collect();
            median(&numbers)
        };
        println!(
            "| {} | {:.0} ({:.0}) | {:.0} ({:.0}) | {:.1} |",
            subject.name,
            of(|round| round.dump.wall_ms),
            of(|round| round.dump.cpu_ms),
            of(|round| round.restore.wall_ms),
            of(|round| round.restore.cpu_ms),
            of(|round| round.megabytes),
        );
    }
}

/// A container that is dumped, restored and deleted; it is deleted after a failure as well.
fn life(
    runtime: &Runtime,
    subject: &Subject,
    bundle: &Bundle,
    path: &str,
) -> Result<Round, String> {
    let id = runtime.id();
    let images = runtime.folder().join(&id);
    let verb = |verb: &str, options: &[&str]| {
        let mut command = subject.command(runtime);
        command.env("PATH", path).current_dir(&bundle.dir).arg(verb);
        cost(command.args(options).arg(&id))
    };
    let kept = images.display().to_string();
    let travel = || {
        verb("run", &["--detach"])?;
        // The program fills its memory first.
        std::thread::sleep(Duration::from_millis(500));
        let dump = verb("checkpoint", &["--image-path", &kept])?;
        let megabytes = megabytes(&images);
        let restore = verb("restore", &["--detach", "--image-path", &kept])?;
        Ok(Round {
            dump,
            restore,
            megabytes,
        })
    };
    let travelled = travel();
    let _ = verb("delete", &["--force"]);
    crate::verbs::reap();
    let _ = fs::remove_dir_all(&images);
    travelled
}

fn megabytes(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).expect("images").flatten();
    let bytes: u64 = entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|status| status.len())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let megabytes = bytes as f64 / 1e6;
    megabytes
}
