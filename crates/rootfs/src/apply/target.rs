//! Resolves the destination of a mount below the root's descriptor, and makes what is missing.

use super::source::{self, Failure};
use crate::plan::explain::Check;
use crate::plan::{Lookup, Target};
use coracle_sys::{
    Call, Cause, PROC_MAGIC, file_system_magic, mount_id, move_mount, open_in_root, read_link,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A resolved target.
pub(super) struct Found {
    pub(super) place: OwnedFd,
    /// Whether it was missing and has been made.
    pub(super) made: bool,
}

/// What to make if the target is missing.
#[derive(Clone, Copy)]
pub(super) enum Make<'a> {
    Directory,
    /// A directory or a file, as this one is.
    Like(BorrowedFd<'a>),
}

/// The kernel's limit on links in a path (path_resolution(7)).
const LINKS: u32 = 40;
/// PATH_MAX, in bytes, including the terminating NUL.
const LENGTH: usize = 4096;

/// Resolves the target below `base`, and makes what is missing: directories with mode 0755, files
/// with 0644.
pub(super) fn resolve(
    base: BorrowedFd<'_>,
    target: &Target,
    make: Make<'_>,
) -> Result<Found, Failure> {
    if let (Make::Directory, Some(name)) = (make, likely_missing(target))
        && let Ok(place) = new_directory(base, name)
    {
        return Ok(Found { place, made: true });
    }
    let found = match open_in_root(base, &target.path, flags(target.lookup), Mode::empty()) {
        Ok(place) => Found { place, made: false },
        Err(Errno::ENOENT) => Found {
            place: create(base, &target.path, make)?,
            made: true,
        },
        Err(Errno::ENOTDIR | Errno::ELOOP) if target.lookup == Lookup::Directory => {
            return Err(Check::NotOrdinary.into());
        }
        Err(errno) => return Err(Cause::Call(Call::Openat2, errno)),
    };
    if may_be_root(target) && !found.made && is_same(found.place.as_fd(), base)? {
        return Err(Check::IsRoot.into());
    }
    match target.outside_procfs {
        true => Ok(Found {
            place: outside_procfs(found.place)?,
            ..found
        }),
        false => Ok(found),
    }
}

/// The name of a directory that is likely to be missing: one in a file system that the plan has
/// made and that nobody else can change.
fn likely_missing(target: &Target) -> Option<&CStr> {
    let name = target.path.to_bytes_with_nul().strip_prefix(b"/")?;
    let name = CStr::from_bytes_with_nul(name).ok()?;
    let is_one = !name.is_empty() && !name.to_bytes().contains(&b'/') && name != c"..";
    (is_one && target.base.is_some() && !target.exchangeable).then_some(name)
}

/// Whether a link of the image could lead to the root. None is followed in a single name, and none
/// is in a file system that the plan has made.
fn may_be_root(target: &Target) -> bool {
    let name = target.path.to_bytes().get(1..).unwrap_or_default();
    let is_one = !name.contains(&b'/') && name != b"..";
    !name.is_empty() && target.base.is_none() && (target.lookup == Lookup::Follow || !is_one)
}

/// Whether both are the same inode on the same mount. A link of the image may lead to the root, on
/// which only a mount may be made that the config has at `/`, since it becomes the root.
fn is_same(place: BorrowedFd<'_>, base: BorrowedFd<'_>) -> Result<bool, Failure> {
    let inode = |fd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let same = inode(place).and_then(|place| Ok(place == inode(base)?));
    Ok(same.map_err(Call::Stat.failed())? && same_mount(place, base).is_ok())
}

/// Refuses a place in procfs. Because of links, only the filesystem of the place shows that, not
/// the path.
pub(super) fn outside_procfs(place: OwnedFd) -> Result<OwnedFd, Failure> {
    let magic = file_system_magic(place.as_fd()).map_err(Call::Statfs.failed())?;
    match magic {
        PROC_MAGIC => Err(Check::InProc.into()),
        _ => Ok(place),
    }
}

/// Attaches a detached mount on the resolved place, and resolves the target again: if a part of the
/// path was exchanged in between, later steps would use another directory there (CVE-2021-30465).
/// Below a file system that the plan has made nobody could have exchanged one.
pub(super) fn attach(
    base: BorrowedFd<'_>,
    target: &Target,
    place: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
) -> Result<(), Failure> {
    move_mount(mount, place, c"").map_err(Call::MoveMount.failed())?;
    match target.exchangeable {
        true => same_mount(again(base, target)?.as_fd(), mount),
        false => Ok(()),
    }
}

/// Opens the uppermost mount on a root directory: `..` of a root leads to the root, and to the
/// mounts on it, and cannot be exchanged.
pub(super) fn top_mount(place: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let top = open_in_root(place, c"..", flags, Mode::empty());
    let top = top.map_err(Call::Openat2.failed())?;
    match same_mount(top.as_fd(), place) {
        Ok(()) => Err(Check::Swapped.into()),
        Err(Cause::Check(_)) => Ok(top),
        Err(failure) => Err(failure),
    }
}

/// Resolves the target after a mount was attached on it.
fn again(base: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Failure> {
    let found = open_in_root(base, &target.path, flags(target.lookup), Mode::empty());
    found.map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Check::Swapped.into(),
        errno => Cause::Call(Call::Openat2, errno),
    })
}

