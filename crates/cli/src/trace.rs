//! The trace of a verb, for `--trace FILE`: the JSON array of Chrome's Trace Event Format, which
//! Perfetto opens too.
//!
//! Each event is written at once, so that the trace of a verb that hangs or is killed shows how far
//! it came: readers do without the closing bracket.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use coracle_container::ProgressEvent;
use serde_json::{Value, json};

/// The numbers of the two tracks.
const RUNTIME: u32 = 1;
const INIT: u32 = 2;

/// An open trace.
#[derive(Debug)]
pub(crate) struct Trace {
    file: RefCell<File>,
    /// When the trace began, and when the last step of the runtime ended, in nanoseconds.
    began: u64,
    last: Cell<u64>,
}

impl Trace {
    /// Opens the file as the log is opened, but empties it, and has the process and its clones keep
    /// a timeline.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = crate::log::open(path)?;
        file.set_len(0)?;
        coracle_sys::keep_timeline()?;
        coracle_sys::note_part(coracle_sys::RUNTIME);
        let now = coracle_sys::time_ns();
        let trace = Self {
            file: RefCell::new(file),
            began: now,
            last: Cell::new(now),
        };
        trace.write(&format!("[{}", named(RUNTIME, "runtime")));
        trace.write(&format!(",\n{}", named(INIT, "init")));
        Ok(trace)
    }

    /// Writes an event.
    pub(crate) fn record(&self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Done(step) => self.until_now("runtime", step),
            ProgressEvent::Waited(what) => self.until_now("wait", &format!("wait for {what}")),
            ProgressEvent::Step("runtime", stage, step) => self.until_now(stage, step),
            // The timeline has init's steps with their times.
            ProgressEvent::Step(..) => {}
            ProgressEvent::Timed(span) => {
                let track = if span.actor == "init" { INIT } else { RUNTIME };
                self.slice((track, span.stage), &span.what, span.time_ns);
            }
        }
    }

    /// Writes the whole verb as one slice around all, and ends the array.
    pub(crate) fn end(&self, verb: &str) {
        let whole = (self.began, coracle_sys::time_ns());
        self.slice((RUNTIME, "verb"), verb, whole);
        self.write("\n]\n");
    }

    fn until_now(&self, stage: &str, what: &str) {
        let now = coracle_sys::time_ns();
        self.slice((RUNTIME, stage), what, (self.last.replace(now), now));
    }

    fn slice(&self, (track, stage): (u32, &str), what: &str, (began, ended): (u64, u64)) {
        let event = json!({
            "ph": "X", "pid": std::process::id(), "tid": track, "cat": stage, "name": what,
            "ts": microseconds(began), "dur": microseconds(ended.saturating_sub(began)),
        });
        self.write(&format!(",\n{event}"));
    }

    fn write(&self, text: &str) {
        // A trace that cannot be written must not turn a success into a failure.
        let _ = self.file.borrow_mut().write_all(text.as_bytes());
    }
}

fn named(track: u32, name: &str) -> Value {
    json!({
        "ph": "M", "pid": std::process::id(), "tid": track, "name": "thread_name",
        "args": {"name": name},
    })
}

/// With three digits after the point: a number of the format is a double, which has no room for
/// nanoseconds since 1970 but for microseconds.
fn microseconds(nanoseconds: u64) -> f64 {
    let whole = u32::try_from(nanoseconds / 1_000_000_000).unwrap_or(u32::MAX);
    let rest = u32::try_from(nanoseconds % 1_000_000_000).unwrap_or_default();
    f64::from(whole) * 1e6 + f64::from(rest) / 1e3
}

#[cfg(test)]
mod tests {
    use super::microseconds;

    #[test]
    fn times_are_in_microseconds() {
        let near = |ns: u64, us: f64| (microseconds(ns) - us).abs() < 1.0;
        assert!(near(0, 0.0) && near(1_500, 1.5) && near(2_000_000_000, 2e6));
        assert!(near(1_796_000_000_123_456_789, 1_796_000_000_123_456.8));
    }
}
