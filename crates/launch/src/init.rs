//! Init's side of a launch: the cloned process carries out its stages of the plan in order and
//! becomes the container's process.
//!
//! Nothing here allocates: the plan and the descriptors were made before the clone. A build with
//! debug assertions aborts on any allocation. A failure is reported as stage, step and cause.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use coracle_bundle::HookPoint;
use coracle_hooks::Streams;
use coracle_process::Ready;
use coracle_sys::{Call, Cause, Cloned, CloseRange, Fault, NamespaceFlags, Parentage, Remark};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::filter::Moment;
use crate::inherited::{Inherited, Release, Until};
use crate::message::{self, Check, Message, Stage};
use crate::plan::Plan;

/// The pid of the first process of a pid namespace.
const FIRST: Pid = Pid::from_raw(1);

pub(crate) type Staged<T> = Result<T, (Stage, Fault)>;

/// Notes on the timeline that a stage begins.
fn begin(stage: Stage) {
    coracle_sys::note_part(stage as u8);
}

/// Attaches the stage to a fault.
pub(crate) fn at(stage: Stage) -> impl Fn(Fault) -> (Stage, Fault) {
    move |fault| (stage, fault)
}

/// A failed call of the session stage, which has no plan: the call itself tells the step.
pub(crate) fn session(call: Call) -> impl Fn(Errno) -> (Stage, Fault) {
    move |errno| failed((call, errno))
}

fn failed(cause: impl Into<Cause>) -> (Stage, Fault) {
    (Stage::Session, Fault::new(0, cause))
}

/// Runs as the cloned child: init, or the intermediate that clones init. Never returns.
pub(crate) fn run(plan: &Plan, inherited: &mut Inherited, socket: BorrowedFd) -> ! {
    #[cfg(debug_assertions)]
    coracle_sys::allocation::forbid();
    let ready = match prepare(plan, inherited, socket) {
        Ok(ready) => ready,
        Err((stage, fault)) => {
            let _ = message::write(socket, Message::Failed(stage, fault));
            let remark = match (stage, &inherited.rootfs) {
                (Stage::Rootfs, Some(rootfs)) => rootfs.remark(),
                (Stage::Process, _) => coracle_process::examine(&plan.process, None, &fault),
                _ => Remark::default(),
            };
            for remark in message::remarks(remark.bytes()) {
                let _ = message::write(socket, remark);
            }
            coracle_sys::exit(1)
        }
    };
    let Err((stage, fault)) = start(plan, inherited, socket, &ready);
    let _ = report(inherited, socket, Message::Failed(stage, fault));
    if stage == Stage::Process {
        let remark = coracle_process::examine(&plan.process, Some(&ready), &fault);
        for remark in message::remarks(remark.bytes()) {
            let _ = report(inherited, socket, remark);
        }
    }
    coracle_sys::exit(1)
}

/// Once init is created: sends a message to the process that starts it, `start` or this runtime.
fn report(inherited: &Inherited, socket: BorrowedFd, message: Message) -> nix::Result<()> {
    match &inherited.request.release {
        Release::Socket => message::write(socket, message),
        Release::Fifo(fifos) => nix::unistd::write(&fifos.started, &message.encode()).map(drop),
    }
}

/// Everything before the wait for the start.
fn prepare(plan: &Plan, inherited: &mut Inherited, socket: BorrowedFd) -> Staged<Ready> {
    begin(Stage::Session);
    die_with_runtime()?;
    coracle_sys::reset_signals();
    // A process of the pid namespace that init joins could reach the host through them. The lock
    // stays only where init has the host's root for longer, to set up its own.
    let (early, lock) = match plan.rootfs {
        Some(_) => (None, inherited.request.lock),
        None => (inherited.request.lock, None),
    };
    for descriptor in inherited.request.private.iter().chain(&early) {
        let _ = nix::unistd::close(*descriptor);
    }
    if plan.namespaces.intermediate {
        fork_init(plan, inherited, socket)?;
        die_with_runtime()?;
    }
    message::write(socket, Message::Alive).map_err(session(Call::Write))?;
    let init_cgroup = await_first_proceed(socket)?;
    // Not before: only now has the caller recorded init.
    if let Some(lock) = lock {
        let _ = nix::unistd::close(lock);
    }
    if !plan.namespaces.intermediate {
        // From here on the container's processes must not trace init or open its descriptors
        // (CVE-2016-9962). The clone of an intermediate has inherited this from it.
        prctl::set_dumpable(false).map_err(session(Call::Prctl))?;
    }
    begin(Stage::Cgroup);
    coracle_cgroups::join(&inherited.request.cgroup.tasks).map_err(at(Stage::Cgroup))?;
    let is_root = plan
        .cgroups
        .as_ref()
        .is_some_and(|p| p.init_cgroup_is_root());
    let (before, after) = match is_root {
        true => (init_cgroup, None),
        false => (None, init_cgroup),
    };
    enter_init_cgroup(inherited, before)?;
    begin(Stage::Namespaces);
    coracle_namespaces::enter(&plan.namespaces, &inherited.namespaces)
        .map_err(at(Stage::Namespaces))?;
    enter_init_cgroup(inherited, after)?;
    if plan.namespaces.init_changes_user() {
        prctl::set_dumpable(false).map_err(session(Call::Prctl))?;
        die_with_runtime()?;
    }
    begin(Stage::Process);
    coracle_process::session(&plan.process).map_err(at(Stage::Process))?;
    enter_root(plan, inherited, socket)?;
    keep_only_preserved(plan, inherited, socket, Until::Program)?;
    if waits(plan, inherited) && Pid::this() == FIRST {
        // The kernel discards a signal to pid 1 that has no handler, but `kill` must work on a
        // created container as well.
        coracle_sys::end_on_signals();
    }
    // The last step of the confinement clears the parent-death signal: after the next message
    // `create` ends, and init must outlive it.
    let ready = confine(plan, socket)?;
    message::write(socket, Message::Created).map_err(session(Call::Write))?;
    Ok(ready)
}

