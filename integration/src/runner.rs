//! The runner of the tests that need root: `kernel [--list] [--exact] [FILTER]...`.
//!
//! It prints a line a test, `test lifecycle::create_waits ... ok`, the failures in full below, and
//! a summary line. The exit code is 0 if nothing failed. Settings come from the environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `CORACLE` | the program under test; default: the one of this build |
//! | `CORACLE_BUILDKIT` | a folder with buildkitd and buildctl, which build by coracle and by runc |
//! | `CORACLE_KUBERNETES` | a checkout of Kubernetes with its programs: a cluster runs pods |
//! | `CORACLE_TEST_CGROUPFS` | engines make control groups themselves, though there is systemd |
//! | `CORACLE_TEST_CRIU` | folder of a CRIU, instead of the one that `integration/criu` unpacks |
//! | `CORACLE_TEST_DIR` | where temporary folders are made; default `/tmp` |
//! | `CORACLE_TEST_FAILURES` | a file to which failures are added as well |
//! | `CORACLE_TEST_FULL` | long variants of the tests |
//! | `CORACLE_TEST_JOBS` | tests at once; default: twice the number of CPUs |
//! | `CORACLE_TEST_PATIENCE` | factor for all time limits, for slow machines |
//! | `CORACLE_TEST_NEEDS_ROOT` | fail instead of skipping when not root (CI) |
//! | `CORACLE_TEST_PROBES` | so many `PODS,SECONDS` of kubelet's probes, by runc as well |
//! | `CORACLE_TEST_SWARM` | all tests of a Docker Swarm, scaled to so many tasks |
//! | `CORACLE_TEST_V1` | hide version 2 from engines, as crun wants it on hybrid machines |

use std::any::Any;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// One test, registered by [`macro@crate::test`]: it fails by panicking.
#[derive(Clone, Copy)]
pub struct Test {
    /// Path of the module; its last part is printed.
    pub module: &'static str,
    /// Name of the function.
    pub name: &'static str,
    /// Where it stands in its file.
    pub line: u32,
    /// The function.
    pub run: fn(),
    /// It comes after all others of its module, if any of them is run.
    pub is_last: bool,
}

inventory::collect!(Test);