/// Checks that both descriptors are on the same mount.
pub(super) fn same_mount(place: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> Result<(), Failure> {
    let number = |fd| mount_id(fd).map_err(Call::Stat.failed());
    if number(place)? == number(mount)? {
        return Ok(());
    }
    Err(Check::Swapped.into())
}

pub(super) fn flags(lookup: Lookup) -> OFlag {
    match lookup {
        Lookup::Follow => OFlag::O_PATH,
        Lookup::NoFollow => OFlag::O_PATH | OFlag::O_NOFOLLOW,
        Lookup::Directory => OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY,
    }
}

/// The inode of this name itself, even a link.
pub(super) fn inode(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens a directory without following a link.
pub(super) fn real_directory(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens the directory at `path` below the root, and makes it if it is missing.
pub(super) fn directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Failure> {
    match open_in_root(
        root,
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        Mode::empty(),
    ) {
        Err(Errno::ENOENT) => create(root, path, Make::Directory),
        answer => answer.map_err(Call::Openat2.failed()),
    }
}

/// Opens the parent directory of an absolute path, which is made if it is missing. Also returns the
/// last name.
pub(super) fn parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a CStr,
) -> Result<(OwnedFd, &'a CStr), Failure> {
    let (above, name) = split(path)?;
    Ok((directory(root, above.text()?)?, name))
}

/// Opens the parent directory of an absolute path. Also returns the last name.
pub(super) fn existing_parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a CStr,
) -> Result<(OwnedFd, &'a CStr), Failure> {
    let (above, name) = split(path)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let parent = open_in_root(root, above.text()?, flags, Mode::empty());
    Ok((parent.map_err(Call::Openat2.failed())?, name))
}

fn create(root: BorrowedFd<'_>, path: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let (above, name) = split(path)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    // Usually only the last component is missing.
    if above.length == 0 {
        return match make_in(root, name, make) {
            Err(Cause::Call(_, Errno::EEXIST)) => walk(root, path, make),
            answer => answer,
        };
    }
    match open_in_root(root, above.text()?, flags, Mode::empty()) {
        Ok(parent) => match make_in(parent.as_fd(), name, make) {
            // A dangling link.
            Err(Cause::Call(_, Errno::EEXIST)) => walk(root, path, make),
            answer => answer,
        },
        Err(Errno::ENOENT) => walk(root, path, make),
        Err(errno) => Err(Cause::Call(Call::Openat2, errno)),
    }
}

/// Makes one inode, and opens it.
fn make_in(parent: BorrowedFd<'_>, name: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let directory = match make {
        Make::Directory => true,
        Make::Like(model) => {
            let stat = fstat(model).map_err(Call::Stat.failed())?;
            source::is(&stat, SFlag::S_IFDIR)
        }
    };
    if directory {
        return new_directory(parent, name);
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    openat(parent, name, flags, mode).map_err(Call::Open.failed())
}

pub(super) fn new_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(parent, name, mode).map_err(Call::Mkdir.failed())?;
    real_directory(parent, name).map_err(Call::Open.failed())
}

