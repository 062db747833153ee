//! The steps of a plan: plain data, and one readable line for each.

use super::capabilities::names;
use coracle_bundle::{CapabilitySet, ConsoleSize, IoPriority, Rlimit, Scheduler};
use std::ffi::{CStr, CString};

/// What the runtime sets on itself before the clone, so that the child inherits it.
///
/// The child could not do it: in a new user namespace it may neither raise a hard limit nor lower
/// its OOM score, and once it is non-dumpable its own `/proc` files belong to the host's root.
#[derive(Clone, Debug)]
pub(crate) enum Inheritance {
    OomScoreAdj { value: i32, refusal: Refusal },
    HardLimits(Vec<Rlimit>),
    Affinity(Cpus),
}

/// What to make of the kernel's refusal of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Fatal,
    Warned,
}

/// A setting of the machine that the container sees.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Hostname(CString),
    Domainname(CString),
    Sysctl(Sysctl),
    /// The directories that are missing of `process.cwd`.
    WorkingDirectory,
}

/// One file below `/proc/sys`.
#[derive(Clone, Debug)]
pub(crate) struct Sysctl {
    /// As given.
    pub(crate) key: String,
    /// Below procfs: `sys/net/ipv4/ip_forward`.
    pub(crate) path: CString,
    /// Verbatim.
    pub(crate) value: String,
}

/// Where the process's standard streams come from.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(crate) source: StreamSource,
    /// Who owns them afterwards.
    pub(crate) uid: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum StreamSource {
    /// The caller's descriptors 0 to 2.
    Inherited,
    /// A new pseudo-terminal of the container's devpts.
    Terminal { window: Option<ConsoleSize> },
}

/// A step that is taken with the privilege of the container's root.
#[derive(Clone, Debug)]
pub(crate) enum Confinement {
    Keyring(SessionKeyring),
    Scheduler(Scheduler),
    IoPriority(IoPriority),
    Affinity(Affinity),
    MemoryPolicy(MemoryPolicy),
    Personality { name: &'static str, domain: u32 },
    Home { uid: u32 },
    Umask(u32),
    WorkingDirectory,
    Label(Label),
    Limit(Rlimit),
}

#[derive(Clone, Debug)]
pub(crate) struct SessionKeyring {
    /// `_ses.<id>`.
    pub(crate) name: CString,
    /// SELinux label of the new key.
    pub(crate) label: Option<CString>,
}

#[derive(Clone, Debug)]
pub(crate) enum Affinity {
    /// Whatever the cgroup allows. Kernels since 6.2 remember an older, narrower mask.
    All,
    Cpus(Cpus),
}

/// A CPU set: the mask for the kernel, the numbers for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    pub(crate) list: String,
    pub(crate) mask: Vec<u64>,
}

/// Arguments of set_mempolicy(2).
#[derive(Clone, Debug)]
pub(crate) struct MemoryPolicy {
    pub(crate) name: &'static str,
    /// Mode and flags in one word.
    pub(crate) mode: u32,
    pub(crate) list: String,
    pub(crate) nodes: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Label {
    /// The text for `attr/apparmor/exec`: `exec <profile>`.
    AppArmor {
        profile: CString,
        text: CString,
    },
    Selinux {
        label: CString,
    },
}

/// A step on the way from the container's root to the process's user.
#[derive(Clone, Debug)]
pub(crate) enum Descent {
    /// Capabilities to take out of the bounding set, and those that stay.
    Bounding {
        drop: Vec<u8>,
        keep: CapabilitySet,
    },
    Identity(Identity),
    Capabilities(Sets),
    Ambient {
        raise: Vec<u8>,
        keep: CapabilitySet,
    },
    /// It made init end with the runtime, which the process outlives.
    ParentDeathSignal,
    WorkingDirectoryAgain,
    Lookup,
    /// Dumpable again, for the caller's `exec` before the start: nothing of the host is held any
    /// more.
    Reachable,
    NoNewPrivileges,
}

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `None`: the caller's groups stay.
    pub(crate) groups: Option<Vec<u32>>,
}

/// What capset(2) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
}

impl Inheritance {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::OomScoreAdj { value, .. } => format!("set OOM score adjustment {value}"),
            Self::HardLimits(limits) => {
                let limits: Vec<_> = limits.iter().map(limit).collect();
                format!("make room for limits {}", limits.join(", "))
            }
            Self::Affinity(cpus) => format!("start on CPUs {}", cpus.describe()),
        }
    }
}

impl Setting {
    pub(crate) fn describe(&self, cwd: &CStr) -> String {
        match self {
            Self::WorkingDirectory => format!("make directory {} if missing", text(cwd)),
            Self::Hostname(name) => format!("set hostname {}", text(name)),
            Self::Domainname(name) => format!("set domainname {}", text(name)),
            Self::Sysctl(sysctl) => format!("set sysctl {}={}", sysctl.key, sysctl.value),
        }
    }
}

