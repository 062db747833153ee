//! The plan of one process and its steps: plain data.

use super::environment::Program;
use super::working_directory::WorkingDirectory;
use coracle_bundle::{CapabilitySet, ConsoleSize, IoPriority, Rlimit, Scheduler};
use std::ffi::{CStr, CString};
use std::path::PathBuf;

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

/// All that happens to one process, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What cannot be granted on this host, one line each.
    pub warnings: Vec<String>,
    pub(crate) inheritance: Vec<Inheritance>,
    /// Joined namespaces that must not turn out to be the host's.
    pub(crate) separate: Vec<SeparateNamespace>,
    pub(crate) machine: Vec<Setting>,
    pub(crate) streams: Streams,
    pub(crate) confinement: Vec<Confinement>,
    pub(crate) descent: Vec<Descent>,
    pub(crate) cwd: WorkingDirectory,
    pub(crate) program: Program,
    pub(crate) preserved_fds: u32,
}

/// A namespace joined by path, of which a setting says that it is not the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeparateNamespace {
    /// JSON path of the setting.
    pub(crate) property: String,
    pub(crate) path: PathBuf,
    /// Device and inode of the runtime's own namespace.
    pub(crate) host: (u64, u64),
}

/// The parts of a plan that number their steps, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Inheritance,
    Machine,
    Session,
    Streams,
    Confinement,
    Descent,
    Exec,
}

impl Plan {
    /// How many steps there are, the runtime's own before the clone included.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.first(Section::Exec).saturating_add(1)
    }

    /// The program's environment, without a HOME that init has to find.
    pub fn environment(&self) -> impl Iterator<Item = &CStr> {
        self.program.env.iter()
    }

    /// The steps that init carries out between its new root and the last touches to it, and the
    /// last step, which executes the program: between them and beside them is what others do.
    #[must_use]
    pub fn machine_steps(&self) -> std::ops::Range<u32> {
        self.first(Section::Machine)..self.first(Section::Session)
    }

    /// The steps of [`crate::become_user`]: a seccomp filter loads before or after them.
    #[must_use]
    pub fn descent_steps(&self) -> std::ops::Range<u32> {
        self.first(Section::Descent)..self.first(Section::Exec)
    }

    /// The number of a section's first step.
    pub(crate) fn first(&self, section: Section) -> u32 {
        let lengths = [
            (Section::Inheritance, self.inheritance.len()),
            (Section::Machine, self.machine.len()),
            (Section::Session, 1),
            (Section::Streams, 1),
            (Section::Confinement, self.confinement.len()),
            (Section::Descent, self.descent.len()),
        ];
        let before = lengths.iter().take_while(|(each, _)| *each != section);
        let steps: usize = before.map(|(_, length)| length).sum();
        u32::try_from(steps).unwrap_or(u32::MAX)
    }
}
