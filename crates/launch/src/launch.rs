//! The order of a launch, in one function, and the trait by which its caller takes part.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_namespaces::MovedDevices;
use coracle_sys::NamespaceFlags;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, system};
use crate::explain::Point;
use crate::inherited::Request;
use crate::message::Message;
use crate::plan::Plan;
use crate::runtime::{Child, Launch, kill_and_reap};
use crate::sources;

/// How long the init of a container that was killed may take to end, in milliseconds.
const DEATH_MS: u32 = 100;

/// What the caller of a launch does while init waits. The methods are called in this order.
pub trait Caller {
    /// The caller's error. Init is killed when a method returns one.
    type Error: From<Error>;

    /// The plan's stages up to this point have been carried out.
    fn reached(&mut self, point: Point);

    /// Init has been cloned and is in its cgroup; it has done nothing yet.
    ///
    /// # Errors
    /// The caller's.
    fn cloned(&mut self, init: &Child) -> Result<(), Self::Error>;

    /// Init's network namespace exists and is empty. Only called if the plan has networks.
    ///
    /// # Errors
    /// The caller's.
    fn attach_networks(&mut self, _: &Child, _namespace: BorrowedFd) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The container's state as JSON, with status creating and created, for the hooks that init
    /// runs.
    fn hook_states(&mut self, _: &Child) -> [Vec<u8>; 2] {
        Default::default()
    }

    /// The mounts are attached, and init's root is still the host's. Only called if hooks run
    /// during `create`.
    ///
    /// # Errors
    /// The caller's.
    fn run_hooks(&mut self, _: &Child) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The container's state as JSON, for the seccomp agent.
    fn state(&mut self, init: &Child) -> Vec<u8>;
}

/// Clones init and lets it proceed until it waits for its start.
///
/// # Errors
/// [`Error`], or the caller's. Init and its helpers are killed and reaped then.
pub fn launch<'p, C: Caller>(
    plan: &'p Plan,
    request: Request<'p>,
    caller: &mut C,
) -> Result<Launch<'p>, C::Error> {
    let mut launch = Launch::begin(plan, request)?;
    launch.await_init()?;
    caller.reached(Point::Cloned);
    caller.cloned(&launch.child)?;
    launch.map_ids()?;
    if plan.network.is_some() {
        let namespace = launch.network_namespace()?;
        caller.attach_networks(&launch.child, namespace.as_fd())?;
    }
    if plan.hooks_in_init() {
        let [creating, created] = caller.hook_states(&launch.child);
        launch.fill_hooks(&creating, &created)?;
    }
    launch.move_devices()?;
    launch.send_sources()?;
    launch.first_proceed()?;
    if plan.stops_for_hooks() {
        launch.await_mounts()?;
        caller.reached(Point::Mounted);
        caller.run_hooks(&launch.child)?;
        launch.proceed()?;
    }
    launch.await_created(caller)?;
    if !plan.stops_for_hooks() {
        caller.reached(Point::Mounted);
    }
    launch.check_signals()?;
    caller.reached(Point::Created);
    Ok(launch)
}

impl<'p> Launch<'p> {
    /// Init.
    #[must_use]
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// The pty's master, if the process has a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Warnings for the user, one line each. Leaves none.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Starts the program and waits until it is executed. Only with [`crate::Release::Socket`].
    ///
    /// # Errors
    /// [`Error::Init`] if a startContainer hook or execve(2) failed.
    pub fn start(&mut self) -> Result<(), Error> {
        self.proceed()?;
        let Message::Executing = self.receive()? else {
            return Err(self.protocol());
        };
        match self.next()? {
            None => Ok(()),
            Some(Message::Failed(stage, fault)) => Err(self.failed(stage, fault)),
            Some(_) => Err(self.protocol()),
        }
    }

