//! Reads files that could be anything: without hanging on a FIFO, without reading devices, and no
//! more bytes than a config may have.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_bundle::MAX_CONFIG_BYTES;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::Error;
use coracle_text::io_errno;

/// Flags for open(2): it must not wait at a FIFO, nor make a terminal the controlling terminal.
pub(crate) const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A system call failed.
    Refused(&'static str, Errno),
    /// The file's type is not supported, or it is too large.
    Unfit(String),
}

/// Reads all of an open regular file.
pub(crate) fn regular(file: OwnedFd) -> Result<Vec<u8>, Problem> {
    match look(&file)? {
        (SFlag::S_IFREG, size) => all(File::from(file), size),
        _ => Err(Problem::Unfit("not a regular file".to_owned())),
    }
}

/// Reads all of a file that a flag names. It may be a pipe, such as `/dev/stdin` or a shell's
/// `<(...)`; one without a writer is empty.
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

/// Reads all of standard input.
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

/// Clears O_NONBLOCK, which was only for the open, so that reads wait for the writer of a pipe.
fn wait_for_writer(file: &OwnedFd) -> Result<(), Problem> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_RDONLY))
        .map(drop)
        .map_err(|errno| Problem::Refused("fcntl", errno))
}

/// Reads up to the limit. `size` is the size that fstat(2) gave, or 0; with a size, one read is
/// usually enough.
fn all(mut source: impl Read, size: usize) -> Result<Vec<u8>, Problem> {
    let failed = |error| Problem::Refused("read", io_errno(&error));
    // One byte above the limit shows that the file is too large, even if it still grows.
    let limit = u64::try_from(MAX_CONFIG_BYTES).unwrap_or(u64::MAX);
    let mut text = Vec::with_capacity(size.min(MAX_CONFIG_BYTES).saturating_add(1));
    if size > 0 {
        text.resize(text.capacity(), 0);
        let length = read_once(&mut source, &mut text).map_err(failed)?;
        text.truncate(length);
    }
    // A file may have grown, and a file system in user space may return less than there is.
    if size == 0 || text.len() != size {
        source
            .take(limit.saturating_add(1))
            .read_to_end(&mut text)
            .map_err(failed)?;
    }
    match text.len() > MAX_CONFIG_BYTES {
        true => Err(Problem::Unfit(format!(
            "larger than {MAX_CONFIG_BYTES} bytes"
        ))),
        false => Ok(text),
    }
}

fn read_once(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Returns an error first, and then at most this many bytes for each read.
    struct Slow<'a>(&'a [u8], usize, bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if !std::mem::replace(&mut self.2, true) {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(self.1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        for piece in [1, 4, 6, 9] {
            for size in [0, 4, 6, 9] {
                let text = all(Slow(b"config", piece, false), size).unwrap();
                // A read that returns the whole size is taken for the end.
                let expected = if (piece, size) == (4, 4) { 4 } else { 6 };
                assert_eq!(text, b"config"[..expected], "{piece} {size}");
            }
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let large = vec![b' '; MAX_CONFIG_BYTES + 1];
        for size in [0, 1, large.len(), large.len() + 1] {
            let read = all(Slow(&large, usize::MAX, false), size);
            assert!(matches!(read, Err(Problem::Unfit(_))), "{size}");
        }
        let read = all(&large[1..], MAX_CONFIG_BYTES).unwrap();
        assert_eq!(read.len(), MAX_CONFIG_BYTES);
    }
}
