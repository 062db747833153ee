//! Hands a process's terminal, pidfd and pid to the caller.

use std::ffi::{CString, OsString};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coracle_bundle::Config;
use coracle_bundle::annotation::PIDFD_RECEIVER;
use coracle_launch::Child;
use coracle_sys::CloseRange;
use nix::fcntl::OFlag;

use crate::directory::open_directory;
use crate::error::{Error, system};
use crate::options::{Attachment, Outputs};
use crate::relay;
use coracle_text::io_errno;

/// Where the config names the socket of [`PIDFD_RECEIVER`], for messages.
const PIDFD_RECEIVER_PLACE: &str = "config.json: annotations[\"run.oci.pidfd_receiver\"]:";

/// A stream socket of the caller, connected before anything is made.
#[derive(Debug)]
struct Socket {
    flag: &'static str,
    path: PathBuf,
    connection: OwnedFd,
}

impl Socket {
    /// Connects to `path`.
    fn connect(flag: &'static str, path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::Flag {
            flag,
            path: path.to_owned(),
            call: "connect",
            errno,
        };
        let name = CString::new(path.as_os_str().as_bytes());
        let name = name.map_err(|_| Error::Value {
            flag,
            reason: format!("{path:?} holds a NUL byte"),
        })?;
        let connection = coracle_sys::connect_unix(&name, None).map_err(failed)?;
        Ok(Self {
            flag,
            path: path.to_owned(),
            connection,
        })
    }

    /// Sends `payload` with one descriptor attached, and closes the socket.
    fn send(self, payload: &[u8], attached: BorrowedFd) -> Result<(), Error> {
        coracle_sys::send(self.connection.as_fd(), payload, Some(attached))
            .map(|_| ())
            .map_err(|errno| Error::Flag {
                flag: self.flag,
                path: self.path,
                call: "sendmsg",
                errno,
            })
    }
}

/// The receivers of terminal, pidfd and pid, with sockets connected before anything is made.
#[derive(Debug)]
pub(crate) struct Connections<'a> {
    console: Option<Socket>,
    /// Of the flag, and of the annotation.
    pidfd: [Option<Socket>; 2],
    pid_file: Option<&'a Path>,
}

impl<'a> Connections<'a> {
    /// Connects what the flags name and, for a container's init, an annotation of its config.
    pub(crate) fn open(outputs: &'a Outputs, config: Option<&Config>) -> Result<Self, Error> {
        let connect =
            |flag, path: Option<&Path>| path.map(|path| Socket::connect(flag, path)).transpose();
        let receiver = config.and_then(|config| config.annotations.get(PIDFD_RECEIVER));
        let receiver = receiver.map(Path::new);
        Ok(Self {
            console: connect("--console-socket", outputs.console_socket.as_deref())?,
            pidfd: [
                connect("--pidfd-socket", outputs.pidfd_socket.as_deref())?,
                connect(PIDFD_RECEIVER_PLACE, receiver)?,
            ],
            pid_file: outputs.pid_file.as_deref(),
        })
    }

    /// The numbers of the sockets' descriptors.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let sockets = [&self.console].into_iter().chain(&self.pidfd).flatten();
        sockets.map(|socket| socket.connection.as_raw_fd())
    }

    /// Sends the pty's master, if there is a terminal. Without a console socket returns it,
    /// prepared for the relay.
    pub(crate) fn send_console(
        &mut self,
        master: Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Error> {
        let Some(master) = master else {
            return Ok(None);
        };
        match self.console.take() {
            Some(socket) => socket.send(b"/dev/ptmx", master.as_fd()).map(|()| None),
            None => {
                relay::prepare(master.as_fd());
                Ok(Some(master))
            }
        }
    }

    /// Sends the pidfd and writes the pid file atomically. Returns the file's path, for an undo.
    pub(crate) fn send_child(
        &mut self,
        payload: &[u8],
        child: &Child,
    ) -> Result<Option<&'a Path>, Error> {
        for socket in self.pidfd.iter_mut().filter_map(Option::take) {
            socket.send(payload, child.pidfd.as_fd())?;
        }
        let path = self.pid_file.take();
        if let Some(path) = path {
            write_pid_file(path, child.pid.as_raw())?;
        }
        Ok(path)
    }
}

/// Checks the rules of terminals: a detached container with a terminal needs a console socket, and
/// no other container may have one.
pub(crate) fn check_terminal(
    terminal: bool,
    attachment: Attachment,
    socket: &Option<impl AsRef<Path>>,
) -> Result<(), Error> {
    let text = match (terminal, attachment, socket) {
        (true, Attachment::Detached, None) => {
            "cannot allocate tty if coracle will detach without setting console socket"
        }
        (false, _, Some(_)) | (true, Attachment::Foreground, Some(_)) => {
            "cannot use console socket if coracle will not detach or allocate tty"
        }
        _ => return Ok(()),
    };
    Err(Error::Terminal(text))
}

