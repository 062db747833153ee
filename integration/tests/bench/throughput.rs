//! Containers a second, with several creators at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coracle_integration::Runtime;

use crate::Options;
use crate::plot::{Lines, lines};
use crate::subject::{Subject, cost, docker_like};

const CREATORS: [usize; 4] = [1, 2, 4, 8];
const TIME: Duration = Duration::from_secs(3);

pub(crate) fn part(subjects: &[Subject], options: &Options) {
    println!("\ndocker-like: `run` a second, by 1, 2, 4 and 8 creators\n");
    println!("| runtime | 1 | 2 | 4 | 8 |\n|---|---|---|---|---|");
    let mut series = Vec::new();
    for subject in subjects {
        let mut points = Vec::new();
        print!("| {} |", subject.name);
        for creators in CREATORS {
            let rate = rate(subject, creators);
            print!(" {rate:.0} |");
            let creators = u32::try_from(creators).unwrap_or(0);
            points.push((f64::from(creators), rate));
        }
        println!();
        series.push((subject.name.clone(), points));
    }
    if let Some(folder) = &options.plots {
        let chart = Lines {
            title: "docker-like containers a second",
            along: "creators at once",
            series,
        };
        lines(&folder.join("throughput.svg"), &chart);
    }
}

fn rate(subject: &Subject, creators: usize) -> f64 {
    let runtime = Runtime::new();
    let bundle = docker_like(&runtime);
    bundle.write();
    let count = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..creators {
            scope.spawn(|| {
                while start.elapsed() < TIME {
                    let mut run = subject.command(&runtime);
                    run.args(["run", "--bundle"])
                        .arg(&bundle.dir)
                        .arg(runtime.id());
                    if cost(&mut run).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let count = u32::try_from(count.into_inner()).unwrap_or(u32::MAX);
    f64::from(count) / start.elapsed().as_secs_f64()
}
