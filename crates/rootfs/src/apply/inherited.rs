//! The descriptors that init inherits for its mounts, and those that its phases keep.

use super::provided::{Provided, Received};
use super::source::{self, Failure};
use super::trail::Trail;
use crate::plan::explain::Check;
use crate::plan::{Plan, Source};
use coracle_sys::{Call, Cause};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The descriptors that init inherits for its mounts, and those that one of its phases keeps for a
/// later one.
///
/// After the clone both sides have a copy. The runtime drops its own once its child has sent the
/// sources. Init must not drop it, since that would free memory: each phase closes descriptors
/// after their last use, `mounts` all that lead to the host, `finish` the rest. Their number does
/// not depend on the number of sources.
#[derive(Debug)]
pub struct Inherited {
    /// The container's root, from `mounts` on.
    pub(super) root: Option<OwnedFd>,
    /// The mount of the bundle's root, if the config has a mount on `/`, which is `root` then.
    pub(super) lowest: Option<OwnedFd>,
    /// The mount that covers the root's path while the root is hidden.
    pub(super) cover: Option<OwnedFd>,
    pub(super) sources: Vec<SourceState>,
    /// The socket with the sources that a child of the runtime opens.
    pub(super) provided: Option<Provided>,
    pub(super) id_maps: Vec<OwnedFd>,
    /// Mounts of steps that later steps need.
    pub(super) kept: Vec<Option<OwnedFd>>,
    /// The null device that masks files, once its source was opened.
    pub(super) null: Option<OwnedFd>,
    /// The empty tmpfs that masks directories, made at the first one.
    pub(super) empty: Option<OwnedFd>,
    /// Complete procfs and sysfs mounts of the host, which must not stay reachable after a chroot.
    pub(super) outside: Vec<CString>,
    /// The file at which a copy failed.
    pub(super) trail: Trail,
}

/// The state of a source.
#[derive(Debug)]
pub(super) enum SourceState {
    /// Not opened yet: it is opened at its step.
    Later,
    /// The source is a symbolic link, which is to be copied.
    Link(CString),
    /// Opened: a detached tree, for a later phase.
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

    /// The mount of the bundle's root, below any mount on `/`.
    pub(super) fn lowest(&self) -> Result<BorrowedFd<'_>, Failure> {
        match &self.lowest {
            Some(lowest) => Ok(lowest.as_fd()),
            None => self.root(),
        }
    }

    /// The directory below which a target is resolved: the root, or a kept mount.
    pub(super) fn base(&self, kept: Option<usize>) -> Result<BorrowedFd<'_>, Failure> {
        match kept {
            None => self.root(),
            Some(index) => {
                let kept = self.kept.get(index).and_then(Option::as_ref);
                kept.map(AsFd::as_fd).ok_or(Check::NotOpened.into())
            }
        }
    }

    /// Keeps a mount for a later step, or closes it if none needs it.
    pub(super) fn keep(&mut self, index: Option<usize>, mount: OwnedFd) {
        if let Some(kept) = index.and_then(|index| self.kept.get_mut(index)) {
            *kept = Some(mount);
        }
    }

    /// The path of the file at which a copy into a tmpfs failed, relative to the directory; empty
    /// if none failed.
    #[must_use]
    pub fn failed_file(&self) -> &[u8] {
        self.trail.text()
    }

    /// Keeps a tree for a later phase, in which the host's mounts cannot be reached.
    pub(super) fn put_aside(&mut self, index: usize, tree: OwnedFd) {
        if let Some(state) = self.sources.get_mut(index) {
            *state = SourceState::Tree(tree);
        }
    }

    /// Takes the tree that was kept.
    pub(super) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let state = self.sources.get_mut(index)?;
        // A link is not taken out, since that would free its text.
        if !matches!(state, SourceState::Tree(_)) {
            return None;
        }
        match std::mem::replace(state, SourceState::Later) {
            SourceState::Tree(tree) => Some(tree),
            _ => None,
        }
    }

    /// Opens the source as a detached tree with its changes made; `None` if it is missing and
    /// optional. Sources must be requested in ascending order. Heap-free.
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

    /// Opens the root's directory on the host, and a detached tree of it. Heap-free.
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
