//! What the container side says of a failure: coordinates, not prose.
//!
//! After the clone nothing may be formatted, so init reports three numbers, and the runtime, which
//! holds the same plan, writes the sentence.

use nix::errno::Errno;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kernel call that failed inside a step. Its number travels in a report, between two
        /// processes of the same program: it need not stay the same from version to version.
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
    Check = "check",
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
    TimeOut = "time limit",
    ExitStatus = "exit status",
}

/// A failure's coordinates inside one plan: which step, which call of it, and the kernel's answer.
///
/// `step` counts within the plan of the subsystem that failed; [`Call::Check`] marks a failed check
/// of our own (for instance "the device node is another one"), whose `errno` then says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step of the subsystem's plan, counted from zero.
    pub step: u32,
    /// The call that failed.
    pub call: Call,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Fault {
    /// A fault of `step` in `call`.
    #[must_use]
    pub fn new(step: u32, call: Call, errno: Errno) -> Self {
        Self { step, call, errno }
    }
}

impl Call {
    /// The call with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number that [`Call::from_number`] turns back.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// For `map_err`: the errno of this call becomes a fault of `step`.
    pub fn at(self, step: u32) -> impl FnOnce(Errno) -> Fault {
        move |errno| Fault {
            step,
            call: self,
            errno,
        }
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
        assert_eq!(fault, Err(Fault::new(7, Call::Mount, Errno::EPERM)));
    }
}
