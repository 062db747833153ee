//! How init reports a failure: as numbers, without text.
//!
//! After the clone init may not allocate, so it cannot format a message. It reports the step and
//! the cause as numbers, and the runtime, which holds the same plan, writes the message.

use crate::ExitStatus;
use nix::errno::Errno;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The system call that failed in a step. Its number is sent only between two processes of
        /// the same program, so it may change between versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Call { $($(#[$doc])* #[doc = concat!("`", $text, "`")] $name,)* }

        impl Call {
            const ALL: &'static [Call] = &[$(Call::$name),*];

            /// The call's name as strace prints it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Call::$name => $text,)* }
            }
        }
    };
}

calls! {
    Open = "open",
    Openat2 = "openat2",
    OpenTree = "open_tree",
    MoveMount = "move_mount",
    Fsopen = "fsopen",
    Fsconfig = "fsconfig",
    Fsmount = "fsmount",
    MountSetattr = "mount_setattr",
    Mount = "mount",
    Umount = "umount2",
    PivotRoot = "pivot_root",
    Chroot = "chroot",
    Chdir = "chdir",
    Fchdir = "fchdir",
    Getcwd = "getcwd",
    Mkdir = "mkdirat",
    Mknod = "mknodat",
    Symlink = "symlinkat",
    Readlink = "readlinkat",
    Unlink = "unlinkat",
    Rename = "renameat2",
    Stat = "fstat",
    Statfs = "fstatfs",
    Chmod = "fchmod",
    Chown = "fchown",
    Read = "read",
    Write = "write",
    Getdents = "getdents64",
    Xattr = "setxattr",
    Setns = "setns",
    Unshare = "unshare",
    Clone = "clone3",
    Setsid = "setsid",
    Ioctl = "ioctl",
    Socket = "socket",
    Send = "sendmsg",
    Receive = "recvmsg",
    Poll = "poll",
    Pidfd = "pidfd_open",
    Wait = "waitid",
    Kill = "pidfd_send_signal",
    Prctl = "prctl",
    Capset = "capset",
    Setuid = "setresuid",
    Setgid = "setresgid",
    Setgroups = "setgroups",
    Setrlimit = "prlimit64",
    Sethostname = "sethostname",
    Setdomainname = "setdomainname",
    Keyctl = "keyctl",
    Scheduler = "sched_setattr",
    Affinity = "sched_setaffinity",
    Ioprio = "ioprio_set",
    MemoryPolicy = "set_mempolicy",
    Personality = "personality",
    Dup = "dup3",
    CloseRange = "close_range",
    Sigaction = "rt_sigaction",
    Seccomp = "seccomp",
    Exec = "execve",
    Access = "faccessat2",
    LandlockRuleset = "landlock_create_ruleset",
    LandlockRule = "landlock_add_rule",
    LandlockRestrict = "landlock_restrict_self",
}

/// Where a plan failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step of the subsystem's plan, counted from zero.
    pub step: usize,
    /// Why it failed.
    pub cause: Cause,
}

/// What init has found out about a fault: bytes whose meaning the subsystem defines. Heap-free.
#[derive(Clone, Copy, Debug)]
pub struct Remark {
    bytes: [u8; Remark::LONGEST],
    length: usize,
}

impl Default for Remark {
    fn default() -> Self {
        Self {
            bytes: [0; Remark::LONGEST],
            length: 0,
        }
    }
}

impl Remark {
    /// The most bytes that it holds.
    pub const LONGEST: usize = 1024;

    /// Adds as many of the bytes as there is room for.
    pub fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let length = room.len().min(more.len());
        for (to, from) in room.iter_mut().zip(more) {
            *to = *from;
        }
        self.length += length;
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused a call.
    Call(Call, Errno),
    /// A check of the subsystem failed; the subsystem defines the number.
    Check(u16),
    /// A program that the step ran ended with this status.
    Exit(ExitStatus),
}

