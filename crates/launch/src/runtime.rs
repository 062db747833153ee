//! The runtime's end of a launch: the clone of init, and the messages between the two.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_bundle::Config;
use coracle_namespaces::MovedDevices;
use coracle_program::Interrupts;
use coracle_sys::{Call, Cause, Cloned, ExitStatus, Fault, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::Error;
use crate::explain::plain;
use crate::filter::Filter;
use crate::inherited::{Inherited, Request};
use crate::init;
use crate::message::{self, Check, Message, Stage};
use crate::plan::Plan;

/// How long init may be silent between two messages, where no hook of the config takes its time.
const SILENCE: Duration = Duration::from_secs(300);

/// What may be behind an init that ends without a message once its filter is loaded.
const DENIED: &str = "; the seccomp profile must allow what the runtime calls after loading it: \
    read, write, close, execve, exit_group, and without noNewPrivileges what gives up privileges";

/// Init is trusted to send no more, but not relied upon.
const LONGEST_FILE: usize = 1024;

/// A process that was cloned by the runtime, or by its intermediate.
#[derive(Debug)]
pub struct Child {
    /// In the runtime's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// A launch under way. Dropped before [`Launch::release`], it kills init.
#[derive(Debug)]
pub struct Launch<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) inherited: Inherited<'p>,
    pub(crate) child: Child,
    link: OwnedFd,
    /// What hooks in init print.
    output: Option<coracle_program::Output>,
    pub(crate) console: Option<OwnedFd>,
    /// Of the filter, where init had to send it.
    pub(crate) listener: Option<OwnedFd>,
    /// Network devices that come back if init does not stay.
    pub(crate) devices: Option<MovedDevices<'p>>,
    /// A child that sends sources of mounts to init.
    pub(crate) provider: Option<OwnedFd>,
    /// The file at which a copy by init failed, as far as received.
    file: Vec<u8>,
    pub(crate) warnings: Vec<String>,
    /// The process at hand was cloned into its v2 cgroup.
    pub(crate) is_inside: bool,
    /// Its first message has come.
    pub(crate) is_alive: bool,
    released: bool,
}

impl<'p> Launch<'p> {
    /// Opens what init inherits and clones it, or an intermediate where the plan has one.
    pub(crate) fn begin(plan: &'p Plan, request: Request<'p>) -> Result<Self, Error> {
        let (mut inherited, output) = Inherited::open(plan, request)?;
        let (child, link, warnings) = clone(plan, &mut inherited)?;
        Ok(Self {
            is_inside: is_cloned_inside(plan, &inherited),
            plan,
            inherited,
            child,
            link,
            output,
            console: None,
            listener: None,
            devices: None,
            provider: None,
            file: Vec::new(),
            warnings,
            is_alive: false,
            released: false,
        })
    }

    /// Clones once more, after the first clone was killed. The new one joins its cgroup by itself.
    pub(crate) fn begin_again(&mut self) -> Result<(), Error> {
        self.inherited.join_alone()?;
        (self.child, self.link, self.warnings) = clone(self.plan, &mut self.inherited)?;
        self.is_inside = false;
        Ok(())
    }

    /// Keeps init alive when this value is dropped.
    ///
    /// # Errors
    /// [`Error::Runtime`] when no descriptor is left; init is killed then.
    pub fn release(mut self) -> Result<Child, Error> {
        let pidfd = self.child.pidfd.try_clone().map_err(|_| Error::Runtime {
            attempted: "duplicate init's pidfd",
            errno: Errno::EMFILE,
        })?;
        self.released = true;
        Ok(Child {
            pid: self.child.pid,
            pidfd,
        })
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
        match message::send(self.link.as_fd(), message, attached) {
            Ok(()) => Ok(()),
            // Init is gone: its last message is in the socket.
            Err(Errno::EPIPE | Errno::ECONNRESET) => match self.receive() {
                Ok(_) => Err(self.protocol()),
                Err(error) => Err(error),
            },
            Err(errno) => Err(Error::Runtime {
                attempted: "let init proceed",
                errno,
            }),
        }
    }

