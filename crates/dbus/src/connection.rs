//! A connection: connecting, authentication, method calls, signals.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use coracle_program::{CALL_LIMIT, Interrupts};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::address::{Endpoint, endpoints};
use crate::message::{self, FIXED, Message, Type};
use crate::{Error, Result, Value};

/// How many unread signals are kept: more than the jobs of a systemd manager during one call.
const SIGNALS_MAX: usize = 4096;
/// The limit on a line of the authentication protocol, longer than any valid line.
const LINE_MAX: usize = 4096;

const DAEMON: &str = "org.freedesktop.DBus";
const DAEMON_PATH: &str = "/org/freedesktop/DBus";

/// The address of a bus or service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// A list of D-Bus addresses: `unix:path=/run/dbus/system_bus_socket`.
    pub address: String,
    /// The kind of peer at this address.
    pub peer: Peer,
}

/// The kind of peer at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A message bus, which routes messages by their destination.
    Daemon,
    /// The service itself.
    Service,
}

/// A method and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The service's name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Its arguments.
    pub body: &'a [Value],
}

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its values.
    pub values: Vec<Value>,
    /// The sender's name, set by the bus; empty without a bus.
    pub sender: String,
}

/// A signal to subscribe to.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// The service's name on the bus.
    pub sender: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The signal's name.
    pub member: &'a str,
}

/// A signal that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its values.
    pub values: Vec<Value>,
    /// As in [`Reply::sender`].
    pub sender: String,
}

/// A connection, closed when dropped.
#[derive(Debug)]
pub struct Connection<'a> {
    socket: OwnedFd,
    peer: Peer,
    /// Signals to this process, which end every wait.
    interrupts: Option<&'a Interrupts>,
    serial: u32,
    /// Whether the last call was sent and its reply has not arrived.
    awaits_reply: bool,
    /// The first bytes of a message whose rest has not arrived.
    partial: Vec<u8>,
    /// Interface and member of the signals that are subscribed to; others are dropped.
    topic: Option<(String, String)>,
    signals: VecDeque<Message>,
}

/// The deadline of an operation.
#[derive(Clone, Copy, Debug)]
struct Limit<'a> {
    end: Instant,
    whole: Duration,
    interrupts: Option<&'a Interrupts>,
}

impl<'a> Connection<'a> {
    /// Connects to the first socket of the bus that accepts, and authenticates as the process's own
    /// user.
    ///
    /// # Errors
    /// An unusable address, the kernel's errno, or the peer's refusal; [`Error::Late`],
    /// [`Error::Interrupted`].
    pub fn open(bus: &Bus, limit: Duration, interrupts: Option<&'a Interrupts>) -> Result<Self> {
        let _wait = coracle_sys::wait_for("D-Bus");
        let limit = Limit::of(limit, interrupts);
        let mut result = Err(Error::Address {
            address: bus.address.clone(),
        });
        for endpoint in endpoints(&bus.address) {
            result = connect_to(&bus.address, &endpoint, limit);
            if result.is_ok() {
                break;
            }
        }
        let mut connection = Self {
            socket: result?,
            peer: bus.peer,
            interrupts,
            serial: 0,
            awaits_reply: false,
            partial: Vec::new(),
            topic: None,
            signals: VecDeque::new(),
        };
        connection.authenticate(&bus.address, limit)?;
        if bus.peer == Peer::Daemon {
            connection.call_daemon("Hello", &[], limit)?;
        }
        Ok(connection)
    }

    /// Sends the call and waits for its reply. Signals that arrive meanwhile are kept.
    ///
    /// # Errors
    /// [`Error::Answer`] if the peer replies with an error; [`Error::Late`],
    /// [`Error::Interrupted`].
    pub fn call(&mut self, call: &Call, limit: Duration) -> Result<Reply> {
        let _wait = coracle_sys::wait_for(&format!("{} of {}", call.member, call.destination));
        self.call_until(call, Limit::of(limit, self.interrupts))
    }

