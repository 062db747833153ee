//! The provider: a child of the runtime that opens sources for init.
//!
//! It sends them in the order of the steps through a socket with a small buffer, so that only a few
//! are open at any time. It never reads from the socket: a process with the runtime's credentials
//! must not read anything that the container may have written.

use super::device;
use super::inherited::{Inherited, SourceState};
use super::provided::{BY_INIT, MISSING, Message, PLACE, TREE, send_message};
use super::source::{self, Failure};
use crate::plan::explain::Check;
use crate::plan::{Plan, Source, SourceBy, Spare};
use coracle_sys::{
    AT_FDCWD, Call, Cause, Cloned, ExitStatus, NamespaceFlags, OpenTreeFlags, Parentage, clone3,
    die_with_parent, exit, move_mount, setns, unshare, wait_exit,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, fchdir};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The namespaces that the provider works in, opened before init becomes undumpable.
#[derive(Clone, Copy, Debug)]
pub struct ProviderNamespaces<'a> {
    /// The runtime's mount namespace, in which the host's mounts are not locked.
    pub host: BorrowedFd<'a>,
    /// Init's mount namespace.
    pub mounts: BorrowedFd<'a>,
    /// Init's user namespace.
    pub users: BorrowedFd<'a>,
}

/// Sends init the sources that it cannot open itself, until all are sent or one fails, which init
/// learns from a message. For a child of the runtime with the runtime's credentials. Calls `joined`
/// once it is in init's mount namespace. Init must not mount before: its root would become this
/// process's root as well. Does not allocate.
pub fn provide(
    plan: &Plan,
    inherited: &mut Inherited,
    namespaces: ProviderNamespaces<'_>,
    joined: impl FnOnce(),
) {
    let Some(provided) = &mut inherited.provided else {
        return;
    };
    provided.reader = None;
    let Some(writer) = provided.writer.take() else {
        return;
    };
    if plan.source_by == SourceBy::Child
        && let Err(errno) = setns(namespaces.mounts, NamespaceFlags::MOUNT)
    {
        let failed = Message::all_failed(Cause::Call(Call::Setns, errno));
        send_message(&writer, failed, None);
        return;
    }
    joined();
    let sources = plan.sources.iter().zip(&inherited.sources).zip(0_u32..);
    for ((source, state), number) in sources {
        if !plan.is_provided(source) || matches!(state, SourceState::Link(_)) {
            continue;
        }
        let provider = Provider {
            source,
            number,
            id_maps: &inherited.id_maps,
            writer: &writer,
            namespaces,
        };
        let goes_on = match plan.source_by {
            SourceBy::Child => provider.in_inits_namespace(),
            SourceBy::Init => provider.on_host(),
        };
        if !goes_on {
            return;
        }
    }
}

struct Provider<'a> {
    source: &'a Source,
    number: u32,
    id_maps: &'a [OwnedFd],
    writer: &'a OwnedFd,
    namespaces: ProviderNamespaces<'a>,
}

