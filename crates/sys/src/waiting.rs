//! What this process waits for: reported to a listener once a wait has lasted a while, and noted on
//! the timeline when it has ended.
//!
//! Only a wait that takes so long costs a system call, and a clone has no wait of its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::timeline::{RUNTIME, Words, clock_ns, note_part, note_text};

/// How long a wait lasts before it is reported.
pub const PATIENCE: Duration = Duration::from_nanos(PATIENCE_NS);

const PATIENCE_NS: u64 = 2_000_000_000;

static LISTENER: OnceLock<fn(&str)> = OnceLock::new();
static WHAT: Words = Words::new();
/// When the wait is to be reported, by [`now_ns`]; 0 if there is none, or if it was reported.
static DUE: AtomicU64 = AtomicU64::new(0);

/// Has `listener` called with the first words of a wait that lasts longer than two seconds.
pub fn on_long_wait(listener: fn(&str)) {
    // A second listener would be a second user of the process.
    let _ = LISTENER.set(listener);
}

/// A wait, until it is dropped.
#[derive(Debug)]
pub struct Wait(());

/// Begins to wait for this; at most 64 bytes are kept.
#[must_use]
pub fn wait_for(what: &str) -> Wait {
    note_part(RUNTIME);
    WHAT.store(what);
    if LISTENER.get().is_some() {
        DUE.store(now_ns() + PATIENCE_NS, Ordering::Relaxed);
    }
    Wait(())
}

impl Drop for Wait {
    fn drop(&mut self) {
        DUE.store(0, Ordering::Relaxed);
        if crate::has_timeline() {
            note_text(&WHAT.text());
        }
    }
}

/// The time of a clock that is not set back.
fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// The time until the wait is to be reported, in milliseconds, rounded up.
pub(crate) fn due_ms() -> Option<u64> {
    match DUE.load(Ordering::Relaxed) {
        0 => None,
        due => Some(due.saturating_sub(now_ns()).div_ceil(1_000_000)),
    }
}

/// Reports the wait if it is time: for waits that are not in [`crate::poll_readable`].
pub fn notify_if_due() {
    if due_ms() == Some(0)
        && let Some(listener) = LISTENER.get()
    {
        DUE.store(0, Ordering::Relaxed);
        listener(&WHAT.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicU32;

    static CALLS: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn only_a_long_wait_is_told_and_once() {
        on_long_wait(|what| {
            assert_eq!(what, "a pipe");
            CALLS.fetch_add(1, Ordering::Relaxed);
        });
        let (read, _write) = std::io::pipe().expect("a pipe");
        let poll = |ms| crate::poll_readable(&[read.as_fd()], Some(ms));
        assert_eq!(poll(1), Ok(0));
        let wait = wait_for("a pipe");
        assert_eq!(poll(1), Ok(0));
        notify_if_due();
        assert_eq!(CALLS.load(Ordering::Relaxed), 0);
        assert_eq!(poll(2100), Ok(0));
        assert_eq!((poll(1), CALLS.load(Ordering::Relaxed)), (Ok(0), 1));
        drop(wait);
        assert_eq!(due_ms(), None);
    }
}
