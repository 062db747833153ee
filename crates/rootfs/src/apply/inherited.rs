//! What init inherits from the runtime for its mounts, opened before the clone, and what its phases
//! keep for one another.

use super::id_map;
use super::provided::{Provided, Received};
use super::source::{self, Failure};
use super::trail::Trail;
use crate::Error;
use crate::plan::explain::Check;
use crate::plan::{Plan, Source, SourceCheck};
use coracle_sys::{Call, Cause, Remark};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{Mode, SFlag, lstat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

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
    /// The mount namespace to join before a mount is attached, for a running container.
    pub(super) namespace: Option<OwnedFd>,
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
    /// What the kernel says of a new file system that it refuses.
    pub(super) refused: Remark,
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

/// Opens the descriptors that init inherits, and checks the sources of the plan. For the runtime,
/// before the clone.
///
/// # Errors
/// The first source that is missing or of the wrong kind, by its JSON path.
pub fn open(plan: &Plan) -> Result<Inherited, Error> {
    let mut inherited = Inherited {
        root: None,
        lowest: None,
        namespace: None,
        cover: None,
        sources: Vec::with_capacity(plan.sources.len()),
        provided: None,
        id_maps: id_map::open(&plan.id_maps)?,
        kept: (0..plan.kept).map(|_| None).collect(),
        null: None,
        empty: None,
        outside: Vec::new(),
        trail: Trail::new(),
        refused: Remark::default(),
    };
    let Some(root) = &plan.root else {
        return Ok(inherited);
    };
    for source in &plan.sources {
        let state = look_at(source)?;
        inherited.sources.push(state);
    }
    if root.source.is_none() {
        inherited.root = Some(open_host_root()?);
    }
    if plan.needs_provider() {
        inherited.provided = Some(Provided::new().map_err(|errno| Error::Stream { errno })?);
    }
    if plan.leaves_outside() {
        inherited.outside = outside(&root.path)?;
    }
    Ok(inherited)
}

fn look_at(source: &Source) -> Result<SourceState, Error> {
    if source.copy_link
        && let Some(link) = link(source)?
    {
        return Ok(SourceState::Link(link));
    }
    // Sources that may not be needed, that an earlier mount may provide, or that are made if they
    // are missing, are checked at their step.
    if source.optional || source.inside.is_some() || source.spare.is_some() {
        return Ok(SourceState::Later);
    }
    let looked = source::look(source).map(|()| SourceState::Later);
    looked.map_err(|failure| error(source, failure))
}

/// The target of a source that is a symbolic link.
fn link(source: &Source) -> Result<Option<CString>, Error> {
    let failed = |errno| error(source, Cause::Call(Call::OpenTree, errno));
    let stat = lstat(source.path.as_c_str()).map_err(failed)?;
    if !source::is(&stat, SFlag::S_IFLNK) {
        return Ok(None);
    }
    let target = readlink(source.path.as_c_str()).map_err(failed)?;
    // readlink(2) ends at the first NUL of a target, so none is inside.
    Ok(CString::new(target.into_vec()).ok())
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
        (Cause::Check(check), _) if Cause::Check(check) == Check::HostRoot.into() => {
            Check::text(check).to_owned()
        }
        (_, SourceCheck::Root) => "not a directory".to_owned(),
        _ => "only a procfs can be mounted on /proc".to_owned(),
    };
    Error::SourceKind { at, path, expected }
}

/// Opens the host's own root directory, for a container with that root.
fn open_host_root() -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(c"/", flags, Mode::empty()).map_err(|errno| Error::Source {
        at: "config.json: root.path".to_owned(),
        path: "/".to_owned(),
        errno,
    })
}

/// Lists the complete procfs and sysfs mounts outside of the root. For the runtime.
fn outside(root: &Path) -> Result<Vec<CString>, Error> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(|error| Error::HostMounts {
        errno: coracle_text::io_errno(&error),
    })?;
    Ok(full_instances(&text, root))
}

/// Parses proc_pid_mountinfo(5): fields 4 (the root of the mount) and 5 (the mount point), and the
/// type after the dash.
fn full_instances(mountinfo: &[u8], root: &Path) -> Vec<CString> {
    let mut found = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let (Some(shown), Some(place)) = (fields.nth(3), fields.next()) else {
            continue;
        };
        let fs_type = fields.skip_while(|field| *field != b"-").nth(1);
        let place = coracle_host::unescaped(place);
        if shown == b"/" && matches!(fs_type, Some(b"proc" | b"sysfs")) && !place.starts_with(root)
        {
            found.extend(CString::new(place.into_os_string().into_vec()));
        }
    }
    found
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

    /// What was found out about a failure: the option and the kernel's words about a new file
    /// system, or the path of the file at which a copy into a tmpfs failed.
    #[must_use]
    pub fn remark(&self) -> Remark {
        let mut remark = self.refused;
        remark.push(self.trail.text());
        remark
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_instances_outside_the_root_are_found() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            23 27 0:22 / /a\\040b rw shared:1 master:2 - sysfs sysfs rw\n\
            24 27 0:22 /kernel /part rw - sysfs sysfs rw\n\
            25 27 0:21 / /b/rootfs/proc rw - proc proc rw\n\
            26 27 0:5 / /tmp rw - tmpfs tmpfs rw\n";
        let found = full_instances(text, Path::new("/b/rootfs"));
        assert_eq!(found, [c"/proc".to_owned(), c"/a b".to_owned()]);
    }
}
