//! What hooks say, for the error text.

use crate::Error;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Kept and shown: the end, where the reason of a failure is. Half of what a log record holds, lest
/// the record be cut, which is done at its end.
const SHOWN_BYTES: usize = 2048;
/// Read in one go at most, so that a process that never stops writing does not hold us.
const READ_BYTES: usize = 32 * 1024;

/// The reading end of the pipe that hooks write stdout and stderr to, and the end of what they
/// wrote. Whoever gives the other end away must read while waiting, for a full pipe stops the hook.
#[derive(Debug)]
pub struct Output {
    reader: OwnedFd,
    tail: Vec<u8>,
    ended: bool,
}

impl Output {
    /// A new pipe: what to read from, and the end for the hooks.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pipe() -> Result<(Self, OwnedFd), Error> {
        let failed = |errno| Error::Pipe { errno };
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        // Of this end alone: a hook expects writes that wait.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        Ok((
            Self {
                reader,
                tail: Vec::new(),
                ended: false,
            },
            writer,
        ))
    }

    /// The reading end of a pipe or FIFO that was opened with `O_NONBLOCK`.
    #[must_use]
    pub fn of(reader: OwnedFd) -> Self {
        Self {
            reader,
            tail: Vec::new(),
            ended: false,
        }
    }

    /// Reads what is there, without waiting, up to 32 KiB.
    pub fn read(&mut self) {
        let mut total = 0;
        let mut buffer = [0; SHOWN_BYTES];
        while !self.ended && total < READ_BYTES {
            match nix::unistd::read(&self.reader, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.tail.extend(buffer.iter().take(length));
                    let excess = self.tail.len().saturating_sub(SHOWN_BYTES);
                    self.tail.drain(..excess);
                    total += length;
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Nobody has the other end open any more: polling would return at once for ever.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The end of what was read, as [`one_line`].
    #[must_use]
    pub fn text(&self) -> String {
        one_line(&self.tail)
    }
}

/// The end of what a process printed, at most 2 KiB, on one line: control characters are escaped,
/// so that it can neither forge log lines nor talk to a terminal.
#[must_use]
pub fn one_line(printed: &[u8]) -> String {
    let surplus = printed.len().saturating_sub(SHOWN_BYTES);
    let text = String::from_utf8_lossy(printed.get(surplus..).unwrap_or_default());
    let mut line = String::with_capacity(text.len());
    for letter in text.trim().chars() {
        match letter {
            '\t' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    line
}

impl AsFd for Output {
    /// The pipe, to poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::write;

    #[test]
    fn the_end_is_kept_on_one_line() {
        let (mut output, writer) = Output::pipe().expect("a pipe");
        output.read();
        assert_eq!((output.text(), output.is_ended()), (String::new(), false));
        for _ in 0..40 {
            write(&writer, &[b'x'; 1000]).expect("room in the pipe");
        }
        write(&writer, b"\x1b[31mlast\nline\t\xff\n").expect("room in the pipe");
        output.read();
        assert!(!output.is_ended(), "a limit a call");
        drop(writer);
        output.read();
        output.read();
        assert!(output.is_ended());
        let text = output.text();
        assert!(text.ends_with("x\\u{1b}[31mlast\\nline \u{fffd}"), "{text}");
        assert!(output.tail.len() <= SHOWN_BYTES);
    }

    #[test]
    fn long_output_is_cut_at_its_beginning() {
        let line = one_line(&[&[b'x'; 100_000], &b"the reason\n"[..]].concat());
        assert!(line.ends_with("xthe reason"), "{line}");
        assert!(line.len() < SHOWN_BYTES);
    }
}