    /// Waits for init's first message, and moves init into its cgroup if it was not cloned into it.
    ///
    /// Some kernels (seen on 6.18 and 7.2) kill every process that is cloned from one cgroup into
    /// another after `cgroup.kill` was used on either of them. Such a process has done nothing, so
    /// it is cloned once more, and then joins the cgroup by writing its pid.
    fn await_init(&mut self) -> Result<(), Error> {
        match self.await_alive() {
            Err(Error::KilledAtClone) => {
                self.check_target()?;
                self.clone_again()?;
                self.await_alive()?;
            }
            alive => alive?,
        }
        if !self.is_inside {
            let request = &mut self.inherited.request;
            request.cgroup.put(self.child.pid, request.interrupts)?;
        }
        self.inherited.close_after_clone();
        Ok(())
    }

    fn await_alive(&mut self) -> Result<(), Error> {
        if self.plan.namespaces.intermediate {
            self.await_fork()?;
        }
        while !self.is_alive {
            let Message::Alive = self.receive()? else {
                return Err(self.protocol());
            };
        }
        Ok(())
    }

    /// Before `exec` clones a second time: if the container itself was killed, a new process in its
    /// cgroup would survive, since nobody kills that cgroup again.
    fn check_target(&self) -> Result<(), Error> {
        let Some(target) = &self.inherited.request.target else {
            return Ok(());
        };
        match coracle_sys::poll_readable(&[target.init.as_fd()], Some(DEATH_MS)) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::ContainerEnded),
            Err(errno) => Err(system("wait for init's end")(errno)),
        }
    }

    /// Maps the intermediate's ids, lets it join namespaces and clone init, and waits for its end.
    fn await_fork(&mut self) -> Result<(), Error> {
        let plan = &self.plan.namespaces;
        if plan.first_clone.contains(NamespaceFlags::USER) {
            let interrupts = self.inherited.request.interrupts;
            coracle_namespaces::map_ids(plan, self.child.pid, interrupts)?;
        }
        self.proceed()?;
        let (pid, is_inside) = loop {
            match self.receive()? {
                // Init and the intermediate write to the same socket, in any order.
                Message::Alive => {}
                Message::Forked(pid) => break (pid, true),
                Message::Outside(pid) => break (pid, false),
                _ => return Err(self.protocol()),
            }
        };
        let pid = Pid::from_raw(pid);
        let pidfd = coracle_sys::pidfd_open(pid).map_err(|errno| {
            // The process is a child of ours that was not waited for, so its pid cannot have been
            // reused.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
            system("open init's pidfd")(errno)
        })?;
        let pidfd = pidfd.into();
        let intermediate = std::mem::replace(&mut self.child, Child { pid, pidfd });
        self.is_inside = is_inside;
        self.group = None;
        // The intermediate has done its work. It is killed and not only waited for, since a process
        // of a user namespace that it has joined may stop it.
        kill_and_reap(intermediate.pidfd.as_fd()).map_err(system("wait for the intermediate"))
    }

    /// Maps init's ids if its own clone made the user namespace. Init keeps waiting.
    fn map_ids(&mut self) -> Result<(), Error> {
        let plan = &self.plan.namespaces;
        if plan.final_clone.contains(NamespaceFlags::USER) {
            let interrupts = self.inherited.request.interrupts;
            coracle_namespaces::map_ids(plan, self.child.pid, interrupts)?;
        }
        Ok(())
    }

    /// Opens init's network namespace. Call it before init proceeds: afterwards init is not
    /// dumpable, and a runtime without privileges cannot open the file.
    fn network_namespace(&mut self) -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/ns/net", self.child.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match open(path.as_str(), flags, Mode::empty()) {
            Ok(namespace) => Ok(namespace),
            // Init has ended; its last message says why.
            Err(Errno::ENOENT | Errno::ESRCH) => match self.receive() {
                Ok(_) => Err(self.protocol()),
                Err(error) => Err(error),
            },
            Err(errno) => Err(system("open init's network namespace")(errno)),
        }
    }

    /// Writes the container's state into the standard input of the hooks that init runs.
    fn fill_hooks(&mut self, create: &[u8], start: &[u8]) -> Result<(), Error> {
        coracle_hooks::fill_stdin(&self.inherited.create_container, create)?;
        coracle_hooks::fill_stdin(&self.inherited.start_container, start)?;
        Ok(())
    }

    fn move_devices(&mut self) -> Result<(), Error> {
        let plan: &'p Plan = self.plan;
        let plan = &plan.namespaces;
        if plan.devices.is_empty() {
            return Ok(());
        }
        let network = match self.inherited.namespaces.network(plan) {
            Some(joined) => joined.try_clone_to_owned().map_err(|error| {
                system("hold the container's network namespace")(coracle_text::io_errno(&error))
            })?,
            None => self.network_namespace()?,
        };
        let moved: MovedDevices<'p> = coracle_namespaces::move_net_devices(plan, network)?;
        self.devices = Some(moved);
        Ok(())
    }

    /// Starts a child that opens the sources of mounts that init cannot open itself.
    fn send_sources(&mut self) -> Result<(), Error> {
        let (plan, opened) = (&self.plan.rootfs, self.inherited.rootfs.take());
        if let (Some(plan), Some(opened)) = (plan, opened)
            && plan.needs_provider()
        {
            self.provider = Some(sources::send(plan, opened, self.child.pid)?);
        }
        Ok(())
    }

    /// Lets init proceed for the first time, and sends the `cgroup.procs` of init's cgroup if it
    /// has one.
    fn first_proceed(&mut self) -> Result<(), Error> {
        let file = self.inherited.request.cgroup.init_cgroup.take();
        self.send(Message::Proceed, file.as_ref().map(AsFd::as_fd))
    }

    fn await_mounts(&mut self) -> Result<(), Error> {
        match self.receive()? {
            Message::Mounted => Ok(()),
            _ => Err(self.protocol()),
        }
    }

    /// Waits until init waits for its start. If the filter notifies, its listener and the
    /// container's state are sent to the agent that the config names.
    fn await_created<C: Caller>(&mut self, caller: &mut C) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Message::Console => {}
                Message::Listener(number) => {
                    let state = caller.state(&self.child);
                    self.forward_listener(number, &state)?;
                }
                Message::Created => return self.reap_provider(),
                _ => return Err(self.protocol()),
            }
        }
    }

    /// Kills the child that opens sources. Init has every source that it needs by now, but the
    /// child may still hang on a filesystem that does not answer.
    fn reap_provider(&mut self) -> Result<(), Error> {
        let Some(provider) = self.provider.take() else {
            return Ok(());
        };
        kill_and_reap(provider.as_fd()).map_err(system("wait for the sources of mounts"))
    }

    fn forward_listener(&mut self, number: i32, state: &[u8]) -> Result<(), Error> {
        let filter = self.plan.filter.as_ref();
        let Some(listener) = filter.and_then(|filter| filter.program.listener.as_ref()) else {
            return Err(self.protocol());
        };
        let descriptor = match coracle_sys::pidfd_getfd(self.child.pidfd.as_fd(), number) {
            // pidfd_getfd(2) requires the permission to trace init, which a runtime without
            // privileges does not have.
            Err(Errno::EPERM) if listener.notifies_sendmsg => {
                return Err(coracle_seccomp::Error::OutOfReach.into());
            }
            Err(Errno::EPERM) => self.request_listener()?,
            fetched => fetched.map_err(system("fetch the seccomp listener from init"))?,
        };
        let process = coracle_seccomp::ProcessState {
            pid: self.child.pid.as_raw(),
            state,
        };
        let interrupts = self.inherited.request.interrupts;
        coracle_seccomp::send_listener(listener, &process, descriptor.as_fd(), interrupts)?;
        self.proceed()
    }

    fn request_listener(&mut self) -> Result<OwnedFd, Error> {
        self.send(Message::SendListener, None)?;
        match (self.receive()?, self.listener.take()) {
            (Message::Listener(_), Some(listener)) => Ok(listener),
            _ => Err(self.protocol()),
        }
    }
}
