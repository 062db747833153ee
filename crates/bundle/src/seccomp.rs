//! `linux.seccomp`: config-linux.md § Seccomp.

use std::ffi::CString;

/// A filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    /// The action for calls that no rule matches; never [`SeccompAction::Notify`].
    pub default_action: SeccompAction,
    /// The listed architectures, which may have duplicates. The native one always belongs to them.
    pub architectures: Vec<SeccompArchitecture>,
    /// The flags; `None` if the property is absent, for which the runtime has a default.
    pub flags: Option<Vec<SeccompFlag>>,
    /// The path of the agent's `AF_UNIX` stream socket, to which the listener is sent. Not empty.
    pub listener_path: Option<CString>,
    /// Opaque data for the agent; only with a path.
    pub listener_metadata: Option<String>,
    /// The rules, in the order of the config.
    pub rules: Vec<SeccompRule>,
}

/// The action for a call.
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
    /// `SCMP_ACT_TRACE` with the message for the tracer, at most 4095; `EPERM` by default.
    Trace(u16),
    /// `SCMP_ACT_LOG`.
    Log,
    /// `SCMP_ACT_NOTIFY`: the agent, which has the listener, decides.
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
    /// Conditions on the arguments, all of which must hold; without any the rule always matches.
    pub conditions: Vec<SeccompCondition>,
}

/// `linux.seccomp.syscalls[…].args[…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeccompCondition {
    /// The number of the argument, 0 to 5.
    pub index: u8,
    /// How the argument is compared.
    pub operator: SeccompOperator,
    /// The value to compare with: `value`, or `valueTwo` with a mask.
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
