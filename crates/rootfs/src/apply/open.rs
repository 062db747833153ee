//! What the runtime opens before the clone, and what the phases find in it.

use super::provide::{Delivery, Provided};
use super::source::{self, Failure};
use super::trail::Trail;
use super::{id_map, pivot};
use crate::Error;
use crate::plan::explain::Check;
use crate::plan::{Plan, Source, SourceCheck};
use coracle_sys::{Call, Cause};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{Mode, SFlag, lstat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The descriptors that travel into the container's init, and those that its phases leave for one
/// another.
///
/// Both sides hold a copy after the clone. The runtime drops its own once a child of it has sent
/// the sources. Init must not drop it, for that would free memory: the phases close each descriptor
/// when it has served, `mounts` all that lead to the host, `finish` the rest. Their number does not
/// depend on how many sources there are.
#[derive(Debug)]
pub struct Slots {
    /// The container's root, from `mounts` on.
    pub(super) root: Option<OwnedFd>,
    /// Where `root` is a mount over the root of the bundle: that one, with all that is on it.
    pub(super) lowest: Option<OwnedFd>,
    /// What covers the root's path while sources are found and the root is hidden.
    pub(super) cover: Option<OwnedFd>,
    pub(super) sources: Vec<Slot>,
    /// Where the sources come from that a child of the runtime finds.
    pub(super) provided: Option<Provided>,
    pub(super) id_maps: Vec<OwnedFd>,
    /// Mounts of one step that a later one needs.
    pub(super) kept: Vec<Option<OwnedFd>>,
    /// The null device that masks files: first a source, and from the first masked file on here.
    pub(super) null: Option<OwnedFd>,
    /// The empty directory that masks directories, made at the first of them.
    pub(super) empty: Option<OwnedFd>,
    /// Full procfs and sysfs mounts of the host, which a chroot must not leave reachable.
    pub(super) outside: Vec<CString>,
    /// Which file a failed copy was at.
    pub(super) trail: Trail,
}

/// A source in one of its states.
#[derive(Debug)]
pub(super) enum Slot {
    /// It is found at its turn.
    Later,
    /// The source is a link that is to be made again.
    Link(CString),
    /// A detached tree that a later phase needs.
    Tree(OwnedFd),
}

/// Opens what init inherits, and looks at the sources of the plan. For the runtime, before the
/// clone.
///
/// # Errors
/// The first source that is missing or of the wrong kind, by its JSON path.
pub fn open(plan: &Plan) -> Result<Slots, Error> {
    let mut slots = Slots {
        root: None,
        lowest: None,
        cover: None,
        sources: Vec::with_capacity(plan.sources.len()),
        provided: None,
        id_maps: id_map::open(&plan.id_maps)?,
        kept: (0..plan.kept).map(|_| None).collect(),
        null: None,
        empty: None,
        outside: Vec::new(),
        trail: Trail::new(),
    };
    let Some(root) = &plan.root else {
        return Ok(slots);
    };
    for source in &plan.sources {
        let slot = look_at(source)?;
        slots.sources.push(slot);
    }
    if root.source.is_none() {
        slots.root = Some(open_host_root()?);
    }
    if plan.needs_provider() {
        slots.provided = Some(Provided::new().map_err(|errno| Error::Stream { errno })?);
    }
    if plan.leaves_outside() {
        slots.outside = pivot::outside(&root.path)?;
    }
    Ok(slots)
}

fn look_at(source: &Source) -> Result<Slot, Error> {
    if source.copy_link
        && let Some(link) = link(source)?
    {
        return Ok(Slot::Link(link));
    }
    // What may not be needed, and what an earlier mount may bring, is looked for at its turn.
    if source.optional || source.inside.is_some() {
        return Ok(Slot::Later);
    }
    let looked = source::look(source).map(|()| Slot::Later);
    looked.map_err(|failure| error(source, failure))
}

/// What a source that is a symbolic link says.
fn link(source: &Source) -> Result<Option<CString>, Error> {
    let failed = |errno| error(source, Cause::Call(Call::OpenTree, errno));
    let stat = lstat(source.path.as_c_str()).map_err(failed)?;
    if !source::is(&stat, SFlag::S_IFLNK) {
        return Ok(None);
    }
    let target = readlink(source.path.as_c_str()).map_err(failed)?;
    CString::new(target.into_vec())
        .map(Some)
        .map_err(|_| failed(Errno::EINVAL))
}

fn error(source: &Source, cause: Failure) -> Error {
    let at = source.at.clone();
    let path = source.path.to_string_lossy().into_owned();
    let expected = match (cause, source.check) {
        (Cause::Call(_, errno @ (Errno::EMFILE | Errno::ENFILE)), SourceCheck::Node(_)) => {
            return Error::Source { at, path, errno };
        }
        (_, SourceCheck::Node(node)) => {
            format!("the host has no node {} there to bind", node.describe())
        }
        (Cause::Call(_, errno), _) => return Error::Source { at, path, errno },
        (cause, _) if cause == Check::HostRoot.into() => return Error::RootIsHost,
        (_, SourceCheck::Root) => "not a directory".to_owned(),
        _ => "only a procfs can be mounted on /proc".to_owned(),
    };
    Error::SourceKind { at, path, expected }
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
    /// The container's root.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or(Check::NotOpened.into())
    }

    /// The first mount of the root, with all that is on it.
    pub(super) fn lowest(&self) -> Result<BorrowedFd<'_>, Failure> {
        match &self.lowest {
            Some(lowest) => Ok(lowest.as_fd()),
            None => self.root(),
        }
    }

    /// Where a target is resolved: the root, or the kept mount.
    pub(super) fn base(&self, kept: Option<usize>) -> Result<BorrowedFd<'_>, Failure> {
        match kept {
            None => self.root(),
            Some(index) => {
                let kept = self.kept.get(index).and_then(Option::as_ref);
                kept.map(AsFd::as_fd).ok_or(Check::NotOpened.into())
            }
        }
    }

    /// Keeps a mount for a later step, or closes it.
    pub(super) fn keep(&mut self, index: Option<usize>, mount: OwnedFd) {
        if let Some(slot) = index.and_then(|index| self.kept.get_mut(index)) {
            *slot = Some(mount);
        }
    }

    /// The file that a failed copy into a tmpfs was at, below the directory; empty where none did.
    #[must_use]
    pub fn failed_file(&self) -> &[u8] {
        self.trail.text()
    }

    /// Keeps a tree for a later phase, in which the host's mounts are out of reach.
    pub(super) fn put_aside(&mut self, index: usize, tree: OwnedFd) {
        if let Some(slot) = self.sources.get_mut(index) {
            *slot = Slot::Tree(tree);
        }
    }

    /// The tree that was put aside.
    pub(super) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let slot = self.sources.get_mut(index)?;
        // A link stays where it is: taking it out would free its text.
        if !matches!(slot, Slot::Tree(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Later) {
            Slot::Tree(tree) => Some(tree),
            _ => None,
        }
    }

    /// The source as a detached tree with its changes made, at its turn; `None` if it is missing
    /// and optional. Sources are asked for in ascending order. Heap-free.
    pub(super) fn obtain(&mut self, plan: &Plan, index: usize) -> Result<Option<OwnedFd>, Failure> {
        let source = plan.sources.get(index).ok_or(Check::NotOpened)?;
        let obtained = if plan.is_provided(source) {
            self.provided(source, index)
        } else if let Some(path) = &source.inside {
            let root = self.root()?;
            source::clone_inside(root, path, source, &self.id_maps).map(Some)
        } else {
            source::clone(source, &self.id_maps).map(Some)
        };
        match obtained {
            Err(Cause::Call(Call::OpenTree | Call::Openat2, Errno::ENOENT)) if source.optional => {
                Ok(None)
            }
            answer => answer,
        }
    }

    /// The root's directory on the host, and the detached tree of it. Heap-free.
    pub(super) fn obtain_root(
        &self,
        plan: &Plan,
        index: usize,
    ) -> Result<(OwnedFd, OwnedFd), Failure> {
        let missing = Check::NotOpened;
        let source = plan.sources.get(index).ok_or(missing)?;
        let place = if plan.is_provided(source) {
            match self.provided.as_ref().ok_or(missing)?.receive(index)? {
                Delivery::Place(place) => place,
                _ => return Err(Check::Protocol.into()),
            }
        } else {
            source::place(source)?
        };
        let tree = source::clone_place(place.as_fd(), source, &self.id_maps)?;
        Ok((place, tree))
    }

    fn provided(&self, source: &Source, index: usize) -> Result<Option<OwnedFd>, Failure> {
        let provided = self.provided.as_ref();
        let provided = provided.ok_or(Check::NotOpened)?;
        match provided.receive(index)? {
            Delivery::Tree(tree) => Ok(Some(tree)),
            Delivery::Place(place) => {
                source::clone_place(place.as_fd(), source, &self.id_maps).map(Some)
            }
            Delivery::Yours => source::clone(source, &self.id_maps).map(Some),
            Delivery::Missing => Ok(None),
        }
    }
}
