//! Waiting for a program, or ending it early.

use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::program::Program;
use coracle_sys::{Call, Cause, ExitStatus};
use coracle_text::errno_text;
use nix::errno::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The events that end a program early.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// The longest time that it may run.
    pub timeout: Option<Duration>,
    /// The pidfd of the container's init. Once init has ended, the program has nothing left to work
    /// on, and the process that killed init may be waiting for this one.
    pub container: Option<BorrowedFd<'a>>,
    /// Signals to the runtime.
    pub interrupts: Option<&'a Interrupts>,
}

impl<'a> Limits<'a> {
    /// Only signals to the runtime.
    #[must_use]
    pub fn interrupted_by(interrupts: &'a Interrupts) -> Self {
        Self {
            interrupts: Some(interrupts),
            ..Self::default()
        }
    }

    /// Whether a signal demands that no further program is started.
    ///
    /// # Errors
    /// [`Failure::NotStarted`].
    pub fn check(&self) -> Result<(), Failure> {
        match self.are_interrupted() {
            true => Err(Failure::NotStarted),
            false => Ok(()),
        }
    }

    fn are_interrupted(&self) -> bool {
        self.interrupts.is_some_and(Interrupts::end_waits)
    }
}

/// How a program failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not start: no such file, not executable, not a program.
    Start(Errno),
    /// It exited with this status, not zero.
    Status(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ran longer than the limit, if that is known, and was killed.
    TimeOut(Option<Duration>),
    /// It printed more than this many bytes, and was killed.
    TooLong(usize),
    /// The container ended, so the program was killed.
    ContainerGone,
    /// The runtime received a signal, so the program was killed.
    Interrupted,
    /// The runtime had received a signal, so the program was not started.
    NotStarted,
    /// A system call of the runtime failed.
    Call(Call, Errno),
}

impl Failure {
    /// The kernel's answer, if it was a call that failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Failure::Start(errno) | Failure::Call(_, errno) => Some(*errno),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(errno) => f.write_str(&errno_text(*errno)),
            Failure::Status(status) => write!(f, "exit status {status}"),
            Failure::Signal(signal) => write!(f, "killed by signal {signal}"),
            Failure::TimeOut(Some(limit)) => write!(f, "timed out after {} s", limit.as_secs()),
            Failure::TimeOut(None) => f.write_str("timed out"),
            Failure::TooLong(limit) => write!(f, "printed more than {limit} bytes"),
            Failure::ContainerGone => f.write_str("ended, since the container was"),
            Failure::Interrupted => f.write_str("killed"),
            Failure::NotStarted => f.write_str("not started, since a signal came"),
            Failure::Call(call, errno) => write!(f, "{}: {}", call.name(), errno_text(*errno)),
        }
    }
}

/// Waits for the program's process only: processes that it left in the background may keep the
/// pipes open. At most five outputs are read meanwhile, since a full pipe would block the program.
///
/// # Errors
/// How it failed. A program that has to end early is killed with its process group.
pub fn wait(program: &Program, outputs: &mut [Output], limits: &Limits) -> Result<(), Failure> {
    let ended = await_end(program, outputs, limits);
    if ended.is_err() {
        program.kill();
    }
    // Output that was written between the last read and the program's end.
    outputs.iter_mut().for_each(Output::read);
    ended?;
    let status = coracle_sys::wait_exit(program.as_fd());
    match status.map_err(|errno| Failure::Call(Call::Wait, errno))? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(status) => Err(match program.start_error() {
            Some(Cause::Call(Call::Exec, errno)) => Failure::Start(errno),
            Some(Cause::Call(call, errno)) => Failure::Call(call, errno),
            _ => Failure::Status(status),
        }),
        ExitStatus::Signal(signal) => Err(Failure::Signal(signal)),
    }
}

/// Returns when the process has ended, before it is reaped.
fn await_end(program: &Program, outputs: &mut [Output], limits: &Limits) -> Result<(), Failure> {
    let deadline = limits
        .timeout
        .and_then(|limit| Instant::now().checked_add(limit));
    loop {
        if limits.are_interrupted() {
            return Err(Failure::Interrupted);
        }
        let left = deadline.map(left_ms);
        let own = program.as_fd();
        // Unused entries repeat the program's pidfd.
        let mut watched = [own; 8];
        let open = outputs.iter().filter(|output| !output.is_ended());
        let others = [limits.container, limits.interrupts.map(AsFd::as_fd)];
        let others = others.map(|other| other.unwrap_or(own));
        let all = others.into_iter().chain(open.map(AsFd::as_fd));
        let mut count = 1;
        for (place, descriptor) in watched.iter_mut().skip(1).zip(all) {
            *place = descriptor;
            count += 1;
        }
        let watched = watched.get(..count).unwrap_or(&watched);
        let ready = coracle_sys::poll_readable(watched, left)
            .map_err(|errno| Failure::Call(Call::Poll, errno))?;
        for output in outputs.iter_mut() {
            output.read();
            if let Some(limit) = output.excess() {
                return Err(Failure::TooLong(limit));
            }
        }
        if ready & 0b1 != 0 {
            return Ok(());
        }
        // Without a container this entry repeats the program's pidfd, and poll(2) checks the
        // entries in order, so the program may have ended after the check of the first one.
        if ready & 0b10 != 0 && limits.container.is_some() {
            return Err(Failure::ContainerGone);
        }
        // Checked here too, for a program that never stops writing.
        if left == Some(0) {
            return Err(Failure::TimeOut(limits.timeout));
        }
    }
}

fn left_ms(end: Instant) -> u32 {
    let left = end.saturating_duration_since(Instant::now());
    // Rounded up, so that zero means that the limit has passed.
    u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}
