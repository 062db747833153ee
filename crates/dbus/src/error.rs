//! Why a conversation on the bus failed.

use coracle_text::errno_text;
use nix::errno::Errno;

/// A failure of connecting or of a call: one lower-case line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is of a transport that is not supported, or is none.
    #[error("{address}: not a usable D-Bus address")]
    Address {
        /// As given.
        address: String,
    },
    /// The socket could not be connected.
    #[error("connect to {address}: {}", errno_text(*errno))]
    Connect {
        /// The address.
        address: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The other side does not let us in.
    #[error("{address}: access refused: {answer}")]
    Refused {
        /// The address.
        address: String,
        /// Its answer.
        answer: String,
    },
    /// Reading or writing failed.
    #[error("{call} on the D-Bus connection: {}", errno_text(*errno))]
    Socket {
        /// `send` or `receive`.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// No answer came in time.
    #[error("no answer within {seconds} s")]
    Late {
        /// The limit.
        seconds: u64,
    },
    /// The other side is gone.
    #[error("the D-Bus connection was closed")]
    Closed,
    /// What arrived is no message.
    #[error("malformed D-Bus message: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A value that D-Bus cannot carry.
    #[error("{problem}")]
    Unsendable {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The other side answered with an error.
    #[error("{text} ({name})")]
    Answer {
        /// `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// Its text for people.
        text: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn malformed(problem: &'static str) -> Self {
        Self::Malformed { problem }
    }

    pub(crate) fn unsendable(problem: &'static str) -> Self {
        Self::Unsendable { problem }
    }

    /// Whether there was nobody to connect to.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        let absent = |errno: &Errno| matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
        matches!(self, Self::Connect { errno, .. } if absent(errno))
    }

    /// Whether the other side answered with this error.
    #[must_use]
    pub fn is(&self, error: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == error)
    }
}
