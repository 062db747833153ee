//! A command under ptrace(2): its system calls are counted, and one of them fails or ends its
//! process.
//!
//! Traced are the command and all that it clones, each until it executes another program: the
//! system calls of hooks, plugins and the container's program are not the runtime's.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Command, Output};

/// A system call of a run: the process, in the order of cloning and the command itself first, and
/// which of its calls, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Number of the process.
    pub process: usize,
    /// Number of its call.
    pub call: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.process, self.call)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (process, call) = text.split_once(':').ok_or("a point is PROCESS:CALL")?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text}: not a number"));
        Ok(Self {
            process: number(process)?,
            call: number(call)?,
        })
    }
}

/// The fault that is injected at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the process, before the call is carried out.
    Kill,
    /// The call is not carried out and returns this errno. close(2) and munmap(2) are carried out
    /// all the same, as the kernel does: their errors only report.
    Fail(Errno),
    /// SIGSTOP to the process before the call is carried out, and SIGKILL to the command: what a
    /// process of a shared namespace and a caller may do together. Not for the command itself.
    Strand,
}

impl Fault {
    /// Whether it is a signal, which any call may meet.
    pub fn is_signal(self) -> bool {
        matches!(self, Fault::Kill | Fault::Strand)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill => f.write_str("KILL"),
            Fault::Strand => f.write_str("STRAND"),
            Fault::Fail(errno) => write!(f, "{errno:?}"),
        }
    }
}

/// Whether a call has no errno, or only for arguments that are wrong on every machine: a process is
/// killed at it, and it never fails.
pub fn is_infallible(call: i64) -> bool {
    [
        libc::SYS_umask,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
    ]
    .contains(&call)
}

/// Where a system call is when it is shown to an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is about to be carried out.
    Entry,
    /// It was carried out.
    Exit,
    /// The process has executed another program, and is traced no more.
    Executed,
}

/// A system call that is shown to an observer. Its process stands still meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Number of the process.
    pub process: usize,
    /// The process.
    pub pid: Pid,
    /// Where the call is.
    pub moment: Moment,
    /// Its number.
    pub call: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

type Observer<'o> = &'o mut dyn FnMut(&Seen);

/// The result of a traced command.
#[derive(Debug)]
pub struct Trace {
    /// Numbers of the system calls, a list a process. With a fault only those of its
    /// process, up to it.
    pub calls: Vec<Vec<i64>>,
    /// The number of the call that met the fault, if the point was reached.
    pub met: Option<i64>,
    /// Page faults without input or output, a number a process, up to its end or its next program.
    pub faults: Vec<u64>,
    /// The most memory that the command itself had at a time, in KiB.
    pub peak_kib: u64,
    /// The command did not end in time and was killed.
    pub hung: bool,
    /// The command's output and exit code.
    pub output: Output,
}

impl Trace {
    /// All points of the run.
    pub fn points(&self) -> Vec<Point> {
        let of_process = |(process, calls): (usize, &Vec<i64>)| {
            let point = move |call| Point { process, call };
            (0..calls.len()).map(point).collect::<Vec<_>>()
        };
        self.calls.iter().enumerate().flat_map(of_process).collect()
    }

    /// The number of the call at a point.
    pub fn call(&self, point: Point) -> Option<i64> {
        self.calls.get(point.process)?.get(point.call).copied()
    }
}

/// Runs a command to its end, with a fault at a point. What it leaves running goes on untraced.
///
/// Must be called by a thread that has no other children: it takes the events of all.
pub fn trace(command: Command, fault: Option<(Point, Fault)>) -> Trace {
    run(command, fault, None)
}

/// Runs a command to its end, with each system call shown to an observer at its entry and at its
/// exit.
pub fn observe(command: Command, observer: Observer) -> Trace {
    run(command, None, Some(observer))
}

