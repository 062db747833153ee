//! The containers on disk: one directory for each below the state root.
//!
//! ```text
//! <root>/<id>/          0700, made by mkdir(2): whoever makes it owns the id; its flock(2) is the
//! lock
//!     record.json       the record: facts only, replaced as a whole by rename(2)
//!     config.json       a private copy of the bundle's file, byte for byte
//!     start  started    FIFOs between `start` and init, gone once the container was started
//!     output            a third one, for what hooks of the container print
//!     notify/           the directory of NOTIFY_SOCKET's proxy, if there is one
//!     ready             made once the program has reported through it that it is ready
//!     root/             where criu sees the root file system while it restores
//!     netns             the network namespace, mounted, if it is attached to networks
//!     resolv.conf hosts mounted into the container, where they were asked for
//! ```

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use coracle_checkpoint::Readiness;
use coracle_launch::Fifos;
use coracle_sys::OpenTreeFlags;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, fstatat, mkdirat, umask};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};

use crate::clear::{clear, open_below};
use crate::error::{Error, with_path};
use crate::input::{self, Problem};
use crate::progress::Progress;
use crate::record::{Record, Unreadable, maker};
use coracle_text::io_errno;

/// Not `state.json`: runc would read that as its own, and fail, if both use the same state root.
const RECORD: &str = "record.json";
/// The record's name in earlier releases.
const EARLIER: &str = "state.json";
/// Files by which a container of another runtime is recognised that has no `state.json` (yet).
const FOREIGN: [(&str, &str); 2] = [("status", "crun"), ("exec.fifo", "another runtime")];
const CONFIG: &str = "config.json";
const START: &str = "start";
const STARTED: &str = "started";
const OUTPUT: &str = "output";
const NOTIFY: &str = "notify";
const READY: &str = "ready";
const NETNS: &str = "netns";
const ROOT: &str = "root";
/// The files for the container's `/etc`, by their names there and in the container's directory.
pub(crate) const SHARED: [&str; 2] = ["resolv.conf", "hosts"];

/// A state root, in which each container has its directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    progress: Progress,
}

impl Store {
    /// The store below `root`, an absolute path. Nothing is made or read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            progress: Progress::default(),
        }
    }

    /// Makes verbs on this store log their steps.
    #[must_use]
    pub fn logging(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The same store for verbs that log nothing.
    pub(crate) fn silent(&self) -> Self {
        Self::new(&self.root)
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The path of the state root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Claims the id: makes the container's directory, and the state root if it is missing.
    pub(crate) fn claim(&self, id: &ContainerId) -> Result<Directory, Error> {
        let make = |call, path, errno| with_path(call, path)(errno);
        let root = match open_directory(&self.root) {
            Ok(root) => root,
            Err(Errno::ENOENT) => {
                let mut builder = std::fs::DirBuilder::new();
                std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
                builder
                    .recursive(true)
                    .create(&self.root)
                    .map_err(|error| make("make", &self.root, io_errno(&error)))?;
                open_directory(&self.root).map_err(|errno| make("open", &self.root, errno))?
            }
            Err(errno) => return Err(make("open", &self.root, errno)),
        };
        let path = self.root.join(id.as_ref());
        match private_modes(|| mkdirat(&root, id.as_ref(), Mode::S_IRWXU)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::Exists {
                    id: id.clone(),
                    maker: self.maker(id),
                });
            }
            Err(errno) => return Err(make("make", &path, errno)),
        }
        let handle = open_below(&root, id.as_ref()).map_err(|errno| {
            let _ = unlinkat(&root, id.as_ref(), UnlinkatFlags::RemoveDir);
            make("open", &path, errno)
        })?;
        self.progress.done(format_args!("made {}", path.display()));
        Ok(Directory {
            id: id.clone(),
            path,
            handle,
            progress: self.progress.clone(),
        })
    }

    /// The other runtime that has a container with this id in the state root.
    fn maker(&self, id: &ContainerId) -> Option<&'static str> {
        match self.find(id).ok()??.record() {
            Err(Error::Foreign { maker }) => Some(maker),
            _ => None,
        }
    }

    /// Opens the directory of an existing container; `None` if there is none.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Option<Directory>, Error> {
        let path = self.root.join(id.as_ref());
        match open_directory(&path) {
            Ok(handle) => Ok(Some(Directory {
                id: id.clone(),
                path,
                handle,
                progress: self.progress.clone(),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(with_path("open", &path)(errno)),
        }
    }

    /// Opens the directory of an existing container.
    ///
    /// # Errors
    /// [`Error::Absent`], which says `container does not exist`.
    pub(crate) fn open(&self, id: &ContainerId) -> Result<Directory, Error> {
        self.find(id)?
            .ok_or_else(|| Error::Absent { id: id.clone() })
    }

    /// The ids of all containers, sorted; none if the state root is missing.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, Error> {
        let listed =
            open_directory(&self.root).and_then(|root| coracle_sys::list_directory(root.as_fd()));
        let entries = match listed {
            Ok(entries) => entries,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(with_path("read", &self.root)(errno));
            }
        };
        let mut ids: Vec<ContainerId> = entries
            .into_iter()
            .filter_map(|(_, name)| name.into_string().ok())
            .filter_map(|name| ContainerId::parse(&name).ok())
            .collect();
        ids.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Ok(ids)
    }
}

