//! Sources that a child of the runtime finds for init, one after the other.
//!
//! They go through a socket with little room, each in the order of the steps that need them, so
//! that only a few are open at any time, however many there are. Nothing comes back: the
//! container's process never has somebody with power over the host to talk to.

use super::open::{Slot, Slots};
use super::source::{self, Failure};
use crate::plan::explain::Check;
use crate::plan::{Plan, Source, SourceBy};
use coracle_sys::{
    AT_FDCWD, Call, Cause, Cloned, Dumpable, ExitStatus, NamespaceFlags, OpenTreeFlags, Parentage,
    clone3, die_with_parent, exit, move_mount, open_tree, receive, send, set_dumpable, setns,
    socket_pair, unshare, wait_exit,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, fchdir};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The two ends of the socket; each process closes the one that it does not use.
#[derive(Debug)]
pub(super) struct Provided {
    reader: Option<OwnedFd>,
    writer: Option<OwnedFd>,
}

/// What comes for a source.
pub(super) enum Delivery {
    /// A detached tree with all changes made.
    Tree(OwnedFd),
    /// The place in init's mount namespace to clone.
    Place(OwnedFd),
    /// It may only be cloned by init itself.
    Yours,
    /// It is not there, and need not be.
    Missing,
}

/// The kernel doubles it, and takes no less than a few messages' worth.
const ROOM: usize = 1;

const LENGTH: usize = 16;

const TREE: u8 = 1;
const PLACE: u8 = 2;
const YOURS: u8 = 3;
const MISSING: u8 = 4;
const FAILED: u8 = 5;
/// Whatever init waits for.
const ALL_FAILED: u8 = 6;

impl Provided {
    /// A socket whose writer waits while a few messages are unread.
    pub(super) fn new() -> nix::Result<Self> {
        let (reader, writer) = socket_pair()?;
        setsockopt(&writer, sockopt::SndBuf, &ROOM)?;
        Ok(Self {
            reader: Some(reader),
            writer: Some(writer),
        })
    }

    /// For init, which then sees the end of whoever writes.
    pub(super) fn close_writer(&mut self) {
        self.writer = None;
    }

    /// The source of this number; those before it that nobody wanted are passed over.
    pub(super) fn receive(&self, wanted: usize) -> Result<Delivery, Failure> {
        let socket = self.reader.as_ref().ok_or(Check::NotOpened)?;
        loop {
            let mut bytes = [0; LENGTH];
            let (length, attached) =
                receive(socket.as_fd(), &mut bytes).map_err(Call::Receive.failed())?;
            if length != LENGTH {
                // Whoever wrote was ended.
                return Err(Check::ProviderGone.into());
            }
            let message = Message::decode(bytes);
            if message.kind == ALL_FAILED {
                return Err(message.failure());
            }
            let number = usize::try_from(message.number).unwrap_or(usize::MAX);
            if number < wanted {
                // A stand-in that nobody needed, whether it was found or not.
                continue;
            }
            let delivery = match (message.kind, attached) {
                (TREE, Some(tree)) => Delivery::Tree(tree),
                (PLACE, Some(place)) => Delivery::Place(place),
                (YOURS, _) => Delivery::Yours,
                (MISSING, _) => Delivery::Missing,
                (FAILED, _) => return Err(message.failure()),
                _ => return Err(Check::Protocol.into()),
            };
            return match number == wanted {
                true => Ok(delivery),
                false => Err(Check::Protocol.into()),
            };
        }
    }
}

#[derive(Clone, Copy)]
struct Message {
    kind: u8,
    number: u32,
    /// Of a failure only.
    cause: [u8; Cause::LENGTH],
}

impl Message {
    fn new(kind: u8, number: u32) -> Self {
        Self {
            kind,
            number,
            cause: [0; Cause::LENGTH],
        }
    }

    fn failed(number: u32, cause: Failure) -> Self {
        Self {
            cause: cause.encode(),
            ..Self::new(FAILED, number)
        }
    }

    fn failure(self) -> Failure {
        Cause::decode(self.cause).unwrap_or(Check::Protocol.into())
    }

    fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = self.kind;
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.cause);
        bytes
    }

    fn decode(bytes: [u8; LENGTH]) -> Self {
        let [kind, _, _, _, a, b, c, d, cause @ ..] = bytes;
        Self {
            kind,
            number: u32::from_le_bytes([a, b, c, d]),
            cause,
        }
    }
}

/// The namespaces that a provider works in, opened before init is out of reach.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The runtime's mount namespace, with the host's mounts without locks.
    pub host: BorrowedFd<'a>,
    /// Init's mount namespace.
    pub mounts: BorrowedFd<'a>,
    /// Init's user namespace.
    pub users: BorrowedFd<'a>,
}

