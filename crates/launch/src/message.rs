//! The protocol between the runtime and init: fixed messages of sixteen bytes on one
//! `SOCK_SEQPACKET` pair.
//!
//! ```text
//!  runtime                                   intermediate / init
//!     ───── Proceed ─────────────────────────▶  (only with an intermediate) its ids are mapped
//!     ◀──── Forked or Outside { pid } ───────   (only then) it has cloned init, and ends
//!     ◀──── Alive ───────────────────────────   init's first message, maybe before Forked
//!     ───── Proceed ─────────────────────────▶  init is in its cgroup and recorded, ids mapped
//!     ◀──── Mounted ─────────────────────────   (only if a hook runs during create)
//!     ───── Proceed ─────────────────────────▶  (only then) the runtime's hooks have run
//!     ◀──── Console + fd ────────────────────   (only with a terminal)
//!     ◀──── Listener { number } ─────────────   (only if calls are notified) the filter is loaded
//!     ───── SendListener ────────────────────▶  (only if the runtime may not fetch the descriptor)
//!     ◀──── Listener + fd ───────────────────   (only then)
//!     ───── Proceed ─────────────────────────▶  (only if calls are notified) the agent has it
//!     ◀──── Created ─────────────────────────   everything but startContainer and exec is done
//!     ───── Proceed ─────────────────────────▶  (run and exec only) start; else by the FIFO
//!     ◀──── Executing ───────────────────────   startContainer hooks have run
//!     ◀──── Failed { stage, step, cause } ────  at any time; nothing else is done after it
//!     ◀──── Remark { bytes } ─────────────────  (only then) what init has found out about it
//! ```
//!
//! End of file after `Executing` means that init executed the program, at any other time that it
//! was killed. Before `Alive`, the kernel may have killed it because of the cgroup that it was
//! cloned into.
//!
//! Init uses sendmsg(2) and recvmsg(2) only where a descriptor travels, and write(2) and read(2)
//! otherwise: after the seccomp filter is loaded, its calls must be ones that every usable profile
//! allows.

use std::os::fd::{BorrowedFd, OwnedFd};

use coracle_sys::{Call, Cause, Fault, Remark};
use nix::errno::Errno;

/// Length of every message in bytes.
pub(crate) const LENGTH: usize = 16;

/// The kernel cuts a longer message to the room that there is: with one byte more it is seen.
const ROOM: usize = LENGTH + 1;

coracle_text::checks! {
    Protocol = "a message was malformed or unexpected",
}

/// The part of init's work that a step belongs to. Stage and [`Fault`] locate a failure in the
/// plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Init as a process: signals, descriptors, messages, chroot(2) for `exec`.
    Session,
    /// Steps that join the container's cgroup.
    Cgroup,
    /// Steps of the namespaces' plan.
    Namespaces,
    /// Steps of the root file system's plan.
    Rootfs,
    /// Steps of the process's plan.
    Process,
    /// Loading the seccomp filter.
    Seccomp,
    /// `createContainer` hooks.
    CreateContainer,
    /// `startContainer` hooks.
    StartContainer,
}

impl Stage {
    /// All stages by their numbers.
    pub const ALL: [Stage; 8] = [
        Stage::Session,
        Stage::Cgroup,
        Stage::Namespaces,
        Stage::Rootfs,
        Stage::Process,
        Stage::Seccomp,
        Stage::CreateContainer,
        Stage::StartContainer,
    ];

    /// The stage's name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Session => "session",
            Stage::Cgroup => "cgroup",
            Stage::Namespaces => "namespaces",
            Stage::Rootfs => "rootfs",
            Stage::Process => "process",
            Stage::Seccomp => "seccomp",
            Stage::CreateContainer => "createContainer",
            Stage::StartContainer => "startContainer",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// One message, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Runtime to init: go on. The first may carry the `cgroup.procs` of init's cgroup.
    Proceed,
    /// Intermediate to runtime: init was cloned into its cgroup, and has this pid in the runtime's
    /// pid namespace.
    Forked(i32),
    /// Intermediate to runtime: init has this pid, but could not be cloned into its cgroup.
    Outside(i32),
    /// Init to runtime: it runs.
    Alive,
    /// Init to runtime: the mounts are attached, hooks may run.
    Mounted,
    /// Init to runtime: the pty's master, attached.
    Console,
    /// Init to runtime: the filter is loaded, and this is the number of its listener in init. The
    /// descriptor is attached in the answer to [`Message::SendListener`].
    Listener(i32),
    /// Runtime to init: send the listener, since pidfd_getfd(2) is not permitted.
    SendListener,
    /// Init to runtime: everything but the start is done.
    Created,
    /// Init to the runtime or to `start`: the next call is execve(2). End of file after this
    /// message means that it succeeded.
    Executing,
    /// Init to runtime, its last message but for remarks.
    Failed(Stage, Fault),
    /// Init to runtime, after [`Message::Failed`]: a part of what it has found out about the
    /// failure. To look at files may need a call for which the seccomp filter kills init, so it
    /// comes last. The byte at the front is the part's length.
    Remark([u8; LENGTH - 1]),
}

