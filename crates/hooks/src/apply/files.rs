//! The files that hooks append their output to.

use super::execution::Streams;
use crate::{Error, Plan};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The open files of a plan; the default value has none.
#[derive(Debug, Default)]
pub struct Files([Option<OwnedFd>; 2]);

impl Files {
    /// The streams of a hook whose output otherwise goes to `output`. Heap-free.
    #[must_use]
    pub fn or<'a>(&'a self, output: Option<BorrowedFd<'a>>) -> Streams<'a> {
        let [stdout, stderr] = &self.0;
        let stream = |file: &'a Option<OwnedFd>| file.as_ref().map(AsFd::as_fd).or(output);
        Streams {
            stdout: stream(stdout),
            stderr: stream(stderr),
        }
    }

    /// The descriptors.
    pub fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().flatten()
    }
}

/// Opens the plan's files to append to, and makes those that are missing, if the plan has a hook.
///
/// # Errors
/// [`Error::File`].
pub fn open_files(plan: &Plan) -> Result<Files, Error> {
    if plan.is_empty() {
        return Ok(Files::default());
    }
    let [stdout, stderr] = &plan.files;
    let open = |file: &Option<_>| file.as_deref().map(open_file).transpose();
    Ok(Files([open(stdout)?, open(stderr)?]))
}

/// As for a log, the last component must be no link: another user may control the directory.
fn open_file(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::File {
        path: path.to_owned(),
        errno,
    };
    let append = OFlag::O_WRONLY | OFlag::O_APPEND;
    // Opening a FIFO that nobody reads would wait.
    let flags = append | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mode = Mode::from_bits_truncate(0o644);
    let file = open(path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, mode).map_err(failed)?;
    // The hook gets a stream that blocks.
    fcntl(&file, FcntlArg::F_SETFL(append)).map_err(failed)?;
    Ok(file)
}
