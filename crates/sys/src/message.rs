//! Unix sockets, unix(7), and descriptors that are sent over them.

use crate::Result;
use crate::kernel::{Decimal, StackString, new_descriptor, size};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, socketpair,
};
use nix::sys::stat::Mode;
use nix::sys::time::TimeVal;
use std::ffi::CStr;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// `struct user_msghdr` of linux/socket.h, which the kernel reads: the C libraries have lengths of
/// other types in theirs.
#[repr(C)]
struct MessageHeader {
    name: *mut libc::c_void,
    name_bytes: libc::c_int,
    slices: *mut libc::iovec,
    number_of_slices: usize,
    control: *mut libc::c_void,
    control_bytes: usize,
    flags: libc::c_int,
}

/// `struct cmsghdr` of linux/socket.h.
#[repr(C)]
#[derive(Default)]
struct ControlHeader {
    bytes: usize,
    level: libc::c_int,
    kind: libc::c_int,
}

/// A control message with exactly one descriptor: `CMSG_DATA` of linux/socket.h without its macros.
#[repr(C)]
struct Attachment {
    header: ControlHeader,
    descriptor: libc::c_int,
}

/// `CMSG_LEN(sizeof(int))`. Not the padded `CMSG_SPACE`: the padding has room for a second
/// descriptor, which a hostile sender could add and nobody would close.
const ATTACHMENT_BYTES: usize = offset_of!(Attachment, descriptor) + size_of::<libc::c_int>();

/// `int socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, int sv[2])`, socketpair(2).
///
/// Two connected sockets that keep the boundaries and the order of messages. Each shows when the
/// other is closed.
///
/// # Errors
///
/// The kernel's: `EMFILE`, `ENFILE`.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// `ssize_t sendmsg(int fd, const struct msghdr *msg, MSG_NOSIGNAL)`, sendmsg(2).
///
/// Sends `data` with the descriptor `attached`, if any; a stream socket carries one only with at
/// least one byte. Returns the number of bytes sent.
///
/// # Errors
///
/// The kernel's: `EPIPE` if the other end is closed. An interruption is retried.
pub fn send(
    socket: BorrowedFd<'_>,
    data: &[u8],
    attached: Option<BorrowedFd<'_>>,
) -> Result<usize> {
    let mut slice = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let mut control = Attachment {
        header: ControlHeader {
            bytes: ATTACHMENT_BYTES,
            level: libc::SOL_SOCKET,
            kind: libc::SCM_RIGHTS,
        },
        descriptor: attached.map_or(-1, |fd| fd.as_raw_fd()),
    };
    let mut message = message_of(&mut slice);
    if attached.is_some() {
        message.control = (&raw mut control).cast();
        message.control_bytes = ATTACHMENT_BYTES;
    }
    loop {
        // SAFETY: the socket is open for the borrow. `message` points to one `iovec` over `data`,
        // which the kernel only reads, and to no control message or a whole one of the length
        // given; all of them outlive the call.
        let answer = unsafe {
            let header = &raw const message;
            libc::syscall(
                libc::SYS_sendmsg,
                socket.as_raw_fd(),
                header,
                libc::MSG_NOSIGNAL,
            )
        };
        match size(answer) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// `ssize_t recvmsg(int fd, struct msghdr *msg, MSG_CMSG_CLOEXEC)`, recvmsg(2).
///
/// Waits for a message; returns its length (0 if the other end is closed) and the descriptor it
/// carried.
///
/// # Errors
///
/// The kernel's; `EMSGSIZE` if the message was longer than `buffer` or carried more than one
/// descriptor, all of which are closed; `EMFILE` if the process is at its limit of descriptors. An
/// interruption is retried.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Attachment {
        header: ControlHeader::default(),
        descriptor: -1,
    };
    let mut message = message_of(&mut slice);
    let length = loop {
        message.control = (&raw mut control).cast();
        message.control_bytes = ATTACHMENT_BYTES;
        // SAFETY: the socket is open for the borrow. `message` points to one `iovec` over `buffer`
        // and to a control message of the length given, both ours to write and alive.
        let answer = unsafe {
            let header = &raw mut message;
            libc::syscall(
                libc::SYS_recvmsg,
                socket.as_raw_fd(),
                header,
                libc::MSG_CMSG_CLOEXEC,
            )
        };
        match size(answer) {
            Err(Errno::EINTR) => {}
            answer => break answer?,
        }
    };
    let header = &control.header;
    let is_descriptor = message.control_bytes >= ATTACHMENT_BYTES
        && header.bytes == ATTACHMENT_BYTES
        && header.level == libc::SOL_SOCKET
        && header.kind == libc::SCM_RIGHTS;
    let attached = is_descriptor.then(|| {
        // SAFETY: a control message of this kind and length holds one descriptor, which the kernel
        // has just opened for the receiver.
        unsafe { new_descriptor(libc::c_long::from(control.descriptor)) }
    });
    let attached = attached.transpose()?;
    // If the kernel cannot install a descriptor, `MSG_CTRUNC` is the only sign of it.
    if attached.is_none() && message.flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::EMFILE);
    }
    if message.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    Ok((length, attached))
}

