//! `checkpoint` and `restore`, by a CRIU that works on this kernel.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_integration::{Bundle, Container, Runtime, wait_until};

coracle_integration::tests![a_counter_goes_on_counting, it_goes_on_when_left_running,];

/// Counts on standard output, 50 times a second.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done";

/// A counter, and what it writes.
struct Counter {
    bundle: Bundle,
    output: PathBuf,
}

impl Counter {
    fn new(runtime: &Runtime) -> Self {
        Self {
            bundle: runtime.bundle().shell(COUNTER),
            output: runtime.folder().join("output"),
        }
    }

    fn start<'a>(&self, runtime: &'a Runtime) -> Container<'a> {
        let container = runtime.start_into(&self.bundle, &self.output);
        counts_beyond(&self.output, 5);
        container
    }

    fn restore<'a>(&self, runtime: &'a Runtime, images: &Path) -> Container<'a> {
        runtime.restore(&self.bundle, images, (&self.output, []))
    }
}

/// The numbers that a counter wrote.
fn numbers(output: &Path) -> Vec<u64> {
    let text = fs::read_to_string(output).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

fn last(output: &Path) -> u64 {
    numbers(output).last().copied().unwrap_or(0)
}

#[track_caller]
fn counts_beyond(output: &Path, number: u64) {
    wait_until("the counter to go on", || last(output) > number);
}

fn a_counter_goes_on_counting() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    // It is deleted then.
    container.verb("state").fails(["does not exist"]);
    runtime.is_clean();
    let before = last(&counter.output);
    let restored = counter.restore(&runtime, &images);
    assert_eq!(restored.status(), "running");
    counts_beyond(&counter.output, before + 2);
    let numbers = numbers(&counter.output);
    assert!(
        numbers.iter().copied().eq(1..=last(&counter.output)),
        "{numbers:?}"
    );
    let pid_file = runtime.folder().join(format!("{}pid", restored.id));
    assert_eq!(
        fs::read_to_string(pid_file).unwrap(),
        restored.pid().to_string()
    );
    restored.verb("pause").ok();
    restored.verb("resume").ok();
    assert_eq!(restored.shell("echo in").ok().line(), "in");
    restored.kill("KILL").ok();
    assert_eq!(restored.exit_code(), 137);
    restored.delete().ok();
    runtime.is_clean();
}

fn it_goes_on_when_left_running() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, ["--leave-running"]).ok();
    assert_eq!(container.status(), "running");
    counts_beyond(&counter.output, last(&counter.output));
    // Twice from one image, under other ids, beside the first.
    for name in ["one", "two"] {
        let output = runtime.folder().join(name);
        let restored = runtime.restore(&counter.bundle, &images, (&output, []));
        counts_beyond(&output, 0);
        assert_eq!(restored.status(), "running");
    }
}
