//! The output of a program.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many bytes of a program's output a message shows: the last ones, since the reason of a
/// failure comes last. A log record holds twice as many and is cut at its end, so this much is
/// never cut.
pub const SHOWN_BYTES: usize = 2048;
/// The limit on one read, so that a process that never stops writing does not block the runtime.
const READ_BYTES: usize = 32 * 1024;
const CHUNK_BYTES: usize = 4096;

/// The reading end of the pipe that a program writes to, and its output so far. It must be read
/// while waiting for the program, since a full pipe blocks the writer.
#[derive(Debug)]
pub struct Output {
    reader: OwnedFd,
    bytes: Vec<u8>,
    kept: Kept,
    ended: bool,
}

/// How much of the output is kept.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// The last [`SHOWN_BYTES`].
    End,
    /// All of it, up to this many bytes.
    All(usize),
}

impl Output {
    /// A new pipe of which the last [`SHOWN_BYTES`] are kept; returns the reading end and the
    /// program's end.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pipe() -> nix::Result<(Self, OwnedFd)> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Only for the reading end: programs expect blocking writes.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self::of(reader), writer))
    }

    /// A new pipe of which everything is kept. [`wait`](crate::wait) kills a program that writes
    /// more than `bytes`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn whole(bytes: usize) -> nix::Result<(Self, OwnedFd)> {
        let (output, writer) = Self::pipe()?;
        let kept = Kept::All(bytes);
        Ok((Self { kept, ..output }, writer))
    }

    /// The reading end of a pipe or FIFO that was opened with `O_NONBLOCK`.
    #[must_use]
    pub fn of(reader: OwnedFd) -> Self {
        Self {
            reader,
            bytes: Vec::new(),
            kept: Kept::End,
            ended: false,
        }
    }

    /// Reads what is available without waiting, at most 32 KiB or, with a limit, one byte beyond
    /// it.
    pub fn read(&mut self) {
        let most = match self.kept {
            Kept::End => READ_BYTES,
            Kept::All(limit) => limit + 1,
        };
        let mut total = 0;
        let mut buffer = [0; CHUNK_BYTES];
        while !self.ended && total < most {
            match nix::unistd::read(&self.reader, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.bytes.extend(buffer.iter().take(length));
                    if let Kept::End = self.kept {
                        let excess = self.bytes.len().saturating_sub(SHOWN_BYTES);
                        self.bytes.drain(..excess);
                    }
                    total += length;
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether all writers have closed the pipe; polling it would then always return at once.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The limit, if the output exceeds it.
    pub(crate) fn excess(&self) -> Option<usize> {
        match self.kept {
            Kept::All(limit) if self.bytes.len() > limit => Some(limit),
            _ => None,
        }
    }

    /// The bytes that were kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The end of the output, on one line.
    #[must_use]
    pub fn text(&self) -> String {
        coracle_text::end(&self.bytes, SHOWN_BYTES)
    }
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
        assert!(output.bytes.len() <= SHOWN_BYTES);
    }
}
