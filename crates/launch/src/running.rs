//! Changes the mounts and devices of a running container, by a short-lived child of the runtime.
//!
//! A process cannot leave a user namespace again, and the runtime never enters one of the
//! container's namespaces. So a child does it: with a user namespace it joins that, takes a copy of
//! the host's mounts in which their flags are locked, as init had when the container was made, and
//! finds the source there; then it joins the container's mount namespace and attaches. It is in the
//! runtime's pid namespace and cgroup, and executes nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coracle_bundle::Device;
use coracle_host::{Host, NamespaceIds};
use coracle_sys::{Call, Cause, Cloned, Fault, NamespaceFlags, Parentage};
use coracle_text::{Code, Detail, Report, cause_errno};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;

use crate::error::{Error, system};
use crate::explain::plain;
use crate::init::{Staged, at, await_runtime, die_with_runtime, session};
use crate::message::{self, Message, Stage};
use crate::runtime::{await_child, kill_and_reap};
use crate::sources;

/// A running container, as far as its mounts are concerned. The descriptors were opened while its
/// init was alive.
#[derive(Debug)]
pub struct Running {
    /// A pidfd of init.
    pub init: Rc<OwnedFd>,
    /// Init's root directory.
    pub root: OwnedFd,
    /// Its mount namespace.
    pub mounts: OwnedFd,
    /// Its namespaces.
    pub namespaces: NamespaceIds,
}

/// What is taken away from a running container. The paths are below its root, without links.
#[derive(Clone, Copy, Debug)]
pub enum Taken<'a> {
    /// The mount of this id, with all below it.
    Mount(&'a CStr, u64),
    /// A device's node.
    Node(&'a CStr, &'a Device),
}

/// Carries out a plan of [`coracle_rootfs::plan_added`].
///
/// # Errors
/// [`Error::Rootfs`] for a source, by its JSON path; [`Error::Init`] for the step.
pub fn add(running: Running, plan: &coracle_rootfs::Plan, host: &Host) -> Result<(), Error> {
    let mut opened = coracle_rootfs::open(plan)?;
    let entry = Entry::open(&running, host)?;
    let Running { root, mounts, .. } = running;
    let (mut child, socket) = match entry.clone()? {
        Side::Runtime(child) => child,
        Side::Child(socket) => {
            opened.attach_in(root, mounts);
            entry.run(socket.as_fd(), || {
                coracle_rootfs::mounts(plan, &mut opened).map_err(at(Stage::Rootfs))
            })
        }
    };
    expect(&socket, Message::Alive, |stage, fault| {
        entry.explain(stage, fault)
    })?;
    if plan.needs_provider() {
        let pid = child.pid;
        child.provider = Some(sources::send(plan, opened, pid)?);
    }
    message::write(socket.as_fd(), Message::Proceed).map_err(system("let the child proceed"))?;
    expect(&socket, Message::Created, |stage, fault| match stage {
        Stage::Rootfs => plan.explain(fault, &coracle_rootfs::examine(plan, fault, b"")),
        stage => entry.explain(stage, fault),
    })
}

/// Takes a mount or a device away.
///
/// # Errors
/// [`Error::Init`] naming what was to be taken away, and why it stays.
pub fn remove(running: Running, taken: Taken, host: &Host) -> Result<(), Error> {
    let entry = Entry::open(&running, host)?;
    let (_child, socket) = match entry.clone()? {
        Side::Runtime(child) => child,
        Side::Child(socket) => {
            let (root, mounts) = (running.root.as_fd(), running.mounts.as_fd());
            entry.run(socket.as_fd(), || {
                coracle_sys::setns(mounts, NamespaceFlags::MOUNT).map_err(session(Call::Setns))?;
                take(root, taken).map_err(|cause| (Stage::Rootfs, Fault::new(0, cause)))
            })
        }
    };
    expect(&socket, Message::Alive, |stage, fault| {
        entry.explain(stage, fault)
    })?;
    message::write(socket.as_fd(), Message::Proceed).map_err(system("let the child proceed"))?;
    expect(&socket, Message::Created, |stage, fault| {
        let (verb, place) = match taken {
            Taken::Mount(place, _) => ("unmount", place),
            Taken::Node(place, _) => ("remove device", place),
        };
        let what = format!("{verb} {}", place.to_string_lossy());
        match stage {
            Stage::Rootfs => {
                let text = coracle_rootfs::explain_removal(&what, fault.cause);
                Report::new(
                    text,
                    Detail::new(Code::MountFailed).errno(cause_errno(fault.cause)),
                )
            }
            stage => entry.explain(stage, fault),
        }
    })
}

