//! Reads what the caller names as input: a file, a pipe or standard input.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_bundle::{INPUT_FLAGS, Unread, look_at, read_all};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag};

use crate::error::Error;

/// Reads all of a file that a flag names. It may be a pipe, such as `/dev/stdin` or a shell's
/// `<(...)`; one without a writer is empty.
///
/// # Errors
/// [`Error::Flag`], [`Error::Value`].
pub(crate) fn named(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let file = open(path, INPUT_FLAGS, Mode::empty());
        let file = file.map_err(|errno| Unread::Refused("open", errno))?;
        let (kind, size) = look_at(&file)?;
        match kind {
            SFlag::S_IFREG => {}
            SFlag::S_IFIFO => wait_for_writer(&file)?,
            SFlag::S_IFCHR if file.as_fd().is_terminal() => wait_for_writer(&file)?,
            _ => return Err(Unread::Kind),
        }
        read_all(File::from(file), size)
    };
    read().map_err(|unread| match unread {
        Unread::Kind => Error::Value {
            flag,
            reason: format!("{path:?}: neither a regular file nor a pipe"),
        },
        unread => failed(flag, path, unread, format!("{path:?}: ")),
    })
}

/// Reads all of standard input.
///
/// # Errors
/// [`Error::Flag`], [`Error::Value`].
pub(crate) fn standard(flag: &'static str) -> Result<Vec<u8>, Error> {
    let text = read_all(std::io::stdin(), 0);
    text.map_err(|unread| failed(flag, Path::new("-"), unread, String::new()))
}

fn failed(flag: &'static str, path: &Path, unread: Unread, prefix: String) -> Error {
    match unread {
        Unread::Refused(call, errno) => Error::Flag {
            flag,
            path: path.to_owned(),
            call,
            errno,
        },
        unfit => Error::Value {
            flag,
            reason: prefix + &unfit.to_string(),
        },
    }
}

/// Clears O_NONBLOCK, which was only for the open, so that reads wait for the writer of a pipe.
fn wait_for_writer(file: &OwnedFd) -> Result<(), Unread> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_RDONLY))
        .map(drop)
        .map_err(|errno| Unread::Refused("fcntl", errno))
}