impl Fault {
    /// The fault of `step` with this cause.
    #[must_use]
    pub fn new(step: usize, cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        Self { step, cause }
    }
}

impl Cause {
    /// Length of the encoded cause in bytes.
    pub const LENGTH: usize = 8;

    /// For `map_err`: the cause becomes a fault of `step`.
    pub fn at<C: Into<Cause>>(step: usize) -> impl FnOnce(C) -> Fault {
        move |cause| Fault::new(step, cause)
    }

    /// The cause as bytes, to be sent between two processes of the same program. Does not allocate.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LENGTH] {
        let (kind, number, value) = match self {
            Cause::Call(call, errno) => (0, call.number(), errno as i32),
            Cause::Check(number) => (1, number, 0),
            Cause::Exit(ExitStatus::Code(code)) => (2, 0, code),
            Cause::Exit(ExitStatus::Signal(signal)) => (3, 0, signal),
        };
        let [low, high] = u16::to_le_bytes(number);
        let [a, b, c, d] = i32::to_le_bytes(value);
        [kind, 0, low, high, a, b, c, d]
    }

    /// The cause that [`Cause::encode`] made these bytes from; `None` if it made no such bytes.
    /// Does not allocate.
    #[must_use]
    pub fn decode(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let [kind, _, low, high, value @ ..] = bytes;
        let number = u16::from_le_bytes([low, high]);
        let value = i32::from_le_bytes(value);
        Some(match kind {
            0 => Cause::Call(Call::from_number(number)?, Errno::from_raw(value)),
            1 => Cause::Check(number),
            2 => Cause::Exit(ExitStatus::Code(value)),
            3 => Cause::Exit(ExitStatus::Signal(value)),
            _ => return None,
        })
    }
}

impl From<(Call, Errno)> for Cause {
    fn from((call, errno): (Call, Errno)) -> Self {
        Cause::Call(call, errno)
    }
}

impl Call {
    /// The call with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number of the call; the inverse of [`Call::from_number`].
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// For `map_err`: the errno of this call becomes the cause of a failure.
    pub fn failed(self) -> impl FnOnce(Errno) -> Cause {
        move |errno| Cause::Call(self, errno)
    }

    /// For `map_err`: the errno of this call becomes a fault of `step`.
    pub fn at(self, step: usize) -> impl FnOnce(Errno) -> Fault {
        move |errno| Fault::new(step, (self, errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_turn_back_into_calls() {
        for call in Call::ALL {
            assert_eq!(Call::from_number(call.number()), Some(*call));
        }
        let beyond = u16::try_from(Call::ALL.len()).expect("a small number");
        assert_eq!(Call::from_number(beyond), None);
        assert_eq!(Call::Openat2.name(), "openat2");
    }

    #[test]
    fn an_errno_becomes_a_fault_of_its_step() {
        let answer: Result<(), Errno> = Err(Errno::EPERM);
        let fault = answer.map_err(Call::Mount.at(7));
        assert_eq!(fault, Err(Fault::new(7, (Call::Mount, Errno::EPERM))));
    }

    #[test]
    fn a_remark_takes_what_it_has_room_for() {
        let mut remark = Remark::default();
        remark.push(b"ab");
        remark.push(&[b'c'; Remark::LONGEST]);
        remark.push(b"d");
        assert_eq!(remark.bytes().len(), Remark::LONGEST);
        assert!(remark.bytes().starts_with(b"abc") && remark.bytes().ends_with(b"cc"));
    }

    #[test]
    fn causes_travel() {
        for cause in [
            Cause::Call(Call::Mount, Errno::EPERM),
            Cause::Check(3),
            Cause::Exit(ExitStatus::Code(200)),
            Cause::Exit(ExitStatus::Signal(9)),
        ] {
            assert_eq!(Cause::decode(cause.encode()), Some(cause));
        }
        assert_eq!(Cause::decode([9; Cause::LENGTH]), None);
    }
}
