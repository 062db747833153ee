//! Walking a tree of cgroups.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::files;

/// Visits the cgroup `top` and all below it: calls `enter` before the children of each, and `leave`
/// after them with its parent and name, except for `top`. Cgroups that are removed meanwhile are
/// skipped.
///
/// A container can nest cgroups to any depth, so this does not recurse and keeps one descriptor
/// open at a time. It returns by `..`: a cgroup never gets another parent.
pub(super) fn walk(
    top: OwnedFd,
    enter: &mut dyn FnMut(BorrowedFd) -> nix::Result<()>,
    leave: &mut dyn FnMut(BorrowedFd, &OsStr) -> nix::Result<()>,
) -> nix::Result<()> {
    let mut visit = |here: &OwnedFd| {
        enter(here.as_fd())?;
        files::children(here.as_fd())
    };
    // The children still to be visited, for each cgroup from `top` down to `here`.
    let mut left = vec![visit(&top)?];
    let mut names: Vec<OsString> = Vec::new();
    let mut here = top;
    while let Some(children) = left.last_mut() {
        let Some(name) = children.pop() else {
            left.pop();
            if let Some(name) = names.pop() {
                here = files::open_below(here.as_fd(), Path::new(".."))?;
                leave(here.as_fd(), &name)?;
            }
            continue;
        };
        let child = files::open_below(here.as_fd(), Path::new(&name));
        match child.and_then(|child| Ok((visit(&child)?, child))) {
            Ok((children, child)) => {
                left.push(children);
                names.push(name);
                here = child;
            }
            Err(errno) if files::is_gone(errno) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_is_entered_before_its_children_and_left_after_them() {
        let top = std::env::temp_dir().join(format!("coracle-walk-{}", std::process::id()));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(top.join("a/c")).unwrap();
        let (mut entered, mut left) = (0, Vec::new());
        let mut enter = |_: BorrowedFd| {
            entered += 1;
            Ok(())
        };
        let mut leave = |_: BorrowedFd, name: &OsStr| {
            left.push(name.to_owned());
            Ok(())
        };
        walk(files::open_path(&top).unwrap(), &mut enter, &mut leave).unwrap();
        left[..2].sort();
        assert_eq!(
            (entered, left),
            (4, ["b", "c", "a"].map(OsString::from).to_vec())
        );
        fs::remove_dir_all(top).unwrap();
    }
}
