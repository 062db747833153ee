//! The runtime's side of a launch: the clone of init, and the messages between the two.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use coracle_bundle::Config;
use coracle_bundle::annotation::SECCOMP_PROGRAM;
use coracle_namespaces::MovedDevices;
use coracle_program::Interrupts;
use coracle_sys::{Call, Cause, Cloned, ExitStatus, Fault, NamespaceFlags, Parentage};
use coracle_text::Report;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid};

use crate::error::{Error, system};
use crate::explain::{Failure, plain};
use crate::filter::{self, Filter};
use crate::inherited::{Inherited, Request};
use crate::init;
use crate::message::{self, Check, Message, Stage};
use crate::plan::Plan;

/// How long init may take between two messages, unless it runs hooks, which have no limit.
const SILENCE: Duration = Duration::from_secs(300);

/// How long init may take to find out about a failure: it may hang on a file of the image.
const REMARK: Duration = Duration::from_secs(2);

/// Init, or the intermediate before it has cloned init.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its pid in the runtime's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: Rc<OwnedFd>,
}

/// A launch in progress. Kills init if it is dropped before [`Launch::release`].
#[derive(Debug)]
pub struct Launch<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) inherited: Inherited<'p>,
    pub(crate) child: Child,
    /// The process group of an intermediate that was not reaped. An init that it has cloned without
    /// reporting the pid is in it as well.
    pub(crate) group: Option<Pid>,
    socket: OwnedFd,
    /// The output of hooks in init.
    output: Option<coracle_program::Output>,
    pub(crate) console: Option<OwnedFd>,
    /// The seccomp filter's listener, if init had to send it.
    pub(crate) listener: Option<OwnedFd>,
    /// Network devices that are moved back to the host if the launch fails.
    pub(crate) devices: Option<MovedDevices<'p>>,
    /// The pidfd of the child that sends sources of mounts to init.
    pub(crate) provider: Option<OwnedFd>,
    pub(crate) warnings: Vec<String>,
    /// Whether `child` was cloned into its v2 cgroup.
    pub(crate) is_inside: bool,
    /// Whether init's first message has come.
    pub(crate) is_alive: bool,
    released: bool,
}

impl<'p> Launch<'p> {
    /// Opens the descriptors that init inherits and clones init, or an intermediate if the plan has
    /// one.
    pub(crate) fn begin(plan: &'p Plan, request: Request<'p>) -> Result<Self, Error> {
        let (mut inherited, output) = Inherited::open(plan, request)?;
        let (child, socket, warnings) = clone(plan, &mut inherited)?;
        Ok(Self {
            is_inside: is_cloned_inside(plan, &inherited),
            group: group_of(plan, &child),
            plan,
            inherited,
            child,
            socket,
            output,
            console: None,
            listener: None,
            devices: None,
            provider: None,
            warnings,
            is_alive: false,
            released: false,
        })
    }

    /// Clones once more, after the first clone was killed; the new one joins its cgroup by its pid.
    pub(crate) fn clone_again(&mut self) -> Result<(), Error> {
        self.inherited.join_alone()?;
        (self.child, self.socket, self.warnings) = clone(self.plan, &mut self.inherited)?;
        self.group = group_of(self.plan, &self.child);
        self.is_inside = false;
        Ok(())
    }

    /// Ends the launch without killing init.
    #[must_use]
    pub fn release(mut self) -> Child {
        self.released = true;
        self.child.clone()
    }

    /// Lets init proceed.
    pub(crate) fn proceed(&mut self) -> Result<(), Error> {
        self.send(Message::Proceed, None)
    }

    pub(crate) fn send(
        &mut self,
        message: Message,
        attached: Option<BorrowedFd>,
    ) -> Result<(), Error> {
        match message::send(self.socket.as_fd(), message, attached) {
            Ok(()) => Ok(()),
            // Init has ended; its last message is still in the socket.
            Err(Errno::EPIPE | Errno::ECONNRESET) => match self.receive() {
                Ok(_) => Err(self.protocol()),
                Err(error) => Err(error),
            },
            Err(errno) => Err(system("let init proceed")(errno)),
        }
    }

    /// The next message. An error if init reports a failure or has ended.
    pub(crate) fn receive(&mut self) -> Result<Message, Error> {
        match self.next()? {
            Some(Message::Failed(stage, fault)) => Err(self.failed(stage, fault)),
            Some(message) => Ok(message),
            None => Err(self.gone()),
        }
    }