/// Runs `make` with a umask of 077, so that what it makes is only for the owner. The caller's umask
/// is restored, since hooks and the log need it.
fn private_modes<T>(make: impl FnOnce() -> T) -> T {
    let mask = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let made = make();
    umask(mask);
    made
}

pub(crate) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(coracle_sys::AT_FDCWD, path, flags, Mode::empty())
}

/// An open container directory. Everything in it is reached through the descriptor.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
    pub(crate) progress: Progress,
}

/// The output of hooks that run in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookOutput {
    Fifo,
    None,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the record.
    pub(crate) fn record_file(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// The state root.
    pub(crate) fn root(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Reads the record; `None` before `create` has written it, and after `delete` has removed it.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the container is another runtime's; [`Error::Corrupt`];
    /// [`Error::Newer`].
    pub(crate) fn record(&self) -> Result<Option<Record>, Error> {
        let (name, text) = match self.read(RECORD)? {
            Some(text) => (RECORD, text),
            None => match self.earlier_record()? {
                Some(text) => (EARLIER, text),
                None => return Ok(None),
            },
        };
        let path = || self.path.join(name);
        Record::parse(&text)
            .map(Some)
            .map_err(|unreadable| match unreadable {
                Unreadable::Corrupt(reason) => Error::Corrupt {
                    path: path(),
                    reason,
                },
                Unreadable::Newer(version) => Error::Newer {
                    path: path(),
                    version,
                },
            })
    }

    /// Reads the record of an earlier release. Refuses one of another runtime.
    fn earlier_record(&self) -> Result<Option<Vec<u8>>, Error> {
        let text = self.read(EARLIER)?;
        let maker = match &text {
            Some(text) => maker(text),
            None => FOREIGN
                .into_iter()
                .find_map(|(name, maker)| self.has(name).then_some(maker)),
        };
        match maker {
            Some(maker) => Err(Error::Foreign { maker }),
            None => Ok(text),
        }
    }

    /// Reads the record of an existing container.
    ///
    /// # Errors
    /// [`Error::Absent`] if there is none; those of [`Self::record`].
    pub(crate) fn present_record(&self) -> Result<Record, Error> {
        self.record()?.ok_or_else(|| Error::Absent {
            id: self.id.clone(),
        })
    }

    /// Reads as much as possible of a record that is corrupt or of a newer release.
    pub(crate) fn salvaged_record(&self) -> Record {
        let text = [RECORD, EARLIER]
            .into_iter()
            .find_map(|name| self.read(name).ok().flatten());
        text.map(|text| Record::salvage(&text)).unwrap_or_default()
    }

    /// Replaces the record atomically: a reader sees the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), Error> {
        let text = record.to_bytes().map_err(|reason| Error::Corrupt {
            path: self.path.join(RECORD),
            reason,
        })?;
        self.write(".record.json", &text)?;
        nix::fcntl::renameat(&self.handle, ".record.json", &self.handle, RECORD)
            .map_err(|errno| self.failed("rename", RECORD, errno))?;
        self.unlink(EARLIER)
    }

    /// Reads the private copy of `config.json`.
    pub(crate) fn config(&self) -> Result<Vec<u8>, Error> {
        let file = self.open_file(CONFIG);
        self.read_open(
            CONFIG,
            file.map_err(|errno| self.failed("open", CONFIG, errno))?,
        )
    }

    pub(crate) fn write_config(&self, text: &[u8]) -> Result<(), Error> {
        self.write(CONFIG, text)
    }

    /// Replaces the private copy atomically.
    pub(crate) fn replace_config(&self, text: &[u8]) -> Result<(), Error> {
        self.write(".config.json", text)?;
        nix::fcntl::renameat(&self.handle, ".config.json", &self.handle, CONFIG)
            .map_err(|errno| self.failed("rename", CONFIG, errno))
    }

    /// Makes the FIFOs and opens both ends of each, so that no open blocks.
    pub(crate) fn make_fifos(&self, output: HookOutput) -> Result<Fifos, Error> {
        let make = |name: &str| {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            private_modes(|| mkfifoat(&self.handle, name, mode))
                .and_then(|()| self.open_fifo(name, OFlag::O_RDWR))
                .map_err(|errno| self.failed("make", name, errno))
        };
        let output = match output {
            HookOutput::Fifo => Some(make(OUTPUT)?),
            HookOutput::None => None,
        };
        Ok(Fifos {
            started: make(STARTED)?,
            start: make(START)?,
            output,
        })
    }

    /// Opens the ends for `start`. `None` if the container was started: there are no FIFOs, or init
    /// has closed its ends.
    pub(crate) fn open_fifos(&self) -> Result<Option<Fifos>, Error> {
        let open = |name, flags| match self.open_fifo(name, flags | OFlag::O_NONBLOCK) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENXIO) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        };
        let output = open(OUTPUT, OFlag::O_RDONLY)?;
        let started = open(STARTED, OFlag::O_RDONLY)?;
        let start = open(START, OFlag::O_WRONLY)?;
        Ok(start.zip(started).map(|(start, started)| Fifos {
            start,
            started,
            output,
        }))
    }

    fn open_fifo(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.handle, name, flags, Mode::empty())
    }

    /// Whether init still waits for `start`. Init has the FIFO open until execve(2); the file alone
    /// shows nothing, since a `start` that was killed may have left it.
    pub(crate) fn is_awaiting_start(&self) -> bool {
        self.open_fifo(START, OFlag::O_WRONLY | OFlag::O_NONBLOCK)
            .is_ok()
    }

    /// Removes the FIFOs of a container that was started.
    pub(crate) fn remove_fifos(&self) -> Result<(), Error> {
        [START, STARTED, OUTPUT]
            .into_iter()
            .try_for_each(|name| self.unlink(name))
    }

    /// Makes the directory that is mounted into the container for NOTIFY_SOCKET.
    pub(crate) fn make_notify(&self) -> Result<(), Error> {
        mkdirat(&self.handle, NOTIFY, Mode::from_bits_truncate(0o755))
            .map_err(|errno| self.failed("make", NOTIFY, errno))?;
        self.share(NOTIFY, 0o755)
    }

    pub(crate) fn notify(&self) -> PathBuf {
        self.path.join(NOTIFY)
    }

    /// The file that is made once the program has reported that it is ready.
    pub(crate) fn ready(&self) -> PathBuf {
        self.path.join(READY)
    }

    /// Whether the program has yet to report that it is ready.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.has(NOTIFY) && !self.has(READY) {
            true => Readiness::Awaited,
            false => Readiness::NotAwaited,
        }
    }

    /// Writes a file that is mounted into the container and readable for any user. An existing file
    /// keeps its inode, which is mounted.
    pub(crate) fn write_shared(&self, name: &str, text: &str) -> Result<(), Error> {
        self.write(name, text.as_bytes())?;
        self.share(name, 0o644)
    }

    /// Sets a mode that lets any user of the container access the file, whatever the umask is.
    fn share(&self, name: &str, mode: u32) -> Result<(), Error> {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(&self.handle, name, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| self.failed("change the mode of", name, errno))
    }

    /// Mounts the network namespace in this directory, so that it stays for the plugins even if
    /// init ends, until it is unpinned. `None` without the permission to mount.
    pub(crate) fn pin_network(&self, namespace: BorrowedFd) -> Result<Option<PathBuf>, Error> {
        self.write(NETNS, b"")?;
        let flags = OpenTreeFlags::CLONE | OpenTreeFlags::EMPTY_PATH;
        let mounted = coracle_sys::open_tree(namespace, c"", flags)
            .and_then(|mount| coracle_sys::move_mount(mount.as_fd(), self.handle(), c"netns"));
        match mounted {
            Ok(()) => Ok(Some(self.path.join(NETNS))),
            Err(Errno::EPERM) => Ok(None),
            Err(errno) => Err(self.failed("mount", NETNS, errno)),
        }
    }

    /// The path of the pinned network namespace, if it exists.
    pub(crate) fn pinned_network(&self) -> Option<PathBuf> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.handle, NETNS, flags, Mode::empty()).ok()?;
        let magic = coracle_sys::file_system_magic(file.as_fd()).ok()?;
        (magic == coracle_sys::NSFS_MAGIC).then(|| self.path.join(NETNS))
    }

    /// Unmounts the network namespace, if it was pinned.
    pub(crate) fn unpin_network(&self) -> Result<(), Error> {
        if !self.has(NETNS) {
            return Ok(());
        }
        if let Some(path) = self.pinned_network() {
            detach(&path)?;
        }
        self.unlink(NETNS)
    }

    /// Removes the directory. The record is removed last, so that an interrupted removal can be
    /// continued, and the config, which has the poststop hooks, right before it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for name in [
            START,
            STARTED,
            OUTPUT,
            ".config.json",
            ".record.json",
            ".state.json",
        ] {
            self.unlink(name)?;
        }
        // The first of these files is made first and removed last, so if it is missing, so are the
        // others.
        if self.has(SHARED[0]) {
            let mut shared = SHARED.into_iter().rev();
            shared.try_for_each(|name| self.unlink(name))?;
        }
        self.remove_root()?;
        self.remove_notify()
            .map_err(|errno| self.failed("remove", NOTIFY, errno))?;
        self.unlink(CONFIG)?;
        self.unlink(EARLIER)?;
        self.unlink(RECORD)?;
        if !self.is_in_place() {
            return Ok(());
        }
        match unlinkat(coracle_sys::AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {
                let path = self.path.display();
                self.progress.done(format_args!("removed {path}"));
                Ok(())
            }
            Err(errno) => Err(with_path("remove", &self.path)(errno)),
        }
    }

    /// Makes an empty directory for criu to mount on, and returns its path.
    pub(crate) fn make_root(&self) -> Result<PathBuf, Error> {
        private_modes(|| mkdirat(&self.handle, ROOT, Mode::S_IRWXU))
            .map_err(|errno| self.failed("make", ROOT, errno))?;
        Ok(self.path.join(ROOT))
    }

    /// Removes that directory, if it exists.
    pub(crate) fn remove_root(&self) -> Result<(), Error> {
        match unlinkat(&self.handle, ROOT, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", ROOT, errno)),
        }
    }

    /// Empties it first: a container that may mount can remount the directory writable, and make
    /// files.
    fn remove_notify(&self) -> nix::Result<()> {
        match open_below(&self.handle, NOTIFY) {
            Ok(notify) => clear(notify.as_fd())?,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match unlinkat(&self.handle, READY, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        unlinkat(&self.handle, NOTIFY, UnlinkatFlags::RemoveDir)
    }

    fn has(&self, name: &str) -> bool {
        fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the path still leads to this directory: the id may belong to a later container by
    /// now.
    fn is_in_place(&self) -> bool {
        let inode = |status: FileStat| (status.st_dev, status.st_ino);
        let there = fstatat(
            coracle_sys::AT_FDCWD,
            &self.path,
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        let here = fstat(&self.handle);
        !matches!((there, here), (Ok(there), Ok(here)) if inode(there) != inode(here))
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.open_file(name) {
            Ok(file) => self.read_open(name, file).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    fn open_file(&self, name: &str) -> nix::Result<OwnedFd> {
        let flags = input::FLAGS | OFlag::O_NOFOLLOW;
        openat(&self.handle, name, flags, Mode::empty())
    }

    fn read_open(&self, name: &str, file: OwnedFd) -> Result<Vec<u8>, Error> {
        let text = input::regular(file).map_err(|problem| match problem {
            Problem::Refused(call, errno) => self.failed(call, name, errno),
            Problem::Unfit(reason) => Error::Corrupt {
                path: self.path.join(name),
                reason,
            },
        })?;
        self.did("read", name);
        Ok(text)
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), Error> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        // O_NONBLOCK, so that a FIFO in its place cannot block.
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = private_modes(|| openat(&self.handle, name, flags, mode))
            .map_err(|errno| self.failed("open", name, errno))?;
        File::from(file)
            .write_all(text)
            .map_err(|error| self.failed("write", name, io_errno(&error)))?;
        self.did("wrote", name);
        Ok(())
    }

    fn did(&self, what: &str, name: &str) {
        let path = self.path.display();
        self.progress.done(format_args!("{what} {path}/{name}"));
    }

    fn failed(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        with_path(call, &self.path.join(name))(errno)
    }
}
/// Unmounts the root that a container without a mount namespace has left on the host.
pub(crate) fn detach(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: not a mount point, since init did not get so far.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(with_path("umount2", path)(errno)),
    }
}
