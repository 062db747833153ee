//! The runtime's half of a launch: clones init, maps its ids, grants its stages and hears its
//! reports. It decides nothing: what happens and in which order is in the [`Plan`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_bundle::Config;
use coracle_namespaces::MovedDevices;
use coracle_program::Interrupts;
use coracle_sys::{Call, Cause, Cloned, ExitStatus, Fault, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::error::Error;
use crate::explain::plain;
use crate::filter::Filter;
use crate::init;
use crate::message::{self, Check, Message, Stage};
use crate::plan::Plan;
use crate::slots::Slots;
use crate::sources;

/// How long init may be silent between two messages, where no hook of the config takes its time.
const SILENCE: Duration = Duration::from_secs(300);

/// What may be behind an init that ends without a word once its filter is loaded.
const DENIED: &str = "; the seccomp profile must allow what the runtime calls after loading it: \
    read, write, close, execve, exit_group, and without noNewPrivileges what gives up privileges";

/// A cloned init under way. Dropped before [`Launch::release`], it kills init.
#[derive(Debug)]
pub struct Launch<'p> {
    plan: &'p Plan,
    slots: Slots,
    link: OwnedFd,
    pid: Pid,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
    /// Of the filter, where init had to send it.
    listener: Option<OwnedFd>,
    /// Network devices that come back if init does not stay.
    devices: Option<MovedDevices<'p>>,
    /// A child that sends sources of mounts to init.
    provider: Option<OwnedFd>,
    /// The file at which a copy by init failed, as far as received.
    file: Vec<u8>,
    /// What the user should know though it is no error, one line each.
    pub warnings: Vec<String>,
    /// Cloned into a cgroup, and not heard of since.
    unborn: bool,
    released: bool,
    /// Signals to us that end the waits for init.
    interrupts: Option<&'p Interrupts>,
}

/// Init is trusted to say no more, but not relied upon.
const LONGEST_FILE: usize = 1024;

/// What whoever answers notified calls is told of the container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerState<'a> {
    /// The version of the specification that we speak.
    pub oci_version: &'a str,
    /// The state as JSON: runtime.md § State.
    pub json: &'a [u8],
}

/// What is left to do after the launch: init's descriptor, and the pty's master if there is one.
#[derive(Debug)]
pub struct Released {
    /// Init in the runtime's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// Clones init into its cgroup, or an intermediate where the plan asks for one. It waits for
/// [`Launch::settle`].
///
/// Init starts with default dispositions and an empty mask, whatever ours are.
///
/// # Errors
/// [`Error`], and no process is left.
pub fn spawn<'p>(
    plan: &'p Plan,
    mut slots: Slots,
    interrupts: Option<&'p Interrupts>,
) -> Result<Launch<'p>, Error> {
    let failed = |attempted| move |errno| Error::Runtime { attempted, errno };
    let (link, theirs) = coracle_sys::socket_pair().map_err(failed("make a socket pair"))?;
    coracle_sys::assert_single_threaded();
    coracle_sys::note_ignored_signals();
    let before = coracle_process::before_clone(&plan.process)?;
    let namespaces = &plan.namespaces;
    let flags = match namespaces.intermediate {
        true => namespaces.first_clone,
        false => namespaces.final_clone,
    };
    let (pid, pidfd) = match clone_into_cgroup(plan, &mut slots, flags) {
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Ok(Cloned::Child) => {
            drop(link);
            init::run(plan, slots, theirs.as_fd())
        }
        Err(errno) => {
            let sentence = explain_clone(plan, &slots, flags, errno);
            return Err(Error::Init { sentence });
        }
    };
    drop(theirs);
    let warnings = before.warnings.clone();
    coracle_process::after_clone(before);
    let unborn = slots.into.is_some() && !namespaces.intermediate;
    // Dropped on failure, it ends the child.
    Ok(Launch {
        plan,
        slots,
        link,
        pid,
        pidfd,
        console: None,
        listener: None,
        devices: None,
        provider: None,
        file: Vec::new(),
        warnings,
        unborn,
        released: false,
        interrupts,
    })
}

fn clone_into_cgroup(plan: &Plan, slots: &mut Slots, flags: NamespaceFlags) -> nix::Result<Cloned> {
    let into = |cgroup: &Option<OwnedFd>| {
        coracle_sys::clone3(flags, cgroup.as_ref().map(AsFd::as_fd), Parentage::Own)
    };
    let own = match plan.namespaces.intermediate {
        true => &None,
        false => &slots.into,
    };
    match into(own) {
        // "No internal processes": the container's own manager moved itself down (CGR-13).
        Err(Errno::EBUSY) if slots.fallback.is_some() => into(&slots.fallback),
        // No right to move processes there from our own cgroup: systemd has it.
        Err(Errno::EACCES | Errno::EPERM) if slots.place.is_some() && own.is_some() => {
            slots.into = None;
            into(&None)
        }
        cloned => cloned,
    }
}

