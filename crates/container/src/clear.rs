//! Empties a directory in which a container could have made anything.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Opens a directory without following a symbolic link.
pub(crate) fn open_below<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(dir, name, flags, Mode::empty())
}

/// Removes everything in `directory`, without following links. The entries of a subdirectory are
/// moved up before it is removed, so that a tree of any depth needs neither recursion nor more than
/// two descriptors.
pub(crate) fn clear(directory: BorrowedFd) -> nix::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut is_empty = true;
        each(directory, |name| {
            is_empty = false;
            match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR) => {}
                done => return done,
            }
            let below = open_below(directory, name)?;
            each(below.as_fd(), |name| {
                move_up(below.as_fd(), name, directory, &mut moved)
            })?;
            unlinkat(directory, name, UnlinkatFlags::RemoveDir)
        })?;
        if is_empty {
            return Ok(());
        }
    }
}

fn each(directory: BorrowedFd, mut act: impl FnMut(&OsStr) -> nix::Result<()>) -> nix::Result<()> {
    let listing = open_below(directory, ".")?;
    let entries = coracle_sys::list_directory(listing.as_fd())?;
    drop(listing);
    entries.iter().try_for_each(|(_, name)| act(name))
}

/// Moves the entry up, under the first free number as its name.
fn move_up(from: BorrowedFd, name: &OsStr, to: BorrowedFd, number: &mut u64) -> nix::Result<()> {
    loop {
        *number += 1;
        let free = number.to_string();
        let renamed = name.with_nix_path(|name| {
            free.with_nix_path(|free| coracle_sys::rename_no_replace(from, name, to, free))
        });
        match renamed?? {
            Err(Errno::EEXIST) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::mkdirat;
    use std::fs::{create_dir, read_dir, remove_dir, write};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_of_any_depth_goes_and_what_a_link_names_stays() {
        let path = std::env::temp_dir().join(format!("coracle-clear-{}", std::process::id()));
        create_dir(&path).unwrap();
        write(path.join("kept"), "").unwrap();
        let top = path.join("top");
        for name in ["top", "top/1", "top/1/a", "top/x"] {
            create_dir(path.join(name)).unwrap();
        }
        for name in ["top/2", "top/1/a/b", "top/x/1", "top/x/2"] {
            write(path.join(name), "").unwrap();
        }
        symlink(&path, top.join("link")).unwrap();
        let directory = open_below(nix::fcntl::AT_FDCWD, &top).unwrap();
        let mut deepest = directory.try_clone().unwrap();
        for _ in 0..2000 {
            mkdirat(&deepest, "d", Mode::S_IRWXU).unwrap();
            deepest = open_below(&deepest, "d").unwrap();
        }
        assert_eq!(clear(directory.as_fd()), Ok(()));
        assert_eq!(read_dir(&top).unwrap().count(), 0);
        assert!(path.join("kept").exists());
        std::fs::remove_file(path.join("kept")).unwrap();
        remove_dir(top).and(remove_dir(path)).unwrap();
    }
}