/// Closes the file before init closes all that it does not keep, its number among them.
fn enter_init_cgroup(inherited: &Inherited, file: Option<OwnedFd>) -> Staged<()> {
    let Some(file) = file else { return Ok(()) };
    let step = inherited.request.cgroup.record.init_cgroup_step();
    coracle_cgroups::enter_init_cgroup(&file, step).map_err(at(Stage::Cgroup))
}

/// Whether there is time for a signal before the program: for `start`, or while hooks run. Without
/// either the program is executed at once, and then the kernel discards signals just the same.
fn waits(plan: &Plan, inherited: &Inherited) -> bool {
    matches!(inherited.request.release, Release::Fifo(_))
        || !plan.hooks.at(HookPoint::StartContainer).is_empty()
}

/// Confines the process and loads the seccomp filter where the plan has it. A profile must allow
/// the calls that init makes after that: `docs/seccomp.md` lists them.
fn confine(plan: &Plan, socket: BorrowedFd) -> Staged<Ready> {
    begin(Stage::Process);
    let confined = coracle_process::confine(&plan.process).map_err(at(Stage::Process))?;
    load_filter(plan, Moment::Privileged, socket)?;
    begin(Stage::Process);
    let ready =
        coracle_process::become_user(&plan.process, confined).map_err(at(Stage::Process))?;
    load_filter(plan, Moment::Last, socket)?;
    Ok(ready)
}

fn load_filter(plan: &Plan, moment: Moment, socket: BorrowedFd) -> Staged<()> {
    let Some(filter) = plan
        .filter
        .as_ref()
        .filter(|filter| filter.moment == moment)
    else {
        return Ok(());
    };
    begin(Stage::Seccomp);
    match coracle_seccomp::load(&filter.program).map_err(at(Stage::Seccomp))? {
        Some(listener) => pass_on(&listener, socket),
        None => Ok(()),
    }
}

/// Waits until the agent has the listener: the next call may be notified, and would block without
/// an agent. The message only has the descriptor's number, since sendmsg(2) may be notified as
/// well.
fn pass_on(listener: &OwnedFd, socket: BorrowedFd) -> Staged<()> {
    let number = Message::Listener(listener.as_raw_fd());
    message::write(socket, number).map_err(session(Call::Write))?;
    loop {
        match message::read(socket) {
            Ok(Some(Message::Proceed)) => return Ok(()),
            Ok(Some(Message::SendListener)) => {
                message::send(socket, number, Some(listener.as_fd()))
                    .map_err(|errno| (Stage::Seccomp, Fault::new(0, (Call::Send, errno))))?
            }
            Ok(Some(_)) => return Err(failed(Check::Protocol)),
            Ok(None) => coracle_sys::exit(1),
            Err(cause) => return Err(failed(cause)),
        }
    }
}

/// Has the kernel kill this process when the runtime ends. If the runtime ended before this call,
/// the first wait for its message reads the end of file.
pub(crate) fn die_with_runtime() -> Staged<()> {
    prctl::set_pdeathsig(Some(Signal::SIGKILL)).map_err(session(Call::Prctl))
}