fn take(root: BorrowedFd, taken: Taken) -> Result<(), Cause> {
    match taken {
        Taken::Mount(place, id) => coracle_rootfs::detach(root, place, id),
        Taken::Node(place, device) => coracle_rootfs::remove_node(root, place, device),
    }
}

/// The way of the child into the container's user namespace, if it has one.
struct Entry {
    plan: coracle_namespaces::Plan,
    opened: coracle_namespaces::Inherited,
}

/// Which side of the clone this is.
enum Side {
    Runtime((Helper, OwnedFd)),
    Child(OwnedFd),
}

/// The child, and the child that finds its sources. Both are killed and reaped when this is
/// dropped; they have ended by then, unless something failed.
struct Helper {
    pid: nix::unistd::Pid,
    pidfd: OwnedFd,
    provider: Option<OwnedFd>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        for process in [Some(&self.pidfd), self.provider.as_ref()] {
            let _ = process.map(|process| kill_and_reap(process.as_fd()));
        }
    }
}

impl Entry {
    fn open(running: &Running, host: &Host) -> Result<Self, Error> {
        // Of the container's namespaces only the user namespace is joined before sources are found.
        let joined = match running.namespaces.user == host.namespaces.user {
            true => NamespaceFlags::empty(),
            false => NamespaceFlags::USER,
        };
        let plan = coracle_namespaces::plan_exec(joined, host);
        let opened = coracle_namespaces::open_exec(&plan, &running.init);
        Ok(Self { plan, opened })
    }

    fn clone(&self) -> Result<Side, Error> {
        let (socket, theirs) = coracle_sys::socket_pair().map_err(system("make a socket pair"))?;
        coracle_sys::assert_single_threaded();
        let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
        Ok(match cloned.map_err(system("clone a process to mount"))? {
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let provider = None;
                Side::Runtime((
                    Helper {
                        pid,
                        pidfd,
                        provider,
                    },
                    socket,
                ))
            }
            Cloned::Child => {
                #[cfg(debug_assertions)]
                coracle_sys::allocation::forbid();
                drop(socket);
                Side::Child(theirs)
            }
        })
    }

    /// The child: enters, waits for the runtime, works, and reports. Does not allocate.
    fn run(&self, socket: BorrowedFd, work: impl FnOnce() -> Staged<()>) -> ! {
        let done = self
            .enter()
            .and_then(|()| message::write(socket, Message::Alive).map_err(session(Call::Write)))
            .and_then(|()| await_runtime(socket))
            .and_then(|()| work());
        let last = match done {
            Ok(()) => Message::Created,
            Err((stage, fault)) => Message::Failed(stage, fault),
        };
        let _ = message::write(socket, last);
        coracle_sys::exit(0)
    }

    fn enter(&self) -> Staged<()> {
        alone()?;
        coracle_namespaces::before_clone(&self.plan, &self.opened)
            .map_err(at(Stage::Namespaces))?;
        if !self.plan.intermediate {
            return Ok(());
        }
        // After the join a process with capabilities in the user namespace could trace this one,
        // which has descriptors of the host.
        alone()?;
        coracle_sys::unshare(NamespaceFlags::MOUNT).map_err(session(Call::Unshare))?;
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&CStr>, c"/", None::<&CStr>, slave, None::<&CStr>)
            .map_err(session(Call::Mount))
    }

    fn explain(&self, stage: Stage, fault: &Fault) -> Report {
        match stage {
            Stage::Namespaces => self.plan.explain(fault),
            _ => plain("enter the container's mount namespace", fault.cause),
        }
    }
}

/// Not dumpable, and killed with the runtime. A change of user ids undoes both.
fn alone() -> Staged<()> {
    prctl::set_dumpable(false).map_err(session(Call::Prctl))?;
    die_with_runtime()
}

/// Waits for a message of the child.
fn expect(
    socket: &OwnedFd,
    wanted: Message,
    explain: impl FnOnce(Stage, &Fault) -> Report,
) -> Result<(), Error> {
    await_child("the process that mounts", socket.as_fd())
        .map_err(system("wait for the process that mounts"))?;
    let report = match message::read(socket.as_fd()) {
        Ok(Some(message)) if message == wanted => return Ok(()),
        Ok(Some(Message::Failed(stage, fault))) => explain(stage, &fault),
        Ok(_) => Report::new(
            "the process that was to mount has ended",
            Detail::new(Code::RuntimeFailed),
        ),
        Err(cause) => plain("receive from the process that mounts", cause),
    };
    Err(Error::Init(Box::new(report)))
}