    /// The next message; `None` if init has executed the program or ended, which closes its socket.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Error> {
        let _wait = coracle_sys::wait_for("init");
        let failed = system("receive from init");
        let deadline = Instant::now() + SILENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !self.plan.hooks_in_init() {
                return Err(Error::InitSilent {
                    seconds: SILENCE.as_secs(),
                });
            }
            let wait_ms = u32::try_from(left.as_millis())
                .unwrap_or(u32::MAX)
                .max(1000);
            let output = self.output.as_ref().filter(|output| !output.is_ended());
            // The pidfd is watched as well: if an intermediate dies, there is no end of file, since
            // the init that it cloned has the socket open, too.
            let interrupts = self.inherited.request.interrupts;
            let signals = interrupts.map_or(self.socket.as_fd(), AsFd::as_fd);
            let mut watched = vec![self.socket.as_fd(), self.child.pidfd.as_fd(), signals];
            watched.extend(output.map(AsFd::as_fd));
            let ready = coracle_sys::poll_readable(&watched, Some(wait_ms)).map_err(failed)?;
            if ready & 0b1000 != 0
                && let Some(output) = &mut self.output
            {
                output.read();
            }
            if ready & 0b01 == 0 {
                // The last message may have arrived after poll(2) looked at the socket.
                let socket = [self.socket.as_fd()];
                if ready & 0b10 == 0 {
                    // Only if nothing has arrived: once the program runs, a signal is to be passed
                    // to it.
                    self.check_signals()?;
                    continue;
                } else if coracle_sys::poll_readable(&socket, Some(0)).map_err(failed)? == 0 {
                    return Ok(None);
                }
            }
            let received = message::receive(self.socket.as_fd()).map_err(unreadable)?;
            let Some((message, attached)) = received else {
                return Ok(None);
            };
            match message {
                Message::Alive => self.is_alive = true,
                Message::Console => self.console = attached,
                Message::Listener(_) => self.listener = attached,
                _ => {}
            }
            return Ok(Some(message));
        }
    }

    /// Returns [`Error::Interrupted`] if a signal has come that ends the launch.
    pub(crate) fn check_signals(&self) -> Result<(), Error> {
        let interrupts = self.inherited.request.interrupts;
        match interrupts.is_some_and(Interrupts::end_waits) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// The error for a failure that init reports.
    pub(crate) fn failed(&mut self, stage: Stage, fault: Fault) -> Error {
        let output = self.output.as_mut().map(|output| {
            output.read();
            output.text()
        });
        let failure = Failure {
            stage,
            fault,
            remark: self.remark(),
            output: output.unwrap_or_default(),
        };
        let report = match (stage, fault.cause) {
            (Stage::Cgroup, _) => self.inherited.request.cgroup.record.explain(&fault),
            (Stage::Namespaces, Cause::Call(Call::Clone, errno)) => {
                let flags = self.plan.namespaces.final_clone;
                explain_clone(self.plan, &self.inherited, flags, errno)
            }
            _ => self.plan.explain(&failure),
        };
        failure.reported(report)
    }

    /// What init has found out about its failure.
    fn remark(&self) -> Vec<u8> {
        let mut remark = Vec::new();
        let deadline = Instant::now() + REMARK;
        let socket = self.socket.as_fd();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait_ms = u32::try_from(left.as_millis()).unwrap_or_default();
            match coracle_sys::poll_readable(&[socket], Some(wait_ms)) {
                Err(Errno::EINTR) => continue,
                Ok(ready) if ready != 0 => {}
                _ => return remark,
            }
            match message::receive(socket) {
                Ok(Some((Message::Remark(part), _))) => message::add_remark(&mut remark, &part),
                _ => return remark,
            }
        }
    }

    /// The error for an unexpected message of init's.
    pub(crate) fn protocol(&self) -> Error {
        unreadable(Check::Protocol.into())
    }

    fn gone(&self) -> Error {
        let ended = coracle_sys::wait_exit(self.child.pidfd.as_fd());
        let hint = match (&self.plan.filter, &ended) {
            (Some(filter), Ok(ended)) if may_be_denied(filter, *ended) => {
                filter::hint(&filter.barred)
            }
            _ => String::new(),
        };
        let cause = match ended {
            Ok(ExitStatus::Signal(nix::libc::SIGKILL)) if self.is_inside && !self.is_alive => {
                return Error::KilledAtClone;
            }
            Ok(ExitStatus::Signal(signal)) => Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string()),
            Ok(ExitStatus::Code(code)) => format!("exit code {code}"),
            Err(errno) => errno.to_string(),
        };
        Error::InitGone { cause, hint }
    }
}

impl Drop for Launch<'_> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if let Some(devices) = &self.devices {
            devices.move_back();
        }
        if let Some(group) = self.group {
            kill_and_reap_group(group);
        }
        // SIGKILL to init kills all processes of its pid namespace as well (pid_namespaces(7)).
        let _ = kill_and_reap(self.child.pidfd.as_fd());
        if let Some(provider) = self.provider.take() {
            let _ = kill_and_reap(provider.as_fd());
        }
    }
}

/// The process group of an intermediate. Init leaves it only after it may proceed.
fn group_of(plan: &Plan, child: &Child) -> Option<Pid> {
    plan.namespaces.intermediate.then_some(child.pid)
}

