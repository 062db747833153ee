//! What the runtime opens before the clone, since only it has the host's view.

use super::source::{self, Failure};
use super::{fault, id_map, pivot};
use crate::Error;
use crate::plan::{Plan, Source, SourceBy, SourceCheck};
use coracle_sys::{Call, Fault, get_rlimit, set_rlimit};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{Mode, SFlag, lstat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The descriptors that travel into the container's init, and those that its phases leave for one
/// another.
///
/// Both sides hold a copy after the clone. The runtime drops its own right away. Init must not drop
/// it, for that would free memory: the phases close each descriptor when it has served, `mounts`
/// all that lead to the host, `finish` the rest.
#[derive(Debug)]
pub struct Slots {
    /// The container's root, from `mounts` on.
    pub(super) root: Option<OwnedFd>,
    pub(super) sources: Vec<Slot>,
    pub(super) id_maps: Vec<OwnedFd>,
    /// Mounts of one step that a later one needs.
    pub(super) kept: Vec<Option<OwnedFd>>,
    /// The null device that masks files: first a source, and from the first masked file on here.
    pub(super) null: Option<OwnedFd>,
    /// The empty directory that masks directories, made at the first of them.
    pub(super) empty: Option<OwnedFd>,
    /// Full procfs and sysfs mounts of the host, which a chroot must not leave reachable.
    pub(super) outside: Vec<CString>,
    /// The soft limit of descriptors before it was raised.
    pub(super) limit: Option<u64>,
}

/// A source in one of its states.
#[derive(Debug)]
pub(super) enum Slot {
    /// A detached tree.
    Tree(OwnedFd),
    /// The source is a link that is to be made again.
    Link(CString),
    /// It is cloned after init: by a child of the runtime, or by init itself.
    Later,
    /// It is missing, or was used up.
    Gone,
}

/// Above so many sources the soft limit of descriptors is raised for the time of the set-up.
const MANY: usize = 256;

const NUMBER_OF_FILES: i32 = libc::RLIMIT_NOFILE.cast_signed();

/// Opens the sources of the plan, or looks at them where they are cloned later. For the runtime,
/// before the clone and after the container's cgroups were made, which a cgroup mount may bind.
///
/// # Errors
/// The first source that is missing, of the wrong kind, or refuses its flags, by its JSON path.
pub fn open(plan: &Plan) -> Result<Slots, Error> {
    let mut slots = Slots {
        root: None,
        sources: Vec::with_capacity(plan.sources.len()),
        id_maps: id_map::open(&plan.id_maps)?,
        kept: (0..plan.kept).map(|_| None).collect(),
        null: None,
        empty: None,
        outside: Vec::new(),
        limit: None,
    };
    let Some(root) = &plan.root else {
        return Ok(slots);
    };
    if plan.sources.len() > MANY {
        slots.raise_limit();
    }
    for source in &plan.sources {
        let slot = open_source(plan, source, &slots.id_maps)?;
        slots.sources.push(slot);
    }
    if root.source.is_none() {
        slots.root = Some(open_host_root()?);
    }
    if plan.leaves_outside() {
        slots.outside = pivot::outside(&root.path)?;
    }
    Ok(slots)
}

fn open_source(plan: &Plan, source: &Source, id_maps: &[OwnedFd]) -> Result<Slot, Error> {
    if source.copy_link
        && let Some(link) = link(source)?
    {
        return Ok(Slot::Link(link));
    }
    let by_runtime = plan.source_by == SourceBy::Runtime;
    let opened = if by_runtime {
        source::clone(source, id_maps).map(Slot::Tree)
    } else {
        source::look(source).map(|()| Slot::Later)
    };
    match opened {
        Ok(slot) => Ok(slot),
        // The capability does not reach the mount namespace, which an outer user namespace owns.
        Err((Call::OpenTree, Errno::EPERM)) if by_runtime => {
            let slot = source::look(source).map(|()| Slot::Later);
            slot.map_err(|failure| error(source, failure))
        }
        Err((Call::OpenTree, Errno::ENOENT)) if source.optional => Ok(Slot::Gone),
        Err(failure) => Err(error(source, failure)),
    }
}

/// Clones the sources that belong into the container's own user namespace, and passes each on with
/// its number, for [`Slots::take_in`] of init. For a child of the runtime that has joined init's
/// new mount namespace and kept the runtime's credentials. Does not allocate.
///
/// # Errors
/// The step whose source it was; [`Plan::explain`] has the words.
pub fn clone_sources(
    plan: &Plan,
    slots: &Slots,
    pass_on: impl Fn(i32, BorrowedFd<'_>) -> nix::Result<()>,
) -> Result<(), Fault> {
    for ((source, slot), number) in plan.sources.iter().zip(&slots.sources).zip(0..) {
        if !matches!(slot, Slot::Later) {
            continue;
        }
        match source::clone(source, &slots.id_maps) {
            Ok(tree) => {
                pass_on(number, tree.as_fd()).map_err(Call::Send.at(source.step))?;
            }
            Err((Call::OpenTree, Errno::ENOENT)) if source.optional => {}
            Err((call, errno)) => return Err(Fault::new(source.step, call, errno)),
        }
    }
    Ok(())
}

/// What a source that is a symbolic link says.
fn link(source: &Source) -> Result<Option<CString>, Error> {
    let failed = |errno| error(source, (Call::OpenTree, errno));
    let stat = lstat(source.path.as_c_str()).map_err(failed)?;
    if !source::is(&stat, SFlag::S_IFLNK) {
        return Ok(None);
    }
    let target = readlink(source.path.as_c_str()).map_err(failed)?;
    CString::new(target.into_vec())
        .map(Some)
        .map_err(|_| failed(Errno::EINVAL))
}

fn error(source: &Source, (call, errno): Failure) -> Error {
    let at = source.at.clone();
    let path = source.path.to_string_lossy().into_owned();
    let id_mapped = source.changes.iter().any(|change| change.id_map.is_some());
    match (call, source.check) {
        (Call::MountSetattr, _) => {
            let cause = match errno {
                Errno::EINVAL if id_mapped => "its file system cannot be id-mapped",
                Errno::EPERM => "cannot clear locked flags",
                _ => "set the mount's flags",
            };
            Error::Attributes {
                at,
                path,
                cause,
                errno,
            }
        }
        (Call::Check, SourceCheck::Root) if errno == fault::HOST_ROOT => Error::RootIsHost,
        (Call::Check, SourceCheck::Root) => Error::SourceKind {
            at,
            path,
            expected: "not a directory".to_owned(),
        },
        (Call::Check, SourceCheck::Procfs) => {
            let expected = "only a procfs can be mounted on /proc".to_owned();
            Error::SourceKind { at, path, expected }
        }
        (_, SourceCheck::Node(node)) if !matches!(errno, Errno::EMFILE | Errno::ENFILE) => {
            let expected = format!("the host has no node {} there to bind", node.describe());
            Error::SourceKind { at, path, expected }
        }
        _ => Error::Source { at, path, errno },
    }
}

/// The host's own root directory, for a container that has no other.
fn open_host_root() -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(c"/", flags, Mode::empty()).map_err(|errno| Error::Source {
        at: "root.path".to_owned(),
        path: "/".to_owned(),
        errno,
    })
}

impl Slots {
    fn raise_limit(&mut self) {
        if let Ok((soft, hard)) = get_rlimit(NUMBER_OF_FILES)
            && soft < hard
            && set_rlimit(NUMBER_OF_FILES, hard, hard).is_ok()
        {
            self.limit = Some(soft);
        }
    }

    /// Back to the soft limit of descriptors that the runtime was started with. The hard one may
    /// have been raised for init since.
    pub(super) fn restore_limit(&mut self) -> nix::Result<()> {
        let Some(soft) = self.limit.take() else {
            return Ok(());
        };
        let (_, hard) = get_rlimit(NUMBER_OF_FILES)?;
        set_rlimit(NUMBER_OF_FILES, soft.min(hard), hard)
    }

    /// The container's root.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or((Call::Check, fault::NO_SLOT))
    }

    /// Where a target is resolved: the root, or the kept mount.
    pub(super) fn base(&self, kept: Option<usize>) -> Result<BorrowedFd<'_>, Failure> {
        match kept {
            None => self.root(),
            Some(index) => {
                let kept = self.kept.get(index).and_then(Option::as_ref);
                kept.map(AsFd::as_fd).ok_or((Call::Check, fault::NO_SLOT))
            }
        }
    }

    /// Keeps a mount for a later step, or closes it.
    pub(super) fn keep(&mut self, index: Option<usize>, mount: OwnedFd) {
        if let Some(slot) = index.and_then(|index| self.kept.get_mut(index)) {
            *slot = Some(mount);
        }
    }

    /// Takes a source that was cloned for init. Does not allocate.
    pub fn take_in(&mut self, number: i32, tree: OwnedFd) {
        let index = usize::try_from(number).ok();
        if let Some(slot) = index.and_then(|index| self.sources.get_mut(index)) {
            *slot = Slot::Tree(tree);
        }
    }

    /// The tree of a source; `None` if it is missing.
    pub(super) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let slot = self.sources.get_mut(index)?;
        // A link stays where it is: taking it out would free its text.
        if !matches!(slot, Slot::Tree(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Gone) {
            Slot::Tree(tree) => Some(tree),
            _ => None,
        }
    }
}

impl Drop for Slots {
    /// The runtime's own limit comes back with the end of its set-up; init never drops this.
    fn drop(&mut self) {
        let _ = self.restore_limit();
    }
}
