//! The part of rtnetlink(7) that moving a device needs. Only the functions that read a dump of
//! addresses allocate; the runtime alone calls them.

use crate::reason::Check;
use coracle_sys::{Call, Cause};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An errno of the kernel's answer is that of the request.
type Result<T> = std::result::Result<T, Cause>;

const HEADER: usize = 16;
/// linux/netlink.h: this and the following are bits of 16.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
/// linux/if_addr.h, since 4.18.
const IFA_RT_PRIORITY: u16 = 9;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel sends a dump in pieces of at most 32 KiB.
const PIECE: usize = 32 * 1024;

/// The flags of an address that are set again on the moved device; the kernel sets the others
/// itself.
const KEPT_FLAGS: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE;
/// The attributes of an address that are set again. Not among them: the lifetimes
/// (`IFA_CACHEINFO`), since only permanent addresses are kept, and the label (`IFA_LABEL`), which
/// contains the device's old name.
const KEPT_ATTRIBUTES: [u16; 4] = [
    libc::IFA_ADDRESS,
    libc::IFA_LOCAL,
    libc::IFA_BROADCAST,
    IFA_RT_PRIORITY,
];

/// A netlink socket for routing. It belongs to the network namespace in which it was made.
pub(super) struct Socket(OwnedFd);

/// What the kernel reports of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) is_up: bool,
}

/// An address of a device, in the form in which it is added again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix_length: u8,
    /// Netlink attributes, encoded.
    attributes: Vec<u8>,
}

/// The administrative state of a device.
#[derive(Clone, Copy)]
pub(super) enum State {
    Up,
    Down,
}

impl Socket {
    pub(super) fn open() -> Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map(Self)
        .map_err(Call::Socket.failed())
    }

    /// The device of that name, `ENODEV` if there is none.
    pub(super) fn link(&self, name: &str) -> Result<Link> {
        let mut request = Message::link(libc::RTM_GETLINK, 0, 0, 0)?;
        request.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"])?;
        self.send(&mut request)?;
        // The reply may be longer than the buffer; the fields used are at its start.
        let mut buffer = [0; 4096];
        let answer = self.receive(&mut buffer)?;
        match kind(answer)? {
            libc::RTM_NEWLINK => Ok(Link {
                index: number(answer, HEADER + 4)?,
                is_up: number(answer, HEADER + 8)? & libc::IFF_UP.cast_unsigned() != 0,
            }),
            _ => Err(error_in(answer)?.err().unwrap_or(Check::BadAnswer.into())),
        }
    }

    pub(super) fn set(&self, index: u32, state: State) -> Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        let flags = if let State::Up = state { up } else { 0 };
        self.request(&mut Message::link(libc::RTM_NEWLINK, index, flags, up)?)
    }

    /// Moves and renames the device by one message. If the new name is taken there, the kernel
    /// reports an error after it has moved the device.
    pub(super) fn move_link(&self, index: u32, network: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut request = Message::link(libc::RTM_NEWLINK, index, 0, 0)?;
        request.attribute(libc::IFLA_NET_NS_FD, &[&network.as_raw_fd().to_ne_bytes()])?;
        request.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), b"\0"])?;
        self.request(&mut request)
    }

    /// Adds an address; one that already exists is no error.
    pub(super) fn add(&self, index: u32, address: &Address) -> Result<()> {
        let mut request = Message::new(libc::RTM_NEWADDR, NLM_F_CREATE)?;
        request.push(&[address.family, address.prefix_length, 0, 0])?;
        request.push(&index.to_ne_bytes())?;
        request.push(&address.attributes)?;
        match self.request(&mut request) {
            Err(Cause::Call(_, Errno::EEXIST)) => Ok(()),
            answer => answer,
        }
    }

    /// The permanent addresses of global scope. Allocates.
    pub(super) fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut request = Message::new(libc::RTM_GETADDR, NLM_F_DUMP)?;
        request.push(&[0; 8])?;
        self.send(&mut request)?;
        let mut found = Vec::new();
        let mut buffer = vec![0; PIECE];
        loop {
            let mut rest = self.receive(&mut buffer)?;
            while !rest.is_empty() {
                let (message, next) = split(rest)?;
                rest = next;
                match kind(message)? {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => error_in(message)??,
                    _ => found.extend(address_of(message, index)?),
                }
            }
        }
    }

    fn request(&self, request: &mut Message) -> Result<()> {
        request.request_acknowledgement()?;
        self.send(request)?;
        let mut buffer = [0; 4096];
        error_in(self.receive(&mut buffer)?)?
    }

    fn send(&self, message: &mut Message) -> Result<()> {
        let total = u32::try_from(message.length).map_err(|_| Check::TooLong)?;
        message.patch(0, &total.to_ne_bytes())?;
        let sent = send(self.0.as_raw_fd(), message.bytes(), MsgFlags::empty());
        sent.map(drop).map_err(Call::Send.failed())
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        let length = loop {
            match recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                answer => break answer.map_err(Call::Receive.failed())?,
            }
        };
        Ok(buffer.get(..length).ok_or(Check::BadAnswer)?)
    }
}