/// A process that shares init's pid namespace may stop init, and stop or kill the intermediate,
/// before either has sent a message. Such an init is only known by its group.
fn kill_and_reap_group(group: Pid) {
    let wait = |flags| waitpid(Pid::from_raw(-group.as_raw()), Some(flags));
    loop {
        match wait(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG) {
            // As long as a child of this process is in the group, its number cannot be reused.
            Ok(WaitStatus::StillAlive) => {
                let _ = killpg(group, Signal::SIGKILL);
                let _ = wait(WaitPidFlag::__WALL);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Waits until a child writes, or ends: `ETIMEDOUT` if it does neither. A process of the container
/// may have stopped it.
pub(crate) fn await_child(what: &str, readable: BorrowedFd) -> nix::Result<()> {
    let _wait = coracle_sys::wait_for(what);
    let limit_ms = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    match coracle_sys::poll_readable(&[readable], Some(limit_ms))? {
        0 => Err(Errno::ETIMEDOUT),
        _ => Ok(()),
    }
}

/// Kills a child and waits for its end, but not if the kernel or a profile refuses the signal.
pub(crate) fn kill_and_reap(process: BorrowedFd) -> nix::Result<()> {
    coracle_sys::pidfd_send_signal(process, nix::libc::SIGKILL)?;
    coracle_sys::wait_exit(process).map(drop)
}

/// Clones init into its cgroup, or the intermediate outside of it. Returns the child, the runtime's
/// end of the socket pair, and warnings.
///
/// Init starts with default signal dispositions and an empty signal mask.
fn clone(plan: &Plan, inherited: &mut Inherited) -> Result<(Child, OwnedFd, Vec<String>), Error> {
    // Init closes the later one together with all that the runtime opens after it.
    let (init_socket, socket) = coracle_sys::socket_pair().map_err(system("make a socket pair"))?;
    coracle_sys::assert_single_threaded();
    coracle_sys::read_signal_masks();
    let before = coracle_process::before_clone(&plan.process)?;
    let (flags, parentage) = match plan.namespaces.intermediate {
        // Its end is waited for by its pidfd. Init, its sibling, is as silent until it executes the
        // program or this runtime ends.
        true => (plan.namespaces.first_clone, Parentage::OwnSilent),
        false => (plan.namespaces.final_clone, Parentage::Own),
    };
    let into =
        |cgroup: Option<&OwnedFd>| coracle_sys::clone3(flags, cgroup.map(AsFd::as_fd), parentage);
    let cgroup = &mut inherited.request.cgroup;
    let own = cgroup
        .into
        .as_ref()
        .filter(|_| !plan.namespaces.intermediate);
    let cloned = match into(own) {
        // A v2 cgroup that enables controllers for its children cannot hold processes (EBUSY). A
        // service manager in the container has moved itself into a child and enabled them.
        Err(Errno::EBUSY) if cgroup.fallback.is_some() => into(cgroup.fallback.as_ref()),
        // A runtime without the permission to put processes there has systemd do it.
        Err(Errno::EACCES | Errno::EPERM) if cgroup.unit_action.is_some() && own.is_some() => {
            cgroup.into = None;
            into(None)
        }
        cloned => cloned,
    };
    let child = match cloned {
        Ok(Cloned::Parent { pid, pidfd }) => {
            if plan.namespaces.intermediate {
                // It waits for a message, or has ended.
                let _ = setpgid(pid, pid);
            }
            Child {
                pid,
                pidfd: pidfd.into(),
            }
        }
        Ok(Cloned::Child) => {
            drop(socket);
            init::run(plan, inherited, init_socket.as_fd())
        }
        Err(errno) => {
            let report = explain_clone(plan, inherited, flags, errno);
            return Err(Error::Init(Box::new(report)));
        }
    };
    drop(init_socket);
    let warnings = before.warnings.clone();
    coracle_process::after_clone(before);
    Ok((child, socket, warnings))
}

fn is_cloned_inside(plan: &Plan, inherited: &Inherited) -> bool {
    inherited.request.cgroup.into.is_some() && !plan.namespaces.intermediate
}

fn explain_clone(
    plan: &Plan,
    inherited: &Inherited,
    flags: NamespaceFlags,
    errno: Errno,
) -> Report {
    let cgroup = &inherited.request.cgroup;
    let by_cgroup = match &cgroup.into {
        Some(_) => cgroup.record.explain_clone(errno),
        None => None,
    };
    by_cgroup.unwrap_or_else(|| plan.namespaces.explain_clone(flags, errno))
}

fn unreadable(cause: Cause) -> Error {
    Error::Init(Box::new(plain("receive a message from init", cause)))
}

/// Whether the seccomp filter may be the cause of init's end. A killing action sends SIGSYS; after
/// a refused exit_group(2) or sigreturn(2) init crashes; and the agent of notified calls may kill
/// it.
fn may_be_denied(filter: &Filter, ended: ExitStatus) -> bool {
    use nix::libc::{SIGABRT, SIGBUS, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP};
    match ended {
        ExitStatus::Code(_) => true,
        ExitStatus::Signal(SIGKILL) => filter.program.listener.is_some(),
        ExitStatus::Signal(signal) => {
            [SIGSYS, SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGABRT].contains(&signal)
        }
    }
}

/// A possible cause for an init of this config that ends without a message after it was created;
/// empty if there is none.
#[must_use]
pub fn hint_of_end(config: &Config) -> String {
    let is_whole = config.annotations.contains_key(SECCOMP_PROGRAM);
    match config.linux.seccomp.is_some() || is_whole {
        true => filter::hint(&filter::barred(config)),
        false => String::new(),
    }
}
