//! The socket from the provider of sources to init, and the messages on it.

use super::source::Failure;
use crate::plan::explain::Check;
use coracle_sys::{Call, Cause, receive, send, socket_pair};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The two ends of the socket. Each process closes the end that it does not use.
#[derive(Debug)]
pub(super) struct Provided {
    pub(super) reader: Option<OwnedFd>,
    pub(super) writer: Option<OwnedFd>,
}

/// The provider's answer for a source.
pub(super) enum Received {
    /// A detached tree with all changes made.
    Tree(OwnedFd),
    /// A descriptor of the source in init's mount namespace, which init clones.
    Place(OwnedFd),
    /// Only init itself is permitted to clone it.
    ByInit,
    /// It does not exist, and is optional.
    Missing,
}

/// The size of the send buffer in bytes; the kernel doubles it, and has a minimum of a few
/// messages.
const ROOM: usize = 1;

const LENGTH: usize = 16;

pub(super) const TREE: u8 = 1;
pub(super) const PLACE: u8 = 2;
pub(super) const BY_INIT: u8 = 3;
pub(super) const MISSING: u8 = 4;
const FAILED: u8 = 5;
/// A failure that applies to every source.
const ALL_FAILED: u8 = 6;

impl Provided {
    /// Makes a socket pair on which the writer blocks once a few messages are unread.
    pub(super) fn new() -> nix::Result<Self> {
        let (reader, writer) = socket_pair()?;
        setsockopt(&writer, sockopt::SndBuf, &ROOM)?;
        Ok(Self {
            reader: Some(reader),
            writer: Some(writer),
        })
    }

    /// Closes init's copy of the provider's end, so that init reads the end of file if the provider
    /// ends.
    pub(super) fn close_writer(&mut self) {
        self.writer = None;
    }

    /// Receives the source of this number. Sources before it that no step needed are skipped.
    pub(super) fn receive(&self, wanted: usize) -> Result<Received, Failure> {
        let socket = self.reader.as_ref().ok_or(Check::NotOpened)?;
        loop {
            let mut bytes = [0; LENGTH];
            let (length, attached) =
                receive(socket.as_fd(), &mut bytes).map_err(Call::Receive.failed())?;
            if length != LENGTH {
                // The provider has ended.
                return Err(Check::ProviderGone.into());
            }
            let message = Message::decode(bytes);
            if message.kind == ALL_FAILED {
                return Err(message.failure());
            }
            let number = usize::try_from(message.number).unwrap_or(usize::MAX);
            if number < wanted {
                // A fallback that was not needed: skip it, even if it failed.
                continue;
            }
            let received = match (message.kind, attached) {
                (TREE, Some(tree)) => Received::Tree(tree),
                (PLACE, Some(place)) => Received::Place(place),
                (BY_INIT, _) => Received::ByInit,
                (MISSING, _) => Received::Missing,
                (FAILED, _) => return Err(message.failure()),
                _ => return Err(Check::Protocol.into()),
            };
            return match number == wanted {
                true => Ok(received),
                false => Err(Check::Protocol.into()),
            };
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Message {
    kind: u8,
    number: u32,
    /// The cause of a failure.
    cause: [u8; Cause::LENGTH],
}

impl Message {
    pub(super) fn new(kind: u8, number: u32) -> Self {
        Self {
            kind,
            number,
            cause: [0; Cause::LENGTH],
        }
    }

    pub(super) fn failed(number: u32, cause: Failure) -> Self {
        Self {
            cause: cause.encode(),
            ..Self::new(FAILED, number)
        }
    }

    /// A failure that applies to all further sources.
    pub(super) fn all_failed(cause: Failure) -> Self {
        Self {
            kind: ALL_FAILED,
            ..Self::failed(0, cause)
        }
    }

    fn failure(self) -> Failure {
        Cause::decode(self.cause).unwrap_or(Check::Protocol.into())
    }

    fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = self.kind;
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.cause);
        bytes
    }

    fn decode(bytes: [u8; LENGTH]) -> Self {
        let [kind, _, _, _, a, b, c, d, cause @ ..] = bytes;
        Self {
            kind,
            number: u32::from_le_bytes([a, b, c, d]),
            cause,
        }
    }
}

/// Sends a message. False if init has closed its end.
pub(super) fn send_message(
    writer: &OwnedFd,
    message: Message,
    attached: Option<BorrowedFd<'_>>,
) -> bool {
    send(writer.as_fd(), &message.encode(), attached).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn messages_come_back_as_they_were() {
        let failure = Cause::Call(Call::OpenTree, Errno::ENOENT);
        let message = Message::decode(Message::failed(70_000, failure).encode());
        assert_eq!((message.kind, message.number), (FAILED, 70_000));
        assert_eq!(message.failure(), failure);
        let message = Message::decode(Message::new(PLACE, 3).encode());
        assert_eq!((message.kind, message.number), (PLACE, 3));
    }

    /// A stand-in that init could do without must not end the launch; what init waits for must.
    #[test]
    fn failures_of_what_nobody_wants_are_passed_over() {
        let provided = Provided::new().expect("a socket pair");
        let writer = provided.writer.as_ref().expect("the writer");
        let refused = Cause::from(Check::OtherNode);
        assert!(send_message(writer, Message::failed(1, refused), None));
        assert!(send_message(
            writer,
            Message::new(PLACE, 2),
            Some(writer.as_fd())
        ));
        let Ok(Received::Place(_)) = provided.receive(2) else {
            panic!("the one that is wanted")
        };
        for failed in [Message::failed(3, refused), Message::all_failed(refused)] {
            assert!(send_message(writer, failed, None));
            assert_eq!(provided.receive(3).map(drop), Err(refused));
        }
    }

    /// The writer waits long before a small limit on descriptors in flight.
    #[test]
    fn few_are_in_flight() {
        let provided = Provided::new().expect("a socket pair");
        let writer = provided.writer.as_ref().expect("the writer");
        nix::fcntl::fcntl(
            writer,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .expect("a flag");
        let sent = (0..1000).take_while(|number| {
            send_message(writer, Message::new(PLACE, *number), Some(writer.as_fd()))
        });
        let sent = sent.count();
        assert!((1..32).contains(&sent), "{sent}");
        let Ok(Received::Place(_)) = provided.receive(0) else {
            panic!("the first")
        };
    }

    #[test]
    fn the_end_of_the_writer_is_seen() {
        let mut provided = Provided::new().expect("a socket pair");
        provided.close_writer();
        let answer = provided.receive(0).map(drop);
        assert_eq!(answer, Err(Check::ProviderGone.into()));
    }
}