impl Streams {
    pub(crate) fn describe(&self) -> String {
        match &self.source {
            StreamSource::Inherited => format!("hand standard streams to uid {}", self.uid),
            StreamSource::Terminal { window: None } => {
                format!("open a terminal for uid {}", self.uid)
            }
            StreamSource::Terminal { window: Some(size) } => format!(
                "open a terminal of {}x{} for uid {}",
                size.width, size.height, self.uid
            ),
        }
    }
}

impl Confinement {
    pub(crate) fn describe(&self, cwd: &CStr) -> String {
        match self {
            Self::Keyring(keyring) => format!("join session keyring {}", text(&keyring.name)),
            Self::Scheduler(scheduler) => describe_scheduler(scheduler),
            Self::IoPriority(priority) => describe_io_priority(*priority),
            Self::Affinity(Affinity::All) => "run on all CPUs".to_owned(),
            Self::Affinity(Affinity::Cpus(cpus)) => format!("run on CPUs {}", cpus.describe()),
            Self::MemoryPolicy(policy) if policy.list.is_empty() => {
                format!("set memory policy {}", policy.name)
            }
            Self::MemoryPolicy(policy) => {
                format!("set memory policy {} on nodes {}", policy.name, policy.list)
            }
            Self::Personality { name, .. } => format!("set personality {name}"),
            Self::Home { uid } => format!("set HOME from /etc/passwd for uid {uid}"),
            Self::Umask(mask) => format!("set umask {mask:04o}"),
            Self::WorkingDirectory => format!("change directory to {}", text(cwd)),
            Self::Label(Label::AppArmor { profile, .. }) => {
                format!("set AppArmor profile {}", text(profile))
            }
            Self::Label(Label::Selinux { label }) => format!("set SELinux label {}", text(label)),
            Self::Limit(value) => format!("limit {}", limit_to(value)),
        }
    }
}

impl Descent {
    pub(crate) fn describe(&self, cwd: &CStr) -> String {
        match self {
            Self::Bounding { keep, .. } => format!("bound capabilities to {}", names(*keep)),
            Self::Identity(identity) => identity.describe(),
            Self::Capabilities(sets) => sets.describe(),
            Self::Ambient { keep, .. } => format!("make ambient {}", names(*keep)),
            Self::ParentDeathSignal => "clear the parent-death signal".to_owned(),
            Self::WorkingDirectoryAgain => {
                format!("change directory to {} if root could not", text(cwd))
            }
            Self::Lookup => "look up the program".to_owned(),
            Self::Reachable => "let exec join before the start".to_owned(),
            Self::NoNewPrivileges => "set no_new_privs".to_owned(),
        }
    }
}

impl Identity {
    fn describe(&self) -> String {
        let Self { uid, gid, groups } = self;
        match groups {
            None => format!("become {uid}:{gid} (keeping groups)"),
            Some(groups) if groups.is_empty() => format!("become {uid}:{gid}"),
            Some(groups) => {
                let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
                format!("become {uid}:{gid} (groups {})", groups.join(","))
            }
        }
    }
}

impl Sets {
    fn describe(self) -> String {
        let mut line = format!("keep capabilities {}", names(self.permitted));
        if self.effective != self.permitted {
            line.push_str(&format!(", effective {}", names(self.effective)));
        }
        if self.inheritable != CapabilitySet::default() {
            line.push_str(&format!(", inheritable {}", names(self.inheritable)));
        }
        line
    }
}

/// `RLIMIT_NOFILE to 1024:4096`.
pub(crate) fn limit_to(limit: &Rlimit) -> String {
    let Rlimit { soft, hard, .. } = limit;
    format!("{} to {}:{}", limit.name, amount(*soft), amount(*hard))
}

/// What bounds the limit for root, too.
pub(crate) fn most(limit: &Rlimit) -> &'static str {
    match limit.name {
        "RLIMIT_NOFILE" => " (fs.nr_open is the most)",
        _ => "",
    }
}

fn limit(limit: &Rlimit) -> String {
    format!("{} {}", limit.name, amount(limit.hard))
}

fn amount(value: u64) -> String {
    match value {
        u64::MAX => "unlimited".to_owned(),
        value => value.to_string(),
    }
}

fn describe_scheduler(scheduler: &Scheduler) -> String {
    let Scheduler { nice, priority, .. } = scheduler;
    let mut line = format!("set scheduler {}", scheduler.policy_name);
    if *nice != 0 {
        line.push_str(&format!(", nice {nice}"));
    }
    if *priority != 0 {
        line.push_str(&format!(", priority {priority}"));
    }
    if scheduler.deadline != 0 {
        let Scheduler {
            runtime,
            deadline,
            period,
            ..
        } = scheduler;
        line.push_str(&format!(
            ", runtime {runtime}, deadline {deadline}, period {period} ns"
        ));
    }
    line
}

fn describe_io_priority(priority: IoPriority) -> String {
    let class = match priority.class {
        1 => "real time",
        2 => "best effort",
        _ => "idle",
    };
    format!("set I/O priority {class} {}", priority.level)
}

/// A string of the config for people.
pub(crate) fn text(string: &CStr) -> std::borrow::Cow<'_, str> {
    string.to_string_lossy()
}
