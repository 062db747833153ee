//! Reads files that could be anything: without hanging on a FIFO, without reading devices, and no
//! more bytes than a config may have.

use coracle_text::{errno_text, io_errno};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

/// The largest document that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;

/// Flags for open(2): it must not wait at a FIFO, nor make a terminal the controlling terminal.
pub const INPUT_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// Why a file was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// A system call failed.
    #[error("{}: {}", .0, errno_text(*.1))]
    Refused(&'static str, Errno),
    /// The file is not of a type that is read.
    #[error("not a regular file")]
    Kind,
    /// The file has more than [`MAX_CONFIG_BYTES`].
    #[error("larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge,
}

/// Reads all of an open regular file.
///
/// # Errors
/// [`Unread`]
pub fn read_regular(file: OwnedFd) -> Result<Vec<u8>, Unread> {
    match look_at(&file)? {
        (SFlag::S_IFREG, size) => read_all(File::from(file), size),
        _ => Err(Unread::Kind),
    }
}

/// The type and size in bytes of an open file.
///
/// # Errors
/// [`Unread::Refused`]
pub fn look_at(file: &OwnedFd) -> Result<(SFlag, usize), Unread> {
    let status = fstat(file).map_err(|errno| Unread::Refused("stat", errno))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    Ok((kind, usize::try_from(status.st_size).unwrap_or(0)))
}

/// Reads up to the limit. `size` is the size that fstat(2) gave, or 0; with a size, one read is
/// usually enough.
///
/// # Errors
/// [`Unread::Refused`], [`Unread::TooLarge`].
pub fn read_all(mut source: impl Read, size: usize) -> Result<Vec<u8>, Unread> {
    let failed = |error| Unread::Refused("read", io_errno(&error));
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
        true => Err(Unread::TooLarge),
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
                let text = read_all(Slow(b"config", piece, false), size).unwrap();
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
            let read = read_all(Slow(&large, usize::MAX, false), size);
            assert!(matches!(read, Err(Unread::TooLarge)), "{size}");
        }
        let read = read_all(&large[1..], MAX_CONFIG_BYTES).unwrap();
        assert_eq!(read.len(), MAX_CONFIG_BYTES);
    }
}