/// A header over one slice, with no name and no control message.
fn message_of(slice: &mut libc::iovec) -> MessageHeader {
    MessageHeader {
        name: std::ptr::null_mut(),
        name_bytes: 0,
        slices: slice,
        number_of_slices: 1,
        control: std::ptr::null_mut(),
        control_bytes: 0,
        flags: 0,
    }
}

/// `int connect(int fd, const struct sockaddr_un *addr, socklen_t len)`, connect(2), unix(7).
///
/// Returns a stream socket connected to the one at `path`. An address holds 107 bytes; a longer
/// path is reached through a descriptor of its directory, which needs `/proc`.
///
/// connect(2) blocks while the queue of the listener is full, and a write while the peer reads
/// nothing: each for `timeout` at most (`SO_SNDTIMEO` of socket(7)), without one for ever.
///
/// # Errors
///
/// The kernel's: `ECONNREFUSED` if nobody listens, `ENOENT`, `EAGAIN` after the timeout;
/// `ENAMETOOLONG` if the last part of a long path does not fit either.
pub fn connect_unix(path: &CStr, timeout: Option<Duration>) -> Result<OwnedFd> {
    let stream = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    if let Some(timeout) = timeout {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = TimeVal::new(seconds, timeout.subsec_micros().into());
        setsockopt(&stream, SendTimeout, &timeout)?;
    }
    let (directory, name) = split(path.to_bytes());
    match UnixAddr::new(path) {
        Ok(address) => connect(stream.as_raw_fd(), &address)?,
        Err(Errno::ENAMETOOLONG) => {
            let directory = StackString::<4096>::concat(&[directory])?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let directory = nix::fcntl::open(directory.text()?, flags, Mode::empty())?;
            let number = u64::try_from(directory.as_raw_fd()).map_err(|_| Errno::EBADF)?;
            let number = Decimal::new(number);
            let parts: [&[u8]; 4] = [b"/proc/self/fd/", number.bytes(), b"/", name];
            let short = StackString::<108>::concat(&parts)?;
            connect(stream.as_raw_fd(), &UnixAddr::new(short.text()?)?)?;
        }
        Err(errno) => return Err(errno),
    }
    Ok(stream)
}