/// Walks the path by components, follows the image's links within the root, even dangling ones, and
/// makes each component that is missing. Each is resolved from the root again, so that a process
/// that exchanges directories meanwhile can only make this one work elsewhere in the root.
fn walk(root: BorrowedFd<'_>, path: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let mut done = StackPath::new();
    let mut rest = StackPath::new();
    rest.push(path.to_bytes())?;
    // Each link, and each component that another process made first, takes one.
    let mut tries = LINKS;
    loop {
        let (part, more) = rest.take_first();
        match part.bytes() {
            b"" if !more => {
                let found = open_in_root(root, done.text()?, OFlag::O_PATH, Mode::empty());
                return found.map_err(Call::Openat2.failed());
            }
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            name => done.push(name)?,
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let inode = match open_in_root(root, done.text()?, flags, Mode::empty()) {
            Ok(inode) => inode,
            Err(Errno::ENOENT) => {
                let make = if more { Make::Directory } else { make };
                match make_last(root, &done, make) {
                    Ok(made) if !more => return Ok(made),
                    Ok(_) => continue,
                    // Another process made it first: resolve it again.
                    Err(Cause::Call(_, Errno::EEXIST)) if tries > 0 => {
                        tries -= 1;
                        done.pop();
                        rest.push_front(part.bytes())?;
                        continue;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(errno) => return Err(Cause::Call(Call::Openat2, errno)),
        };
        let stat = fstat(&inode).map_err(Call::Stat.failed())?;
        if !source::is(&stat, SFlag::S_IFLNK) {
            if more {
                continue;
            }
            return Ok(inode);
        }
        tries = tries.checked_sub(1).ok_or(Check::Links)?;
        follow(inode.as_fd(), &mut done, &mut rest)?;
    }
}

/// Puts the target of a link before the rest of the path.
fn follow(link: BorrowedFd<'_>, done: &mut StackPath, rest: &mut StackPath) -> Result<(), Failure> {
    let mut text = [0; LENGTH];
    let length = read_link(link, &mut text).map_err(Call::Readlink.failed())?;
    let text = text.get(..length).unwrap_or_default();
    if text.first() == Some(&b'/') {
        done.clear();
    } else {
        done.pop();
    }
    rest.push_front(text)
}

fn make_last(root: BorrowedFd<'_>, done: &StackPath, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let (parent, name) = existing_parent(root, done.text()?)?;
    make_in(parent.as_fd(), name, make)
}

/// Splits a path into its directory and its last name.
fn split(path: &CStr) -> Result<(StackPath, &CStr), Failure> {
    let bytes = path.to_bytes_with_nul();
    let at = bytes
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let name = bytes
        .get(at..)
        .and_then(|name| CStr::from_bytes_with_nul(name).ok());
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or(Check::Inconsistent)?;
    let mut above = StackPath::new();
    if let Some(directory) = bytes
        .get(..at.saturating_sub(1))
        .filter(|path| !path.is_empty())
    {
        above.push(directory)?;
    }
    Ok((above, name))
}

/// A path on the stack, each component after a `/`; the empty path is the root.
struct StackPath {
    bytes: [u8; LENGTH],
    length: usize,
}

impl StackPath {
    fn new() -> Self {
        Self {
            bytes: [0; LENGTH],
            length: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The path with a terminating NUL, for which `push` leaves room.
    fn text(&self) -> Result<&CStr, Failure> {
        if self.length == 0 {
            return Ok(c"/");
        }
        let text = self.bytes.get(..=self.length).unwrap_or_default();
        CStr::from_bytes_with_nul(text).map_err(|_| Check::Inconsistent.into())
    }

    fn push(&mut self, more: &[u8]) -> Result<(), Failure> {
        let slash = usize::from(more.first() != Some(&b'/'));
        let start = self.length + slash;
        let end = start + more.len();
        let too_long = Cause::from(Check::LongPath);
        if end >= LENGTH {
            return Err(too_long);
        }
        if let Some(byte) = self.bytes.get_mut(self.length) {
            *byte = b'/';
        }
        self.bytes
            .get_mut(start..end)
            .ok_or(too_long)?
            .copy_from_slice(more);
        self.end_at(end);
        Ok(())
    }

    fn push_front(&mut self, first: &[u8]) -> Result<(), Failure> {
        let mut whole = Self::new();
        whole.push(first)?;
        whole.push(self.bytes())?;
        *self = whole;
        Ok(())
    }

    fn clear(&mut self) {
        self.end_at(0);
    }

    /// Removes the last component.
    fn pop(&mut self) {
        let at = self.bytes().iter().rposition(|byte| *byte == b'/');
        self.end_at(at.unwrap_or(0));
    }

    /// Takes off the first component. Also returns whether anything is left.
    fn take_first(&mut self) -> (StackPath, bool) {
        let mut part = Self::new();
        let bytes = self.bytes();
        let start = bytes
            .iter()
            .position(|byte| *byte != b'/')
            .unwrap_or(bytes.len());
        let tail = bytes.get(start..).unwrap_or_default();
        let length = tail
            .iter()
            .position(|byte| *byte == b'/')
            .unwrap_or(tail.len());
        let (first, rest) = tail.split_at_checked(length).unwrap_or_default();
        let more = rest.iter().any(|byte| *byte != b'/');
        if let Some(place) = part.bytes.get_mut(..length) {
            place.copy_from_slice(first);
            part.end_at(length);
        }
        let from = start + length;
        let end = self.length;
        self.bytes.copy_within(from..end, 0);
        self.end_at(end - from);
        (part, more)
    }

    fn end_at(&mut self, length: usize) {
        self.length = length;
        if let Some(byte) = self.bytes.get_mut(length) {
            *byte = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    /// A directory with a root in it and a neighbour that nobody may touch.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let top = std::env::temp_dir();
            let top = top.join(format!("coracle-target-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&top);
            fs::create_dir_all(top.join("root/dir")).expect("a directory");
            fs::create_dir(top.join("outside")).expect("a directory");
            Self(top)
        }

        /// Makes the directory, and says where it is within the tree.
        fn directory(&self, path: &str) -> Result<String, Cause> {
            let root = fs::File::open(self.0.join("root")).expect("the root");
            let path = CString::new(path).expect("no NUL");
            let found = directory(root.as_fd(), &path)?;
            let number = found.as_raw_fd();
            let place = fs::read_link(format!("/proc/self/fd/{number}")).expect("a path");
            let top = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()));
            let below = place
                .strip_prefix(top.expect("a path"))
                .expect("inside the root");
            Ok(format!("/{}", below.display()))
        }

        fn untouched(&self) -> bool {
            let entries = |path: &Path| fs::read_dir(path).expect("a directory").count();
            entries(&self.0.join("outside")) == 0 && entries(&self.0) == 2
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn missing_parts_are_made_where_links_lead_within_the_root() {
        let tree = Tree::new("links");
        let outside = tree.0.join("outside");
        let root = |name: &str| tree.0.join("root").join(name);
        symlink("../run/new", root("dir/dangling")).expect("a link");
        symlink(&outside, root("absolute")).expect("a link");
        symlink("../../outside", root("climbing")).expect("a link");
        symlink("loop/x", root("loop")).expect("a link");
        fs::write(root("file"), "").expect("a file");
        let made = |path| tree.directory(path);
        assert_eq!(made("/dir"), Ok("/dir".to_owned()));
        assert_eq!(made("/a/b/c"), Ok("/a/b/c".to_owned()));
        assert_eq!(made("/dir/dangling/deep"), Ok("/run/new/deep".to_owned()));
        assert_eq!(made("/climbing/x"), Ok("/outside/x".to_owned()));
        assert_eq!(made("/absolute/x"), Ok(format!("{}/x", outside.display())));
        assert_eq!(
            made("/loop/a"),
            Err(Cause::Call(Call::Openat2, Errno::ELOOP))
        );
        assert_eq!(
            made("/file/a"),
            Err(Cause::Call(Call::Openat2, Errno::ENOTDIR))
        );
        assert_eq!(made("/"), Ok("/".to_owned()));
        assert!(tree.untouched());
    }

    #[test]
    fn paths_on_the_stack_have_an_end() {
        let mut path = StackPath::new();
        assert_eq!(path.push(&[b'a'; LENGTH - 2]), Ok(()));
        assert!(path.text().is_ok());
        assert_eq!(path.push(b"b"), Err(Check::LongPath.into()));
    }

    /// Names of links, and what they say: absolute, climbing, dangling, looping.
    const NAME: &str = "[abc](/[abc])?";
    const TEXT: &str = r"(/|\.\./){0,3}[abc](/[abc.]{1,2})?";

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        /// Whatever links an image has, a target is made within the root or not at all.
        #[test]
        fn targets_stay_in_the_root(
            links in proptest::collection::vec((NAME, TEXT), 0..6),
            path in "(/[abc]){1,4}",
        ) {
            let tree = Tree::new("law");
            for (name, target) in links {
                let place = tree.0.join("root").join(name);
                let parent = place.parent().expect("below the root");
                if parent.symlink_metadata().is_ok_and(|data| data.is_dir()) {
                    let _ = symlink(target, place);
                }
            }
            // The method itself asserts that the place is inside.
            let _ = tree.directory(&path);
            proptest::prop_assert!(tree.untouched());
        }
    }
}