impl Test {
    /// `module::name`, without the crate.
    pub fn title(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// Runs the body of a destructor that may panic. A panic that leaves a destructor while a test is
/// already failing would abort the whole run; here it is one more line of the test's failure.
///
/// ```
/// struct Stuck;
/// impl Drop for Stuck {
///     fn drop(&mut self) {
///         coracle_integration::runner::clean_up(|| panic!("cannot be removed"));
///     }
/// }
/// let test = std::thread::spawn(|| {
///     let _stuck = Stuck;
///     panic!("failed")
/// });
/// assert!(test.join().is_err());
/// ```
pub fn clean_up(end: impl FnOnce()) {
    if thread::panicking() {
        // The panic hook has kept the message.
        let _ = panic::catch_unwind(AssertUnwindSafe(end));
    } else {
        end();
    }
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It returned.
    Passed,
    /// It called [`crate::skip!`]: the reason.
    Skipped(String),
    /// It panicked or took too long: the message.
    Failed(String),
}

struct Skip(String);

/// Longest time for one test; commands within have shorter limits of their own.
const TEST_LIMIT_S: u64 = 300;

/// Messages of panics, by thread, until the runner takes them.
static PANICS: LazyLock<Mutex<HashMap<ThreadId, String>>> = LazyLock::new(Mutex::default);

/// Ends the calling test as skipped. Use [`crate::skip!`].
pub fn skip(reason: String) -> ! {
    panic::resume_unwind(Box::new(Skip(reason)))
}

/// Are the long variants of the tests wanted?
pub fn is_full() -> bool {
    std::env::var_os("CORACLE_TEST_FULL").is_some()
}

/// `full` repetitions in a full run, `quick` otherwise.
pub fn times(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

/// `seconds`, stretched by `CORACLE_TEST_PATIENCE` for slow machines.
pub fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("CORACLE_TEST_PATIENCE").ok();
    let factor: u32 = factor.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds) * factor
}

/// Runs the tests that the command line names and reports them.
pub fn main() -> ExitCode {
    run_requested(|tests| vec![tests])
}

/// Like [`run`], one module after the other, for modules whose tests share an engine.
pub fn module_by_module() -> ExitCode {
    run_requested(|tests| {
        let modules = tests.chunk_by(|a, b| a.module == b.module);
        modules.map(<[Test]>::to_vec).collect()
    })
}

/// Tests that are run side by side, in the order of the source.
type Suite = Vec<Test>;

fn run_requested(divide: fn(Suite) -> Vec<Suite>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let mut tests: Suite = inventory::iter::<Test>.into_iter().copied().collect();
    assert!(!tests.is_empty(), "no test is registered in this program");
    tests.sort_by_key(|test| (test.module, test.line, test.name));
    let is_requested = |test: &Test| {
        let matches = |filter: &&String| match is_exact {
            true => test.title() == **filter,
            false => test.title().contains(filter.as_str()),
        };
        filters.is_empty() || filters.iter().any(matches)
    };
    let mut suites = divide(tests);
    for suite in &mut suites {
        suite.retain(|test| test.is_last || is_requested(test));
    }
    suites.retain(|suite| suite.iter().any(|test| !test.is_last));
    if arguments.iter().any(|argument| argument == "--list") {
        for test in suites.iter().flatten().filter(|test| !test.is_last) {
            println!("{}: test", test.title());
        }
        return ExitCode::SUCCESS;
    }
    report(run_suites(suites))
}

fn run_suites(suites: Vec<Suite>) -> Vec<(String, Verdict)> {
    if !nix::unistd::geteuid().is_root() {
        return without_root(suites.iter().flatten());
    }
    remember_panics();
    crate::orphans::collect_orphans();
    println!(
        "running {} tests, program {}",
        suites.iter().flatten().count(),
        crate::runtime::program().display()
    );
    println!("machine: {}", crate::machine());
    let mut verdicts = Vec::new();
    for suite in suites {
        let (last, others) = suite.into_iter().partition(|test| test.is_last);
        verdicts.extend(run_all(others));
        verdicts.extend(run_all(last));
    }
    verdicts
}

fn run_all(tests: Vec<Test>) -> Vec<(String, Verdict)> {
    let jobs = jobs();
    let (finished, results) = mpsc::channel();
    let mut waiting = tests.into_iter();
    let mut running: HashMap<String, Instant> = HashMap::new();
    let mut verdicts = Vec::new();
    loop {
        while running.len() < jobs {
            let Some(test) = waiting.next() else { break };
            running.insert(test.title(), Instant::now());
            start(test, finished.clone());
        }
        if running.is_empty() {
            return verdicts;
        }
        match results.recv_timeout(Duration::from_millis(500)) {
            Ok((title, verdict)) => {
                // A test that exceeded its limit was reported then.
                if running.remove(&title).is_some() {
                    verdicts.push(print_verdict(title, verdict));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                verdicts.extend(give_up(&mut running));
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("this loop holds a sender"),
        }
    }
}

/// Each test has a thread, since a panic ends no more than its thread.
fn start(test: Test, finished: mpsc::Sender<(String, Verdict)>) {
    let body = move || {
        let verdict = match panic::catch_unwind(test.run) {
            Ok(()) => Verdict::Passed,
            Err(payload) => verdict_of(payload.as_ref()),
        };
        // The receiver is gone only if the whole run ended.
        let _ = finished.send((test.title(), verdict));
    };
    let named = thread::Builder::new().name(test.title());
    named.spawn(body).expect("a thread for the test");
}

fn verdict_of(payload: &(dyn Any + Send)) -> Verdict {
    if let Some(Skip(reason)) = payload.downcast_ref() {
        return Verdict::Skipped(reason.clone());
    }
    let message = PANICS
        .lock()
        .map(|mut all| all.remove(&thread::current().id()));
    Verdict::Failed(
        message
            .ok()
            .flatten()
            .unwrap_or_else(|| "panicked".to_owned()),
    )
}

/// Keeps the messages of panics for the report, all of a thread, instead of mixing them on stderr.
fn remember_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|at| format!("{}:{}", at.file(), at.line()));
        let text = info.payload_as_str().unwrap_or("panicked");
        let message = format!("{}: {text}\n", place.unwrap_or_default());
        // No verdict follows from the main thread's own panic, which ends the program.
        if thread::current().name() == Some("main") {
            eprint!("{message}");
        }
        if let Ok(mut all) = PANICS.lock() {
            all.entry(thread::current().id())
                .or_default()
                .push_str(&message);
        }
    }));
}

