//! Commands with a time limit.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::orphans::Reserved;
use crate::programs;
use crate::runner::patience;

/// Limit of a command in seconds, unless it says another.
const LIMIT_S: u64 = 30;

/// A program to run. Its output goes to files in memory, not to pipes, so that a container that
/// outlives the command does not delay its end.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    limit: Duration,
    stdout: Capture,
    stderr: Capture,
}

impl Command {
    /// A program with an empty environment but for PATH and HOME; standard input is empty.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = std::process::Command::new(program);
        inner
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        inner.stdin(Stdio::null()).current_dir("/");
        let (stdout, stderr) = (Capture::new(), Capture::new());
        inner.stdout(stdout.writer()).stderr(stderr.writer());
        Self {
            inner,
            limit: patience(LIMIT_S),
            stdout,
            stderr,
        }
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.inner.args(arguments);
        self
    }

    /// Adds an argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Runs it in this folder instead of `/`.
    pub fn folder(mut self, path: &Path) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// Gives it this standard input.
    pub fn stdin(mut self, input: impl Into<Stdio>) -> Self {
        self.inner.stdin(input);
        self
    }

    /// Gives it this text on standard input.
    pub fn input(self, text: &str) -> Self {
        let file = Capture::new();
        file.0
            .write_all_at(text.as_bytes(), 0)
            .expect("a file in memory");
        let reader = File::open(file.path()).expect("the same file, from its beginning");
        self.stdin(reader)
    }

    /// Gives it this descriptor as standard output instead of a captured file.
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.inner.stdout(output);
        self
    }

    /// Gives it this descriptor as standard error instead of a captured file.
    pub fn stderr(mut self, output: impl Into<Stdio>) -> Self {
        self.inner.stderr(output);
        self
    }

    /// Allows it this many seconds.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = patience(seconds);
        self
    }

    /// Has it started by another program that ends by executing it, such as `setpriv` or `strace`.
    /// Standard streams are to be set afterwards.
    pub fn under<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        self,
        program: &str,
        options: I,
    ) -> Self {
        let mut outer = Self::new(program)
            .args(options)
            .arg(self.inner.get_program());
        outer = outer.args(self.inner.get_args());
        for (name, value) in self.inner.get_envs() {
            outer.inner.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = self.inner.get_current_dir() {
            outer.inner.current_dir(folder);
        }
        outer.limit = self.limit;
        outer
    }

    /// Has it started by a shell that first runs this script, for example to open descriptors.
    pub fn after(self, script: &str) -> Self {
        self.under("sh", ["-c", &format!("{script}\nexec \"$@\""), "sh"])
    }

    /// Runs it to its end.
    pub fn output(self) -> Output {
        self.spawn().wait()
    }

    /// Runs it to its end; if it exceeds its limit, it is killed, which the exit code shows.
    pub fn output_or_kill(self) -> Output {
        self.spawn().wait_or_kill()
    }

    /// How long it may take.
    pub(crate) fn limit_of(&self) -> Duration {
        self.limit
    }

    /// Starts it; the caller waits for it.
    #[expect(
        clippy::zombie_processes,
        reason = "it is traced, and waited for by its pid"
    )]
    pub(crate) fn start(mut self) -> Started {
        let title = format!("{:?}", self.inner);
        let child =
            programs::start(&mut self.inner).unwrap_or_else(|error| panic!("{title}: {error}"));
        Started {
            title,
            pid: Pid::from_raw(child.id().cast_signed()),
            stdout: self.stdout,
            stderr: self.stderr,
            start: Instant::now(),
        }
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let title = format!("{:?}", self.inner);
        let mut child =
            programs::start(&mut self.inner).unwrap_or_else(|error| panic!("{title}: {error}"));
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sender, ended) = mpsc::channel();
        let reserved = Reserved::new(pid.as_raw());
        thread::spawn(move || {
            let status = child.wait().expect("wait for a child");
            drop(reserved);
            sender.send(status)
        });
        let (stdout, stderr, limit) = (self.stdout, self.stderr, self.limit);
        Running {
            title,
            pid,
            ended,
            limit,
            stdout,
            stderr,
            start: Instant::now(),
        }
    }
}

/// A file in memory that a child writes to.
#[derive(Debug)]
pub struct Capture(File);

