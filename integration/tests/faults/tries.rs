//! Tries of a scenario, and what must hold after each.

use std::fmt;
use std::time::Instant;

use coracle_integration::Receiver;
use coracle_integration::runner::patience;
use coracle_integration::sample::choose;
use coracle_integration::trace::{Fault, Point, Trace, is_infallible, trace};
use nix::errno::Errno;
use nix::libc;

use crate::ERRNOS;
use crate::scenario::{Scenario, Stage, Variant};

/// Calls whose failure ends the process at once. Without memory there is nothing to report with; of
/// the others the kernel refuses none with these arguments: musl crashes if it cannot set the thread
/// pointer before `main`, and Rust's standard library aborts at the first use of a hash table.
const FATAL: [libc::c_long; 7] = [
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_poll,
    libc::SYS_getrandom,
];

/// The exit code of a panic that unwinds.
const PANICKED: i32 = 101;

/// The results of all tries.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) points: usize,
    pub(crate) tries: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.tries += other.tries;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            points,
            tries,
            failed,
            skipped,
        } = self;
        write!(
            f,
            "{tries} faults at {points} system calls, {failed} failed, {skipped} scenarios skipped"
        )
    }
}

/// Which faults a scenario meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This many: kills, errnos and stranded processes in turn, at points that the seed chooses.
    Sample(usize),
    /// At every point a kill, an errno that the seed chooses and, where others may stop what the
    /// command clones, a stranded process.
    EveryPoint,
    /// At every point each errno of the list.
    EveryErrno,
}

