//! One plugin from its start to its end.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_sys::{Call as Kernel, Execution, ExitStatus, Program, StringArray};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::uio::pwrite;

use crate::error::Failure;
use crate::plan::answer;
use crate::plan::call::Call;

/// The longest result; a real one has some hundred bytes.
const MAX_RESULT_BYTES: usize = 1 << 20;
/// Kept of what it complains: the end, where the reason is.
const MAX_COMPLAINT_BYTES: usize = 2048;

/// How long a plugin may take, and for whom it works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) timeout: Duration,
    /// A pidfd: when it becomes readable there is nothing left to work on.
    pub(super) container: Option<BorrowedFd<'a>>,
}

/// Runs the plugin to its end and returns what it printed.
///
/// It is over when its process ends, not when its pipes do.
pub(super) fn run(path: &CString, call: &Call, limits: Limits) -> Result<Vec<u8>, Failure> {
    let stdin = input(&call.input)?;
    let (mut printed, stdout) = Stream::pipe()?;
    let (mut complained, stderr) = Stream::pipe()?;
    let execution = Execution {
        path,
        arguments: &StringArray::new(vec![path.clone()]),
        added: None,
        environment: &call.environment,
        stdin: stdin.as_fd(),
        stdout: Some(stdout.as_fd()),
        stderr: Some(stderr.as_fd()),
        // What a plugin of a dead runtime still made, nobody would take back.
        parent_death_signal: Some(Signal::SIGKILL),
    };
    let failed = |(call, errno)| Failure::Call(call, errno);
    let program = coracle_sys::start_program(&execution).map_err(failed)?;
    // Else the pipes would never end.
    drop((stdout, stderr));
    let ended = wait(&program, &mut printed, &mut complained, limits);
    if ended.is_err() {
        program.kill();
    }
    ended?;
    let status = coracle_sys::wait_exit(program.as_fd());
    match status.map_err(|errno| Failure::Call(Kernel::Wait, errno))? {
        ExitStatus::Code(0) => Ok(printed.bytes),
        ExitStatus::Code(status) => Err(match program.start_error() {
            Some(errno) => Failure::Start(errno),
            None => answer::failure(status, &printed.bytes, &complained.bytes),
        }),
        ExitStatus::Signal(signal) => {
            let words = answer::words(&printed.bytes, &complained.bytes);
            Err(Failure::Signal(signal, words))
        }
    }
}

/// Returns when the process has ended, not yet waited for.
fn wait(
    program: &Program,
    printed: &mut Stream,
    complained: &mut Stream,
    limits: Limits,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limits.timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that zero means that the time is over.
        let left_ms = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        let own = program.as_fd();
        let mut watched = vec![own, limits.container.unwrap_or(own)];
        let streams = [&*printed, &*complained];
        watched.extend(
            streams
                .into_iter()
                .filter(|s| !s.ended)
                .map(|s| s.reader.as_fd()),
        );
        let ready = coracle_sys::poll_readable(&watched, Some(left_ms))
            .map_err(|errno| Failure::Call(Kernel::Poll, errno))?;
        printed.read();
        complained.read();
        complained.keep_end();
        if printed.bytes.len() > MAX_RESULT_BYTES {
            return Err(Failure::TooLong(MAX_RESULT_BYTES));
        }
        if ready & 1 != 0 {
            return Ok(());
        }
        // The kernel looks at one after the other, so the same process may have ended in between.
        if ready & 2 != 0 && limits.container.is_some() {
            return Err(Failure::ContainerGone);
        }
        // Also of a plugin that never stops writing.
        if left_ms == 0 {
            return Err(Failure::TimeOut(limits.timeout));
        }
    }
}

/// A file in memory: unlike a pipe it takes an input of any size at once and knows no EPIPE.
fn input(text: &str) -> Result<OwnedFd, Failure> {
    let file = memfd_create(c"network", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| Failure::Call(Kernel::Open, errno))?;
    let mut done = 0;
    while let Some(rest @ [_, ..]) = text.as_bytes().get(done..) {
        // At an offset: the position that the plugin reads from stays at the start.
        let offset = nix::libc::off_t::try_from(done).unwrap_or(nix::libc::off_t::MAX);
        done += pwrite(&file, rest, offset).map_err(|errno| Failure::Call(Kernel::Write, errno))?;
    }
    Ok(file)
}

/// The reading end of a pipe, and what came out of it.
struct Stream {
    reader: OwnedFd,
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn pipe() -> Result<(Self, OwnedFd), Failure> {
        let failed = |errno| Failure::Call(Kernel::Open, errno);
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        // Of this end alone: a plugin expects writes that wait.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        let (bytes, ended) = (Vec::new(), false);
        let stream = Self {
            reader,
            bytes,
            ended,
        };
        Ok((stream, writer))
    }

    /// Reads what is there without waiting; no more at once than a result may have.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while !self.ended && total <= MAX_RESULT_BYTES {
            match nix::unistd::read(&self.reader, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.bytes.extend(buffer.iter().take(length));
                    total += length;
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn keep_end(&mut self) {
        let excess = self.bytes.len().saturating_sub(MAX_COMPLAINT_BYTES);
        self.bytes.drain(..excess);
    }
}
