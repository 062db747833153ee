//! The plan of one process and its steps.

use super::environment::Program;
use super::working_directory::WorkingDirectory;
use coracle_bundle::{CapabilitySet, ConsoleSize, IoPriority, Rlimit, Scheduler};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A setting that the runtime makes on itself before the clone, so that the child inherits it.
///
/// The child could not make it: in a new user namespace it may neither raise a hard limit nor lower
/// its OOM score, and while it is not dumpable its own `/proc` files belong to the host's root.
#[derive(Clone, Debug)]
pub(crate) enum Inheritance {
    OomScoreAdj { value: i32, refusal: Refusal },
    HardLimits(Vec<Rlimit>),
    Affinity(Cpus),
}

/// Whether the kernel's refusal of a setting is an error or a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Fatal,
    Warned,
}

/// A setting of the container's UTS namespace or a sysctl, or the working directory.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Hostname(CString),
    Domainname(CString),
    Sysctl(Sysctl),
    /// Makes the missing directories of `process.cwd`.
    WorkingDirectory,
}

/// One file below `/proc/sys`.
#[derive(Clone, Debug)]
pub(crate) struct Sysctl {
    /// The configured key.
    pub(crate) key: String,
    /// The path in procfs: `sys/net/ipv4/ip_forward`.
    pub(crate) path: CString,
    /// The configured value.
    pub(crate) value: String,
}

/// The process's standard streams.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(crate) source: StreamSource,
    /// Their owner afterwards.
    pub(crate) uid: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum StreamSource {
    /// The caller's descriptors 0 to 2.
    Inherited,
    /// A new pseudo-terminal of the container's devpts.
    Terminal { window: Option<ConsoleSize> },
}

/// A step that requires the privileges of the container's root.
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
    /// All CPUs that the cgroup allows. Since kernel 6.2, a narrower mask set by the caller would
    /// otherwise stay in force.
    All,
    Cpus(Cpus),
}

/// A CPU set: the mask for the kernel, the list for messages.
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

/// A step of the change from the container's root to the process's user.
#[derive(Clone, Debug)]
pub(crate) enum PrivilegeDrop {
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
    /// Clears the parent-death signal, since the process outlives the runtime.
    ParentDeathSignal,
    WorkingDirectoryAgain,
    Lookup,
    /// Makes init dumpable, so that `exec` can join it before the start. Init has no descriptor of
    /// the host any more.
    Dumpable,
    NoNewPrivileges,
}

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The supplementary groups; `None` keeps the caller's.
    pub(crate) groups: Option<Vec<u32>>,
}

/// The arguments of capset(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
}

/// All steps for one process, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Settings that this host cannot grant, one line each.
    pub warnings: Vec<String>,
    pub(crate) inheritance: Vec<Inheritance>,
    /// Joined namespaces that must not be the host's.
    pub(crate) separate: Vec<SeparateNamespace>,
    pub(crate) machine: Vec<Setting>,
    pub(crate) streams: Streams,
    pub(crate) confinement: Vec<Confinement>,
    pub(crate) privilege_drop: Vec<PrivilegeDrop>,
    pub(crate) cwd: WorkingDirectory,
    pub(crate) program: Program,
    pub(crate) preserved_fds: usize,
}

/// A namespace joined by path, which must not be the host's because of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeparateNamespace {
    /// JSON path of the setting.
    pub(crate) property: String,
    pub(crate) path: PathBuf,
    /// Device and inode of the runtime's own namespace.
    pub(crate) host: (u64, u64),
}

/// The parts of a plan, in order. Steps are numbered through all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Inheritance,
    Machine,
    Session,
    Streams,
    Confinement,
    PrivilegeDrop,
    Exec,
}

impl Plan {
    /// The number of steps, including the runtime's before the clone.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.first(Section::Exec) + 1
    }

    /// The program's environment, without a HOME that init has to look up.
    pub fn environment(&self) -> impl Iterator<Item = &CStr> {
        self.program.env.iter()
    }

    /// Where the program may be, below the root: `args[0]`, or its place in each directory of PATH.
    /// None if there is no process.
    pub fn candidates(&self) -> impl Iterator<Item = PathBuf> {
        let name = Path::new(OsStr::from_bytes(self.program.name().to_bytes()));
        let cwd = Path::new(OsStr::from_bytes(self.cwd.path.to_bytes()));
        let own = self.program.is_path().then(|| cwd.join(name));
        let directories = self
            .program
            .directories()
            .filter(|_| !self.program.is_path());
        own.into_iter()
            .chain(directories.map(move |dir| cwd.join(OsStr::from_bytes(dir)).join(name)))
    }

    /// The steps of [`crate::machine`].
    #[must_use]
    pub fn machine_steps(&self) -> std::ops::Range<usize> {
        self.first(Section::Machine)..self.first(Section::Session)
    }

    /// The steps of [`crate::become_user`]. The seccomp filter is loaded before or after them.
    #[must_use]
    pub fn privilege_drop_steps(&self) -> std::ops::Range<usize> {
        self.first(Section::PrivilegeDrop)..self.first(Section::Exec)
    }

    /// The number of a section's first step.
    pub(crate) fn first(&self, section: Section) -> usize {
        let lengths = [
            (Section::Inheritance, self.inheritance.len()),
            (Section::Machine, self.machine.len()),
            (Section::Session, 1),
            (Section::Streams, 1),
            (Section::Confinement, self.confinement.len()),
            (Section::PrivilegeDrop, self.privilege_drop.len()),
        ];
        let before = lengths.iter().take_while(|(each, _)| *each != section);
        before.map(|(_, length)| length).sum()
    }
}