    /// The next message, or why there is none.
    pub(crate) fn receive(&mut self) -> Result<Message, Error> {
        match self.next()? {
            Some(Message::Failed(stage, fault)) => Err(self.failed(stage, &fault)),
            Some(message) => Ok(message),
            None => Err(self.gone()),
        }
    }

    /// The next message; `None` when init's end was closed by its exec or its death.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Error> {
        let failed = |errno| Error::Runtime {
            attempted: "receive from init",
            errno,
        };
        let deadline = Instant::now() + SILENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !self.plan.hooks_in_init() {
                let seconds = u32::try_from(SILENCE.as_secs()).unwrap_or(u32::MAX);
                return Err(Error::InitSilent { seconds });
            }
            let wait_ms = u32::try_from(left.as_millis())
                .unwrap_or(u32::MAX)
                .max(1000);
            let output = self.output.as_ref().filter(|output| !output.is_ended());
            // Its end does not end the link where somebody else has it open: an intermediate that
            // dies leaves it to the init that it cloned.
            let interrupts = self.inherited.request.interrupts;
            let signals = interrupts.map_or(self.link.as_fd(), AsFd::as_fd);
            let mut watched = vec![self.link.as_fd(), self.child.pidfd.as_fd(), signals];
            watched.extend(output.map(AsFd::as_fd));
            let ready = coracle_sys::poll_readable(&watched, Some(wait_ms)).map_err(failed)?;
            if ready & 0b1000 != 0
                && let Some(output) = &mut self.output
            {
                output.read();
            }
            if ready & 0b01 == 0 {
                // Its last message may have come after the kernel had looked at the link.
                let link = [self.link.as_fd()];
                if ready & 0b10 == 0 {
                    // Not before: once the program runs, a signal is the container's.
                    self.check()?;
                    continue;
                } else if coracle_sys::poll_readable(&link, Some(0)).map_err(failed)? == 0 {
                    return Ok(None);
                }
            }
            let received = message::receive(self.link.as_fd()).map_err(unreadable)?;
            let Some((message, attached)) = received else {
                return Ok(None);
            };
            match message {
                Message::Alive => self.is_alive = true,
                Message::Console => self.console = attached,
                Message::Listener(_) => self.listener = attached,
                Message::File(part) => {
                    let text = part.iter().take_while(|byte| **byte != 0);
                    self.file.extend(text.take(LONGEST_FILE - self.file.len()));
                    continue;
                }
                _ => {}
            }
            return Ok(Some(message));
        }
    }

    /// Whether there is reason to go on: no signal has come.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let interrupts = self.inherited.request.interrupts;
        match interrupts.is_some_and(Interrupts::end_waits) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// The sentence for what init reports.
    pub(crate) fn failed(&mut self, stage: Stage, fault: &Fault) -> Error {
        let output = self.output.as_mut().map(|output| {
            output.read();
            output.text()
        });
        let sentence = match (stage, fault.cause) {
            (Stage::Cgroup, _) => self.inherited.request.cgroup.record.explain(fault),
            (Stage::Namespaces, Cause::Call(Call::Clone, errno)) => {
                let flags = self.plan.namespaces.final_clone;
                explain_clone(self.plan, &self.inherited, flags, errno)
            }
            (stage, _) => self.plan.explain(stage, fault, &output.unwrap_or_default()),
        };
        let sentence = match String::from_utf8_lossy(&self.file) {
            file if file.is_empty() => sentence,
            // The name is the image's.
            file => format!("{sentence}: copy {}", coracle_text::one_line(&file)),
        };
        Error::Init { sentence }
    }

    /// Init has sent what does not belong there.
    pub(crate) fn protocol(&self) -> Error {
        unreadable(Check::Protocol.into())
    }

    fn gone(&self) -> Error {
        let ended = coracle_sys::wait_exit(self.child.pidfd.as_fd());
        let hint = match (&self.plan.filter, &ended) {
            (Some(filter), Ok(ended)) if may_be_denied(filter, *ended) => DENIED,
            _ => "",
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
            devices.give_back();
        }
        // SIGKILL to init ends its pid namespace too; a process that is gone needs nothing.
        kill_and_reap(self.child.pidfd.as_fd());
        if let Some(provider) = self.provider.take() {
            kill_and_reap(provider.as_fd());
        }
    }
}