/// Sends init the sources that it cannot find itself, and returns when all were sent or one failed,
/// which init is told. For a child of the runtime with the runtime's credentials. Calls `joined`
/// when it is in init's mount namespace; init may mount from then on, not before: its root would
/// be this process's. Does not allocate.
pub fn provide(plan: &Plan, slots: &mut Slots, parties: Parties<'_>, joined: impl FnOnce()) {
    let Some(provided) = &mut slots.provided else {
        return;
    };
    provided.reader = None;
    let Some(writer) = provided.writer.take() else {
        return;
    };
    if plan.source_by == SourceBy::Child
        && let Err(errno) = setns(parties.mounts, NamespaceFlags::MOUNT)
    {
        let failed = Message {
            kind: ALL_FAILED,
            ..Message::failed(0, Cause::Call(Call::Setns, errno))
        };
        tell(&writer, failed, None);
        return;
    }
    joined();
    let sources = plan.sources.iter().zip(&slots.sources).zip(0_u32..);
    for ((source, slot), number) in sources {
        if !plan.is_provided(source) || matches!(slot, Slot::Link(_)) {
            continue;
        }
        let provider = Provider {
            source,
            number,
            id_maps: &slots.id_maps,
            writer: &writer,
            parties,
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

/// False if nobody listens any more.
fn tell(writer: &OwnedFd, message: Message, attached: Option<BorrowedFd<'_>>) -> bool {
    send(writer.as_fd(), &message.encode(), attached).is_ok()
}

struct Provider<'a> {
    source: &'a Source,
    number: u32,
    id_maps: &'a [OwnedFd],
    writer: &'a OwnedFd,
    parties: Parties<'a>,
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
        tell(self.writer, self.message(PLACE), Some(place.as_fd()))
    }

    fn on_host(&self) -> bool {
        match source::clone(self.source, self.id_maps) {
            // The runtime's capability does not reach its mount namespace, which belongs to an
            // outer user namespace; init has a copy.
            Err(Cause::Call(Call::OpenTree, Errno::EPERM)) if self.id_map().is_none() => {
                tell(self.writer, self.message(YOURS), None)
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
            Ok(tree) => tell(self.writer, self.message(TREE), Some(tree.as_fd())),
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
            return tell(self.writer, self.message(MISSING), None);
        }
        let told = tell(self.writer, Message::failed(self.number, failure), None);
        told && self.source.optional
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
        let Parties { host, users, .. } = self.parties;
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
        set_dumpable(Dumpable::No)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let failure = Cause::Call(Call::OpenTree, Errno::ENOENT);
        let message = Message::decode(Message::failed(70_000, failure).encode());
        assert_eq!((message.kind, message.number), (FAILED, 70_000));
        assert_eq!(message.failure(), failure);
        let message = Message::decode(Message::new(PLACE, 3).encode());
        assert_eq!((message.kind, message.number), (PLACE, 3));
    }

    /// A stand-in that init could do without must not end the launch; what init waits for must.
    #[test]
    fn failures_of_what_nobody_wants_are_passed_over() {
        let provided = Provided::new().expect("a socket pair");
        let writer = provided.writer.as_ref().expect("the writer");
        let refused = Cause::from(Check::OtherNode);
        assert!(tell(writer, Message::failed(1, refused), None));
        assert!(tell(writer, Message::new(PLACE, 2), Some(writer.as_fd())));
        let Ok(Delivery::Place(_)) = provided.receive(2) else {
            panic!("the one that is wanted")
        };
        for kind in [FAILED, ALL_FAILED] {
            let failed = Message {
                kind,
                ..Message::failed(3, refused)
            };
            assert!(tell(writer, failed, None));
            assert_eq!(provided.receive(3).map(drop), Err(refused));
        }
    }

    /// The writer waits long before a small limit on descriptors in flight.
    #[test]
    fn few_are_in_flight() {
        let provided = Provided::new().expect("a socket pair");
        let writer = provided.writer.as_ref().expect("the writer");
        nix::fcntl::fcntl(
            writer,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .expect("a flag");
        let sent = (0..1000)
            .take_while(|number| tell(writer, Message::new(PLACE, *number), Some(writer.as_fd())));
        let sent = sent.count();
        assert!((1..32).contains(&sent), "{sent}");
        let Ok(Delivery::Place(_)) = provided.receive(0) else {
            panic!("the first")
        };
    }

    #[test]
    fn the_end_of_the_writer_is_seen() {
        let mut provided = Provided::new().expect("a socket pair");
        provided.close_writer();
        let answer = provided.receive(0).map(drop);
        assert_eq!(answer, Err(Check::ProviderGone.into()));
    }
}
