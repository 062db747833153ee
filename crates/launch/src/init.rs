//! Init's half of a launch: the clone carries out its stages in the plan's order and becomes the
//! container's process.
//!
//! Nothing here allocates: the plan and the descriptors were made before the clone. A build with
//! debug assertions aborts on any allocation. What fails is reported as coordinates.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use coracle_bundle::HookPoint;
use coracle_process::Ready;
use coracle_sys::{Call, Cause, Cloned, CloseRange, Dumpable, Fault, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::filter::Moment;
use crate::inherited::{Inherited, Release, Until};
use crate::message::{self, Check, Message, Stage};
use crate::plan::Plan;

/// The first process of a pid namespace.
const FIRST: Pid = Pid::from_raw(1);

type Staged<T> = Result<T, (Stage, Fault)>;

/// Attaches the stage to a fault.
fn at(stage: Stage) -> impl Fn(Fault) -> (Stage, Fault) {
    move |fault| (stage, fault)
}

/// A fault of the session stage, where the steps are the calls themselves.
fn session(call: Call) -> impl Fn(Errno) -> (Stage, Fault) {
    move |errno| failed((call, errno))
}

fn failed(cause: impl Into<Cause>) -> (Stage, Fault) {
    (Stage::Session, Fault::new(0, cause))
}

/// Runs as the cloned child: init, or the intermediate that clones init. Never returns.
pub(crate) fn run(plan: &Plan, inherited: &mut Inherited, link: BorrowedFd) -> ! {
    #[cfg(debug_assertions)]
    coracle_sys::allocation::forbid();
    let ready = match prepare(plan, inherited, link) {
        Ok(ready) => ready,
        Err((stage, fault)) => {
            name_file(inherited, link);
            let _ = message::write(link, Message::Failed(stage, fault));
            coracle_sys::exit(1)
        }
    };
    let Err((stage, fault)) = start(plan, inherited, link, &ready);
    let _ = report(inherited, link, Message::Failed(stage, fault));
    coracle_sys::exit(1)
}

/// Reports which file of the image a failed copy was at.
fn name_file(inherited: &Inherited, link: BorrowedFd) {
    let file = inherited
        .rootfs
        .as_ref()
        .map(coracle_rootfs::Inherited::failed_file);
    for text in file.unwrap_or_default().chunks(message::LENGTH - 1) {
        let mut part = [0; message::LENGTH - 1];
        part.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        let _ = message::write(link, Message::File(part));
    }
}

/// Sends a message to whoever starts us, once we are created.
fn report(inherited: &Inherited, link: BorrowedFd, message: Message) -> nix::Result<()> {
    match &inherited.request.release {
        Release::Socket => message::write(link, message),
        Release::Fifo(fifos) => nix::unistd::write(&fifos.started, &message.encode()).map(drop),
    }
}

/// Everything up to the point where only the start is missing.
fn prepare(plan: &Plan, inherited: &mut Inherited, link: BorrowedFd) -> Staged<Ready> {
    orphaned_dies()?;
    coracle_sys::reset_signals();
    for descriptor in &inherited.request.private {
        // Whoever shares our pid namespace to be could reach the host through them.
        let _ = nix::unistd::close(*descriptor);
    }
    if plan.namespaces.intermediate {
        fork_init(plan, inherited, link)?;
        orphaned_dies()?;
    }
    message::write(link, Message::Alive).map_err(session(Call::Write))?;
    let init_cgroup = await_admission(link)?;
    // From here on nobody of the container may trace us or open our descriptors (CVE-2016-9962).
    coracle_sys::set_dumpable(Dumpable::No).map_err(session(Call::Prctl))?;
    coracle_cgroups::join(&inherited.request.cgroup.tasks).map_err(at(Stage::Cgroup))?;
    coracle_namespaces::enter(&plan.namespaces, &inherited.namespaces)
        .map_err(at(Stage::Namespaces))?;
    if let Some(file) = init_cgroup {
        let step = inherited.request.cgroup.record.init_cgroup_step();
        coracle_cgroups::enter_init_cgroup(&file, step).map_err(at(Stage::Cgroup))?;
    }
    // A change of user ids puts fs.suid_dumpable in force and takes the parent-death signal away.
    coracle_sys::set_dumpable(Dumpable::No).map_err(session(Call::Prctl))?;
    orphaned_dies()?;
    coracle_process::session(&plan.process).map_err(at(Stage::Process))?;
    enter_root(plan, inherited, link)?;
    keep_only_preserved(plan, inherited, link, Until::Program)?;
    if Pid::this() == FIRST {
        // The kernel drops a signal to pid 1 without a handler; a kill before the start must act.
        coracle_sys::end_on_signals();
    }
    // The last step of the confinement clears the parent-death signal: the runtime ends after our
    // next message, and init shall outlive it.
    let ready = confine(plan, link)?;
    message::write(link, Message::Created).map_err(session(Call::Write))?;
    Ok(ready)
}

/// The process's confinement, and the filter where the plan has it. From then on each call of ours
/// is one that every profile has to allow: `docs/seccomp.md` lists them.
fn confine(plan: &Plan, link: BorrowedFd) -> Staged<Ready> {
    let confined = coracle_process::confine(&plan.process).map_err(at(Stage::Process))?;
    load_filter(plan, Moment::Privileged, link)?;
    let ready =
        coracle_process::become_user(&plan.process, confined).map_err(at(Stage::Process))?;
    load_filter(plan, Moment::Last, link)?;
    Ok(ready)
}

fn load_filter(plan: &Plan, moment: Moment, link: BorrowedFd) -> Staged<()> {
    let Some(filter) = plan
        .filter
        .as_ref()
        .filter(|filter| filter.moment == moment)
    else {
        return Ok(());
    };
    match coracle_seccomp::load(&filter.program).map_err(at(Stage::Seccomp))? {
        Some(listener) => pass_on(&listener, link),
        None => Ok(()),
    }
}

/// Waits until the runtime has the listener and somebody answers: the next call may be a notified
/// one. The message only names the descriptor, since sendmsg(2) may be notified as well.
fn pass_on(listener: &OwnedFd, link: BorrowedFd) -> Staged<()> {
    let number = Message::Listener(listener.as_raw_fd());
    message::write(link, number).map_err(session(Call::Write))?;
    loop {
        match message::read(link) {
            Ok(Some(Message::Proceed)) => return Ok(()),
            Ok(Some(Message::SendListener)) => message::send(link, number, Some(listener.as_fd()))
                .map_err(|errno| (Stage::Seccomp, Fault::new(0, (Call::Send, errno))))?,
            Ok(Some(_)) => return Err(failed(Check::Protocol)),
            Ok(None) => coracle_sys::exit(1),
            Err(cause) => return Err(failed(cause)),
        }
    }
}

/// A runtime that is killed takes init with it: the kernel sends the signal, and where the runtime
/// died before this call, the first wait for it ends with the end of file.
fn orphaned_dies() -> Staged<()> {
    coracle_sys::set_parent_death_signal(Some(Signal::SIGKILL)).map_err(session(Call::Prctl))
}

/// The intermediate: joins what only a clone enters, clones init as its sibling, and ends. Returns
/// in init. It is never in the container's cgroup itself, where it would take the place of
/// one of the container's processes, and its memory.
fn fork_init(plan: &Plan, inherited: &mut Inherited, link: BorrowedFd) -> Staged<()> {
    await_runtime(link)?;
    coracle_sys::set_dumpable(Dumpable::No).map_err(session(Call::Prctl))?;
    coracle_namespaces::before_clone(&plan.namespaces, &inherited.namespaces)
        .map_err(at(Stage::Namespaces))?;
    // The joined user namespace put fs.suid_dumpable in force.
    coracle_sys::set_dumpable(Dumpable::No).map_err(session(Call::Prctl))?;
    if plan.rootfs.is_none() {
        // The container's processes see the clone from its first moment, and some may trace it
        // whatever its dumpable flag says: it is cloned without a descriptor of the host
        // (CVE-2016-9962).
        keep_only_preserved(plan, inherited, link, Until::RootChange)?;
    }
    let step = plan.namespaces.clone_step();
    let (cloned, forked) = clone_init(plan, inherited);
    match cloned.map_err(|errno| (Stage::Namespaces, Fault::new(step, (Call::Clone, errno))))? {
        Cloned::Child => {
            inherited.close_enclosed();
            Ok(())
        }
        Cloned::Parent { pid, .. } => {
            let sent = message::write(link, forked(pid.as_raw()));
            coracle_sys::exit(i32::from(sent.is_err()))
        }
    }
}

/// Into the cgroup, if the kernel lets us: the user that we have become may have no right to it,
/// and a cgroup namespace that we are in need not reach our own cgroup (ENOENT).
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

/// Waits until init may do something. The message may come with the file of init's cgroup.
fn await_admission(link: BorrowedFd) -> Staged<Option<OwnedFd>> {
    match message::receive(link) {
        Ok(Some((Message::Proceed, attached))) => Ok(attached),
        Ok(Some(_)) => Err(failed(Check::Protocol)),
        Ok(None) => coracle_sys::exit(1),
        Err(cause) => Err(failed(cause)),
    }
}

/// Waits for the runtime. Once that has ended, nobody would ever clean up after us.
fn await_runtime(link: BorrowedFd) -> Staged<()> {
    match message::read(link) {
        Ok(Some(Message::Proceed)) => Ok(()),
        Ok(Some(_)) => Err(failed(Check::Protocol)),
        Ok(None) => coracle_sys::exit(1),
        Err(cause) => Err(failed(cause)),
    }
}

/// The root file system and the machine's names: empty plans for `exec`.
fn enter_root(plan: &Plan, inherited: &mut Inherited, link: BorrowedFd) -> Staged<()> {
    if let Some(root) = inherited.target_root() {
        nix::unistd::fchdir(root).map_err(session(Call::Fchdir))?;
        nix::unistd::chroot(c".").map_err(session(Call::Chroot))?;
    }
    let output = inherited.print.as_ref().map(AsFd::as_fd);
    let mut rootfs = plan.rootfs.as_ref().zip(inherited.rootfs.as_mut());
    if let Some((rootfs, open)) = &mut rootfs {
        let changed = change_root(
            plan,
            (rootfs, open),
            (&inherited.create_container, output),
            link,
        );
        if changed.is_err() {
            coracle_rootfs::withdraw(rootfs, open);
        }
        changed?;
    }
    coracle_process::machine(&plan.process).map_err(at(Stage::Process))?;
    if let Some(console) = coracle_process::console(&plan.process).map_err(at(Stage::Process))? {
        if let Some((rootfs, open)) = &mut rootfs {
            coracle_rootfs::console(rootfs, open, console.slave.as_fd())
                .map_err(at(Stage::Rootfs))?;
        }
        message::send(link, Message::Console, Some(console.master.as_fd()))
            .map_err(session(Call::Send))?;
    }
    if let Some((rootfs, open)) = &mut rootfs {
        coracle_rootfs::finish(rootfs, open).map_err(at(Stage::Rootfs))?;
    }
    Ok(())
}

/// Mounts, createContainer hooks, the pivot.
fn change_root(
    plan: &Plan,
    (rootfs, open): (&coracle_rootfs::Plan, &mut coracle_rootfs::Inherited),
    (stdin, output): (&[OwnedFd], Option<BorrowedFd>),
    link: BorrowedFd,
) -> Staged<()> {
    coracle_rootfs::mounts(rootfs, open).map_err(at(Stage::Rootfs))?;
    if plan.stops_for_hooks() {
        message::write(link, Message::Mounted).map_err(session(Call::Write))?;
        await_runtime(link)?;
    }
    let hooks = plan.hooks.at(HookPoint::CreateContainer);
    if !hooks.is_empty() {
        coracle_rootfs::stand_in_root(rootfs, open).map_err(at(Stage::Rootfs))?;
    }
    run_hooks(hooks, stdin, output, None).map_err(at(Stage::CreateContainer))?;
    coracle_rootfs::pivot(rootfs, open).map_err(at(Stage::Rootfs))
}

/// Closes every descriptor but stdio, what the config passes on, and what init itself still needs:
/// the container's process could otherwise reach the host through one (CVE-2024-21626), and here it
/// is still impossible that the working directory is one of them.
fn keep_only_preserved(
    plan: &Plan,
    inherited: &Inherited,
    link: BorrowedFd,
    until: Until,
) -> Staged<()> {
    let mut next = 3;
    let least = |next| {
        let kept = [
            inherited.least_needed(link, next, until),
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
    output: Option<BorrowedFd>,
    home: Option<&CStr>,
) -> Result<(), Fault> {
    if commands.is_empty() {
        return Ok(());
    }
    coracle_hooks::run_in_container(commands, stdin, output, home)
}

/// Waits for the start, runs the container's own hooks and executes the program.
fn start(
    plan: &Plan,
    inherited: &Inherited,
    link: BorrowedFd,
    ready: &Ready,
) -> Staged<Infallible> {
    let output = match &inherited.request.release {
        Release::Socket => {
            await_runtime(link)?;
            inherited.print.as_ref().map(AsFd::as_fd)
        }
        Release::Fifo(fifos) => {
            // The runtime that reads our next message is another one: `start`.
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
    run_hooks(
        plan.hooks.at(HookPoint::StartContainer),
        &inherited.start_container,
        output,
        ready.home(),
    )
    .map_err(at(Stage::StartContainer))?;
    report(inherited, link, Message::Executing).map_err(session(Call::Write))?;
    Err((Stage::Process, coracle_process::exec(&plan.process, ready)))
}