/// Tries a scenario.
pub(crate) fn scenario(scenario: &Scenario, choice: Choice, seed: &mut u64) -> Tally {
    let name = scenario.name();
    if let Some(reason) = scenario.lacks() {
        println!("{name}: skipped: {reason}");
        return Tally {
            skipped: 1,
            ..Tally::default()
        };
    }
    let start = Instant::now();
    let mut tries = Tries::new(scenario);
    let points = tries.points();
    let chosen = match choice {
        Choice::Sample(count) => sample(scenario, &points, count, seed),
        Choice::EveryPoint => points
            .iter()
            .flat_map(|&it| kinds(scenario, it, seed))
            .collect(),
        Choice::EveryErrno => points.iter().flat_map(|&it| each_errno(it)).collect(),
    };
    let mut tally = Tally {
        points: points.len(),
        ..Tally::default()
    };
    for (point, fault) in chosen {
        tally.tries += 1;
        if let Err(text) = tries.one(point, fault) {
            tally.failed += 1;
            println!("FAILED: {name} {point} {fault}: {text}");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: {tally}, {seconds:.1} s");
    tally
}

/// Tries one fault at one point.
pub(crate) fn single(scenario: &Scenario, point: Point, fault: Fault) -> Tally {
    let mut tries = Tries::new(scenario);
    tries.points();
    let result = tries.one(point, fault);
    if let Err(text) = &result {
        println!("FAILED: {text}");
    }
    Tally {
        points: 1,
        tries: 1,
        failed: usize::from(result.is_err()),
        skipped: 0,
    }
}

/// A point of a run without a fault, and the number of its call.
type Seen = (Point, i64);

fn kinds(scenario: &Scenario, (point, call): Seen, seed: &mut u64) -> Vec<(Point, Fault)> {
    let mut faults = vec![(point, Fault::Kill)];
    if !is_infallible(call) {
        faults.push((point, any_errno(seed)));
    }
    if scenario.is_shared() && point.process > 0 {
        faults.push((point, Fault::Strand));
    }
    faults
}

fn each_errno((point, call): Seen) -> Vec<(Point, Fault)> {
    let fails = |errno: &Errno| (point, Fault::Fail(*errno));
    match is_infallible(call) {
        true => Vec::new(),
        false => ERRNOS.iter().map(fails).collect(),
    }
}

fn sample(
    scenario: &Scenario,
    points: &[Seen],
    count: usize,
    seed: &mut u64,
) -> Vec<(Point, Fault)> {
    let mut chosen = Vec::new();
    while chosen.len() < count
        && let Some(seen) = pick(points, seed)
    {
        let kinds = kinds(scenario, seen, seed);
        chosen.push(kinds[chosen.len() % kinds.len()]);
    }
    chosen
}

fn any_errno(seed: &mut u64) -> Fault {
    Fault::Fail(pick(&ERRNOS, seed).unwrap_or(Errno::EIO))
}

fn pick<T: Copy>(list: &[T], seed: &mut u64) -> Option<T> {
    (!list.is_empty()).then(|| list[choose(list.len(), seed)])
}

/// The tries of one scenario, which share a stage.
struct Tries<'a> {
    scenario: &'a Scenario,
    stage: Stage,
    console: Option<Receiver>,
    /// The container that the next try may use.
    kept: Option<String>,
}

impl<'a> Tries<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let stage = Stage::new(*scenario);
        let path = stage.runtime.folder().join("console");
        let console = (scenario.variant == Variant::Terminal).then(|| Receiver::new(&path));
        Self {
            scenario,
            stage,
            console,
            kept: None,
        }
    }

    /// The points of a run without a fault, which must succeed.
    fn points(&mut self) -> Vec<Seen> {
        let id = self.stage.prepare();
        let trace = trace(self.stage.command(&id), None);
        assert_eq!(trace.output.code, 0, "{}", trace.output);
        self.clear(&id).expect("nothing is left without a fault");
        let seen = |point| Some((point, trace.call(point)?));
        trace.points().into_iter().filter_map(seen).collect()
    }

    fn one(&mut self, point: Point, fault: Fault) -> Result<(), String> {
        let id = self.kept.take().unwrap_or_else(|| self.stage.prepare());
        let trace = trace(self.stage.command(&id), Some((point, fault)));
        let result = self.judge(&trace, fault, &id);
        let call = trace.met.map_or("not reached".to_owned(), call_name);
        result.map_err(|text| format!("{call}: {text}; {}", one_line(&trace.output.stderr)))
    }

    fn judge(&mut self, trace: &Trace, fault: Fault, id: &str) -> Result<(), String> {
        let ended = how_it_ended(trace, fault);
        let answers = self.answers(id);
        if self.scenario.spares() && ended.is_ok() && answers.is_ok() {
            let running = self.status(id).as_deref() == Some("running");
            self.kept = running.then(|| id.to_owned());
            if running {
                return Ok(());
            }
        }
        let cleared = self.clear(id);
        ended.and(answers).and(cleared)
    }

    /// `state` and `list` answer at once.
    fn answers(&self, id: &str) -> Result<(), String> {
        for words in [&["list"][..], &["state", id]] {
            let output = self.stage.runtime.command(words).limit(10).output_or_kill();
            let gone = words.len() == 2 && output.stderr.contains("does not exist");
            if output.time > patience(2) || (output.code != 0 && !gone) {
                return Err(format!(
                    "{words:?}: exit code {} after {:?}: {}",
                    output.code,
                    output.time,
                    one_line(&output.stderr)
                ));
            }
        }
        Ok(())
    }

    fn status(&self, id: &str) -> Option<String> {
        let output = self.stage.runtime.command(["state", id]).output();
        let state: coracle_integration::Value = output.stdout.parse().ok()?;
        Some(state["status"].as_str()?.to_owned())
    }

    /// `delete --force` leaves nothing.
    fn clear(&mut self, id: &str) -> Result<(), String> {
        let delete = self.stage.runtime.command(["delete", "--force", id]);
        let output = delete.limit(20).output_or_kill();
        if let Some(console) = &self.console
            && !console.is_idle()
        {
            console.drain();
        }
        if output.code != 0 || output.time > patience(5) {
            return Err(format!(
                "delete --force: exit code {} after {:?}: {}",
                output.code,
                output.time,
                one_line(&output.stderr)
            ));
        }
        let left = self.stage.runtime.leftovers();
        match left.is_empty() {
            true => Ok(()),
            false => {
                self.stage.runtime.sweep();
                Err(format!("left behind: {}", left.join(", ")))
            }
        }
    }
}

/// The command ended in time, by itself unless it was killed, and with one line if it failed.
fn how_it_ended(trace: &Trace, fault: Fault) -> Result<(), String> {
    let output = &trace.output;
    if trace.hung {
        return Err("no end within 10 s".to_owned());
    }
    if fault.is_signal() && output.signal == Some(libc::SIGKILL) {
        return Ok(());
    }
    // A panic is an abort in a release build, an exit code in a debug build.
    let is_fatal = trace.met.is_some_and(|call| FATAL.contains(&call));
    if is_fatal && (output.signal.is_some() || output.code == PANICKED) {
        return Ok(());
    }
    if let Some(signal) = output.signal {
        return Err(format!("ended by signal {signal}"));
    }
    // Init that is killed at its execve(2) has died as the program would.
    if fault == Fault::Kill && trace.met == Some(libc::SYS_execve) {
        return Ok(());
    }
    let lines = output.stderr.trim_end().lines().count();
    if output.code != 0 && (output.stderr.contains("panicked") || lines != 1) {
        return Err(format!("exit code {} with {lines} lines", output.code));
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    let line = text.trim().replace('\n', " | ");
    line.chars().take(300).collect()
}

/// The call's name, if the C library's headers are here.
fn call_name(number: i64) -> String {
    let header = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let text = std::fs::read_to_string(header).unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (name, value) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        (value.trim().parse() == Ok(number)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("system call {number}"))
}