/// Writes the pid in decimal, without a newline, and renames the file into place, so that no reader
/// sees a part of it.
fn write_pid_file(path: &Path, pid: i32) -> Result<(), Error> {
    let failed = |call, error: &std::io::Error| Error::Flag {
        flag: "--pid-file",
        path: path.to_owned(),
        call,
        errno: io_errno(error),
    };
    let Some(name) = path.file_name() else {
        let reason = format!("{path:?} names no file");
        return Err(Error::Value {
            flag: "--pid-file",
            reason,
        });
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    // An interrupted command may have left the temporary file.
    let _ = std::fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&temporary)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .map_err(|error| failed("write", &error))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|error| failed("rename", &error)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The descriptors that the process keeps, under their numbers: those of LISTEN_FDS from 3 on, and
/// those that are open of the next `count` numbers, of which only the last must be open. All others
/// of the caller are marked close-on-exec.
///
/// A descriptor of the runtime's own may have taken the number of a gap. It is not kept: all of the
/// runtime's are close-on-exec, which no inherited one is.
pub(crate) fn preserved(listen_fds: u32, count: u32) -> Result<Vec<u32>, Error> {
    let first = listen_fds.saturating_add(FIRST);
    let end = first.saturating_add(count);
    let mut kept = Vec::new();
    for number in FIRST..first {
        if !is_open(number) {
            return Err(Error::Value {
                flag: "LISTEN_FDS",
                reason: format!("descriptor {number}: the caller has not opened it"),
            });
        }
        kept.push(number);
    }
    if count > 0 {
        let requested = |number: &u32| (first..end).contains(number) && is_open(*number);
        kept.extend(open_numbers()?.filter(requested));
        // The last must be open: otherwise the caller's count is wrong.
        let last = end.saturating_sub(1);
        if kept.last() != Some(&last) {
            return Err(Error::Value {
                flag: "--preserve-fds",
                reason: format!("unable to stat preserved-fd {last}: the caller has not opened it"),
            });
        }
    }
    coracle_sys::close_range(end..=u32::MAX, CloseRange::CloseOnExec)
        .map_err(system("mark descriptors"))?;
    Ok(kept)
}

/// The first descriptor after the standard streams.
const FIRST: u32 = 3;

/// The open descriptors in order, from /proc/self/fd: testing each number would take long for a
/// count of millions.
fn open_numbers() -> Result<impl Iterator<Item = u32>, Error> {
    let listed = open_directory(Path::new("/proc/self/fd"))
        .and_then(|folder| coracle_sys::list_directory(folder.as_fd()));
    let entries = listed.map_err(system("list descriptors"))?;
    let number = |(_, name): (u8, OsString)| name.to_str()?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = entries.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers.into_iter())
}

/// Whether the caller has passed on this descriptor.
fn is_open(number: u32) -> bool {
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
    facts.is_ok_and(|facts| is_inherited(&facts))
}

/// The access mode of a descriptor that the caller has passed on; `None` if it has not.
pub(crate) fn inherited_mode(number: i32) -> Option<OFlag> {
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let flags = flags(&facts).filter(|_| is_inherited(&facts))?;
    Some(flags & OFlag::O_ACCMODE)
}

fn is_inherited(facts: &str) -> bool {
    flags(facts).is_some_and(|flags| !flags.contains(OFlag::O_CLOEXEC))
}

/// The flags in /proc/PID/fdinfo/N, which are octal: proc_pid_fdinfo(5).
fn flags(facts: &str) -> Option<OFlag> {
    let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(OFlag::from_bits_retain(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_our_own_is_not_the_callers() {
        assert!(is_inherited("pos:\t0\nflags:\t0100002\nmnt_id:\t1\n"));
        assert!(!is_inherited("pos:\t0\nflags:\t02100002\nmnt_id:\t1\n"));
        assert!(!is_inherited(""));
        let text = |error: Error| error.to_string();
        let none = preserved(0, 900).map_err(text).unwrap_err();
        assert!(
            none.starts_with("--preserve-fds: unable to stat preserved-fd"),
            "{none}"
        );
        let none = preserved(u32::MAX, 1).map_err(text).unwrap_err();
        assert!(none.starts_with("LISTEN_FDS: descriptor"), "{none}");
    }
}
