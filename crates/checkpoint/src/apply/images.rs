//! The directories of images and logs.

use std::fs::{DirBuilder, File, read_dir};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};

use crate::error::Error;
use crate::plan::log;
use crate::plan::request::Descriptors;

/// runc's name for the names of the standard streams.
const DESCRIPTORS: &str = "descriptors.json";
const MAX_DESCRIPTORS_BYTES: u64 = 65536;
/// Read of the end of a log.
const MAX_LOG_BYTES: u64 = 1 << 18;

/// What the images are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be written: the directory is made if it is missing.
    Dump,
    /// To be read: there must be a whole dump.
    Restore,
}

/// Open directories of images and of work files.
#[derive(Debug)]
pub struct Images {
    path: PathBuf,
    pub(crate) directory: OwnedFd,
    work_path: PathBuf,
    pub(crate) work: Option<OwnedFd>,
}

fn failed<'a>(
    flag: &'static str,
    path: &'a Path,
    call: &'static str,
) -> impl Fn(Errno) -> Error + 'a {
    move |errno| Error::Path {
        flag,
        path: path.to_owned(),
        call,
        errno,
    }
}

fn io_errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Images {
    /// Opens both; without a work path work files are among the images.
    ///
    /// # Errors
    /// [`Error::Path`], and [`Error::Images`] where there is nothing to restore.
    pub fn open(path: &Path, work: Option<&Path>, need: Need) -> Result<Self, Error> {
        if need == Need::Dump {
            make("--image-path", path)?;
        }
        let directory = open_directory("--image-path", path)?;
        let images = Self {
            path: path.to_owned(),
            directory,
            work_path: work.unwrap_or(path).to_owned(),
            work: None,
        };
        if need == Need::Restore {
            images.check_whole()?;
        }
        let Some(work) = work else { return Ok(images) };
        make("--work-path", work)?;
        Ok(Self {
            work: Some(open_directory("--work-path", work)?),
            ..images
        })
    }

    /// criu writes the inventory before the rest, and the tree of processes with a dump alone.
    fn check_whole(&self) -> Result<(), Error> {
        let problem = match (self.has("inventory.img"), self.has("pstree.img")) {
            (true, true) => return Ok(()),
            (true, false) => "this is no whole checkpoint: pstree.img is missing",
            (false, _) => "there is no checkpoint in it: inventory.img is missing",
        };
        Err(self.refused(problem))
    }

    fn has(&self, name: &str) -> bool {
        fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    fn refused(&self, problem: &'static str) -> Error {
        Error::Images {
            flag: "--image-path",
            path: self.path.clone(),
            problem,
        }
    }

    /// Looks whether the parent's directory is there.
    ///
    /// # Errors
    /// [`Error::Images`] for a path that is not relative, [`Error::Path`] for one that is missing.
    pub fn check_parent(&self, parent: &Path) -> Result<(), Error> {
        if parent.is_absolute() {
            return Err(Error::Images {
                flag: "--parent-path",
                path: parent.to_owned(),
                problem: "it must be relative to --image-path",
            });
        }
        open_directory("--parent-path", &self.path.join(parent)).map(drop)
    }

    /// Writes the names of init's streams beside the images.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn write_descriptors(&self, descriptors: &Descriptors) -> Result<(), Error> {
        let failed = failed("--image-path", &self.path, "write descriptors.json");
        let text = serde_json::Value::from(descriptors.0.clone()).to_string();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&self.directory, DESCRIPTORS, flags | OFlag::O_CLOEXEC, mode);
        let mut file = file.map(File::from).map_err(&failed)?;
        file.write_all(text.as_bytes())
            .map_err(|error| failed(io_errno(&error)))
    }

    /// Reads them; none where there is no such file.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Images`] for another content.
    pub fn read_descriptors(&self) -> Result<Descriptors, Error> {
        let failed = failed("--image-path", &self.path, "read descriptors.json");
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.directory, DESCRIPTORS, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(Descriptors::default()),
            Err(errno) => return Err(failed(errno)),
        };
        let mut text = Vec::new();
        file.take(MAX_DESCRIPTORS_BYTES)
            .read_to_end(&mut text)
            .map_err(|error| failed(io_errno(&error)))?;
        match serde_json::from_slice(&text) {
            Ok(names) => Ok(Descriptors(names)),
            Err(_) => Err(self.refused("its descriptors.json is no list of strings")),
        }
    }

    /// How many bytes of memory are written so far.
    #[must_use]
    pub fn pages_bytes(&self) -> u64 {
        // The descriptor's own path: the directory may have another name by now.
        let entries = read_dir(format!("/proc/self/fd/{}", self.directory.as_raw_fd()));
        let entries = entries.into_iter().flatten().filter_map(Result::ok);
        let pages = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with("pages-"))
        });
        pages
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum()
    }

    /// Removes the log of an earlier attempt: its errors are not this one's.
    pub(crate) fn forget_log(&self, name: &str) {
        let _ = nix::unistd::unlinkat(self.logs(), name, nix::unistd::UnlinkatFlags::NoRemoveDir);
    }

    /// The decisive lines of a log.
    pub(crate) fn reason(&self, name: &str) -> Option<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(self.logs(), name, flags, Mode::empty()).ok()?;
        log::reason(&end_of(File::from(file)).ok()?)
    }

    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.work_path.join(name)
    }

    fn logs(&self) -> BorrowedFd<'_> {
        self.work.as_ref().unwrap_or(&self.directory).as_fd()
    }
}

fn end_of(mut file: File) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG_BYTES)))?;
    let mut text = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn make(flag: &'static str, path: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    let made = builder.mode(0o700).recursive(true).create(path);
    made.map_err(|error| failed(flag, path, "make")(io_errno(&error)))
}

fn open_directory(flag: &'static str, path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(failed(flag, path, "open"))
}