fn kill_and_reap(process: BorrowedFd) {
    let _ = coracle_sys::pidfd_send_signal(process, nix::libc::SIGKILL);
    let _ = coracle_sys::wait_exit(process);
}

/// Clones init into its cgroup, or the intermediate, which is in none of the container's. Beside it
/// stands the runtime's end of the link, and what the user should know.
///
/// Init starts with default dispositions and an empty mask, whatever ours are.
fn clone(plan: &Plan, inherited: &mut Inherited) -> Result<(Child, OwnedFd, Vec<String>), Error> {
    let failed = |attempted| move |errno| Error::Runtime { attempted, errno };
    let (link, theirs) = coracle_sys::socket_pair().map_err(failed("make a socket pair"))?;
    coracle_sys::assert_single_threaded();
    coracle_sys::note_ignored_signals();
    let before = coracle_process::before_clone(&plan.process)?;
    let flags = match plan.namespaces.intermediate {
        true => plan.namespaces.first_clone,
        false => plan.namespaces.final_clone,
    };
    let into = |cgroup: Option<&OwnedFd>| {
        coracle_sys::clone3(flags, cgroup.map(AsFd::as_fd), Parentage::Own)
    };
    let cgroup = &mut inherited.request.cgroup;
    let own = cgroup
        .into
        .as_ref()
        .filter(|_| !plan.namespaces.intermediate);
    let cloned = match into(own) {
        // A v2 cgroup that hands controllers down takes no process (EBUSY): a manager in the
        // container has moved itself down.
        Err(Errno::EBUSY) if cgroup.fallback.is_some() => into(cgroup.fallback.as_ref()),
        // No right to move processes there from our own cgroup: systemd has it.
        Err(Errno::EACCES | Errno::EPERM) if cgroup.unit_action.is_some() && own.is_some() => {
            cgroup.into = None;
            into(None)
        }
        cloned => cloned,
    };
    let child = match cloned {
        Ok(Cloned::Parent { pid, pidfd }) => Child { pid, pidfd },
        Ok(Cloned::Child) => {
            drop(link);
            init::run(plan, inherited, theirs.as_fd())
        }
        Err(errno) => {
            let sentence = explain_clone(plan, inherited, flags, errno);
            return Err(Error::Init { sentence });
        }
    };
    drop(theirs);
    let warnings = before.warnings.clone();
    coracle_process::after_clone(before);
    Ok((child, link, warnings))
}

fn is_cloned_inside(plan: &Plan, inherited: &Inherited) -> bool {
    inherited.request.cgroup.into.is_some() && !plan.namespaces.intermediate
}

fn explain_clone(
    plan: &Plan,
    inherited: &Inherited,
    flags: NamespaceFlags,
    errno: Errno,
) -> String {
    let cgroup = &inherited.request.cgroup;
    let by_cgroup = match &cgroup.into {
        Some(_) => cgroup.record.explain_clone(errno),
        None => None,
    };
    by_cgroup.unwrap_or_else(|| plan.namespaces.explain_clone(flags, errno))
}

fn unreadable(cause: Cause) -> Error {
    let sentence = plain("receive a message from init", cause);
    Error::Init { sentence }
}

/// Whether the filter may be behind this end: an action that kills is SIGSYS, and a refused
/// exit_group(2) or sigreturn(2) is a fault of memory. Who answers notified calls may also kill.
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

/// What may be behind an init of this config that ends between its release and its exec; empty, or
/// with punctuation before it.
#[must_use]
pub fn hint_of_end(config: &Config) -> &'static str {
    match config.linux.seccomp {
        Some(_) => DENIED,
        None => "",
    }
}