impl Message {
    /// The message's bytes. Heap-free.
    #[must_use]
    pub fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0_u8; LENGTH];
        let (kind, pid) = match self {
            Message::Proceed => (1, 0),
            Message::Forked(pid) => (2, pid),
            Message::Outside(pid) => (11, pid),
            Message::Alive => (12, 0),
            Message::Mounted => (3, 0),
            Message::Console => (4, 0),
            Message::Created => (5, 0),
            Message::Executing => (7, 0),
            Message::Listener(number) => (8, number),
            Message::SendListener => (9, 0),
            Message::Remark(part) => {
                bytes[0] = 10;
                bytes[1..].copy_from_slice(&part);
                return bytes;
            }
            Message::Failed(stage, Fault { step, cause }) => {
                // No plan that fits in memory has more steps than six bytes count. The low four are
                // where an init of an earlier release has them.
                let [a, b, c, d, e, f, ..] = (step as u64).to_le_bytes();
                bytes[..8].copy_from_slice(&[6, stage as u8, e, f, a, b, c, d]);
                bytes[8..].copy_from_slice(&cause.encode());
                return bytes;
            }
        };
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&pid.to_le_bytes());
        bytes
    }

    /// The message in `bytes`, or `None` if they are malformed. Heap-free.
    #[must_use]
    pub fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let [kind, stage, e, f, a, b, c, d, cause @ ..] = *bytes;
        let number = i32::from_le_bytes([a, b, c, d]);
        Some(match kind {
            1 => Message::Proceed,
            2 => Message::Forked(number),
            11 => Message::Outside(number),
            12 => Message::Alive,
            3 => Message::Mounted,
            4 => Message::Console,
            5 => Message::Created,
            7 => Message::Executing,
            8 => Message::Listener(number),
            9 => Message::SendListener,
            10 => Message::Remark(*bytes.last_chunk()?),
            6 => {
                let step = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                let fault = Fault::new(usize::try_from(step).ok()?, Cause::decode(cause)?);
                Message::Failed(Stage::from_number(stage)?, fault)
            }
            _ => return None,
        })
    }
}

/// The messages for a remark. Heap-free.
pub(crate) fn remarks(remark: &[u8]) -> impl Iterator<Item = Message> {
    remark.chunks(LENGTH - 2).map(|text| {
        let mut part = [0; LENGTH - 1];
        let length = u8::try_from(text.len()).unwrap_or(0);
        let bytes = [length].into_iter().chain(text.iter().copied());
        part.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Message::Remark(part)
    })
}

/// Adds the part of a remark to those before.
pub fn add_remark(remark: &mut Vec<u8>, part: &[u8]) {
    if let Some((length, text)) = part.split_first()
        && remark.len() < Remark::LONGEST
    {
        remark.extend(text.iter().take(usize::from(*length)));
    }
}

/// Sends one message, and a descriptor with it if there is one. Heap-free.
///
/// # Errors
/// The errno of sendmsg(2); `EPIPE` when the other side is gone.
pub(crate) fn send(
    socket: BorrowedFd,
    message: Message,
    attached: Option<BorrowedFd>,
) -> nix::Result<()> {
    coracle_sys::send(socket, &message.encode(), attached).map(|_| ())
}

/// Writes one message, without a descriptor. Heap-free.
///
/// # Errors
/// The errno of write(2).
pub(crate) fn write(socket: BorrowedFd, message: Message) -> nix::Result<()> {
    retried(|| nix::unistd::write(socket, &message.encode())).map(|_| ())
}

/// Reads one message, waiting for it; `None` at the end of file. Heap-free.
///
/// # Errors
/// That of read(2); [`Check::Protocol`] for a malformed message.
pub(crate) fn read(socket: BorrowedFd) -> Result<Option<Message>, Cause> {
    let mut bytes = [0_u8; ROOM];
    match retried(|| nix::unistd::read(socket, &mut bytes)) {
        // The other side ended before it read all messages.
        Ok(0) | Err(Errno::ECONNRESET) => Ok(None),
        Ok(LENGTH) => decoded(&bytes).map(Some),
        Ok(_) => Err(Check::Protocol.into()),
        Err(errno) => Err(Cause::Call(Call::Read, errno)),
    }
}

fn decoded(bytes: &[u8; ROOM]) -> Result<Message, Cause> {
    let message = bytes.first_chunk().and_then(Message::decode);
    message.ok_or(Check::Protocol.into())
}

