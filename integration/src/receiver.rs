//! Sockets on which a runtime hands over descriptors: `--console-socket` and `--pidfd-socket`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::runner::patience;

/// A listening socket.
#[derive(Debug)]
pub struct Receiver {
    path: PathBuf,
    listener: UnixListener,
}

impl Receiver {
    /// Listens at this path.
    pub fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a listening socket");
        let path = path.to_owned();
        Self { path, listener }
    }

    /// The path, for a command line.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a UTF-8 path")
    }

    /// Waits for one connection with one message, its end included: the text of the message and the
    /// only descriptor that came with it.
    #[track_caller]
    pub fn receive(&self) -> (String, OwnedFd) {
        wait_readable(&self.listener, "a connection");
        let (connection, _) = self.listener.accept().expect("accept");
        let (text, descriptor) = next(&connection);
        let descriptor = descriptor.expect("a descriptor with the message");
        assert_eq!(next(&connection).0, "", "more than one message");
        (text, descriptor)
    }

    /// Accepts and drops whatever connections wait.
    pub fn drain(&self) {
        while !self.is_idle() {
            drop(self.listener.accept());
        }
    }

    /// Whether no connection is pending.
    pub fn is_idle(&self) -> bool {
        let mut wanted = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::ZERO) == Ok(0)
    }
}

#[track_caller]
fn next(connection: &UnixStream) -> (String, Option<OwnedFd>) {
    wait_readable(connection, "a message");
    let mut bytes = [0; 4096];
    let (length, descriptor) =
        coracle_sys::receive(connection.as_fd(), &mut bytes).expect("a message");
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    (text, descriptor)
}

#[track_caller]
fn wait_readable(socket: &impl AsFd, what: &str) {
    let limit = patience(10);
    let start = Instant::now();
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let millis = PollTimeout::try_from(limit.as_millis()).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut wanted, millis).unwrap_or(0);
    let waited = start.elapsed();
    assert!(
        ready > 0,
        "waited {} s in vain for {what}",
        waited.as_secs()
    );
}