    /// Waits for the reply to the last call again, after [`Error::Late`] or [`Error::Interrupted`].
    /// `None` if it has arrived already, or if the call was not sent as a whole.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub fn late_reply(&mut self, limit: Duration) -> Result<Option<Reply>> {
        let _wait = coracle_sys::wait_for("a late reply");
        match self.awaits_reply {
            true => self
                .reply(Limit::of(limit, self.interrupts))
                .map(Option::Some),
            false => Ok(None),
        }
    }

    /// Subscribes to this signal, in place of any other. A bus needs a match rule; a service sends
    /// all its signals.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub fn subscribe(&mut self, topic: &Topic, limit: Duration) -> Result<()> {
        let Topic {
            sender,
            path,
            interface,
            member,
        } = topic;
        self.topic = Some(((*interface).to_owned(), (*member).to_owned()));
        if self.peer == Peer::Service {
            return Ok(());
        }
        let rule = format!(
            "type='signal',sender='{sender}',path='{path}',interface='{interface}',\
             member='{member}'"
        );
        let limit = Limit::of(limit, self.interrupts);
        self.call_daemon("AddMatch", &[Value::Text(rule)], limit)
    }

    /// The next signal that is subscribed to, in order of arrival.
    ///
    /// # Errors
    /// [`Error::Late`], [`Error::Interrupted`], or a connection that breaks.
    pub fn signal(&mut self, limit: Duration) -> Result<Signal> {
        let limit = Limit::of(limit, self.interrupts);
        let topic = self.topic.as_ref();
        let topic = topic.map(|(interface, member)| format!("{member} of {interface}"));
        let _wait = topic.map(|topic| coracle_sys::wait_for(&topic));
        let message = loop {
            if let Some(message) = self.signals.pop_front() {
                break message;
            }
            let message = self.receive(limit)?;
            self.keep(message)?;
        };
        Ok(Signal {
            values: message.values()?,
            sender: message.sender,
        })
    }

    fn call_daemon(&mut self, member: &str, body: &[Value], limit: Limit) -> Result<()> {
        let call = Call {
            destination: DAEMON,
            path: DAEMON_PATH,
            interface: DAEMON,
            member,
            body,
        };
        self.call_until(&call, limit).map(drop)
    }

    fn call_until(&mut self, call: &Call, limit: Limit) -> Result<Reply> {
        self.serial = self.serial.wrapping_add(1).max(1);
        self.awaits_reply = false;
        let destination = match self.peer {
            Peer::Daemon => call.destination,
            Peer::Service => "",
        };
        let bytes = message::encode_call(
            self.serial,
            (destination, call.path),
            (call.interface, call.member),
            call.body,
        )?;
        self.send(&bytes, limit)?;
        self.awaits_reply = true;
        self.reply(limit)
    }

    fn reply(&mut self, limit: Limit) -> Result<Reply> {
        loop {
            let message = self.receive(limit)?;
            match message.kind {
                Type::Signal => self.keep(message)?,
                _ if message.reply_serial != Some(self.serial) => {}
                Type::Error => {
                    self.awaits_reply = false;
                    return Err(refusal(&message));
                }
                Type::Return => {
                    self.awaits_reply = false;
                    return Ok(Reply {
                        values: message.values()?,
                        sender: message.sender,
                    });
                }
                Type::Other => {}
            }
        }
    }

    /// Queues the message if it is a signal that is subscribed to.
    fn keep(&mut self, message: Message) -> Result<()> {
        let is_wanted = self.topic.as_ref().is_some_and(|(interface, member)| {
            message.interface == *interface && message.member == *member
        });
        if message.kind != Type::Signal || !is_wanted {
            return Ok(());
        }
        if self.signals.len() >= SIGNALS_MAX {
            return Err(Error::malformed("too many signals"));
        }
        self.signals.push_back(message);
        Ok(())
    }

    /// Uses the mechanism EXTERNAL with an empty identity. The peer takes the user id from the
    /// kernel, in its own user namespace, where it may differ from the one that this process sees.
    fn authenticate(&mut self, address: &str, limit: Limit) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\n", limit)?;
        let mut received = Vec::new();
        loop {
            while let Some(end) = received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = received.drain(..end + 2).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                match line.split(' ').next() {
                    Some("DATA") => {}
                    Some("OK") => return self.send(b"BEGIN\r\n", limit),
                    _ => {
                        return Err(Error::Refused {
                            address: address.to_owned(),
                            answer: coracle_text::one_line(&line),
                        });
                    }
                }
            }
            if received.len() > LINE_MAX {
                return Err(Error::malformed("an endless line"));
            }
            let mut piece = [0; 256];
            let count = self.receive_some(&mut piece, limit)?;
            received.extend(piece.get(..count).unwrap_or_default());
        }
    }

    /// The next message. If the wait for it ends early, a later call continues with the same one.
    fn receive(&mut self, limit: Limit) -> Result<Message> {
        let mut fixed = [0; FIXED];
        self.receive_up_to(FIXED, limit)?;
        fixed.copy_from_slice(self.partial.get(..FIXED).unwrap_or(&[0; FIXED]));
        self.receive_up_to(FIXED + message::rest_of(&fixed)?, limit)?;
        let whole = std::mem::take(&mut self.partial);
        message::decode(&fixed, whole.get(FIXED..).unwrap_or_default())
    }

    /// Receives until `length` bytes of the message are there.
    fn receive_up_to(&mut self, length: usize, limit: Limit) -> Result<()> {
        while let Some(missing @ 1..) = length.checked_sub(self.partial.len()) {
            let mut piece = vec![0; missing];
            let count = self.receive_some(&mut piece, limit)?;
            self.partial.extend(piece.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    fn receive_some(&self, buffer: &mut [u8], limit: Limit) -> Result<usize> {
        let failed = |errno| Error::Socket {
            call: "receive",
            errno,
        };
        loop {
            setsockopt(&self.socket, ReceiveTimeout, &limit.left()?).map_err(failed)?;
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => return Ok(count),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Err(Error::Closed),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    fn send(&self, mut bytes: &[u8], limit: Limit) -> Result<()> {
        let failed = |errno| Error::Socket {
            call: "send",
            errno,
        };
        while !bytes.is_empty() {
            setsockopt(&self.socket, SendTimeout, &limit.left()?).map_err(failed)?;
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Closed),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }
}

fn connect_to(bus: &str, endpoint: &Endpoint, limit: Limit) -> Result<OwnedFd> {
    let failed = |errno| Error::Connect {
        address: bus.to_owned(),
        errno,
    };
    let address = match endpoint {
        Endpoint::Path(path) => UnixAddr::new(path),
        Endpoint::Abstract(name) => UnixAddr::new_abstract(name),
    };
    let address = address.map_err(failed)?;
    let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, SockType::Stream, flags, None).map_err(failed)?;
    loop {
        // With a full queue of the listener, connect(2) would block for ever.
        setsockopt(&socket, SendTimeout, &limit.left()?).map_err(failed)?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

fn refusal(message: &Message) -> Error {
    let values = message.values().unwrap_or_default();
    let text = values.first().and_then(Value::text).unwrap_or("refused");
    // The peer's text, on one line.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Answer {
        name: message.error_name.clone(),
        text,
    }
}

impl<'a> Limit<'a> {
    fn of(whole: Duration, interrupts: Option<&'a Interrupts>) -> Self {
        let end = Instant::now() + whole;
        Self {
            end,
            whole,
            interrupts,
        }
    }

    /// The time left for one system call; never zero, which would mean no limit.
    fn left(self) -> Result<TimeVal> {
        coracle_sys::notify_if_due();
        if self.interrupts.is_some_and(Interrupts::end_waits) {
            return Err(Error::Interrupted);
        }
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = self.whole.as_secs();
            return Err(Error::Late { seconds });
        }
        let micros = left.min(CALL_LIMIT).subsec_micros().max(1);
        Ok(TimeVal::new(0, micros.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection whose peer has sent all this already.
    fn connection(sent: &[u8]) -> (Connection<'static>, UnixStream) {
        let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
        let (socket, other) = socketpair(family, SockType::Stream, None, flags).unwrap();
        let mut other = UnixStream::from(other);
        other.write_all(sent).unwrap();
        let connection = Connection {
            socket,
            peer: Peer::Service,
            interrupts: None,
            serial: 0,
            awaits_reply: false,
            partial: Vec::new(),
            topic: None,
            signals: VecDeque::new(),
        };
        (connection, other)
    }

    /// A message of a service: fields are number and value.
    fn message(kind: u8, fields: &[(u8, Value)], body: &[Value]) -> Vec<u8> {
        let mut content = crate::wire::Writer::default();
        content.values(body).unwrap();
        let signature: String = body.iter().map(|value| value.kind().to_string()).collect();
        let fields = fields
            .iter()
            .cloned()
            .chain([(8, Value::Signature(signature))]);
        let field = |(number, value)| {
            Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))])
        };
        let fields: Vec<Value> = fields.map(field).collect();
        let mut writer = crate::wire::Writer::default();
        writer.bytes.extend([b'l', kind, 0, 1]);
        writer.u32(u32::try_from(content.bytes.len()).unwrap());
        writer.u32(9);
        let list = Value::Array(fields[0].kind(), fields);
        writer.values(&[list]).unwrap();
        writer.align(8);
        writer.bytes.extend(content.bytes);
        writer.bytes
    }

    fn signal(member: &str, body: &[Value]) -> Vec<u8> {
        let fields = [
            (1, Value::Path("/o".into())),
            (2, "i.f".into()),
            (3, member.into()),
        ];
        message(4, &fields, body)
    }

    const CALL: Call = Call {
        destination: "a.b",
        path: "/o",
        interface: "i.f",
        member: "M",
        body: &[],
    };

    const TOPIC: Topic = Topic {
        sender: "a.b",
        path: "/o",
        interface: "i.f",
        member: "Wanted",
    };

    #[test]
    fn signals_before_the_answer_are_kept_and_others_dropped() {
        let sent = [
            signal("Wanted", &["first".into()]),
            signal("Other", &["dropped".into()]),
            message(2, &[(5, Value::U32(7))], &["of another call".into()]),
            message(
                2,
                &[(5, Value::U32(1)), (7, "x.y".into())],
                &[Value::U32(42)],
            ),
            signal("Wanted", &["second".into()]),
        ];
        let (mut connection, _other) = connection(&sent.concat());
        connection.subscribe(&TOPIC, SECOND).unwrap();
        let reply = connection.call(&CALL, SECOND).unwrap();
        assert_eq!(reply.values, [Value::U32(42)]);
        assert_eq!(reply.sender, "x.y");
        for expected in ["first", "second"] {
            assert_eq!(connection.signal(SECOND).unwrap().values, [expected.into()]);
        }
    }

    #[test]
    fn errors_are_reported_in_one_line() {
        let fields = [(4, "e.Name".into()), (5, Value::U32(1))];
        let (mut connection, _other) = connection(&message(3, &fields, &["no\n such".into()]));
        let error = connection.call(&CALL, SECOND).unwrap_err();
        assert!(error.is("e.Name"));
        assert_eq!(error.to_string(), "no such (e.Name)");
    }

    #[test]
    fn silence_and_the_end_are_no_answers() {
        let (mut connection, other) = connection(b"");
        let error = connection
            .call(&CALL, Duration::from_millis(20))
            .unwrap_err();
        assert_eq!(error, Error::Late { seconds: 0 });
        drop(other);
        assert_eq!(connection.call(&CALL, SECOND), Err(Error::Closed));
    }

    /// A message of which a part has arrived is not lost either.
    #[test]
    fn a_late_answer_is_still_received() {
        let whole = message(2, &[(5, Value::U32(1))], &[Value::U32(42)]);
        for arrived in [0, 7, FIXED + 3] {
            let (mut connection, mut other) = connection(&whole[..arrived]);
            let limit = Duration::from_millis(20);
            assert_eq!(connection.late_reply(SECOND), Ok(None));
            let late = Error::Late { seconds: 0 };
            assert_eq!(connection.call(&CALL, limit), Err(late.clone()));
            assert_eq!(connection.late_reply(limit), Err(late));
            other.write_all(&whole[arrived..]).unwrap();
            let reply = connection.late_reply(SECOND).unwrap().unwrap();
            assert_eq!(reply.values, [Value::U32(42)]);
            assert_eq!(connection.late_reply(SECOND), Ok(None));
        }
    }

    #[test]
    fn half_a_message_and_none_are_refused() {
        let whole = message(2, &[(5, Value::U32(1))], &[]);
        for sent in [&whole[..whole.len() - 3], &whole[..7]] {
            let (mut connection, other) = connection(sent);
            other.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(connection.call(&CALL, SECOND), Err(Error::Closed));
        }
        let (mut connection, _other) = connection(&[0xff; 64]);
        let error = connection.call(&CALL, SECOND).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }

    #[test]
    fn who_we_are_is_left_to_the_kernel() {
        let (mut connection, mut other) = connection(b"DATA\r\nOK 0123\r\n");
        connection
            .authenticate("unix:path=/x", Limit::of(SECOND, None))
            .unwrap();
        drop(connection);
        let mut received = String::new();
        other.read_to_string(&mut received).unwrap();
        assert_eq!(received, "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    }

    #[test]
    fn a_refusal_is_reported() {
        let (mut connection, _other) = connection(b"REJECTED KERBEROS\x1b\r\n");
        let error = connection.authenticate("unix:path=/x", Limit::of(SECOND, None));
        let expected = "unix:path=/x: access refused: REJECTED KERBEROS\\u{1b}";
        assert_eq!(error.unwrap_err().to_string(), expected);
        let (mut connection, _other) = connection_of_noise();
        let error = connection.authenticate("unix:path=/x", Limit::of(SECOND, None));
        assert!(matches!(error, Err(Error::Malformed { .. })));
    }

    fn connection_of_noise() -> (Connection<'static>, UnixStream) {
        connection(&[b'x'; 2 * LINE_MAX])
    }
}
