//! `process`: config.md § Process.

use std::ffi::CString;

/// The process: its program, user and confinement.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The terminal's size, only with `terminal`. Zero rows or columns mean that it is not set.
    pub console_size: Option<ConsoleSize>,
    /// Ids in the container.
    pub user: User,
    /// At least one.
    pub args: Vec<CString>,
    /// `KEY=VALUE` each. Of duplicates only the last is kept, at its position.
    pub env: Vec<CString>,
    /// Absolute.
    pub cwd: CString,
    /// The capability sets; absent ones are empty.
    pub capabilities: Capabilities,
    /// Each resource once.
    pub rlimits: Vec<Rlimit>,
    /// Whether no_new_privs is set: prctl(2).
    pub no_new_privileges: bool,
    /// -1000 to 1000; `None` leaves the score unchanged.
    pub oom_score_adj: Option<i32>,
    /// Arguments of sched_setattr(2).
    pub scheduler: Option<Scheduler>,
    /// Arguments of ioprio_set(2).
    pub io_priority: Option<IoPriority>,
    /// The CPUs of processes of `exec`.
    pub exec_cpu_affinity: ExecCpuAffinity,
    /// A profile's name.
    pub apparmor_profile: Option<CString>,
    /// The process's label.
    pub selinux_label: Option<CString>,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Ids in the container's user namespace. None is `u32::MAX`, which means "leave unchanged" to
/// setresuid(2), and each is mapped if the config has mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// At most 0o777.
    pub umask: Option<u32>,
    /// All supplementary groups; the caller's are dropped.
    pub additional_gids: Vec<u32>,
}

/// One bit per capability number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(
    /// Bit n is capability n of `linux/capability.h`.
    pub u64,
);

/// The five sets of capabilities(7). Unknown names are left out, with a warning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The bounding set.
    pub bounding: CapabilitySet,
    /// The effective set.
    pub effective: CapabilitySet,
    /// The inheritable set.
    pub inheritable: CapabilitySet,
    /// The permitted set.
    pub permitted: CapabilitySet,
    /// The ambient set.
    pub ambient: CapabilitySet,
}

/// A resource limit, whose soft value is at most the hard value: setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The config's name, e.g. `RLIMIT_NOFILE`.
    pub name: &'static str,
    /// `RLIMIT_*` of getrlimit(2).
    pub resource: i32,
    /// The soft value; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard value; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Arguments of sched_setattr(2). Numbers that the policy does not use are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    /// The config's name of it.
    pub policy_name: &'static str,
    /// -20 to 19; only used by `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`; otherwise zero.
    pub priority: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nanoseconds, at most `deadline`. This and the next two are for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, at most `period`.
    pub deadline: u64,
    /// Nanoseconds; zero means the value of `deadline`.
    pub period: u64,
}

/// Arguments of ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority {
    /// 1 real time, 2 best effort, 3 idle.
    pub class: u8,
    /// 0..=7.
    pub level: u8,
}

/// Sorted lists of CPU numbers up to 65535.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCpuAffinity {
    /// The CPUs of the process before it joins the cgroup.
    pub initial: Option<Vec<u32>>,
    /// The CPUs of the process after that.
    pub r#final: Option<Vec<u32>>,
}
