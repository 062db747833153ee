//! Opens the descriptors that init inherits, before the clone.

use super::inherited::{Inherited, SourceState};
use super::provided::Provided;
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
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

/// Opens the descriptors that init inherits, and checks the sources of the plan. For the runtime,
/// before the clone.
///
/// # Errors
/// The first source that is missing or of the wrong kind, by its JSON path.
pub fn open(plan: &Plan) -> Result<Inherited, Error> {
    let mut inherited = Inherited {
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
        inherited.outside = pivot::outside(&root.path)?;
    }
    Ok(inherited)
}

fn look_at(source: &Source) -> Result<SourceState, Error> {
    if source.copy_link
        && let Some(link) = link(source)?
    {
        return Ok(SourceState::Link(link));
    }
    // Sources that may not be needed, or that an earlier mount may provide, are checked at their
    // step.
    if source.optional || source.inside.is_some() {
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

/// Opens the host's own root directory, for a container with that root.
fn open_host_root() -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(c"/", flags, Mode::empty()).map_err(|errno| Error::Source {
        at: "root.path".to_owned(),
        path: "/".to_owned(),
        errno,
    })
}