impl Capture {
    fn new() -> Self {
        let file = memfd_create(c"output", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
        // Two writers that opened it separately must not overwrite each other.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).expect("append mode");
        Self(File::from(file))
    }

    fn writer(&self) -> OwnedFd {
        self.0
            .as_fd()
            .try_clone_to_owned()
            .expect("a second descriptor")
    }

    fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    /// The text that was written so far.
    pub fn text(&self) -> String {
        let length = self.0.metadata().map_or(0, |data| data.len());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A started command for which its starter waits.
#[derive(Debug)]
pub(crate) struct Started {
    title: String,
    pub(crate) pid: Pid,
    stdout: Capture,
    stderr: Capture,
    start: Instant,
}

impl Started {
    /// Its output, after it has ended.
    pub(crate) fn output(&self, status: ExitStatus) -> Output {
        Output {
            code: code(status),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            time: self.start.elapsed(),
            title: self.title.clone(),
        }
    }
}

/// The exit code, or 128 and the number of the signal.
fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A started command.
#[derive(Debug)]
pub struct Running {
    title: String,
    /// Its process id.
    pub pid: Pid,
    ended: mpsc::Receiver<ExitStatus>,
    limit: Duration,
    start: Instant,
    /// Its standard output so far.
    pub stdout: Capture,
    /// Its standard error so far.
    pub stderr: Capture,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal; an ended one gets none.
    pub fn signal(&self, signal: Signal) {
        let _ = signal::kill(self.pid, signal);
    }

    /// Waits for its end; a command that exceeds its limit is killed and fails the test.
    pub fn wait(&self) -> Output {
        match self
            .ended
            .recv_timeout(self.limit.saturating_sub(self.start.elapsed()))
        {
            Ok(status) => Output::new(status, self),
            Err(RecvTimeoutError::Disconnected) => panic!("{}: lost", self.title),
            Err(RecvTimeoutError::Timeout) => {
                self.signal(Signal::SIGKILL);
                let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
                let limit = self.limit.as_secs();
                panic!(
                    "{}: no end within {limit} s\n{stdout}\n{stderr}",
                    self.title
                )
            }
        }
    }

    /// Waits for its end; a command that exceeds its limit is killed.
    pub fn wait_or_kill(&self) -> Output {
        let left = self.limit.saturating_sub(self.start.elapsed());
        let status = self.ended.recv_timeout(left).or_else(|_| {
            self.signal(Signal::SIGKILL);
            self.ended.recv()
        });
        Output::new(
            status.unwrap_or_else(|_| panic!("{}: lost", self.title)),
            self,
        )
    }

    /// Whether it has ended.
    pub fn wait_briefly(&self, limit: Duration) -> bool {
        self.ended.recv_timeout(limit).is_ok()
    }
}

/// The result of a command that has ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, for messages.
    pub title: String,
    /// Exit code, or 128 and the signal's number.
    pub code: i32,
    /// The signal that ended the command itself.
    pub signal: Option<i32>,
    /// Standard output at the command's end.
    pub stdout: String,
    /// Standard error at the command's end.
    pub stderr: String,
    /// How long it took.
    pub time: Duration,
}

impl Output {
    fn new(status: ExitStatus, command: &Running) -> Self {
        Self {
            code: code(status),
            signal: status.signal(),
            stdout: command.stdout.text(),
            stderr: command.stderr.text(),
            time: command.start.elapsed(),
            title: command.title.clone(),
        }
    }

    /// Asserts exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        self
    }

    /// Asserts a failure that the runtime itself reports: exit code 1, one line on standard error
    /// that holds each of the texts, no trace of a panic.
    #[track_caller]
    pub fn fails<const N: usize>(self, texts: [&str; N]) -> Self {
        self.fails_as(1, texts)
    }

    /// Asserts a reported failure with another exit code.
    #[track_caller]
    pub fn fails_as<const N: usize>(self, code: i32, texts: [&str; N]) -> Self {
        assert_eq!(self.code, code, "expected a failure\n{self}");
        assert!(!self.stderr.contains("panicked"), "panicked\n{self}");
        assert_eq!(
            self.stderr.trim_end().lines().count(),
            1,
            "not one line on stderr\n{self}"
        );
        for text in texts {
            assert!(self.stderr.contains(text), "stderr lacks {text:?}\n{self}");
        }
        self
    }

    /// Standard output without the newline at its end.
    pub fn line(&self) -> &str {
        self.stdout.trim_end()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "command: {}\nexit code: {}\n", self.title, self.code)?;
        write!(f, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
    }
}

/// Waits until `is_done`, ten seconds at most, and fails with `what` otherwise.
#[track_caller]
pub fn wait_until(what: &str, is_done: impl FnMut() -> bool) {
    wait_until_within(10, what, is_done);
}

/// [`wait_until`] with a limit of `seconds`.
#[track_caller]
pub fn wait_until_within(seconds: u64, what: &str, mut is_done: impl FnMut() -> bool) {
    let end = Instant::now() + patience(seconds);
    while !is_done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