fn give_up(running: &mut HashMap<String, Instant>) -> Vec<(String, Verdict)> {
    let limit = patience(TEST_LIMIT_S);
    let late: Vec<String> = running
        .iter()
        .filter(|(_, start)| start.elapsed() > limit)
        .map(|(t, _)| t.clone())
        .collect();
    let mut verdicts = Vec::new();
    for title in late {
        running.remove(&title);
        let verdict = Verdict::Failed(format!("did not end within {} s", limit.as_secs()));
        verdicts.push(print_verdict(title, verdict));
    }
    verdicts
}

/// Whether the command line has no filter, or one that the name contains. For external suites.
pub fn is_requested(name: &str) -> bool {
    let mut filters = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .peekable();
    filters.peek().is_none() || filters.any(|filter| name.contains(&filter))
}

/// Prints the verdict on one test and returns both.
pub fn print_verdict(title: String, verdict: Verdict) -> (String, Verdict) {
    match &verdict {
        Verdict::Passed => println!("test {title} ... ok"),
        Verdict::Skipped(reason) => println!("test {title} ... skipped: {reason}"),
        Verdict::Failed(_) => println!("test {title} ... FAILED"),
    }
    (title, verdict)
}

fn without_root<'a>(tests: impl Iterator<Item = &'a Test>) -> Vec<(String, Verdict)> {
    let verdict = match std::env::var_os("CORACLE_TEST_NEEDS_ROOT") {
        Some(_) => Verdict::Failed("needs root, which CORACLE_TEST_NEEDS_ROOT demands".to_owned()),
        None => Verdict::Skipped("needs root".to_owned()),
    };
    tests
        .map(|test| print_verdict(test.title(), verdict.clone()))
        .collect()
}

fn jobs() -> usize {
    let jobs = std::env::var("CORACLE_TEST_JOBS")
        .ok()
        .and_then(|text| text.parse().ok());
    jobs.unwrap_or_else(|| 2 * thread::available_parallelism().map_or(1, usize::from))
}

/// Prints the failures in full and the summary.
pub fn report(verdicts: Vec<(String, Verdict)>) -> ExitCode {
    let mut passed = 0;
    let mut skipped = 0;
    let mut failed = Vec::new();
    for (title, verdict) in &verdicts {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Failed(text) => failed.push((title, text)),
        }
    }
    let failures: String = failed
        .iter()
        .map(|(title, text)| format!("\n---- {title} ----\n{}\n", text.trim_end()))
        .collect();
    print!("{failures}");
    if let Some(file) = std::env::var_os("CORACLE_TEST_FAILURES") {
        let file = OpenOptions::new().append(true).create(true).open(file);
        let written = file.and_then(|mut file| file.write_all(failures.as_bytes()));
        written.expect("CORACLE_TEST_FAILURES");
    }
    println!(
        "\n{passed} passed, {} failed, {skipped} skipped",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