/// A request under construction. Attribute lengths have 16 bits, and every one is checked: with a
/// length that wrapped, the kernel would read the rest of a long name as attributes
/// (CVE-2021-43784).
struct Message {
    buffer: [u8; 512],
    length: usize,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Result<Self> {
        let mut message = Self {
            buffer: [0; 512],
            length: 0,
        };
        message.push(&[0; 4])?;
        message.push(&kind.to_ne_bytes())?;
        message.push(&(flags | NLM_F_REQUEST).to_ne_bytes())?;
        message.push(&[0; 8])?;
        Ok(message)
    }

    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Result<Self> {
        let mut message = Self::new(kind, 0)?;
        message.push(&[0; 4])?;
        for number in [index, flags, change] {
            message.push(&number.to_ne_bytes())?;
        }
        Ok(message)
    }

    fn attribute(&mut self, kind: u16, parts: &[&[u8]]) -> Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + 4;
        let length = u16::try_from(length).map_err(|_| Check::TooLong)?;
        self.push(&length.to_ne_bytes())?;
        self.push(&kind.to_ne_bytes())?;
        for part in parts {
            self.push(part)?;
        }
        let padding = usize::from(length).next_multiple_of(4) - usize::from(length);
        self.push([0; 3].get(..padding).unwrap_or(&[]))
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.length + bytes.len();
        self.buffer
            .get_mut(self.length..end)
            .ok_or(Check::TooLong)?
            .copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    fn request_acknowledgement(&mut self) -> Result<()> {
        let flags = u16::from_ne_bytes([
            self.buffer.get(6).copied().unwrap_or(0),
            self.buffer.get(7).copied().unwrap_or(0),
        ]);
        self.patch(6, &(flags | NLM_F_ACK).to_ne_bytes())
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let place = self
            .buffer
            .get_mut(at..at + bytes.len())
            .ok_or(Check::TooLong)?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or(&[])
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    Ok(part.copied().ok_or(Check::BadAnswer)?)
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_ne_bytes(array(bytes, at)?))
}

fn kind(message: &[u8]) -> Result<u16> {
    Ok(u16::from_ne_bytes(array(message, 4)?))
}

/// The first message and what follows it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).map_err(|_| Check::BadAnswer)?;
    if length < HEADER || length > bytes.len() {
        return Err(Check::BadAnswer.into());
    }
    let next = length.next_multiple_of(4).min(bytes.len());
    let message = bytes.get(..length).ok_or(Check::BadAnswer)?;
    Ok((message, bytes.get(next..).unwrap_or(&[])))
}

/// Parses a datagram of errors and addresses, for fuzzing.
#[cfg(feature = "fuzzing")]
pub fn answers(mut bytes: &[u8]) {
    while let Ok((message, rest)) = split(bytes) {
        let _ = (error_in(message), address_of(message, 1));
        bytes = rest;
    }
}

/// The errno of an `NLMSG_ERROR`; zero is an acknowledgement.
fn error_in(message: &[u8]) -> Result<Result<()>> {
    if kind(message)? != NLMSG_ERROR {
        return Err(Check::BadAnswer.into());
    }
    Ok(match i32::from_ne_bytes(array(message, HEADER)?) {
        0 => Ok(()),
        error => Err(Cause::Call(
            Call::Send,
            Errno::from_raw(error.saturating_neg()),
        )),
    })
}

