//! `process`: config.md § Process.

use std::ffi::CString;

/// What to run, and as whom.
#[derive(Clone, Debug)]
pub struct Process {
    /// A pty is requested.
    pub terminal: bool,
    /// Only with `terminal`; zero in either dimension means unset.
    pub console_size: Option<ConsoleSize>,
    /// Ids in the container.
    pub user: User,
    /// At least one.
    pub args: Vec<CString>,
    /// `KEY=VALUE` each; of duplicates only the last is kept, at its own place.
    pub env: Vec<CString>,
    /// Absolute.
    pub cwd: CString,
    /// `None` in the config is the empty value here: omitted sets are empty.
    pub capabilities: Capabilities,
    /// Each resource once.
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// -1000..=1000; `None` leaves the score as it is, zero does not.
    pub oom_score_adj: Option<i32>,
    /// Arguments of sched_setattr(2).
    pub scheduler: Option<Scheduler>,
    /// Arguments of ioprio_set(2).
    pub io_priority: Option<IoPriority>,
    /// CPUs of exec'd processes.
    pub exec_cpu_affinity: ExecCpuAffinity,
    /// A profile's name.
    pub apparmor_profile: Option<CString>,
    /// The process's label.
    pub selinux_label: Option<CString>,
}

/// Characters of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Ids in the container's user namespace; none is `u32::MAX`, which means "leave it" to the
/// kernel, and each is mapped if the config has mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// At most 0o777.
    pub umask: Option<u32>,
    /// All supplementary groups: the caller's are dropped.
    pub additional_gids: Vec<u32>,
}

/// One bit per capability number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(
    /// Bit n is capability n of `linux/capability.h`.
    pub u64,
);

/// The five sets of capabilities(7); unknown names are left out, and warned of.
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

/// A resource limit, soft at most as high as hard: setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The config's name, e.g. `RLIMIT_NOFILE`.
    pub name: &'static str,
    /// `RLIMIT_*` of getrlimit(2).
    pub resource: i32,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    /// The same.
    pub hard: u64,
}

/// Arguments of sched_setattr(2): of the numbers only those that the policy knows are not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    /// The config's name of it.
    pub policy_name: &'static str,
    /// -20..=19; without effect but in `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// 1..=99; of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nanoseconds, at most `deadline`; of `SCHED_DEADLINE`, as the next two.
    pub runtime: u64,
    /// Nanoseconds, at most `period`.
    pub deadline: u64,
    /// Nanoseconds; zero is as `deadline`.
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

/// CPU numbers, each list sorted; at most 65535.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCpuAffinity {
    /// Of the process that enters, before it is in the cgroup.
    pub initial: Option<Vec<u32>>,
    /// Of the process.
    pub r#final: Option<Vec<u32>>,
}