/// The directory part and the last part of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", path.get(1..).unwrap_or(b"")),
        Some(at) => (
            path.get(..at).unwrap_or(b""),
            path.get(at + 1..).unwrap_or(b""),
        ),
        None => (b".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs::File;
    use std::io::{IoSlice, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_attachment_is_laid_out_as_the_macros_say() {
        // SAFETY: plain arithmetic on a number.
        let expected = unsafe { libc::CMSG_LEN(4) };
        assert_eq!(u32::try_from(ATTACHMENT_BYTES), Ok(expected));
    }

    #[test]
    fn a_message_brings_a_descriptor_close_on_exec() {
        let (left, right) = socket_pair().expect("a pair");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert_eq!(
            send(left.as_fd(), b"take this", Some(writer.as_fd())),
            Ok(9)
        );
        drop(writer);
        let mut buffer = [0; 16];
        let (length, attached) = receive(right.as_fd(), &mut buffer).expect("a message");
        assert_eq!(&buffer[..length], b"take this");
        let attached = attached.expect("a descriptor");
        let flags = nix::fcntl::fcntl(&attached, nix::fcntl::FcntlArg::F_GETFD);
        assert_eq!(flags, Ok(libc::FD_CLOEXEC));
        File::from(attached)
            .write_all(b"through")
            .expect("the pipe takes it");
        let mut text = String::new();
        { reader }.read_to_string(&mut text).expect("the pipe ends");
        assert_eq!(text, "through");
    }

    #[test]
    fn messages_stay_apart_and_end() {
        let (left, right) = socket_pair().expect("a pair");
        assert_eq!(send(left.as_fd(), b"one", None), Ok(3));
        assert_eq!(send(left.as_fd(), b"three", None), Ok(5));
        let mut buffer = [0; 4];
        let first = receive(right.as_fd(), &mut buffer).map(|(length, fd)| (length, fd.is_some()));
        assert_eq!(first, Ok((3, false)));
        let long = receive(right.as_fd(), &mut buffer).map(drop);
        assert_eq!(long, Err(Errno::EMSGSIZE));
        drop(left);
        let end = receive(right.as_fd(), &mut buffer).map(|(length, fd)| (length, fd.is_some()));
        assert_eq!(end, Ok((0, false)));
        assert_eq!(send(right.as_fd(), b"late", None), Err(Errno::EPIPE));
    }

    #[test]
    fn a_second_descriptor_is_refused_and_closed() {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        let (left, right) = socket_pair().expect("a pair");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let two = [writer.as_raw_fd(), writer.as_raw_fd()];
        let data = [IoSlice::new(b"x")];
        let rights = [ControlMessage::ScmRights(&two)];
        let sent = sendmsg::<()>(left.as_raw_fd(), &data, &rights, MsgFlags::empty(), None);
        assert_eq!(sent, Ok(1));
        drop(writer);
        assert_eq!(
            receive(right.as_fd(), &mut [0; 8]).map(drop),
            Err(Errno::EMSGSIZE)
        );
        // The end of the pipe proves that no copy of its writer is left.
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }

    #[test]
    fn sockets_are_reached_by_short_and_long_paths() {
        let base = std::env::temp_dir().join(format!("coracle-sys-{}", std::process::id()));
        let deep = base.join("a-directory-with-a-name-that-goes-on".repeat(5));
        std::fs::create_dir_all(&deep).expect("a directory");
        // A short name to bind by, since std binds by no long one.
        let link = base.join("l");
        std::os::unix::fs::symlink(&deep, &link).expect("a link");
        let listener = UnixListener::bind(link.join("socket")).expect("a listener");
        for directory in [&link, &deep] {
            let path = CString::new(directory.join("socket").as_os_str().as_bytes());
            let client = connect_unix(&path.expect("no NUL"), None).expect("a connection");
            assert_eq!(send(client.as_fd(), b"hello", None), Ok(5));
            let (mut server, _) = listener.accept().expect("a connection");
            let mut buffer = [0; 5];
            server.read_exact(&mut buffer).expect("the greeting");
            assert_eq!(&buffer, b"hello");
        }
        let absent = CString::new(deep.join("absent").as_os_str().as_bytes()).expect("no NUL");
        assert_eq!(connect_unix(&absent, None).map(drop), Err(Errno::ENOENT));
        std::fs::remove_dir_all(&base).expect("the directory goes");
    }

    #[test]
    fn paths_split_at_the_last_slash() {
        assert_eq!(split(b"/run/x"), (&b"/run"[..], &b"x"[..]));
        assert_eq!(split(b"/x"), (&b"/"[..], &b"x"[..]));
        assert_eq!(split(b"x"), (&b"."[..], &b"x"[..]));
    }
}