/// The intermediate: joins the namespaces that only its children enter (a pid namespace, for one),
/// clones init as its sibling, and ends. Returns in init. It is never in the container's cgroup
/// itself, where it would count against the container's limits on processes and memory.
fn fork_init(plan: &Plan, inherited: &mut Inherited, socket: BorrowedFd) -> Staged<()> {
    await_runtime(socket)?;
    prctl::set_dumpable(false).map_err(session(Call::Prctl))?;
    begin(Stage::Namespaces);
    coracle_namespaces::before_clone(&plan.namespaces, &inherited.namespaces)
        .map_err(at(Stage::Namespaces))?;
    if plan.namespaces.intermediate_changes_user() {
        prctl::set_dumpable(false).map_err(session(Call::Prctl))?;
        die_with_runtime()?;
    }
    if plan.rootfs.is_none() {
        // The container's processes see init as soon as it is cloned, and one with CAP_SYS_PTRACE
        // may trace it even if it is not dumpable. So the host's descriptors are closed before
        // (CVE-2016-9962).
        keep_only_preserved(plan, inherited, socket, Until::RootChange)?;
    }
    let step = plan.namespaces.clone_step();
    let (cloned, forked) = clone_init(plan, inherited);
    match cloned.map_err(|errno| (Stage::Namespaces, Fault::new(step, (Call::Clone, errno))))? {
        Cloned::Child => {
            inherited.close_enclosed();
            Ok(())
        }
        Cloned::Parent { pid, .. } => {
            let sent = message::write(socket, forked(pid.as_raw()));
            coracle_sys::exit(i32::from(sent.is_err()))
        }
    }
}

/// Clones init into its cgroup if the kernel permits it. After the intermediate has joined
/// namespaces, its user may lack the permission, or its own cgroup may be outside its cgroup
/// namespace (ENOENT): init is then cloned outside, and the runtime moves it.
fn clone_init(plan: &Plan, inherited: &Inherited) -> (nix::Result<Cloned>, fn(i32) -> Message) {
    let flags: NamespaceFlags = plan.namespaces.final_clone;
    let clone = |into: Option<BorrowedFd>| coracle_sys::clone3(flags, into, Parentage::Sibling);
    let [into, fallback] = inherited.clone_into(plan);
    if into.is_none() {
        return (clone(None), Message::Outside);
    }
    match clone(into) {
        Err(Errno::EBUSY) if fallback.is_some() => (clone(fallback), Message::Forked),
        Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT) => (clone(None), Message::Outside),
        cloned => (cloned, Message::Forked),
    }
}

/// Waits for the first permission to proceed, which may carry the `cgroup.procs` of init's cgroup.
fn await_first_proceed(socket: BorrowedFd) -> Staged<Option<OwnedFd>> {
    proceed_of(message::receive(socket))
}

/// Waits for the permission to proceed.
pub(crate) fn await_runtime(socket: BorrowedFd) -> Staged<()> {
    proceed_of(message::read(socket).map(|read| read.map(|message| (message, ()))))
}

/// The descriptor that came with `Proceed`. Exits if the runtime has ended: nobody would clean up.
fn proceed_of<T>(received: Result<Option<(Message, T)>, Cause>) -> Staged<T> {
    match received {
        Ok(Some((Message::Proceed, attached))) => Ok(attached),
        Ok(Some(_)) => Err(failed(Check::Protocol)),
        Ok(None) => coracle_sys::exit(1),
        Err(cause) => Err(failed(cause)),
    }
}

/// Sets up the root filesystem, host name, sysctls and console. For `exec` there is only a
/// terminal, and chroot(2) into a container that has no mount namespace.
fn enter_root(plan: &Plan, inherited: &mut Inherited, socket: BorrowedFd) -> Staged<()> {
    if let Some(root) = inherited.target_root() {
        nix::unistd::fchdir(root).map_err(session(Call::Fchdir))?;
        nix::unistd::chroot(c".").map_err(session(Call::Chroot))?;
    }
    let output = inherited.hook_output.as_ref().map(AsFd::as_fd);
    let streams = inherited.hook_files.or(output);
    let mut rootfs = plan.rootfs.as_ref().zip(inherited.rootfs.as_mut());
    if let Some((rootfs, open)) = &mut rootfs {
        let changed = change_root(
            plan,
            (rootfs, open),
            (&inherited.create_container, streams),
            socket,
        );
        if changed.is_err() {
            coracle_rootfs::withdraw(rootfs, open);
        }
        changed?;
    }
    begin(Stage::Process);
    // The process's steps find files of the image below the working directory. A change of the root
    // has led there. So has a joined mount namespace, even if its root denies it (EACCES), but not
    // one that is the runtime's as well.
    if plan.rootfs.is_none() {
        match nix::unistd::chdir(c"/") {
            Ok(()) | Err(Errno::EACCES) => {}
            Err(errno) => return Err(session(Call::Chdir)(errno)),
        }
    }
    coracle_process::machine(&plan.process).map_err(at(Stage::Process))?;
    if let Some(console) = coracle_process::console(&plan.process).map_err(at(Stage::Process))? {
        if let Some((rootfs, open)) = &mut rootfs {
            begin(Stage::Rootfs);
            coracle_rootfs::console(rootfs, open, console.slave.as_fd())
                .map_err(at(Stage::Rootfs))?;
        }
        message::send(socket, Message::Console, Some(console.master.as_fd()))
            .map_err(session(Call::Send))?;
    }
    if let Some((rootfs, open)) = &mut rootfs {
        begin(Stage::Rootfs);
        coracle_rootfs::finish(rootfs, open).map_err(at(Stage::Rootfs))?;
    }
    Ok(())
}