fn run(command: Command, fault: Option<(Point, Fault)>, observer: Option<Observer>) -> Trace {
    let limit = command.limit_of();
    let stopped = command.under("sh", ["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
    let started = stopped.start();
    let main = started.pid;
    wait_for_stop(main);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options).expect("trace the command");
    kill(main, Signal::SIGCONT).expect("continue the command");
    let (ended, hung) = watch(main, limit);
    let mut tracer = Tracer::new(main, fault, observer);
    let status = tracer.run();
    let _ = ended.send(());
    tracer.let_go();
    Trace {
        calls: tracer.calls,
        faults: tracer.faults,
        peak_kib: tracer.peak_kib,
        met: tracer.met,
        hung: hung.load(Ordering::Relaxed),
        output: started.output(status),
    }
}

fn wait_for_stop(pid: Pid) {
    let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait for the shell's stop");
    assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
}

/// Kills the command when its time is up, unless its end is reported before.
fn watch(main: Pid, limit: std::time::Duration) -> (Sender<()>, Arc<AtomicBool>) {
    let (ended, end) = mpsc::channel();
    let hung = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&hung);
    thread::spawn(move || {
        if end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            flag.store(true, Ordering::Relaxed);
            let _ = kill(main, Signal::SIGKILL);
        }
    });
    (ended, hung)
}

/// A traced process.
#[derive(Debug, Default)]
struct Process {
    /// Its number, once the event of its cloning was seen.
    number: Option<usize>,
    /// It is in a system call.
    inside: bool,
    /// The result that the call must return.
    answer: Option<Errno>,
    /// It stopped before its number was known.
    waiting: bool,
}

struct Tracer<'o> {
    main: Pid,
    observer: Option<Observer<'o>>,
    fault: Option<(Point, Fault)>,
    /// The shell has executed the command.
    counting: bool,
    processes: HashMap<Pid, Process>,
    calls: Vec<Vec<i64>>,
    faults: Vec<u64>,
    /// The call belongs to the shell that executed the command.
    before: u64,
    peak_kib: u64,
    met: Option<i64>,
    /// The process that is to stay stopped.
    stranded: Option<Pid>,
}

impl<'o> Tracer<'o> {
    fn new(main: Pid, fault: Option<(Point, Fault)>, observer: Option<Observer<'o>>) -> Self {
        let first = Process {
            number: Some(0),
            ..Process::default()
        };
        Self {
            main,
            observer,
            fault,
            counting: false,
            processes: HashMap::from([(main, first)]),
            calls: vec![Vec::new()],
            faults: vec![0],
            before: 0,
            peak_kib: 0,
            met: None,
            stranded: None,
        }
    }