impl Provider<'_> {
    /// Usually sends a descriptor of the source, for init to clone: that clone has the locks of
    /// init's mount namespace.
    fn in_inits_namespace(&self) -> bool {
        let id_mapped = self.id_map().is_some();
        let place = match source::place(self.source) {
            Ok(place) => place,
            Err(failure) => {
                return match self.source.spare {
                    Some(spare) => self.deliver(self.spare(spare)),
                    None => self.failed(failure),
                };
            }
        };
        if self.covers_something(place.as_fd()) {
            return self.uncovered(place.as_fd());
        }
        if id_mapped {
            // An id map needs CAP_SYS_ADMIN in the filesystem's user namespace, which only this
            // process has.
            let tree = source::clone_place(place.as_fd(), self.source, self.id_maps);
            return self.deliver(tree);
        }
        send_message(self.writer, self.message(PLACE), Some(place.as_fd()))
    }

    /// Makes the node that the host does not have.
    fn spare(&self, spare: Spare) -> Result<OwnedFd, Failure> {
        let tree = device::on_its_own(spare)?;
        self.change(tree.as_fd(), |_| true)?;
        Ok(tree)
    }

    fn on_host(&self) -> bool {
        match source::clone(self.source, self.id_maps) {
            // The runtime's mount namespace belongs to an outer user namespace, in which it has no
            // capability. Init can clone in its own copy.
            Err(Cause::Call(Call::OpenTree, Errno::EPERM)) if self.id_map().is_none() => {
                send_message(self.writer, self.message(BY_INIT), None)
            }
            tree => self.deliver(tree),
        }
    }

    fn id_map(&self) -> Option<usize> {
        let mut changes = self.source.changes.iter();
        changes.find_map(|change| change.id_map)
    }

    fn message(&self, kind: u8) -> Message {
        Message::new(kind, self.number)
    }

    fn deliver(&self, tree: Result<OwnedFd, Failure>) -> bool {
        match tree {
            Ok(tree) => send_message(self.writer, self.message(TREE), Some(tree.as_fd())),
            Err(failure) => self.failed(failure),
        }
    }

    /// Sends a failure. Returns whether to go on.
    fn failed(&self, failure: Failure) -> bool {
        let missing = matches!(
            failure,
            Cause::Call(Call::OpenTree | Call::Openat2, Errno::ENOENT)
        );
        if self.source.optional && missing {
            return send_message(self.writer, self.message(MISSING), None);
        }
        let sent = send_message(self.writer, Message::failed(self.number, failure), None);
        sent && self.source.optional
    }

    /// Whether this is a non-recursive bind of a directory with mounts below it. In init's
    /// namespace those are locked, and the kernel refuses to clone the directory without them.
    fn covers_something(&self, place: BorrowedFd<'_>) -> bool {
        if self.source.recursive || !self.source.by_config {
            return false;
        }
        if !fstat(place).is_ok_and(|stat| source::is(&stat, SFlag::S_IFDIR)) {
            return false;
        }
        let clone = source::clone_mount(place, OpenTreeFlags::empty());
        matches!(clone, Err(Cause::Call(_, Errno::EINVAL)))
    }

    /// Handles such a bind in a process of its own, since a user namespace cannot be left again.
    fn uncovered(&self, place: BorrowedFd<'_>) -> bool {
        let parent = Pid::this();
        match clone3(NamespaceFlags::empty(), None, Parentage::Own) {
            Err(errno) => self.failed(Cause::Call(Call::Clone, errno)),
            Ok(Cloned::Child) => {
                let tree = die_with_parent(parent, Signal::SIGKILL)
                    .map_err(Call::Prctl.failed())
                    .and_then(|()| self.alone_with_locks(place, parent));
                exit(i32::from(!self.deliver(tree)))
            }
            Ok(Cloned::Parent { pidfd, .. }) => match wait_exit(pidfd.as_fd()) {
                Ok(ExitStatus::Code(code)) => code == 0,
                Ok(signal) => self.failed(Cause::Exit(signal)),
                Err(errno) => self.failed(Cause::Call(Call::Wait, errno)),
            },
        }
    }

    /// In the host's mount namespace the directory can be cloned without the mounts below it. But
    /// that clone's flags are not locked, so that root in the container could clear a read-only
    /// flag that the host set. The kernel locks the flags of all mounts when a mount namespace is
    /// copied into another user namespace. So the clone is attached over the root of a copy of the
    /// host's namespace, and that is copied once more from within the container's user namespace.
    /// The working directory follows each copy.
    ///
    /// For this the path is resolved a second time, in a namespace in which the root is not hidden.
    /// It must lead to the same directory.
    ///
    /// A process with capabilities in that user namespace could trace this one, which has the
    /// runtime's memory and descriptors. So it is undumpable, and made so again after setns(2),
    /// which may set the dumpable flag to `fs.suid_dumpable` and clears the parent-death signal.
    fn alone_with_locks(&self, found: BorrowedFd<'_>, parent: Pid) -> Result<OwnedFd, Failure> {
        let ProviderNamespaces { host, users, .. } = self.namespaces;
        setns(host, NamespaceFlags::MOUNT).map_err(Call::Setns.failed())?;
        unshare(NamespaceFlags::MOUNT).map_err(Call::Unshare.failed())?;
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&CStr>, c"/", None::<&CStr>, slave, None::<&CStr>)
            .map_err(Call::Mount.failed())?;
        let place = source::place(self.source)?;
        if identity(place.as_fd())? != identity(found)? {
            return Err(Check::Swapped.into());
        }
        let tree = source::clone_mount(place.as_fd(), OpenTreeFlags::empty())?;
        self.change(tree.as_fd(), |id_map| id_map.is_some())?;
        move_mount(tree.as_fd(), AT_FDCWD, c"/").map_err(Call::MoveMount.failed())?;
        fchdir(&tree).map_err(Call::Fchdir.failed())?;
        setns(users, NamespaceFlags::USER).map_err(Call::Setns.failed())?;
        prctl::set_dumpable(false)
            .and_then(|()| die_with_parent(parent, Signal::SIGKILL))
            .map_err(Call::Prctl.failed())?;
        unshare(NamespaceFlags::MOUNT).map_err(Call::Unshare.failed())?;
        let locked = source::clone_mount(AT_FDCWD, OpenTreeFlags::empty())?;
        self.change(locked.as_fd(), |id_map| id_map.is_none())?;
        Ok(locked)
    }

    fn change(
        &self,
        tree: BorrowedFd<'_>,
        wanted: impl Fn(Option<usize>) -> bool,
    ) -> Result<(), Failure> {
        let changes = self.source.changes.iter();
        for change in changes.filter(|change| wanted(change.id_map)) {
            source::apply(tree, change, self.id_maps)?;
        }
        Ok(())
    }
}

fn identity(inode: BorrowedFd<'_>) -> Result<(u64, u64), Failure> {
    let stat = fstat(inode).map_err(Call::Stat.failed())?;
    Ok((stat.st_dev, stat.st_ino))
}
