//! Errors of a connection.

use coracle_text::errno_text;
use nix::errno::Errno;

/// A failure to connect or of a call. Its text is one line in lower case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is malformed or of an unsupported transport.
    #[error("{address}: not a usable D-Bus address")]
    Address {
        /// The address.
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
    /// The peer refused the authentication.
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
    /// No reply came within the limit.
    #[error("no answer within {seconds} s")]
    Late {
        /// The limit.
        seconds: u64,
    },
    /// A signal to this process ended the wait.
    #[error("a signal came before the answer")]
    Interrupted,
    /// The peer closed the connection.
    #[error("the D-Bus connection was closed")]
    Closed,
    /// A received message violates the protocol.
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
    /// The peer replied with an error.
    #[error("{text} ({name})")]
    Answer {
        /// The error's name, such as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// The error's text.
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

    /// Whether the socket does not exist.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        let absent = |errno: &Errno| matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
        matches!(self, Self::Connect { errno, .. } if absent(errno))
    }

    /// Whether the peer replied with this error.
    #[must_use]
    pub fn is(&self, error: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == error)
    }
}
