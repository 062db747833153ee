//! A procfs that nobody has tampered with.

use crate::kernel::StackString;
use crate::mount::{fsconfig_create, fsconfig_string, fsmount, fsopen, mount_attribute};
use crate::path::{PROC_MAGIC, file_system_magic, open_beneath, read_link};
use crate::{AT_FDCWD, Call, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// procfs numbers the directory at its top so (`PROC_ROOT_INO`): a bind of a directory below it
/// looks the same to statfs but has another number.
const ROOT_INODE: u64 = 1;

/// A procfs by descriptor: attached nowhere where it can be, checked where it cannot.
///
/// A container's `/proc` belongs to the container, which may have mounted files over it. A write
/// of a label or of a map that goes astray there is lost silently (CVE-2019-16884) or does harm
/// (CVE-2019-19921, CVE-2025-52881). An instance of our own that is not in the tree has no such
/// mounts. Where the kernel refuses one, in a user namespace whose `/proc` is partly covered,
/// `/proc` itself serves: each file opened below it must then lie on the same mount.
///
/// An instance of our own costs about 40 µs to make and 150 µs or more to close, since the kernel
/// waits for an RCU grace period: make one and keep it. [`ProcFs::mounted`] costs 6 µs.
#[derive(Debug)]
pub struct ProcFs {
    root: OwnedFd,
}

impl ProcFs {
    /// An instance with nothing but processes (`subset=pid`, proc(5), since Linux 5.8), of the
    /// pid namespace that the caller is in; else the checked `/proc`.
    ///
    /// # Errors
    ///
    /// Of the fallback: `ENOENT`, `EXDEV` if `/proc` is no procfs.
    pub fn private() -> Result<Self> {
        Self::detached(Some(c"pid")).or_else(|_| Self::mounted())
    }

    /// An instance with everything, `sys` too; else the checked `/proc`. It lies outside all masks:
    /// close it before anything of the container runs.
    ///
    /// # Errors
    ///
    /// As of [`ProcFs::private`].
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

    /// `/proc` as it is mounted, if it is a procfs from its top: for reading before anything
    /// hostile can be near, at the price of three cheap calls.
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

    /// Opens `path` below the top, close-on-exec: no link is followed, no mount crossed.
    ///
    /// `path` is relative. A link at the end can be had with `O_PATH | O_NOFOLLOW`.
    ///
    /// # Errors
    ///
    /// The kernel's: `EXDEV` if a mount covers a part of the path, `ELOOP` for a link on the way.
    pub fn open(&self, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    /// Opens what the magic link `path` goes to (`1/ns/net`, `self/fd/7`, `self/exe`).
    ///
    /// The link itself is checked like any file of [`ProcFs::open`] right before; where `/proc` is
    /// shared with somebody hostile, check what the descriptor is on.
    ///
    /// # Errors
    ///
    /// The kernel's, and `EXDEV` or `ELOOP` as of [`ProcFs::open`].
    pub fn open_target(&self, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
        drop(self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?);
        // The jump leaves procfs, so the border cannot be forbidden for the second look.
        open_beneath(
            self.root.as_fd(),
            path,
            flags,
            Mode::empty(),
            ResolveFlag::empty(),
        )
    }

    /// Writes `data` by one `write(2)` to the file `path` below the top; procfs takes a value
    /// whole or not at all.
    ///
    /// # Errors
    ///
    /// The call that failed: [`Call::Openat2`] as of [`ProcFs::open`], or [`Call::Write`] with the
    /// kernel's answer to the value, `EIO` if it took only a part.
    pub fn write(&self, path: &CStr, data: &[u8]) -> std::result::Result<(), (Call, Errno)> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
        let file = self
            .open(path, flags)
            .map_err(|errno| (Call::Openat2, errno))?;
        match nix::unistd::write(&file, data) {
            Ok(written) if written == data.len() => Ok(()),
            Ok(_) => Err((Call::Write, Errno::EIO)),
            Err(errno) => Err((Call::Write, errno)),
        }
    }

    /// Like [`ProcFs::write`] for the file `name` of the caller's own directory (`attr/exec`,
    /// `oom_score_adj`).
    ///
    /// # Errors
    ///
    /// As of [`ProcFs::write`]; [`Call::Readlink`] with `ENOENT` if this procfs belongs to a pid
    /// namespace in which the caller has no number.
    pub fn write_self(&self, name: &CStr, data: &[u8]) -> std::result::Result<(), (Call, Errno)> {
        let path = self
            .own_path(name)
            .map_err(|errno| (Call::Readlink, errno))?;
        let path = path.text().map_err(|errno| (Call::Readlink, errno))?;
        self.write(path, data)
    }

    /// The caller's own directory: what [`ProcFs::open`] opens is below that then. Cheaper than
    /// finding the way to it once for each file.
    ///
    /// # Errors
    ///
    /// As of [`ProcFs::open`]; `ENOENT` also if this procfs belongs to a pid namespace in which the
    /// caller has no number.
    pub fn own(&self) -> Result<Self> {
        let path = self.own_path(c"")?;
        let root = self.open(path.text()?, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        Ok(Self { root })
    }

    fn own_path(&self, name: &CStr) -> Result<StackString<256>> {
        let mut digits = [0; 20];
        let pid = self.own_number(&mut digits)?;
        StackString::concat(&[pid, b"/", name.to_bytes()])
    }

    /// The caller's number as this instance sees it, in decimal.
    ///
    /// Not `getpid()`: after the clone into a new pid namespace, `/proc` or an instance that the
    /// parent made still counts by the parent's, and number 1 there is the machine's own init.
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
    /// The directory at the top.
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
