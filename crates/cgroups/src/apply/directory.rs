//! Making directories of a cgroup file system, of either version.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::files;
use crate::Error;
use crate::plan::Denied;
use crate::record::Directory;

/// How often a path is made again because another process removed a parent meanwhile.
const ATTEMPTS: usize = 16;

/// Whether a cgroup already existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    New,
    Old,
}

/// Makes `path` below `top` with all parents, and records each new directory.
pub(super) fn make_path(
    top: BorrowedFd,
    path: &Path,
    recorded: &mut Directory,
) -> nix::Result<Age> {
    // The parent nearly always exists, and then one call is enough.
    match files::make(top, path) {
        Ok(()) => {
            recorded.made.push(recorded.path.clone());
            return Ok(Age::New);
        }
        Err(Errno::EEXIST) => return Ok(Age::Old),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mut result = make_levels(top, path, recorded);
    for _ in 1..ATTEMPTS {
        if result != Err(Errno::ENOENT) {
            break;
        }
        result = make_levels(top, path, recorded);
    }
    result
}

fn make_levels(top: BorrowedFd, path: &Path, recorded: &mut Directory) -> nix::Result<Age> {
    let mut age = Age::Old;
    for level in levels(path) {
        age = make_level(top, &level, recorded)?;
    }
    Ok(age)
}

/// Makes one directory whose parent exists.
pub(super) fn make_level(
    top: BorrowedFd,
    level: &Path,
    recorded: &mut Directory,
) -> nix::Result<Age> {
    match files::make(top, level) {
        Ok(()) => {
            let path = recorded.mount.join(level);
            if !recorded.made.contains(&path) {
                recorded.made.push(path);
            }
            Ok(Age::New)
        }
        Err(Errno::EEXIST) => Ok(Age::Old),
        Err(errno) => Err(errno),
    }
}

/// The path and its ancestors, outermost first: `a`, `a/b`, `a/b/c`.
pub(super) fn levels(path: &Path) -> Vec<PathBuf> {
    let mut levels: Vec<PathBuf> = path
        .ancestors()
        .filter(|level| !level.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    levels.reverse();
    levels
}

/// The error for a cgroup that could not be made.
pub(super) fn cannot_make(path: PathBuf, errno: Errno, denied: &Denied) -> Error {
    match denied {
        Denied::Fail {
            needed_by: Some(needed_by),
        } if files::is_denied(errno) => Error::Delegation {
            path: needed_by.clone(),
            directory: path,
            errno,
        },
        _ => Error::Make { path, errno },
    }
}