fn retried(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// Receives one message, waiting for it; `None` at the end of file. Heap-free.
///
/// # Errors
/// That of recvmsg(2); [`Check::Protocol`] for a malformed message.
pub(crate) fn receive(socket: BorrowedFd) -> Result<Option<(Message, Option<OwnedFd>)>, Cause> {
    let mut bytes = [0_u8; ROOM];
    let (length, attached) = match coracle_sys::receive(socket, &mut bytes) {
        // The other side ended before it read all messages.
        Err(Errno::ECONNRESET) => return Ok(None),
        received => received.map_err(|errno| (Call::Receive, errno))?,
    };
    match length {
        0 => Ok(None),
        LENGTH => Ok(Some((decoded(&bytes)?, attached))),
        _ => Err(Check::Protocol.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sys::ExitStatus;
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    proptest! {
        #[test]
        fn decode_after_encode_is_the_message(
            kind in 0..12_u8, stage in 0..8_usize, call in 0..60_u16, step in 0..1_usize << 48,
            errno in 1..130_i32, pid in 1..i32::MAX,
        ) {
            let message = match kind {
                0 => Message::Proceed,
                1 => Message::Forked(pid),
                2 => Message::Mounted,
                3 => Message::Console,
                4 => Message::Created,
                5 => Message::Executing,
                6 => Message::Listener(pid),
                7 => Message::SendListener,
                8 => Message::Remark([b'x'; LENGTH - 1]),
                9 => Message::Outside(pid),
                10 => Message::Alive,
                _ => Message::Failed(
                    Stage::ALL[stage],
                    match errno {
                        1 => Fault::new(step, Cause::Check(call)),
                        2 => Fault::new(step, Cause::Exit(ExitStatus::Code(pid))),
                        _ => Fault::new(
                            step,
                            (Call::from_number(call).unwrap(), Errno::from_raw(errno)),
                        ),
                    },
                ),
            };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes: [u8; LENGTH]) {
            let _ = Message::decode(&bytes);
        }
    }

    fn all() -> Vec<Message> {
        let numbers = [i32::MIN, -1, 0, 1, 255, 256, 65_536, i32::MAX];
        let mut all = vec![
            Message::Proceed,
            Message::Alive,
            Message::Mounted,
            Message::Console,
            Message::Created,
            Message::Executing,
            Message::SendListener,
            Message::Remark([0; LENGTH - 1]),
            Message::Remark([255; LENGTH - 1]),
        ];
        for number in numbers {
            all.extend([
                Message::Forked(number),
                Message::Outside(number),
                Message::Listener(number),
            ]);
        }
        let calls = (0..).map_while(Call::from_number);
        let errnos = (1..134).map(Errno::from_raw);
        let errnos: Vec<Errno> = errnos
            .filter(|errno| *errno != Errno::UnknownErrno)
            .collect();
        let mut causes: Vec<Cause> = calls
            .flat_map(|call| errnos.iter().map(move |errno| Cause::Call(call, *errno)))
            .collect();
        causes.extend((0..256).map(|code| Cause::Exit(ExitStatus::Code(code))));
        causes.extend((1..65).map(|signal| Cause::Exit(ExitStatus::Signal(signal))));
        causes.extend((0..=u16::MAX).step_by(257).map(Cause::Check));
        for cause in causes {
            let steps = [0, 1, 255, 65_536, (1 << 48) - 1].map(|step| Fault::new(step, cause));
            let of_steps = |stage| steps.map(|fault| Message::Failed(stage, fault));
            all.extend(Stage::ALL.into_iter().flat_map(of_steps));
        }
        all
    }

    /// An init of an earlier release outlives an upgrade, and reports a failed start.
    #[test]
    fn a_step_has_its_place() {
        let fault = Fault::new(0x0102_0304, Cause::Check(0));
        let bytes = Message::Failed(Stage::ALL[0], fault).encode();
        assert_eq!(bytes[4..8], [4, 3, 2, 1]);
    }

    #[test]
    fn every_message_comes_back() {
        for message in all() {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    /// With any byte of a message exchanged for any other it is malformed, or a message that comes
    /// back as well.
    #[test]
    fn every_changed_byte() {
        for message in all().iter().step_by(997) {
            for (place, value) in (0..LENGTH).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = message.encode();
                bytes[place] = value;
                if let Some(other) = Message::decode(&bytes) {
                    assert_eq!(Message::decode(&other.encode()), Some(other), "{bytes:?}");
                }
            }
        }
    }

    /// Whatever the message, a part of it is refused, and so is one byte more.
    #[test]
    fn every_truncation_is_refused() {
        let (ours, theirs) = coracle_sys::socket_pair().expect("a socket pair");
        for message in all().iter().step_by(997) {
            let mut bytes = message.encode().to_vec();
            bytes.push(0);
            for length in (1..=LENGTH + 1).filter(|length| *length != LENGTH) {
                for read in [true, false] {
                    nix::unistd::write(&theirs, &bytes[..length]).expect("room");
                    let refused = match read {
                        true => super::read(ours.as_fd()).err(),
                        false => receive(ours.as_fd()).err(),
                    };
                    let protocol = Cause::from(Check::Protocol);
                    assert_eq!(refused, Some(protocol), "{length} bytes of {message:?}");
                }
            }
        }
    }

    #[test]
    fn stages_are_numbered_as_listed() {
        for (number, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, number);
        }
    }
}