/// The address in an `RTM_NEWADDR`, if it is permanent, of global scope and on this device.
fn address_of(message: &[u8], index: u32) -> Result<Option<Address>> {
    let [family, prefix_length, flags, scope] = array::<4>(message, HEADER)?;
    if number(message, HEADER + 4)? != index || scope != libc::RT_SCOPE_UNIVERSE {
        return Ok(None);
    }
    let mut flags = u32::from(flags);
    let mut kept = Message {
        buffer: [0; 512],
        length: 0,
    };
    let mut rest = message.get(HEADER + 8..).unwrap_or(&[]);
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(array(rest, 0)?));
        let kind = u16::from_ne_bytes(array(rest, 2)?);
        let value = rest.get(4..length).ok_or(Check::BadAnswer)?;
        if kind == libc::IFA_FLAGS {
            flags = number(value, 0)?;
        } else if KEPT_ATTRIBUTES.contains(&kind) {
            kept.attribute(kind, &[value])?;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    if flags & libc::IFA_F_PERMANENT == 0 {
        return Ok(None);
    }
    kept.attribute(libc::IFA_FLAGS, &[&(flags & KEPT_FLAGS).to_ne_bytes()])?;
    Ok(Some(Address {
        family,
        prefix_length,
        attributes: kept.bytes().to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An `RTM_NEWADDR` of device 7 as the kernel sends it.
    fn address(scope: u8, flags: u32) -> Vec<u8> {
        let mut message = Message::new(libc::RTM_NEWADDR, 0).expect("room");
        message.push(&[2, 24, 0, scope]).expect("room");
        message.push(&7_u32.to_ne_bytes()).expect("room");
        message
            .attribute(libc::IFA_LOCAL, &[&[10, 0, 0, 2]])
            .expect("room");
        message
            .attribute(libc::IFA_LABEL, &[b"eth0:1\0"])
            .expect("room");
        message
            .attribute(libc::IFA_FLAGS, &[&flags.to_ne_bytes()])
            .expect("room");
        message.bytes().to_vec()
    }

    #[test]
    fn addresses_to_keep() {
        let permanent = libc::IFA_F_PERMANENT | libc::IFA_F_SECONDARY;
        let kept = address_of(&address(0, permanent), 7)
            .expect("a message")
            .expect("kept");
        assert_eq!((kept.family, kept.prefix_length), (2, 24));
        let expected: &[u8] = &[8, 0, 2, 0, 10, 0, 0, 2, 8, 0, 8, 0, 0, 0, 0, 0];
        assert_eq!(kept.attributes, expected);
        for (message, index) in [
            (address(0, permanent), 8),
            (address(libc::RT_SCOPE_LINK, permanent), 7),
            (address(0, 0), 7),
        ] {
            assert_eq!(address_of(&message, index), Ok(None));
        }
    }

    #[test]
    fn lengths_do_not_wrap() {
        let mut message = Message::new(libc::RTM_GETLINK, 0).expect("room");
        let long = vec![b'x'; 65_536];
        assert_eq!(
            message.attribute(libc::IFLA_IFNAME, &[&long]),
            Err(Check::TooLong.into())
        );
        assert_eq!(message.push(&long), Err(Check::TooLong.into()));
    }

    #[test]
    fn loopback_is_found() {
        let socket = Socket::open().expect("a routing socket");
        let lo = socket.link("lo").expect("lo");
        assert_eq!(lo.index, 1);
        let none = Err(Cause::Call(Call::Send, Errno::ENODEV));
        assert_eq!(socket.link("no-such"), none);
        // Its addresses have the scope of the host.
        assert_eq!(socket.addresses(lo.index), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_message_is_read_past_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = address_of(&bytes, 0);
            let _ = error_in(&bytes);
            if let Ok((message, rest)) = split(&bytes) {
                prop_assert!(message.len() + rest.len() <= bytes.len());
                prop_assert!(rest.len() < bytes.len());
            }
        }
    }
}
