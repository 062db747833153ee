//! Passes NOTIFY_SOCKET and LISTEN_FDS between the service manager and the container: sd_notify(3),
//! sd_listen_fds(3).

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use crate::directory::Directory;
use crate::error::{Error, system, with_path};
use coracle_text::io_errno;

/// The directory of the socket in the container.
pub(crate) const DIRECTORY: &str = "/run/notify";

/// The variable in the environment of the container's process.
pub(crate) const ENVIRONMENT: &CStr = c"NOTIFY_SOCKET=/run/notify/notify.sock";

const NAME: &str = "notify.sock";

/// What a container sends when it is ready.
const READY: &[u8] = b"READY=1";

/// Whether the caller waits for notifications.
pub(crate) fn is_awaited() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|value| !value.is_empty())
}

/// The number of sockets that the caller passes on from descriptor 3 on.
pub(crate) fn listen_fds() -> u32 {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u32>().ok())
    };
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), None) => count,
        (Some(count), Some(pid)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// The variables for the container's process, about the sockets.
pub(crate) fn listen_environment(count: u32) -> Vec<CString> {
    if count == 0 {
        return Vec::new();
    }
    let mut lines = vec![
        format!("LISTEN_FDS={count}").into_bytes(),
        b"LISTEN_PID=1".to_vec(),
    ];
    if let Some(names) = std::env::var_os("LISTEN_FDNAMES") {
        lines.push([b"LISTEN_FDNAMES=", names.as_bytes()].concat());
    }
    lines
        .into_iter()
        .filter_map(|line| CString::new(line).ok())
        .collect()
}

/// The runtime's end of the container's notify socket.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: UnixDatagram,
    upstream: OsString,
    init: i32,
    /// The file that is made when the container reports that it is ready.
    ready: PathBuf,
}

/// What a datagram reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Ready,
    Else,
}

impl Proxy {
    /// Binds the socket in the container's notify directory, if there is one.
    pub(crate) fn bind(directory: &Directory, init: i32) -> Result<Option<Self>, Error> {
        let Some(upstream) = std::env::var_os("NOTIFY_SOCKET").filter(|value| !value.is_empty())
        else {
            return Ok(None);
        };
        let path = directory.notify().join(NAME);
        let failed = |error: std::io::Error| with_path("bind", &path)(io_errno(&error));
        // Socket paths are limited to 107 bytes (unix(7)); a path by the directory's descriptor is
        // short.
        let short = format!(
            "/proc/self/fd/{}/notify/{NAME}",
            directory.handle().as_raw_fd()
        );
        if !directory.notify().is_dir() {
            return Ok(None);
        }
        let _ = std::fs::remove_file(&short);
        // Any user of the container must be able to write. The mode is set by the umask of bind(2),
        // since until a chmod(2) the container could have put a link in the socket's place.
        let mask = umask(Mode::empty());
        let socket = UnixDatagram::bind(&short);
        umask(mask);
        let socket = socket.map_err(failed)?;
        Ok(Some(Self {
            socket,
            upstream,
            init,
            ready: directory.ready(),
        }))
    }

    /// Queues the report of a container that was ready when it was dumped, since it does not repeat
    /// it. Only before the container runs: it could put a link in the socket's place.
    pub(crate) fn repeat_ready(&self) -> Result<(), Error> {
        let own = self.socket.local_addr();
        let sent = own.and_then(|own| self.socket.send_to_addr(READY, &own));
        let failed = system("repeat that the container is ready");
        sent.map(drop).map_err(|error| failed(io_errno(&error)))
    }

    /// Forwards notifications until the container reports that it is ready, or its init ends.
    ///
    /// # Errors
    /// The first failure. The container runs all the same, and was waited for.
    pub(crate) fn await_ready(&self, init: BorrowedFd<'_>) -> Result<(), Error> {
        let mut passed_on = Ok(());
        loop {
            let ready = coracle_sys::poll_readable(&[self.as_fd(), init], None)
                .map_err(system("wait for READY=1"))?;
            let mut meaning = Meaning::Else;
            if ready & 0b01 != 0 {
                let (meant, sent) = self.forward()?;
                passed_on = passed_on.and(sent);
                meaning = meant;
            }
            if meaning == Meaning::Ready || ready & 0b10 != 0 {
                return passed_on;
            }
        }
    }

    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Receives one datagram, and passes on the lines for the service manager.
    pub(crate) fn forward(&self) -> Result<(Meaning, Result<(), Error>), Error> {
        let mut buffer = [0_u8; 4096];
        let failed = |attempted| {
            move |error: std::io::Error| Error::System {
                attempted,
                errno: io_errno(&error),
            }
        };
        let length = self
            .socket
            .recv(&mut buffer)
            .map_err(failed("receive a notification"))?;
        let (lines, meaning) = translate(buffer.get(..length).unwrap_or_default(), self.init);
        if meaning == Meaning::Ready {
            // Without the file, a restore waits for a report that does not come.
            let _ = File::create(&self.ready);
        }
        let sent = match lines.is_empty() {
            true => Ok(()),
            false => self.send(&lines),
        };
        Ok((meaning, sent))
    }

    fn send(&self, lines: &[u8]) -> Result<(), Error> {
        let failed = |error: std::io::Error| system("notify the service manager")(io_errno(&error));
        let upstream = UnixDatagram::unbound().map_err(failed)?;
        let name = self.upstream.as_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(Path::new(&self.upstream)),
        };
        upstream
            .send_to_addr(lines, &address.map_err(failed)?)
            .map(|_| ())
            .map_err(failed)
    }
}

/// The lines to pass on. MAINPID is replaced by init's pid on the host, which the container cannot
/// know.
pub(crate) fn translate(datagram: &[u8], init: i32) -> (Vec<u8>, Meaning) {
    const KEYS: [&[u8]; 5] = [
        b"READY=",
        b"STATUS=",
        b"ERRNO=",
        b"EXTEND_TIMEOUT_USEC=",
        b"WATCHDOG=",
    ];
    let mut lines = Vec::new();
    let mut meaning = Meaning::Else;
    for line in datagram.split(|byte| *byte == b'\n') {
        if KEYS.iter().any(|key| line.starts_with(key)) {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        if line == READY {
            lines.extend_from_slice(format!("MAINPID={init}\n").as_bytes());
            meaning = Meaning::Ready;
        }
    }
    (lines, meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_the_service_manager_is_passed_on() {
        let (lines, meaning) = translate(b"FDSTORE=1\nSTATUS=up\nREADY=1\nMAINPID=1\n", 700);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "STATUS=up\nREADY=1\nMAINPID=700\n"
        );
        assert_eq!(meaning, Meaning::Ready);
        assert_eq!(translate(b"FDSTORE=1", 700), (Vec::new(), Meaning::Else));
    }
}
