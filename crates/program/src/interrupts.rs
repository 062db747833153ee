//! Signals to the runtime while a program, or init, takes its time.

use coracle_sys::may_be_ignored;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

/// By these a user, a terminal that closes or a service manager ends a command.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// The signals that would end this process, queued instead: what was made can be taken back then.
///
/// They end waits. Dropped, it lets later ones act again as before.
#[derive(Debug)]
pub struct Interrupts {
    queue: SignalFd,
    before: SigSet,
    first: Cell<Option<Signal>>,
    count: Cell<u32>,
    /// Number of signals that end a wait.
    needed: Cell<u32>,
    is_handed_over: bool,
}

impl Interrupts {
    /// Queues the signals from here on, but for those that the caller has us ignore: a shell does
    /// so with a command in the background, and nohup(1).
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn catch() -> nix::Result<Self> {
        coracle_sys::note_ignored_signals();
        let ours = ENDING.into_iter();
        let set: SigSet = ours
            .filter(|signal| !may_be_ignored(*signal as i32))
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

    /// What is done from here on is not to be left half done, such as taking back: only another
    /// signal than the first ends a wait.
    pub fn spare_first(&self) {
        self.end_waits();
        self.count.set(self.count.get().min(1));
        self.needed.set(2);
    }

    /// Takes the signals that have come; whether they end a wait. Takes no heap.
    pub fn end_waits(&self) -> bool {
        while let Ok(Some(info)) = self.queue.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            let signal = Signal::try_from(number).ok();
            self.first.set(self.first.get().or(signal));
            self.count.set(self.count.get().saturating_add(1));
        }
        self.count.get() >= self.needed.get()
    }

    /// Leaves those that come from here on, and those not yet taken, to another queue of theirs.
    pub fn hand_over(mut self) {
        self.is_handed_over = true;
    }

    /// The first signal that has come.
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
    /// Drops signals that are pending: unblocked now, one would end the process before it has
    /// reported the verb's failure, and would make a success look like one.
    fn drop(&mut self) {
        if !self.is_handed_over {
            self.end_waits();
        }
        let _ = self.before.thread_set_mask();
    }
}
