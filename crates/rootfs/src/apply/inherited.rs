//! What init inherits from the runtime for its mounts, and what its phases keep for one another.

use super::provided::{Provided, Received};
use super::source::{self, Failure};
use super::trail::Trail;
use crate::plan::explain::Check;
use crate::plan::{Plan, Source};
use coracle_sys::{Call, Cause};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The descriptors that travel into the container's init, and those that its phases leave for one
/// another.
///
/// Both sides hold a copy after the clone. The runtime drops its own once a child of it has sent
/// the sources. Init must not drop it, for that would free memory: the phases close each descriptor
/// when it has served, `mounts` all that lead to the host, `finish` the rest. Their number does not
/// depend on how many sources there are.
#[derive(Debug)]
pub struct Inherited {
    /// The container's root, from `mounts` on.
    pub(super) root: Option<OwnedFd>,
    /// Where `root` is a mount over the root of the bundle: that one, with all that is on it.
    pub(super) lowest: Option<OwnedFd>,
    /// What covers the root's path while sources are found and the root is hidden.
    pub(super) cover: Option<OwnedFd>,
    pub(super) sources: Vec<SourceState>,
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
pub(super) enum SourceState {
    /// It is found at its turn.
    Later,
    /// The source is a link that is to be made again.
    Link(CString),
    /// A detached tree that a later phase needs.
    Tree(OwnedFd),
}

impl Inherited {
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
        if let Some(kept) = index.and_then(|index| self.kept.get_mut(index)) {
            *kept = Some(mount);
        }
    }

    /// The file that a failed copy into a tmpfs was at, below the directory; empty where none did.
    #[must_use]
    pub fn failed_file(&self) -> &[u8] {
        self.trail.text()
    }

    /// Keeps a tree for a later phase, in which the host's mounts are out of reach.
    pub(super) fn put_aside(&mut self, index: usize, tree: OwnedFd) {
        if let Some(state) = self.sources.get_mut(index) {
            *state = SourceState::Tree(tree);
        }
    }

    /// The tree that was put aside.
    pub(super) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let state = self.sources.get_mut(index)?;
        // A link stays where it is: taking it out would free its text.
        if !matches!(state, SourceState::Tree(_)) {
            return None;
        }
        match std::mem::replace(state, SourceState::Later) {
            SourceState::Tree(tree) => Some(tree),
            _ => None,
        }
    }

    /// The source as a detached tree with its changes made, at its turn; `None` if it is missing
    /// and optional. Sources are requested in ascending order. Heap-free.
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
                Received::Place(place) => place,
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
            Received::Tree(tree) => Ok(Some(tree)),
            Received::Place(place) => {
                source::clone_place(place.as_fd(), source, &self.id_maps).map(Some)
            }
            Received::ByInit => source::clone(source, &self.id_maps).map(Some),
            Received::Missing => Ok(None),
        }
    }
}