    /// Serves all processes until the command itself has ended.
    fn run(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.next() {
                return status;
            }
        }
    }

    /// One event; the status of the command at its end.
    fn next(&mut self) -> Option<ExitStatus> {
        let status = match wait() {
            Ok(status) => status,
            Err(errno) => panic!("wait for the traced command: {errno}"),
        };
        match status {
            WaitStatus::Exited(pid, code) => self.ended(pid, code << 8),
            WaitStatus::Signaled(pid, signal, _) => self.ended(pid, signal as i32),
            WaitStatus::PtraceSyscall(pid) => {
                self.system_call(pid);
                None
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                self.event(pid, event);
                None
            }
            WaitStatus::Stopped(pid, signal) => {
                match self.stranded == Some(pid) {
                    true => self.detach(pid, Some(signal)),
                    false => self.go_on(pid, Some(signal)),
                }
                None
            }
            _ => None,
        }
    }

    fn ended(&mut self, pid: Pid, status: i32) -> Option<ExitStatus> {
        self.processes.remove(&pid);
        (pid == self.main).then(|| ExitStatus::from_raw(status))
    }

    fn event(&mut self, pid: Pid, event: i32) {
        const FORK: i32 = Event::PTRACE_EVENT_FORK as i32;
        const VFORK: i32 = Event::PTRACE_EVENT_VFORK as i32;
        const CLONE: i32 = Event::PTRACE_EVENT_CLONE as i32;
        const EXEC: i32 = Event::PTRACE_EVENT_EXEC as i32;
        const EXIT: i32 = Event::PTRACE_EVENT_EXIT as i32;
        match event {
            FORK | VFORK | CLONE => self.cloned(pid),
            EXEC if pid == self.main => {
                if !std::mem::replace(&mut self.counting, true) {
                    self.before = minor_faults(pid);
                }
            }
            EXIT => self.measure(pid),
            EXEC => {
                self.show(pid, Moment::Executed);
                self.measure(pid);
                self.processes.remove(&pid);
                let _ = ptrace::detach(pid, None);
                return;
            }
            _ => {
                let process = self.processes.entry(pid).or_default();
                if process.number.is_none() {
                    process.waiting = true;
                    return;
                }
            }
        }
        self.go_on(pid, None);
    }

    /// Notes what a process has cost, before its memory is gone.
    fn measure(&mut self, pid: Pid) {
        let Some(number) = self.processes.get(&pid).and_then(|it| it.number) else {
            return;
        };
        let shell = if pid == self.main { self.before } else { 0 };
        if let Some(slot) = self.faults.get_mut(number) {
            *slot = minor_faults(pid).saturating_sub(shell);
        }
        if pid == self.main {
            let peak = crate::status_field(pid, "VmHWM");
            let kib = peak.split(' ').next().and_then(|text| text.parse().ok());
            self.peak_kib = kib.unwrap_or(0);
        }
    }

    /// Numbers the child, whose own first stop may come before this event or after it.
    fn cloned(&mut self, parent: Pid) {
        let Ok(child) = ptrace::getevent(parent) else {
            return;
        };
        let child = Pid::from_raw(i32::try_from(child).expect("a process id"));
        let number = self.calls.len();
        self.calls.push(Vec::new());
        self.faults.push(0);
        let process = self.processes.entry(child).or_default();
        process.number = Some(number);
        if std::mem::take(&mut process.waiting) {
            self.go_on(child, None);
        }
    }

    fn system_call(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return self.go_on(pid, None);
        };
        // A clone's first stop is the end of a call that its parent began.
        let entry =
            ptrace::syscall_info(pid).map(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
        process.inside = entry.unwrap_or(!process.inside);
        if !process.inside {
            self.show(pid, Moment::Exit);
            let process = self.processes.entry(pid).or_default();
            if let Some(errno) = process.answer.take() {
                let _ = machine::answer(pid, errno);
            }
            return self.go_on(pid, None);
        }
        self.show(pid, Moment::Entry);
        match self.counting.then(|| self.entry(pid)).flatten() {
            Some(Fault::Kill) => drop(kill(pid, Signal::SIGKILL)),
            Some(Fault::Strand) => {
                let _ = machine::skip(pid);
                let _ = kill(pid, Signal::SIGSTOP);
                let _ = kill(self.main, Signal::SIGKILL);
                self.stranded = Some(pid);
            }
            _ => {}
        }
        self.go_on(pid, None);
    }

    fn show(&mut self, pid: Pid, moment: Moment) {
        let number = self.processes.get(&pid).and_then(|process| process.number);
        let (Some(process), true) = (number, self.counting) else {
            return;
        };
        let Some(observer) = &mut self.observer else {
            return;
        };
        if let Ok((call, arguments)) = machine::registers(pid) {
            let seen = Seen {
                process,
                pid,
                moment,
                call,
                arguments,
            };
            observer(&seen);
        }
    }

    /// Counts a call; returns the fault that was to happen here, after preparing it.
    fn entry(&mut self, pid: Pid) -> Option<Fault> {
        let process = self.processes.get_mut(&pid)?;
        let number = machine::call(pid).ok()?;
        let calls = self.calls.get_mut(process.number?)?;
        let here = Point {
            process: process.number?,
            call: calls.len(),
        };
        calls.push(number);
        let (point, fault) = self.fault?;
        if point != here || (!fault.is_signal() && is_infallible(number)) {
            return None;
        }
        self.met = Some(number);
        if let Fault::Fail(errno) = fault {
            process.answer = Some(errno);
            if ![libc::SYS_close, libc::SYS_munmap].contains(&number) {
                let _ = machine::skip(pid);
            }
        }
        Some(fault)
    }

    /// Ends the tracing of what the command left running.
    fn let_go(&mut self) {
        for pid in self.processes.keys() {
            let _ = ptrace::interrupt(*pid);
        }
        while !self.processes.is_empty() {
            match wait() {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => {
                    self.processes.remove(&pid);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => self.detach(pid, Some(signal)),
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    if let Some(errno) = self.processes.get_mut(&pid).and_then(|p| p.answer.take())
                    {
                        let _ = machine::answer(pid, errno);
                    }
                    self.detach(pid, None);
                }
                Ok(WaitStatus::PtraceEvent(pid, _, _)) => self.detach(pid, None),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// To the next call, or to the next other event where the calls do not matter. One that was
    /// killed meanwhile has nothing to be continued.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let _ = match self.counts(pid) {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }

    /// Whether a process must stop at its next call: with a fault, only its own process does, and
    /// only up to it.
    fn counts(&self, pid: Pid) -> bool {
        let Some((point, _)) = self.fault else {
            return true;
        };
        let process = self.processes.get(&pid);
        let number = process.and_then(|process| process.number);
        let awaits_answer = process.is_some_and(|process| process.answer.is_some());
        number == Some(point.process) && (self.met.is_none() || awaits_answer)
    }

    fn detach(&mut self, pid: Pid, signal: Option<Signal>) {
        self.processes.remove(&pid);
        let _ = ptrace::detach(pid, signal);
    }
}

/// minflt, the tenth field of proc_pid_stat(5).
fn minor_faults(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses the third field is the first.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let faults = fields.split(' ').nth(7).and_then(|text| text.parse().ok());
    faults.unwrap_or(0)
}

/// The next event of this thread's children and of what it traces.
fn wait() -> nix::Result<WaitStatus> {
    loop {
        match waitpid(
            None::<Pid>,
            Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD),
        ) {
            Err(Errno::EINTR) => {}
            status => return status,
        }
    }
}

/// Whether this machine's registers are known here.
pub fn can_trace() -> bool {
    cfg!(target_arch = "x86_64")
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use nix::errno::Errno;
    use nix::sys::ptrace::{getregs, setregs};
    use nix::unistd::Pid;

    /// The number of the call that a process is about to make.
    pub(super) fn call(pid: Pid) -> nix::Result<i64> {
        Ok(getregs(pid)?.orig_rax.cast_signed())
    }

    /// The number and the arguments of the call that a process is in.
    pub(super) fn registers(pid: Pid) -> nix::Result<(i64, [u64; 6])> {
        let it = getregs(pid)?;
        let arguments = [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9];
        Ok((it.orig_rax.cast_signed(), arguments))
    }

    /// Has the kernel carry out no call.
    pub(super) fn skip(pid: Pid) -> nix::Result<()> {
        let mut registers = getregs(pid)?;
        registers.orig_rax = u64::MAX;
        setregs(pid, registers)
    }

    /// Sets what the call returns.
    pub(super) fn answer(pid: Pid, errno: Errno) -> nix::Result<()> {
        let mut registers = getregs(pid)?;
        registers.rax = (-i64::from(errno as i32)).cast_unsigned();
        setregs(pid, registers)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    use nix::errno::Errno;
    use nix::unistd::Pid;

    pub(super) fn call(_: Pid) -> nix::Result<i64> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn registers(_: Pid) -> nix::Result<(i64, [u64; 6])> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn skip(_: Pid) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn answer(_: Pid, _: Errno) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }
}