/// Attaches the mounts, runs createContainer hooks and changes the root.
fn change_root(
    plan: &Plan,
    (rootfs, open): (&coracle_rootfs::Plan, &mut coracle_rootfs::Inherited),
    (stdin, streams): (&[OwnedFd], Streams),
    socket: BorrowedFd,
) -> Staged<()> {
    begin(Stage::Rootfs);
    coracle_rootfs::mounts(rootfs, open).map_err(at(Stage::Rootfs))?;
    if plan.stops_for_hooks() {
        begin(Stage::Session);
        message::write(socket, Message::Mounted).map_err(session(Call::Write))?;
        await_runtime(socket)?;
    }
    begin(Stage::CreateContainer);
    let hooks = plan.hooks.at(HookPoint::CreateContainer);
    if !hooks.is_empty() {
        coracle_rootfs::chdir_to_root(rootfs, open).map_err(at(Stage::Rootfs))?;
    }
    run_hooks(hooks, stdin, streams, None).map_err(at(Stage::CreateContainer))?;
    begin(Stage::Rootfs);
    coracle_rootfs::pivot(rootfs, open).map_err(at(Stage::Rootfs))
}

/// Closes every descriptor except stdio, the preserved ones, and those that init still needs: the
/// container's program could reach the host through any other (CVE-2024-21626). This comes before
/// init changes into `process.cwd`, which could name such a descriptor as /proc/self/fd/N.
fn keep_only_preserved(
    plan: &Plan,
    inherited: &Inherited,
    socket: BorrowedFd,
    until: Until,
) -> Staged<()> {
    let mut next = 3;
    let least = |next| {
        let kept = [
            inherited.least_needed(socket, next, until),
            plan.least_preserved(next),
        ];
        kept.into_iter().flatten().min()
    };
    while let Some(kept) = least(next) {
        if let Some(before) = kept.checked_sub(1).filter(|last| *last >= next) {
            coracle_sys::close_range(next..=before, CloseRange::Close)
                .map_err(session(Call::CloseRange))?;
        }
        next = kept.saturating_add(1);
    }
    coracle_sys::close_range(next..=u32::MAX, CloseRange::Close).map_err(session(Call::CloseRange))
}

fn run_hooks(
    commands: &[coracle_hooks::Command],
    stdin: &[OwnedFd],
    streams: Streams,
    home: Option<&CStr>,
) -> Result<(), Fault> {
    if commands.is_empty() {
        return Ok(());
    }
    coracle_hooks::run_in_container(commands, stdin, streams, home)
}

/// Waits for the start, runs startContainer hooks and executes the program.
fn start(
    plan: &Plan,
    inherited: &Inherited,
    socket: BorrowedFd,
    ready: &Ready,
) -> Staged<Infallible> {
    let output = match &inherited.request.release {
        Release::Socket => {
            await_runtime(socket)?;
            inherited.hook_output.as_ref().map(AsFd::as_fd)
        }
        Release::Fifo(fifos) => {
            // From here on the reader of init's messages is the process of `start`.
            let mut byte = [0_u8; 1];
            loop {
                match nix::unistd::read(&fifos.start, &mut byte) {
                    Ok(_) => break,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(session(Call::Read)(errno)),
                }
            }
            fifos.output.as_ref().map(AsFd::as_fd)
        }
    };
    begin(Stage::StartContainer);
    run_hooks(
        plan.hooks.at(HookPoint::StartContainer),
        &inherited.start_container,
        inherited.hook_files.or(output),
        ready.home(),
    )
    .map_err(at(Stage::StartContainer))?;
    report(inherited, socket, Message::Executing).map_err(session(Call::Write))?;
    Err((Stage::Process, coracle_process::exec(&plan.process, ready)))
}