fn explain_clone(plan: &Plan, slots: &Slots, flags: NamespaceFlags, errno: Errno) -> String {
    let by_cgroup = match &slots.into {
        Some(_) => slots.cgroup.explain_clone(errno),
        None => None,
    };
    by_cgroup.unwrap_or_else(|| plan.namespaces.explain_clone(flags, errno))
}

impl<'p> Launch<'p> {
    /// Init's pid in the runtime's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Init's pidfd.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pty's master, once [`Launch::created`] has returned, if the process has a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sees to it that the process at hand is init, and that it is in its cgroup. It waits for
    /// [`Launch::admit`].
    ///
    /// # Errors
    /// What the intermediate reported, or systemd.
    pub fn settle(&mut self) -> Result<(), Error> {
        let inside = match self.plan.namespaces.intermediate {
            true => self.await_fork()?,
            false => self.slots.into.is_some(),
        };
        match (&self.slots.place, &self.slots.into) {
            _ if inside => {}
            (Some(place), _) => self.slots.leaf = coracle_cgroups::join_unit(place, self.pid)?,
            (None, Some(into)) => {
                coracle_cgroups::enter(&self.slots.cgroup, into.as_fd(), self.pid)?;
            }
            (None, None) => {}
        }
        self.slots.close_after_clone();
        Ok(())
    }

    /// The intermediate has its ids mapped, joins what only it can, clones init and ends. Whether
    /// init was born in its v2 cgroup.
    fn await_fork(&mut self) -> Result<bool, Error> {
        if self
            .plan
            .namespaces
            .first_clone
            .contains(NamespaceFlags::USER)
        {
            coracle_namespaces::map_ids(&self.plan.namespaces, self.pid)?;
        }
        self.grant()?;
        let (pid, inside) = match self.hear()? {
            Message::Forked(pid) => (pid, true),
            Message::Outside(pid) => (pid, false),
            _ => return Err(self.protocol()),
        };
        let pid = Pid::from_raw(pid);
        let pidfd = coracle_sys::pidfd_open(pid).map_err(|errno| {
            // It is a child of ours that nobody has waited for, so the number is still its own.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
            Error::Runtime {
                attempted: "open init's pidfd",
                errno,
            }
        })?;
        let intermediate = std::mem::replace(&mut self.pidfd, pidfd);
        self.pid = pid;
        coracle_sys::wait_exit(intermediate.as_fd()).map_err(|errno| Error::Runtime {
            attempted: "wait for the intermediate",
            errno,
        })?;
        self.unborn = inside;
        Ok(inside)
    }

    /// Maps init's ids, where its own clone made the user namespace. Init waits on.
    ///
    /// # Errors
    /// [`Error`] of the mapping.
    pub fn map_ids(&mut self) -> Result<(), Error> {
        let plan = &self.plan.namespaces;
        if plan.final_clone.contains(NamespaceFlags::USER) {
            coracle_namespaces::map_ids(plan, self.pid)?;
        }
        Ok(())
    }

    /// Moves network devices in and lets init go on.
    ///
    /// # Errors
    /// [`Error`] of a device.
    pub fn admit(&mut self) -> Result<(), Error> {
        let plan: &'p Plan = self.plan;
        let plan = &plan.namespaces;
        if !plan.devices.is_empty() {
            let network = match self.slots.namespaces.network(plan) {
                Some(joined) => joined
                    .try_clone_to_owned()
                    .map_err(|error| Error::Runtime {
                        attempted: "hold the container's network namespace",
                        errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
                    })?,
                None => self.network_namespace()?,
            };
            self.devices = Some(coracle_namespaces::move_net_devices(plan, network)?);
        }
        self.send_sources()?;
        let leaf = self.slots.leaf.take();
        self.tell(Message::Grant, leaf.as_ref().map(AsFd::as_fd))
    }

    /// Has a child of ours find the sources of mounts that init cannot find itself.
    fn send_sources(&mut self) -> Result<(), Error> {
        let (plan, slots) = (&self.plan.rootfs, self.slots.rootfs.take());
        if let (Some(plan), Some(slots)) = (plan, slots)
            && plan.needs_provider()
        {
            self.provider = Some(sources::send(plan, slots, self.pid)?);
        }
        Ok(())
    }

