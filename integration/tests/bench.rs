//! How long `run` of a container takes that does nothing: `bench [ROUNDS]`, as root.
//!
//! The program under test, runc and crun, as far as they are installed, take turns on one bundle,
//! so that a busy moment of the machine meets all of them. What is told: the least and the middle
//! time of each, and the middle one as a multiple of ours.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use coracle_integration::{Runtime, program};

const ROUNDS: usize = 100;
/// The first rounds fill caches and are not counted.
const WARM_UP: usize = 3;

/// One program in the race.
struct Runner {
    name: String,
    program: PathBuf,
    times: Vec<Duration>,
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let rounds = std::env::args().find_map(|argument| argument.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let mut runners = runners();
    runners.retain(|runner| match run(runner, &runtime, &bundle.write().dir) {
        Ok(_) => true,
        Err(text) => {
            println!("{}: left out: {text}", runner.name);
            false
        }
    });
    for round in 0..rounds + WARM_UP {
        for runner in &mut runners {
            match run(runner, &runtime, &bundle.dir) {
                Ok(time) if round >= WARM_UP => runner.times.push(time),
                Ok(_) => {}
                Err(text) => {
                    println!("{}: {text}", runner.name);
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    report(&mut runners, rounds);
    ExitCode::SUCCESS
}

fn runners() -> Vec<Runner> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let installed = ["runc", "crun"].iter().filter_map(|name| {
        let places = folders.iter().map(|folder| Path::new(folder).join(name));
        places.into_iter().find(|path| path.exists())
    });
    let all = [program().to_owned()].into_iter().chain(installed);
    all.map(|program| Runner {
        name: program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        program,
        times: Vec::new(),
    })
    .collect()
}

/// The time of one `run`, or what went wrong.
fn run(runner: &Runner, runtime: &Runtime, bundle: &Path) -> Result<Duration, String> {
    let mut command = Command::new(&runner.program);
    let root = runtime.folder().join(format!("{}-state", runner.name));
    command.arg("--root").arg(root).args(["run", "--bundle"]);
    command.arg(bundle).arg(runtime.id());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let output = command
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    let time = start.elapsed();
    match output.status.success() {
        true => Ok(time),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn report(runners: &mut [Runner], rounds: usize) {
    println!("{rounds} rounds of `run` of busybox true, in milliseconds");
    println!("{:<10} {:>8} {:>8} {:>7}", "", "least", "middle", "times");
    let mut ours = None;
    for runner in runners {
        runner.times.sort_unstable();
        let (Some(least), Some(middle)) = (
            runner.times.first(),
            runner.times.get(runner.times.len() / 2),
        ) else {
            continue;
        };
        let [least, middle] = [least, middle].map(|time| time.as_secs_f64() * 1000.0);
        let times = middle / *ours.get_or_insert(middle);
        println!(
            "{:<10} {least:>8.2} {middle:>8.2} {times:>7.2}",
            runner.name
        );
    }
}
