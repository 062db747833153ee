//! A procfs that the container cannot have tampered with.

use crate::kernel::StackString;
use crate::mount::{fsconfig_create, fsconfig_string, fsmount, fsopen, mount_attribute};
use crate::path::{PROC_MAGIC, file_system_magic, open_beneath, read_link};
use crate::{AT_FDCWD, Call, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The inode number of the root of every procfs (`PROC_ROOT_INO`). A bind mount of a directory
/// below it has the same file system type, but another inode.
const ROOT_INODE: u64 = 1;

/// A procfs by descriptor: a detached instance of our own where the kernel allows one, otherwise
/// the mounted `/proc`, checked at every open.
///
/// A container controls its `/proc` and may have mounted files over it. A write of a label or an id
/// map that is redirected there is lost silently (CVE-2019-16884) or changes another file
/// (CVE-2019-19921, CVE-2025-52881). A detached instance has no such mounts. In a user namespace
/// whose `/proc` is partly covered the kernel refuses a new instance; then `/proc` itself is used,
/// and each file opened below it must be on the same mount.
///
/// A detached instance costs about 40 µs to make and 150 µs or more to close, since the kernel
/// waits for an RCU grace period, so make one and keep it. [`ProcFs::mounted`] costs 6 µs.
#[derive(Debug)]
pub struct ProcFs {
    root: OwnedFd,
}

impl ProcFs {
    /// A detached instance with processes only (`subset=pid`, proc(5), since Linux 5.8), of the
    /// caller's pid namespace; otherwise the checked `/proc`.
    ///
    /// # Errors
    ///
    /// Those of [`ProcFs::mounted`].
    pub fn private() -> Result<Self> {
        Self::detached(Some(c"pid")).or_else(|_| Self::mounted())
    }

    /// A detached instance with everything, `sys` too; otherwise the checked `/proc`. No masked
    /// path covers it, so close it before any program of the container runs.
    ///
    /// # Errors
    ///
    /// Those of [`ProcFs::mounted`].
    pub fn full() -> Result<Self> {
        Self::detached(None).or_else(|_| Self::mounted())
    }

    fn detached(subset: Option<&CStr>) -> Result<Self> {
        let context = fsopen(c"proc")?;
        if let Some(subset) = subset {
            fsconfig_string(context.as_fd(), c"subset", subset)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = mount_attribute::NOSUID | mount_attribute::NODEV | mount_attribute::NOEXEC;
        Ok(Self {
            root: fsmount(context.as_fd(), attributes)?,
        })
    }

    /// The mounted `/proc`, if it is the root of a procfs. For reading where no container can have
    /// changed the mounts; it takes three cheap calls.
    ///
    /// # Errors
    ///
    /// The kernel's; `EXDEV` if `/proc` is no procfs or a directory below one.
    pub fn mounted() -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
        let root = open_beneath(AT_FDCWD, c"/proc", flags, Mode::empty(), resolve)?;
        let is_procfs = file_system_magic(root.as_fd())? == PROC_MAGIC;
        if is_procfs && nix::sys::stat::fstat(&root)?.st_ino == ROOT_INODE {
            Ok(Self { root })
        } else {
            Err(Errno::EXDEV)
        }
    }

    /// The path below the root of a file of a process, such as `7/ns/net`, or below the directory
    /// of a process. Allocates.
    #[must_use]
    pub fn path_of(directory: impl Display, file: &str) -> CString {
        // Neither a number nor a name of the kernel's holds a NUL.
        CString::new(format!("{directory}/{file}")).unwrap_or_default()
    }

    /// Opens `path` below the root, close-on-exec, following no link and crossing no mount.
    ///
    /// `path` is relative. A link at the end can be opened with `O_PATH | O_NOFOLLOW`.
    ///
    /// # Errors
    ///
    /// The kernel's: `EXDEV` if a mount covers a part of the path, `ELOOP` for a link on the way.
    pub fn open(&self, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    /// Opens the target of the magic link `path` (`1/ns/net`, `self/fd/7`, `self/exe`).
    ///
    /// The link is checked as in [`ProcFs::open`] immediately before. If a hostile process shares
    /// this `/proc`, check what the descriptor refers to.
    ///
    /// # Errors
    ///
    /// The kernel's, and `EXDEV` or `ELOOP` as of [`ProcFs::open`].
    pub fn open_target(&self, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
        drop(self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?);
        // The target is outside procfs, so this open cannot forbid crossing a mount.
        open_beneath(
            self.root.as_fd(),
            path,
            flags,
            Mode::empty(),
            ResolveFlag::empty(),
        )
    }

    /// Writes `data` to the file `path` below the root.
    ///
    /// # Errors
    ///
    /// The call that failed: [`Call::Openat2`] as in [`ProcFs::open`], or [`Call::Write`] with the
    /// errno for the value.
    pub fn write(&self, path: &CStr, data: &[u8]) -> std::result::Result<(), (Call, Errno)> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
        let file = self
            .open(path, flags)
            .map_err(|errno| (Call::Openat2, errno))?;
        // procfs takes a value by one write(2). If it took only a part, it refuses the rest, with
        // an errno of its own.
        let mut rest = data;
        loop {
            let written = nix::unistd::write(&file, rest).map_err(|errno| (Call::Write, errno))?;
            rest = rest.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Like [`ProcFs::write`], to the file `name` in the caller's own directory (`attr/exec`,
    /// `oom_score_adj`).
    ///
    /// # Errors
    ///
    /// Those of [`ProcFs::write`]; [`Call::Readlink`] with `ENOENT` if this procfs belongs to a pid
    /// namespace in which the caller has no number.
    pub fn write_self(&self, name: &CStr, data: &[u8]) -> std::result::Result<(), (Call, Errno)> {
        let path = self
            .own_path(name)
            .map_err(|errno| (Call::Readlink, errno))?;
        let path = path.text().map_err(|errno| (Call::Readlink, errno))?;
        self.write(path, data)
    }

    /// The caller's own directory, as the root for [`ProcFs::open`]. For several files this is
    /// cheaper than resolving it for each.
    ///
    /// # Errors
    ///
    /// Those of [`ProcFs::open`]; `ENOENT` also if this procfs belongs to a pid namespace in which
    /// the caller has no number.
    pub fn own(&self) -> Result<Self> {
        // The link is the kernel's own, and nothing that is mounted over it is followed.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let root = self.resolve(c"self/", flags, ResolveFlag::empty())?;
        Ok(Self { root })
    }

    fn own_path(&self, name: &CStr) -> Result<StackString<256>> {
        let mut digits = [0; 20];
        let pid = self.own_number(&mut digits)?;
        StackString::concat(&[pid, b"/", name.to_bytes()])
    }

    /// The caller's number as this instance sees it, in decimal.
    ///
    /// Not `getpid()`: after a clone into a new pid namespace, `/proc` and an instance that the
    /// parent made still show the parent's pid namespace, in which number 1 is the host's init.
    fn own_number<'a>(&self, digits: &'a mut [u8; 20]) -> Result<&'a [u8]> {
        let link = self.open(c"self", OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let length = read_link(link.as_fd(), digits)?;
        let pid = digits.get(..length).unwrap_or(&[]);
        if pid.is_empty() || !pid.iter().all(u8::is_ascii_digit) {
            return Err(Errno::ENOENT);
        }
        Ok(pid)
    }

    fn resolve(&self, path: &CStr, flags: OFlag, more: ResolveFlag) -> Result<OwnedFd> {
        let resolve = more
            | ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        open_beneath(self.root.as_fd(), path, flags, Mode::empty(), resolve)
    }
}

impl AsFd for ProcFs {
    /// The root directory of the procfs.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read(file: OwnedFd) -> String {
        let mut text = String::new();
        std::fs::File::from(file)
            .read_to_string(&mut text)
            .expect("a text of procfs");
        text
    }

    fn instances() -> Vec<ProcFs> {
        let mut all = vec![ProcFs::private(), ProcFs::full(), ProcFs::mounted()];
        all.drain(..)
            .map(|instance| instance.expect("a procfs"))
            .collect()
    }

    #[test]
    fn every_instance_is_a_procfs_that_knows_us() {
        for instance in instances() {
            assert_eq!(file_system_magic(instance.as_fd()), Ok(PROC_MAGIC));
            let mut digits = [0; 20];
            let pid = instance.own_number(&mut digits).expect("our number");
            assert_eq!(pid, std::process::id().to_string().as_bytes());
        }
    }

    #[test]
    fn links_are_not_followed() {
        for instance in instances() {
            let followed = instance.open(c"self/stat", OFlag::O_RDONLY).map(drop);
            assert_eq!(followed, Err(Errno::ELOOP));
            let away = instance.open(c"../etc/passwd", OFlag::O_RDONLY).map(drop);
            assert_eq!(away, Err(Errno::EXDEV));
        }
    }

    #[test]
    fn a_process_is_read_and_its_links_reached() {
        let pid = std::process::id();
        let path = |rest: &str| std::ffi::CString::new(format!("{pid}/{rest}")).expect("no NUL");
        for instance in instances() {
            let stat = instance
                .open(&path("stat"), OFlag::O_RDONLY)
                .expect("our own stat");
            assert!(read(stat).starts_with(&format!("{pid} (")));
            let namespace = instance.open_target(&path("ns/uts"), OFlag::O_RDONLY);
            let namespace = namespace.expect("our own namespace");
            let kind = crate::namespace_type(namespace.as_fd());
            assert_eq!(kind, Ok(crate::NamespaceFlags::UTS));
        }
    }

    #[test]
    fn a_refused_value_names_the_write() {
        for instance in instances() {
            assert_eq!(instance.write_self(c"oom_score_adj", b"many"), {
                Err((Call::Write, Errno::EINVAL))
            });
            let name = instance.write_self(c"comm", b"a test");
            assert_eq!(name, Ok(()));
            let missing = instance.write_self(c"no_such_file", b"1");
            assert_eq!(missing, Err((Call::Openat2, Errno::ENOENT)));
        }
    }
}
