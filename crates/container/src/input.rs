//! Reading what somebody else may have put there: never waiting for a FIFO's writer, nothing from
//! devices, and no more than a document may have.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_bundle::MAX_CONFIG_BYTES;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Error, io_errno};

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
    match kind(&file)? {
        SFlag::S_IFREG => all(File::from(file)),
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
        match kind(&file)? {
            SFlag::S_IFREG => {}
            SFlag::S_IFIFO => wait_for_writer(&file)?,
            SFlag::S_IFCHR if file.as_fd().is_terminal() => wait_for_writer(&file)?,
            _ => {
                return Err(Problem::Unfit(
                    "neither a regular file nor a pipe".to_owned(),
                ));
            }
        }
        all(File::from(file))
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
    all(std::io::stdin()).map_err(|problem| match problem {
        Problem::Refused(call, errno) => Error::Flag {
            flag,
            path: "-".into(),
            call,
            errno,
        },
        Problem::Unfit(reason) => Error::Value { flag, reason },
    })
}

fn kind(file: &OwnedFd) -> Result<SFlag, Problem> {
    let status = fstat(file).map_err(|errno| Problem::Refused("stat", errno))?;
    Ok(SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT)
}

/// From here on a read waits, for who is there already.
fn wait_for_writer(file: &OwnedFd) -> Result<(), Problem> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_RDONLY))
        .map(drop)
        .map_err(|errno| Problem::Refused("fcntl", errno))
}

fn all(source: impl Read) -> Result<Vec<u8>, Problem> {
    // One byte beyond the limit tells that there is more, also when the file still grows.
    let limit = u64::try_from(MAX_CONFIG_BYTES).unwrap_or(u64::MAX);
    let mut text = Vec::new();
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
