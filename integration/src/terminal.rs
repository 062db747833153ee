//! Pseudo-terminals: a command on one, and the socket that receives a container's.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::{read, write};

use crate::Command;
use crate::runner::patience;

/// A terminal in the hands of the test.
#[derive(Debug)]
pub struct Terminal {
    master: PtyMaster,
    name: String,
    seen: String,
}

impl Terminal {
    /// A new one of 24 rows and 80 columns.
    pub fn new() -> Self {
        // Non-blocking: a runtime that does not read must not block the test for ever.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname_r(&master).expect("ptsname");
        let terminal = Self {
            master,
            name,
            seen: String::new(),
        };
        terminal.resize(24, 80);
        terminal
    }

    /// The other side.
    pub fn slave(&self) -> File {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits());
        options.open(&self.name).expect("the terminal's device")
    }

    /// Its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a command on the terminal, in a session of its own.
    pub fn attach(&self, command: Command) -> Command {
        let command = command.under("setsid", ["--ctty"]);
        command
            .stdin(self.slave())
            .stdout(self.slave())
            .stderr(self.slave())
    }

    /// Changes the size; the kernel signals the foreground process group.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(str::to_owned);
        Command::new("stty")
            .args(size)
            .stdin(self.slave())
            .output()
            .ok();
    }

    /// `stty -a` of the terminal.
    pub fn modes(&self) -> String {
        Command::new("stty")
            .arg("-a")
            .stdin(self.slave())
            .output()
            .ok()
            .stdout
    }

    /// Types.
    #[track_caller]
    pub fn send(&self, text: &str) {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let limit = u16::try_from(patience(10).as_millis()).unwrap_or(u16::MAX);
            let mut wanted = [PollFd::new(self.master.as_fd(), PollFlags::POLLOUT)];
            let ready = poll(&mut wanted, PollTimeout::from(limit)).unwrap_or(0);
            assert!(ready > 0, "nobody reads what is typed");
            let written = write(&self.master, left).unwrap_or(0);
            left = &left[written..];
        }
    }

    /// Waits until the text appears after what was expected before, and returns what came up to it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        expect(&self.master, &mut self.seen, text)
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads from a terminal's master until the text comes; removes what was read up to its end.
#[track_caller]
pub fn expect(master: impl AsFd, seen: &mut String, text: &str) -> String {
    let end = Instant::now() + patience(10);
    loop {
        if let Some(at) = seen.find(text) {
            return seen.drain(..at + text.len()).collect();
        }
        let left = end.saturating_duration_since(Instant::now());
        let limit = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut wanted, limit).unwrap_or(0);
        assert!(
            ready > 0,
            "the terminal did not show {text:?}, but {seen:?}"
        );
        let mut bytes = [0; 4096];
        // A master whose other side is closed everywhere answers EIO.
        let count = read(master.as_fd(), &mut bytes).unwrap_or(0);
        assert!(
            count > 0,
            "the terminal closed without {text:?}, after {seen:?}"
        );
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}
