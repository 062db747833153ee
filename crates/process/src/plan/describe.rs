//! One readable line for each step.

use super::capabilities::names;
use super::steps::{
    Affinity, Confinement, Identity, Inheritance, Label, PrivilegeDrop, Sets, Setting,
    StreamSource, Streams,
};
use coracle_bundle::{CapabilitySet, IoPriority, Rlimit, Scheduler};
use std::ffi::CStr;

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
            Self::Landlock(step) => step.describe(),
            Self::Limit(value) => format!("limit {}", limit_to(value)),
        }
    }
}

impl PrivilegeDrop {
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
            Self::Dumpable => "let exec join before the start".to_owned(),
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

/// The sysctl that bounds the limit even for root.
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

/// A string of the config, as text for messages.
pub(crate) fn text(string: &CStr) -> std::borrow::Cow<'_, str> {
    string.to_string_lossy()
}
