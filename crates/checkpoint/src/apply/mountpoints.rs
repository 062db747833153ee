//! Makes the mount points that criu expects to exist.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use coracle_sys::{Call, open_in_root};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};

use crate::error::Error;
use crate::plan::mounts::{Mountpoint, Parent};

const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// A failed call on a mount point or its source.
struct Failure {
    path: PathBuf,
    /// `None` where it was moved out of the root meanwhile.
    refused: Option<(Call, Errno)>,
}

fn failure(path: &Path, call: Call) -> impl Fn(Errno) -> Failure + '_ {
    move |errno| Failure {
        path: path.to_owned(),
        refused: Some((call, errno)),
    }
}

/// Makes the missing ones, below `root` or in the source of the bind mount that they are in.
/// Returns the path of each in the container. Links of the image are followed, but not out of it.
///
/// # Errors
/// [`Error::Mount`] with the JSON path, also if a source is missing.
pub fn make_mountpoints(root: &Path, all: &[Mountpoint]) -> Result<Vec<PathBuf>, Error> {
    let mut resolved: Vec<PathBuf> = Vec::new();
    for mountpoint in all {
        let named = |member: &'static str| {
            let index = mountpoint.index;
            move |Failure { path, refused }| {
                let at = format!("mounts[{index}].{member}");
                match refused {
                    Some((call, errno)) => Error::Mount {
                        at,
                        path,
                        call,
                        errno,
                    },
                    None => Error::Moved { at, path },
                }
            }
        };
        let kind = kind(mountpoint.source.as_deref()).map_err(named("source"))?;
        let made = |top: &Path| make(top, &mountpoint.below, kind).map_err(named("destination"));
        let over = |number: &usize| resolved.get(*number).cloned().unwrap_or_default();
        let place = match &mountpoint.parent {
            Parent::Root => Path::new("/").join(made(root)?),
            // Not for an empty path: a mount on a mount point covers that, and its source may be a
            // file.
            Parent::Bound(number, source) if !mountpoint.below.as_os_str().is_empty() => {
                over(number).join(made(source)?)
            }
            Parent::Bound(number, _) | Parent::Filled(number) => {
                over(number).join(&mountpoint.below)
            }
        };
        // Joining an empty path adds a slash at the end; this removes it.
        resolved.push(place.components().collect());
    }
    Ok(resolved)
}

fn kind(source: Option<&Path>) -> Result<SFlag, Failure> {
    let Some(source) = source else {
        return Ok(SFlag::S_IFDIR);
    };
    let file = open(source, LOOK, Mode::empty()).map_err(failure(source, Call::Open))?;
    let status = fstat(&file).map_err(failure(source, Call::Stat))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    Ok(match kind {
        SFlag::S_IFDIR => SFlag::S_IFDIR,
        _ => SFlag::S_IFREG,
    })
}

/// Walks down from `top`, makes what is missing, and returns the path with links resolved.
fn make(top: &Path, below: &Path, kind: SFlag) -> Result<PathBuf, Failure> {
    let root =
        open(top, LOOK | OFlag::O_DIRECTORY, Mode::empty()).map_err(failure(top, Call::Open))?;
    let mut here = PathBuf::new();
    let mut last = None;
    let mut names = below.components().peekable();
    while let Some(component) = names.next() {
        let Component::Normal(name) = component else {
            continue;
        };
        let kind = match names.peek() {
            Some(_) => SFlag::S_IFDIR,
            None => kind,
        };
        here.push(name);
        let failed = |call| failure(&here, call);
        let path = c_string(here.as_os_str());
        let found = match open_in_root(root.as_fd(), &path, LOOK, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let parent = last.as_ref().unwrap_or(&root);
                make_one(parent.as_fd(), name, kind).map_err(failed(Call::Mkdir))?;
                open_in_root(parent.as_fd(), &c_string(name), LOOK, Mode::empty())
            }
            found => found,
        };
        let found = found.map_err(failed(Call::Open))?;
        let shown = inside(root.as_fd(), found.as_fd()).map_err(failed(Call::Readlink))?;
        here = shown.ok_or(Failure {
            path: here,
            refused: None,
        })?;
        last = Some(found);
    }
    Ok(here)
}

fn make_one(parent: BorrowedFd, name: &OsStr, kind: SFlag) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    match kind {
        SFlag::S_IFDIR => mkdirat(parent, name, mode),
        _ => mknodat(parent, name, SFlag::S_IFREG, mode, 0),
    }
}

/// The path of `file` relative to `root`, by their links in /proc; `None` if it is not below.
fn inside(root: BorrowedFd, file: BorrowedFd) -> nix::Result<Option<PathBuf>> {
    let shown = |fd: BorrowedFd| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        nix::fcntl::readlink(link.as_str()).map(PathBuf::from)
    };
    let (root, file): (PathBuf, PathBuf) = (shown(root)?, shown(file)?);
    Ok(file.strip_prefix(&root).ok().map(Path::to_owned))
}

/// Of a path of the config or of the runtime's own, or a variable, none of which holds a NUL.
pub(super) fn c_string(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn mount_points_are_made_and_links_stay_inside() {
        let top = std::env::temp_dir().join(format!("coracle-mountpoints-{}", std::process::id()));
        let (root, source) = (top.join("root"), top.join("source"));
        fs::create_dir_all(root.join("run")).unwrap();
        fs::create_dir_all(root.join("var")).unwrap();
        fs::create_dir_all(&source).unwrap();
        fs::write(top.join("file"), "").unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        let mountpoint = |index, parent, below: &str, source: Option<PathBuf>| Mountpoint {
            index,
            parent,
            below: below.into(),
            source,
        };
        let all = [
            mountpoint(0, Parent::Root, "var/run/a/b", None),
            mountpoint(1, Parent::Root, "data", Some(source.clone())),
            mountpoint(
                2,
                Parent::Bound(1, source.clone()),
                "x/f",
                Some(top.join("file")),
            ),
            mountpoint(3, Parent::Filled(0), "y", None),
            mountpoint(4, Parent::Bound(1, source.clone()), "", None),
        ];
        let resolved = make_mountpoints(&root, &all).unwrap();
        let expected = ["/run/a/b", "/data", "/data/x/f", "/run/a/b/y", "/data"];
        assert_eq!(resolved, expected.map(PathBuf::from));
        assert!(root.join("run/a/b").is_dir() && root.join("data").is_dir());
        assert!(source.join("x/f").is_file());
        let gone = [mountpoint(7, Parent::Root, "z", Some(top.join("gone")))];
        let error = make_mountpoints(&root, &gone).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: mounts[7].source \""),
            "{error}"
        );
        fs::remove_dir_all(&top).unwrap();
    }
}
