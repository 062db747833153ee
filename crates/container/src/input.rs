//! Reading files that may be anything: without waiting for the writer of a FIFO, nothing from
//! devices, and no more than a document may have.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_bundle::MAX_CONFIG_BYTES;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::Error;
use coracle_text::io_errno;

/// For open(2): a FIFO must not hold us, and a terminal must not become ours.
pub(crate) const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The kernel's answer to a call.
    Refused(&'static str, Errno),
    /// What it is, or that there is too much of it.
    Unfit(String),
}

/// All of an open regular file.
pub(crate) fn regular(file: OwnedFd) -> Result<Vec<u8>, Problem> {
    match look(&file)? {
        (SFlag::S_IFREG, size) => all(File::from(file), size),
        _ => Err(Problem::Unfit("not a regular file".to_owned())),
    }
}

/// All of a file that a flag names. It may be a pipe, such as `/dev/stdin` and what shells make of
/// `<(...)`; one that nobody writes to is empty.
///
/// # Errors
/// [`Error::Flag`], [`Error::Value`].
pub(crate) fn named(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let file =
            open(path, FLAGS, Mode::empty()).map_err(|errno| Problem::Refused("open", errno))?;
        let (kind, size) = look(&file)?;
        match kind {
            SFlag::S_IFREG => {}
            SFlag::S_IFIFO => wait_for_writer(&file)?,
            SFlag::S_IFCHR if file.as_fd().is_terminal() => wait_for_writer(&file)?,
            _ => {
                return Err(Problem::Unfit(
                    "neither a regular file nor a pipe".to_owned(),
                ));
            }
        }
        all(File::from(file), size)
    };
    read().map_err(|problem| match problem {
        Problem::Refused(call, errno) => Error::Flag {
            flag,
            path: path.to_owned(),
            call,
            errno,
        },
        Problem::Unfit(reason) => Error::Value {
            flag,
            reason: format!("{path:?}: {reason}"),
        },
    })
}

/// All of standard input.
///
/// # Errors
/// [`Error::Flag`], [`Error::Value`].
pub(crate) fn standard(flag: &'static str) -> Result<Vec<u8>, Error> {
    all(std::io::stdin(), 0).map_err(|problem| match problem {
        Problem::Refused(call, errno) => Error::Flag {
            flag,
            path: "-".into(),
            call,
            errno,
        },
        Problem::Unfit(reason) => Error::Value { flag, reason },
    })
}

/// The file's type and size in bytes.
fn look(file: &OwnedFd) -> Result<(SFlag, usize), Problem> {
    let status = fstat(file).map_err(|errno| Problem::Refused("stat", errno))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    Ok((kind, usize::try_from(status.st_size).unwrap_or(0)))
}

/// Makes reads wait again: the open did not, and a pipe's writer may be slow.
fn wait_for_writer(file: &OwnedFd) -> Result<(), Problem> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_RDONLY))
        .map(drop)
        .map_err(|errno| Problem::Refused("fcntl", errno))
}

/// `size` is what is expected, so that one read takes it all.
fn all(source: impl Read, size: usize) -> Result<Vec<u8>, Problem> {
    // One byte beyond the limit shows that there is more, also when the file still grows.
    let limit = u64::try_from(MAX_CONFIG_BYTES).unwrap_or(u64::MAX);
    let mut text = Vec::with_capacity(size.min(MAX_CONFIG_BYTES).saturating_add(1));
    source
        .take(limit.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|error| Problem::Refused("read", io_errno(&error)))?;
    match text.len() > MAX_CONFIG_BYTES {
        true => Err(Problem::Unfit(format!(
            "larger than {MAX_CONFIG_BYTES} bytes"
        ))),
        false => Ok(text),
    }
}
