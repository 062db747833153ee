//! Sources that a child of the runtime finds for init, one after the other.
//!
//! They go through a socket with little room, each in the order of the steps that need them, so
//! that only a few are open at any time, however many there are. Nothing comes back: a
//! process with the runtime's credentials reads nothing that the container wrote.

use super::inherited::{Inherited, SourceState};
use super::provided::{BY_INIT, MISSING, Message, PLACE, TREE, send_message};
use super::source::{self, Failure};
use crate::plan::explain::Check;
use crate::plan::{Plan, Source, SourceBy};
use coracle_sys::{
    AT_FDCWD, Call, Cause, Cloned, ExitStatus, NamespaceFlags, OpenTreeFlags, Parentage, clone3,
    die_with_parent, exit, move_mount, open_tree, setns, unshare, wait_exit,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, fchdir};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The namespaces that a provider works in, opened before init is out of reach.
#[derive(Clone, Copy, Debug)]
pub struct ProviderNamespaces<'a> {
    /// The runtime's mount namespace, with the host's mounts without locks.
    pub host: BorrowedFd<'a>,
    /// Init's mount namespace.
    pub mounts: BorrowedFd<'a>,
    /// Init's user namespace.
    pub users: BorrowedFd<'a>,
}

/// Sends init the sources that it cannot find itself, and returns when all were sent or one failed,
/// which init receives. For a child of the runtime with the runtime's credentials. Calls `joined`
/// when it is in init's mount namespace; init may mount from then on, not before: its root would
/// be this process's. Does not allocate.
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
    /// As a rule just the place is sent: what init clones there has the locks of its namespace.
    fn in_inits_namespace(&self) -> bool {
        let id_mapped = self.id_map().is_some();
        let place = match source::place(self.source) {
            Ok(place) => place,
            Err(failure) => return self.failed(failure),
        };
        if self.covers_something(place.as_fd()) {
            return self.uncovered(place.as_fd());
        }
        if id_mapped {
            // The right to do so comes from the owner of the file system.
            let tree = source::clone_place(place.as_fd(), self.source, self.id_maps);
            return self.deliver(tree);
        }
        send_message(self.writer, self.message(PLACE), Some(place.as_fd()))
    }

    fn on_host(&self) -> bool {
        match source::clone(self.source, self.id_maps) {
            // The runtime's capability does not reach its mount namespace, which belongs to an
            // outer user namespace; init has a copy.
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

    /// Whether more is to come after a failure.
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

    /// A plain bind of a directory with mounts below it, which are locked in this namespace: the
    /// kernel does not clone the directory without them.
    fn covers_something(&self, place: BorrowedFd<'_>) -> bool {
        if self.source.recursive || !self.source.by_config {
            return false;
        }
        if !fstat(place).is_ok_and(|stat| source::is(&stat, SFlag::S_IFDIR)) {
            return false;
        }
        let flags = OpenTreeFlags::EMPTY_PATH | OpenTreeFlags::CLONE;
        matches!(open_tree(place, c"", flags), Err(Errno::EINVAL))
    }

    /// By a process of its own, since who joins a user namespace does not come back.
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

    /// On the host the mount is cloned without those below it, as the config says. That clone has
    /// no locks, and root in the container could lift what the host restricts. The kernel locks the
    /// flags of a mount when its namespace is copied for another user namespace: so the clone is
    /// attached in a copy of the host's namespace, over its root, and that copy is copied once more
    /// by a member of the container's user namespace. The working directory follows each copy.
    ///
    /// The path is resolved once more for that, where the root is not hidden: it must lead to the
    /// same directory again.
    ///
    /// Whoever has capabilities in that user namespace could trace this process there, which has
    /// the runtime's memory and descriptors: the caller has made it undumpable. Entering the
    /// namespace may put `fs.suid_dumpable` in force and take the parent-death signal away.
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
        let flags = OpenTreeFlags::EMPTY_PATH | OpenTreeFlags::CLONE;
        let tree = open_tree(place.as_fd(), c"", flags).map_err(Call::OpenTree.failed())?;
        self.change(tree.as_fd(), |id_map| id_map.is_some())?;
        move_mount(tree.as_fd(), AT_FDCWD, c"/").map_err(Call::MoveMount.failed())?;
        fchdir(&tree).map_err(Call::Fchdir.failed())?;
        setns(users, NamespaceFlags::USER).map_err(Call::Setns.failed())?;
        prctl::set_dumpable(false)
            .and_then(|()| die_with_parent(parent, Signal::SIGKILL))
            .map_err(Call::Prctl.failed())?;
        unshare(NamespaceFlags::MOUNT).map_err(Call::Unshare.failed())?;
        let locked = open_tree(AT_FDCWD, c"", flags).map_err(Call::OpenTree.failed())?;
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