    /// Ends the child that finds the sources. Init has all that it needs, or is gone; the child may
    /// be on its way to a stand-in that nobody wants, on a file system that does not answer.
    fn reap_provider(&mut self) -> Result<(), Error> {
        let Some(provider) = self.provider.take() else {
            return Ok(());
        };
        let _ = coracle_sys::pidfd_send_signal(provider.as_fd(), nix::libc::SIGKILL);
        match coracle_sys::wait_exit(provider.as_fd()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::Runtime {
                attempted: "wait for the sources of mounts",
                errno,
            }),
        }
    }

    /// The network namespace that init is in. Before [`Launch::admit`], since init can hide it
    /// from an ordinary user afterwards.
    ///
    /// # Errors
    /// [`Error::Runtime`], or why init is gone.
    pub fn network_namespace(&mut self) -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match open(path.as_str(), flags, Mode::empty()) {
            Ok(namespace) => Ok(namespace),
            // Init waits for us, so that it is gone is its last word.
            Err(Errno::ENOENT | Errno::ESRCH) => match self.hear() {
                Ok(_) => Err(self.protocol()),
                Err(error) => Err(error),
            },
            Err(errno) => Err(Error::Runtime {
                attempted: "open init's network namespace",
                errno,
            }),
        }
    }

    /// Hands the state to the hooks that init runs itself: their standard input.
    ///
    /// # Errors
    /// [`Error::Runtime`] when it cannot be written.
    pub fn tell_hooks(&mut self, create: &[u8], start: &[u8]) -> Result<(), Error> {
        coracle_hooks::fill_stdin(&self.slots.create_container, create)?;
        coracle_hooks::fill_stdin(&self.slots.start_container, start)?;
        Ok(())
    }

    /// Waits until the mounts are attached: only where the plan stops there for hooks.
    ///
    /// # Errors
    /// What init reported.
    pub fn mounts_reached(&mut self) -> Result<(), Error> {
        match self.hear()? {
            Message::MountsReached => Ok(()),
            _ => Err(self.protocol()),
        }
    }

    /// Lets init go on.
    ///
    /// # Errors
    /// [`Error::Runtime`], or what init reported instead of waiting.
    pub fn grant(&mut self) -> Result<(), Error> {
        self.tell(Message::Grant, None)
    }

    fn tell(&mut self, message: Message, attached: Option<BorrowedFd>) -> Result<(), Error> {
        match message::send(self.link.as_fd(), message, attached) {
            Ok(()) => Ok(()),
            // Init is gone: its last word is in the socket.
            Err(Errno::EPIPE | Errno::ECONNRESET) => match self.hear() {
                Ok(_) => Err(self.protocol()),
                Err(error) => Err(error),
            },
            Err(errno) => Err(Error::Runtime {
                attempted: "tell init to go on",
                errno,
            }),
        }
    }

    /// Waits until everything but the start is done. Where the filter notifies, its listener goes
    /// to whoever the config names, with the container's state.
    ///
    /// # Errors
    /// What init reported; [`Error::Seccomp`] when nobody takes the listener.
    pub fn created(&mut self, container: &ContainerState) -> Result<(), Error> {
        loop {
            match self.hear()? {
                Message::Console => {}
                Message::Listener(number) => self.forward_listener(number, container)?,
                Message::Created => return self.reap_provider(),
                _ => return Err(self.protocol()),
            }
        }
    }

    fn forward_listener(&mut self, number: i32, container: &ContainerState) -> Result<(), Error> {
        let filter = self.plan.filter.as_ref();
        let Some(listener) = filter.and_then(|filter| filter.program.listener.as_ref()) else {
            return Err(self.protocol());
        };
        let descriptor = match coracle_sys::pidfd_getfd(self.pidfd.as_fd(), number) {
            // It takes the right to trace init, which a runtime without privileges does not have.
            Err(Errno::EPERM) if listener.notifies_sendmsg => {
                return Err(coracle_seccomp::Error::OutOfReach.into());
            }
            Err(Errno::EPERM) => self.ask_for_listener()?,
            fetched => fetched.map_err(|errno| Error::Runtime {
                attempted: "fetch the seccomp listener from init",
                errno,
            })?,
        };
        let process = coracle_seccomp::ProcessState {
            oci_version: container.oci_version,
            pid: self.pid.as_raw(),
            state: container.json,
        };
        coracle_seccomp::send_listener(listener, &process, descriptor.as_fd())?;
        self.grant()
    }

    fn ask_for_listener(&mut self) -> Result<OwnedFd, Error> {
        self.tell(Message::Attach, None)?;
        match (self.hear()?, self.listener.take()) {
            (Message::Listener(_), Some(listener)) => Ok(listener),
            _ => Err(self.protocol()),
        }
    }

    /// Starts the program and waits until it was executed (`run` and `exec`, where the grant goes
    /// over the link).
    ///
    /// # Errors
    /// What init reported: a startContainer hook, or execve(2).
    pub fn start(&mut self) -> Result<(), Error> {
        self.grant()?;
        let Message::Executing = self.hear()? else {
            return Err(self.protocol());
        };
        match self.next()? {
            None => Ok(()),
            Some(Message::Failed(stage, fault)) => Err(self.failed(stage, &fault)),
            Some(_) => Err(self.protocol()),
        }
    }

    /// Init stays when the value goes.
    ///
    /// # Errors
    /// [`Error::Runtime`] when no descriptor is left; init is killed then.
    pub fn release(mut self) -> Result<Released, Error> {
        let pidfd = self.pidfd.try_clone().map_err(|_| Error::Runtime {
            attempted: "duplicate init's pidfd",
            errno: Errno::EMFILE,
        })?;
        self.released = true;
        Ok(Released {
            pid: self.pid,
            pidfd,
        })
    }

    fn hear(&mut self) -> Result<Message, Error> {
        match self.next()? {
            Some(Message::Failed(stage, fault)) => Err(self.failed(stage, &fault)),
            Some(message) => Ok(message),
            None => Err(self.gone()),
        }
    }

    /// The next message; `None` when init's end was closed by its exec or its death.
    fn next(&mut self) -> Result<Option<Message>, Error> {
        let failed = |errno| Error::Runtime {
            attempted: "hear init",
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
            let output = self
                .slots
                .output
                .as_ref()
                .filter(|output| !output.is_ended());
            // Its end does not end the link where somebody else has it open: an intermediate that
            // dies leaves it to the init that it cloned.
            let signals = self.interrupts.map_or(self.link.as_fd(), AsFd::as_fd);
            let mut watched = vec![self.link.as_fd(), self.pidfd.as_fd(), signals];
            watched.extend(output.map(AsFd::as_fd));
            let ready = coracle_sys::poll_readable(&watched, Some(wait_ms)).map_err(failed)?;
            if ready & 0b1000 != 0
                && let Some(output) = &mut self.slots.output
            {
                output.read();
            }
            if ready & 0b01 == 0 {
                // Its last word may have come after the kernel had looked at the link.
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
            self.unborn = false;
            match message {
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

    /// Whether there is reason to go on.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        match self.interrupts.is_some_and(Interrupts::end_waits) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    fn failed(&mut self, stage: Stage, fault: &Fault) -> Error {
        let output = self.slots.output.as_mut().map(|output| {
            output.read();
            output.text()
        });
        let sentence = match (stage, fault.cause) {
            (Stage::Cgroup, _) => self.slots.cgroup.explain(fault),
            (Stage::Namespaces, Cause::Call(Call::Clone, errno)) => {
                let flags = self.plan.namespaces.final_clone;
                explain_clone(self.plan, &self.slots, flags, errno)
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

    fn protocol(&self) -> Error {
        unreadable(Check::Protocol.into())
    }

    fn gone(&self) -> Error {
        let ended = coracle_sys::wait_exit(self.pidfd.as_fd());
        let hint = match (&self.plan.filter, &ended) {
            (Some(filter), Ok(ended)) if may_be_denied(filter, *ended) => DENIED,
            _ => "",
        };
        let cause = match ended {
            Ok(ExitStatus::Signal(nix::libc::SIGKILL)) if self.unborn => {
                return Error::KilledAtBirth;
            }
            Ok(ExitStatus::Signal(signal)) => Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string()),
            Ok(ExitStatus::Code(code)) => format!("exit code {code}"),
            Err(errno) => errno.to_string(),
        };
        Error::InitGone { cause, hint }
    }
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

impl Drop for Launch<'_> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if let Some(devices) = &self.devices {
            devices.give_back();
        }
        // SIGKILL to init ends its pid namespace too; a process that is gone needs nothing.
        let _ = coracle_sys::pidfd_send_signal(self.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = coracle_sys::wait_exit(self.pidfd.as_fd());
        let _ = self.reap_provider();
    }
}
