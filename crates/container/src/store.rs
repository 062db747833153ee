//! The memory on disk: one directory a container below the state root.
//!
//! ```text
//! <root>/<id>/          0700, made by mkdir(2): whoever makes it owns the id; its flock(2) is the
//! lock
//!     state.json        the record: facts only, replaced as a whole by rename(2)
//!     config.json       a private copy of the bundle's file, byte for byte
//!     start  started    FIFOs between `start` and init, gone once the container was started
//!     notify/           the directory of NOTIFY_SOCKET's proxy, if there is one
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};

use crate::error::{Error, io_errno};
use crate::record::Record;

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const START: &str = "start";
const STARTED: &str = "started";
const NOTIFY: &str = "notify";

/// A state root, where each container has its directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store below `root`, an absolute path. Nothing is made or read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The path of the state root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Claims the id: makes the container's directory, and the state root when it is missing.
    pub(crate) fn claim(&self, id: &ContainerId) -> Result<Directory, Error> {
        let make = |call, path: &Path, errno| Error::Store {
            call,
            path: path.to_owned(),
            errno,
        };
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
        match mkdirat(&root, id.as_ref(), Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(Error::Exists { id: id.clone() }),
            Err(errno) => return Err(make("make", &path, errno)),
        }
        let handle = open_below(&root, id.as_ref()).map_err(|errno| make("open", &path, errno))?;
        Ok(Directory {
            id: id.clone(),
            path,
            handle,
        })
    }

    /// The directory of an existing container; `None` when there is none.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Option<Directory>, Error> {
        let path = self.root.join(id.as_ref());
        match open_directory(&path) {
            Ok(handle) => Ok(Some(Directory {
                id: id.clone(),
                path,
                handle,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::Store {
                call: "open",
                path,
                errno,
            }),
        }
    }

    /// The directory of an existing container.
    ///
    /// # Errors
    /// [`Error::Absent`], which says `container does not exist`.
    pub(crate) fn open(&self, id: &ContainerId) -> Result<Directory, Error> {
        self.find(id)?
            .ok_or_else(|| Error::Absent { id: id.clone() })
    }

    /// The ids of all containers, sorted; none when the state root is missing.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, Error> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if io_errno(&error) == Errno::ENOENT => return Ok(Vec::new()),
            Err(error) => {
                let errno = io_errno(&error);
                return Err(Error::Store {
                    call: "read",
                    path: self.root.clone(),
                    errno,
                });
            }
        };
        let mut ids: Vec<ContainerId> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| ContainerId::parse(&name).ok())
            .collect();
        ids.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Ok(ids)
    }
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(coracle_sys::AT_FDCWD, path, flags, Mode::empty())
}

fn open_below(dir: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(dir, name, flags, Mode::empty())
}

/// An open container directory; everything in it is reached through the descriptor.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) id: ContainerId,
    path: PathBuf,
    handle: OwnedFd,
}

/// The two FIFOs that init keeps while it waits for `start`.
#[derive(Debug)]
pub(crate) struct Fifos {
    /// `start` writes one byte, init reads it.
    pub(crate) start: OwnedFd,
    /// Init writes its failure; its end of file says that init executed.
    pub(crate) started: OwnedFd,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The record; `None` while `create` has not written one, or once `delete` removed it.
    pub(crate) fn record(&self) -> Result<Option<Record>, Error> {
        let Some(text) = self.read(RECORD)? else {
            return Ok(None);
        };
        Record::parse(&text)
            .map(Some)
            .map_err(|reason| Error::Corrupt {
                path: self.path.join(RECORD),
                reason,
            })
    }

    /// Replaces the record as a whole: a reader sees the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), Error> {
        let text = record.to_bytes().map_err(|reason| Error::Corrupt {
            path: self.path.join(RECORD),
            reason,
        })?;
        self.write(".state.json", &text)?;
        nix::fcntl::renameat(&self.handle, ".state.json", &self.handle, RECORD)
            .map_err(|errno| self.failed("rename", RECORD, errno))
    }

    /// The private copy of `config.json`.
    pub(crate) fn config(&self) -> Result<Vec<u8>, Error> {
        self.read(CONFIG)?
            .ok_or_else(|| self.failed("open", CONFIG, Errno::ENOENT))
    }

    pub(crate) fn write_config(&self, text: &[u8]) -> Result<(), Error> {
        self.write(CONFIG, text)
    }

    /// Makes the FIFOs and opens both ends of each, so that no open blocks.
    pub(crate) fn make_fifos(&self) -> Result<Fifos, Error> {
        let make = |name: &str| {
            mkfifoat(&self.handle, name, Mode::S_IRUSR | Mode::S_IWUSR)
                .and_then(|()| self.open_fifo(name, OFlag::O_RDWR))
                .map_err(|errno| self.failed("make", name, errno))
        };
        Ok(Fifos {
            start: make(START)?,
            started: make(STARTED)?,
        })
    }

    /// The ends that `start` needs: to write, and to read. `None` when there are no FIFOs;
    /// `ENXIO` in the error when nobody reads.
    pub(crate) fn open_fifos(&self) -> Result<Option<Fifos>, Error> {
        let started = match self.open_fifo(STARTED, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", STARTED, errno)),
        };
        match self.open_fifo(START, OFlag::O_WRONLY | OFlag::O_NONBLOCK) {
            Ok(start) => Ok(Some(Fifos { start, started })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("open", START, errno)),
        }
    }

    fn open_fifo(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.handle, name, flags, Mode::empty())
    }

    /// Whether init still waits for `start`.
    pub(crate) fn has_fifo(&self) -> bool {
        fstatat(&self.handle, START, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// The container was started: its FIFOs go.
    pub(crate) fn remove_fifos(&self) -> Result<(), Error> {
        self.unlink(START)?;
        self.unlink(STARTED)
    }

    /// Makes the directory that is bound into the container for NOTIFY_SOCKET.
    pub(crate) fn make_notify(&self) -> Result<PathBuf, Error> {
        mkdirat(&self.handle, NOTIFY, Mode::from_bits_truncate(0o755))
            .map_err(|errno| self.failed("make", NOTIFY, errno))?;
        Ok(self.notify())
    }

    pub(crate) fn notify(&self) -> PathBuf {
        self.path.join(NOTIFY)
    }

    /// Removes the directory. The record goes last, so that a removal that was interrupted can be
    /// taken up again.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let socket = format!("{NOTIFY}/notify.sock");
        for name in [
            START,
            STARTED,
            CONFIG,
            ".config.json",
            ".state.json",
            socket.as_str(),
        ] {
            self.unlink(name)?;
        }
        match unlinkat(&self.handle, NOTIFY, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(self.failed("remove", NOTIFY, errno)),
        }
        self.unlink(RECORD)?;
        match unlinkat(coracle_sys::AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::Store {
                call: "remove",
                path: self.path.clone(),
                errno,
            }),
        }
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", name, errno)),
        };
        let mut text = Vec::new();
        File::from(file)
            .read_to_end(&mut text)
            .map_err(|error| self.failed("read", name, io_errno(&error)))?;
        Ok(Some(text))
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), Error> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let file = openat(
            &self.handle,
            name,
            flags | OFlag::O_NOFOLLOW,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )
        .map_err(|errno| self.failed("open", name, errno))?;
        File::from(file)
            .write_all(text)
            .map_err(|error| self.failed("write", name, io_errno(&error)))
    }

    fn failed(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        Error::Store {
            call,
            path: self.path.join(name),
            errno,
        }
    }
}
