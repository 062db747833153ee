//! Signals to the runtime while it waits for a program or for init.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The signals by which a user, a closing terminal or a service manager ends a command.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// How long a system call may wait while signals are queued. A blocked signal ends no system call,
/// so the queue is read between two calls.
pub const CALL_LIMIT: Duration = Duration::from_millis(100);

/// Queues the signals that would end this process, so that it can undo what it has made before it
/// ends.
///
/// A queued signal ends a wait. When the value is dropped, later signals act as before.
#[derive(Debug)]
pub struct Interrupts {
    queue: SignalFd,
    before: SigSet,
    first: Cell<Option<Signal>>,
    count: Cell<u32>,
    /// How many signals it takes to end a wait.
    needed: Cell<u32>,
    is_handed_over: bool,
}

impl Interrupts {
    /// Queues the signals from now on. Signals that the process inherited as ignored stay ignored:
    /// a shell does this for a command in the background, and so does nohup(1). Signals that it
    /// inherited as blocked stay blocked and are not read.
    ///
    /// # Errors
    /// The process is at its limit of descriptors.
    pub fn catch() -> nix::Result<Self> {
        coracle_sys::read_signal_masks();
        let ours = ENDING.into_iter();
        let set: SigSet = ours
            .filter(|signal| !coracle_sys::may_be_ignored_or_blocked(*signal as i32))
            .collect();
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self {
            queue,
            before,
            first: Cell::new(None),
            count: Cell::new(0),
            needed: Cell::new(1),
            is_handed_over: false,
        })
    }

    /// From now on it takes two signals to end a wait. For work such as undo, which should not be
    /// interrupted halfway. All signals received so far count as one.
    pub fn require_second(&self) {
        self.end_waits();
        self.count.set(self.count.get().min(1));
        self.needed.set(2);
    }

    /// Reads the queued signals and returns whether they end a wait. Does not allocate.
    pub fn end_waits(&self) -> bool {
        while let Ok(Some(info)) = self.queue.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            let signal = Signal::try_from(number).ok();
            self.first.set(self.first.get().or(signal));
            self.count.set(self.count.get().saturating_add(1));
        }
        self.count.get() >= self.needed.get()
    }

    /// Ends this queue, but leaves unread and later signals blocked, for another queue.
    pub fn hand_over(mut self) {
        self.is_handed_over = true;
    }

    /// The first signal that was received.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.end_waits();
        self.first.get()
    }
}

impl AsFd for Interrupts {
    /// Readable while a signal is queued.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Drop for Interrupts {
    /// Discards pending signals. Unblocked now, one would end the process before it has reported
    /// the failure of the verb, and would turn a success into a failure.
    fn drop(&mut self) {
        // Another queue had blocked them before this one did: the mask stays as it is.
        if !self.is_handed_over {
            self.end_waits();
            let _ = self.before.thread_set_mask();
        }
    }
}
