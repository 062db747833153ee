//! The directories of images and work files.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coracle_text::io_errno;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Error;
use crate::plan::request::Descriptors;
use crate::plan::{log, pages};

/// The file with the names of the standard streams; runc uses the same name.
const DESCRIPTORS: &str = "descriptors.json";
/// The file that is there if the program had not reported its readiness.
const STARTING: &str = "starting";
const MAX_DESCRIPTORS_BYTES: u64 = 65536;
/// A map has a few bytes for each range of pages.
const MAX_MAP_BYTES: u64 = 1 << 26;
/// How much of the end of a log is read.
const MAX_LOG_BYTES: u64 = 1 << 18;

/// The purpose of opening images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To write them: the directory is made if it is missing.
    Dump,
    /// To read them: there must be a complete dump.
    Restore,
}

/// Whether a program is expected to report that it is ready, sd_notify(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has a socket to report to and has not reported yet.
    Awaited,
    /// It has reported, or has no socket to report to.
    NotAwaited,
}

/// The open directories of images and of work files.
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

impl Images {
    /// Opens both. Without a work path, work files go to the directory of the images.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::Images`] if there is nothing to restore.
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

    /// Checks that the dump is complete: criu writes the inventory first, and the process tree only
    /// in a dump, not in a pre-dump.
    fn check_whole(&self) -> Result<(), Error> {
        let problem = match (self.has("inventory.img"), self.has("pstree.img")) {
            (true, true) if self.has_all_pages() => return Ok(()),
            (true, true) => "this is no whole checkpoint: memory is cut off",
            (true, false) => "this is no whole checkpoint: pstree.img is missing",
            (false, _) => "there is no checkpoint in it: inventory.img is missing",
        };
        Err(self.refused(problem))
    }

    /// Whether the file of pages of each process is as long as its map demands. Files that cannot
    /// be read are left for criu to report, and parent images are not checked.
    fn has_all_pages(&self) -> bool {
        let whole = |map: &[u8]| {
            let (number, pages) = pages::wanted(map)?;
            let name = format!("pages-{number}.img");
            let status = fstatat(&self.directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            let length = status.map_or(0, |status| status.st_size);
            Some(u64::try_from(length).ok()? >= pages.checked_mul(page_bytes())?)
        };
        let tree = self.read_image("pstree.img").unwrap_or_default();
        pages::processes(&tree).into_iter().all(|pid| {
            let map = self.read_image(&format!("pagemap-{pid}.img"));
            map.and_then(|map| whole(&map)).unwrap_or(true)
        })
    }

    fn read_image(&self, name: &str) -> Option<Vec<u8>> {
        let file = File::from(self.open_file(&self.directory, name).ok()?);
        let mut image = Vec::new();
        file.take(MAX_MAP_BYTES).read_to_end(&mut image).ok()?;
        Some(image)
    }

    fn names(&self, prefix: &'static str) -> impl Iterator<Item = String> {
        // Lists by the descriptor, since the directory may have been renamed; and by a new one,
        // since duplicates share the position in the directory.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let again = openat(&self.directory, ".", flags, Mode::empty());
        let entries = again.and_then(|again| coracle_sys::list_directory(again.as_fd()));
        let entries = entries.into_iter().flatten();
        let names = entries.filter_map(|(_, name)| name.into_string().ok());
        names.filter(move |name| name.starts_with(prefix))
    }

    /// Opens a file without following a link or waiting for the writer of a FIFO.
    fn open_file(&self, directory: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(directory, name, flags, Mode::empty())
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

    /// Checks that the parent's directory exists.
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

    /// Writes the names of init's streams to the directory of the images.
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

    /// Reads the names of init's streams; none if there is no such file.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::Images`] for malformed content.
    pub fn read_descriptors(&self) -> Result<Descriptors, Error> {
        let failed = failed("--image-path", &self.path, "read descriptors.json");
        let file = match self.open_file(&self.directory, DESCRIPTORS) {
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

    /// Notes whether the program has yet to report that it is ready, sd_notify(3).
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn note_readiness(&self, readiness: Readiness) -> Result<(), Error> {
        let failed = failed(
            "--image-path",
            &self.path,
            "note that the program is starting",
        );
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let noted = match readiness {
            Readiness::Awaited => openat(&self.directory, STARTING, flags, Mode::S_IRUSR).map(drop),
            Readiness::NotAwaited => {
                unlinkat(&self.directory, STARTING, UnlinkatFlags::NoRemoveDir)
            }
        };
        match noted {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Whether the program was still to report that it is ready when it was dumped.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.has(STARTING) {
            true => Readiness::Awaited,
            false => Readiness::NotAwaited,
        }
    }

    /// Checks that this host uid, which is the container's root, may search the directory: in a
    /// user namespace criu reads the images as that user.
    ///
    /// # Errors
    /// [`Error::Images`].
    pub fn check_readable(&self, uid: u32) -> Result<(), Error> {
        let status = nix::sys::stat::fstat(&self.directory);
        let status = status.map_err(failed("--image-path", &self.path, "fstat"))?;
        let bit = match status.st_uid == uid {
            true => Mode::S_IXUSR,
            false => Mode::S_IXOTH,
        };
        match Mode::from_bits_truncate(status.st_mode).contains(bit) {
            true => Ok(()),
            false => Err(self.refused(
                "the root of the container's user namespace may not search it, and reads images",
            )),
        }
    }

    /// The number of bytes of memory written so far.
    #[must_use]
    pub fn pages_bytes(&self) -> u64 {
        let length = |name: String| {
            let status = fstatat(&self.directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            u64::try_from(status.ok()?.st_size).ok()
        };
        self.names("pages-").filter_map(length).sum()
    }

    /// Removes the log of an earlier attempt, whose errors would be taken for this one's.
    pub(crate) fn forget_log(&self, name: &str) {
        let _ = unlinkat(self.logs(), name, UnlinkatFlags::NoRemoveDir);
    }

    /// The first errors in a log.
    pub(crate) fn reason(&self, name: &str) -> Option<String> {
        log::reason(&self.read_log(name)?)
    }

    /// The last line of a log.
    pub(crate) fn last_line(&self, name: &str) -> Option<String> {
        log::last_line(&self.read_log(name)?)
    }

    fn read_log(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.open_file(self.logs(), name).ok()?;
        end_of(File::from(file)).ok()
    }

    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.work_path.join(name)
    }

    fn logs(&self) -> BorrowedFd<'_> {
        self.work.as_ref().unwrap_or(&self.directory).as_fd()
    }
}

fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let size = size
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok());
    size.unwrap_or(4096)
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
