//! `linux.seccomp`: config-linux.md § Seccomp.

use std::ffi::CString;

/// A filter for system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    /// For calls that no rule matches. Never [`SeccompAction::Notify`].
    pub default_action: SeccompAction,
    /// As listed, perhaps several times or not at all; the native one is always meant.
    pub architectures: Vec<SeccompArchitecture>,
    /// `None` where the property is absent: then the runtime has a default of its own.
    pub flags: Option<Vec<SeccompFlag>>,
    /// Of an `AF_UNIX` stream socket that gets the listener. Not empty, no NUL.
    pub listener_path: Option<CString>,
    /// Opaque; only with a path.
    pub listener_metadata: Option<String>,
    /// In the order of the config.
    pub rules: Vec<SeccompRule>,
}

/// What happens to a call, with what the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeccompAction {
    /// `SCMP_ACT_KILL` and `SCMP_ACT_KILL_THREAD`.
    KillThread,
    /// `SCMP_ACT_KILL_PROCESS`.
    KillProcess,
    /// `SCMP_ACT_TRAP`: `SIGSYS`.
    Trap,
    /// `SCMP_ACT_ERRNO`, at most 4095; `EPERM` by default.
    Errno(u16),
    /// `SCMP_ACT_TRACE` with the tracer's message, the same.
    Trace(u16),
    /// `SCMP_ACT_LOG`.
    Log,
    /// `SCMP_ACT_NOTIFY`: a process that holds the listener decides.
    Notify,
    /// `SCMP_ACT_ALLOW`.
    Allow,
}

/// `SCMP_ARCH_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the spec")]
pub enum SeccompArchitecture {
    Native,
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64N32,
    Mipsel,
    Mipsel64,
    Mipsel64N32,
    Ppc,
    Ppc64,
    Ppc64Le,
    S390,
    S390X,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

/// `SECCOMP_FILTER_FLAG_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeccompFlag {
    /// All threads get the filter.
    Tsync,
    /// Every action but allow is logged.
    Log,
    /// No mitigation of speculative store bypass.
    SpecAllow,
    /// Only a fatal signal interrupts a call that the listener has read.
    WaitKillableRecv,
}

/// `linux.seccomp.syscalls[…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompRule {
    /// At least one, none of them empty; perhaps unknown.
    pub names: Vec<String>,
    /// For calls that match.
    pub action: SeccompAction,
    /// About the arguments; none match always.
    pub conditions: Vec<SeccompCondition>,
}

/// `linux.seccomp.syscalls[…].args[…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeccompCondition {
    /// Of the argument, 0 to 5.
    pub index: u8,
    /// How the argument is compared.
    pub operator: SeccompOperator,
    /// With what: `value`, or `valueTwo` under a mask.
    pub value: u64,
}

/// `SCMP_CMP_…`: the argument is … the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeccompOperator {
    /// `SCMP_CMP_NE`.
    NotEqual,
    /// `SCMP_CMP_LT`.
    Less,
    /// `SCMP_CMP_LE`.
    LessOrEqual,
    /// `SCMP_CMP_EQ`.
    Equal,
    /// `SCMP_CMP_GE`.
    GreaterOrEqual,
    /// `SCMP_CMP_GT`.
    Greater,
    /// `SCMP_CMP_MASKED_EQ`: equal in the bits of the mask, which is the config's `value`.
    MaskedEqual(u64),
}
