//! The directory of one container, below the state root.
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

pub(crate) mod fifos;
pub(crate) mod mounted;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::{ContainerId, INPUT_FLAGS, Unread, read_regular};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::clear::open_below;
use crate::elsewhere;
use crate::error::{Error, with_path};
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

/// An open container directory. Everything in it is reached through the descriptor.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
    pub(crate) progress: Progress,
    /// The umask of this process, if it has made the directory: then nothing of another release can
    /// be in it.
    made_with: Option<Mode>,
}

impl Directory {
    pub(crate) fn new(
        id: &ContainerId,
        path: PathBuf,
        handle: OwnedFd,
        progress: &Progress,
    ) -> Self {
        Self {
            id: id.clone(),
            path,
            handle,
            progress: progress.clone(),
            made_with: None,
        }
    }

    /// The same, if this process has just made it, with this umask.
    pub(crate) fn made_with(self, umask: Mode) -> Self {
        Self {
            made_with: Some(umask),
            ..self
        }
    }

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
        self.record()?
            .ok_or_else(|| elsewhere::absent(self.root(), &self.id))
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
        match self.made_with {
            Some(_) => Ok(()),
            None => self.unlink(EARLIER),
        }
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

    /// Removes the directory. The record is removed last, so that an interrupted removal can be
    /// continued, and the config, which has the poststop hooks, right before it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let names = open_below(&self.handle, ".")
            .and_then(|listing| coracle_sys::list_directory(listing.as_fd()));
        // Without a list every name is tried.
        let may_be_there = |name: &str| match &names {
            Ok(names) => names.iter().any(|(_, there)| there == name),
            Err(_) => true,
        };
        // The first of `SHARED` is made first and removed last.
        let [first, second] = SHARED;
        let files = [START, STARTED, OUTPUT, ".config.json", ".record.json"];
        for name in files.iter().chain(&[".state.json", second, first]) {
            if may_be_there(name) {
                self.unlink(name)?;
            }
        }
        if may_be_there(ROOT) {
            self.remove_root()?;
        }
        if may_be_there(NOTIFY) {
            self.remove_notify()
                .map_err(|errno| self.failed("remove", NOTIFY, errno))?;
        }
        for name in [CONFIG, EARLIER, RECORD] {
            if may_be_there(name) {
                self.unlink(name)?;
            }
        }
        self.remove_emptied()
    }

    /// Removes the directory if nothing is in it.
    pub(crate) fn remove_emptied(&self) -> Result<(), Error> {
        // By now the path may be a later container's, whose directory may be empty yet.
        if self.is_in_place() == Ok(false) {
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

    fn has(&self, name: &str) -> bool {
        fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the path still leads to this directory: the id may belong to a later container by
    /// now.
    pub(crate) fn is_in_place(&self) -> nix::Result<bool> {
        let inode = |status: FileStat| (status.st_dev, status.st_ino);
        let no_link = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fstatat(coracle_sys::AT_FDCWD, &self.path, no_link) {
            Ok(there) => Ok(inode(there) == inode(fstat(&self.handle)?)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Whether it has a record: it is a container's then, and no empty one that was just made.
    pub(crate) fn has_record(&self) -> bool {
        self.has(RECORD)
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
        let flags = INPUT_FLAGS | OFlag::O_NOFOLLOW;
        openat(&self.handle, name, flags, Mode::empty())
    }

    fn read_open(&self, name: &str, file: OwnedFd) -> Result<Vec<u8>, Error> {
        let text = read_regular(file).map_err(|unread| match unread {
            Unread::Refused(call, errno) => self.failed(call, name, errno),
            unfit => Error::Corrupt {
                path: self.path.join(name),
                reason: unfit.to_string(),
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
        let file = self
            .private(|| openat(&self.handle, name, flags, mode))
            .map_err(|errno| self.failed("open", name, errno))?;
        File::from(file)
            .write_all(text)
            .map_err(|error| self.failed("write", name, io_errno(&error)))?;
        self.did("wrote", name);
        Ok(())
    }

    /// Runs `make`, whose mode is for the owner alone and must not lack one of his bits.
    fn private<T>(&self, make: impl FnOnce() -> T) -> T {
        match self.made_with {
            Some(mask) if !mask.intersects(Mode::S_IRWXU) => make(),
            _ => private_modes(make).0,
        }
    }

    fn did(&self, what: &str, name: &str) {
        let path = self.path.display();
        self.progress.done(format_args!("{what} {path}/{name}"));
    }

    fn failed(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        with_path(call, &self.path.join(name))(errno)
    }
}

/// Runs `make` with a umask of 077, so that what it makes is only for the owner. The caller's umask
/// is restored, since hooks and the log need it, and returned.
pub(crate) fn private_modes<T>(make: impl FnOnce() -> T) -> (T, Mode) {
    let mask = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let made = make();
    umask(mask);
    (made, mask)
}

pub(crate) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(coracle_sys::AT_FDCWD, path, flags, Mode::empty())
}
