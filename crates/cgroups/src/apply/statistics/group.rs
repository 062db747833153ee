//! A cgroup or resctrl directory, for reading numbers.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::text::number;
use crate::apply::files;
use crate::{Error, Result};

/// A directory whose files are read.
pub(super) struct Group<'a> {
    pub(super) path: &'a Path,
    pub(super) directory: OwnedFd,
}

impl<'a> Group<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let directory = files::open_directory(path)?;
        Ok(Self { path, directory })
    }

    /// The text of a file; `None` if the kernel does not have it or has it disabled.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>> {
        match files::read(self.directory.as_fd(), file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::read(self.path, file)(errno)),
        }
    }

    /// The number in a file, zero if there is none.
    pub(super) fn number(&self, file: &str) -> Result<u64> {
        let text = self.text(file)?;
        Ok(text.as_deref().map_or(0, number))
    }

    /// The parts between `start` and `end` in the names of files: sizes of huge pages.
    pub(super) fn middles(&self, start: &str, end: &str) -> Result<Vec<String>> {
        let names = files::names(self.directory.as_fd()).map_err(|errno| Error::Read {
            path: self.path.to_owned(),
            errno,
        })?;
        let middle = |name: &OsString| {
            let middle = name.to_str()?.strip_prefix(start)?.strip_suffix(end)?;
            (!middle.contains('.')).then(|| middle.to_owned())
        };
        Ok(names.iter().filter_map(middle).collect())
    }
}
