//! The system's log daemons, which take one datagram a record: journald by its own protocol, syslog
//! by RFC 3164 without the time, which the daemon adds.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::Duration;

/// A daemon that reads nothing must not hold up the runtime for long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The facility "user" of syslog(3), times eight.
const USER: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Journal,
    Syslog,
}

/// A connected daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    protocol: Protocol,
    identifier: String,
    socket: UnixDatagram,
}

impl Daemon {
    /// An empty identifier is the program's name.
    pub(super) fn connect(protocol: Protocol, identifier: &[u8]) -> io::Result<Self> {
        let path = match protocol {
            Protocol::Journal => "/run/systemd/journal/socket",
            Protocol::Syslog => "/dev/log",
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            protocol,
            identifier: identifier_of(identifier)?,
            socket,
        })
    }

    /// Sends a message of one line, with a priority of syslog(3). It is lost if the daemon does not
    /// take it.
    pub(super) fn send(&self, priority: u8, message: &str) {
        let identifier = &self.identifier;
        let record = match self.protocol {
            Protocol::Journal => journal(priority, identifier, message),
            Protocol::Syslog => syslog(priority, identifier, process::id(), message),
        };
        let _ = self.socket.send(record.as_bytes());
    }
}

/// A newline in it would forge fields of the journal.
fn identifier_of(bytes: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(bytes).ok();
    match text.filter(|text| !text.contains(char::is_control)) {
        Some("") => Ok("coracle".to_owned()),
        Some(text) => Ok(text.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an identifier holds no control characters",
        )),
    }
}

fn journal(priority: u8, identifier: &str, message: &str) -> String {
    format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE={message}\n")
}

fn syslog(priority: u8, identifier: &str, pid: u32, message: &str) -> String {
    format!("<{}>{identifier}[{pid}]: {message}", USER + priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_the_daemons_read() {
        assert_eq!(
            journal(4, "web", "a=b"),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=web\nMESSAGE=a=b\n"
        );
        assert_eq!(syslog(3, "web", 7, "no"), "<11>web[7]: no");
    }

    #[test]
    fn an_identifier_forges_no_field() {
        assert_eq!(identifier_of(b"").unwrap(), "coracle");
        assert_eq!(identifier_of(b"web:1").unwrap(), "web:1");
        assert!(identifier_of(b"a\nPRIORITY=0").is_err());
        assert!(identifier_of(b"\xff").is_err());
    }
}
