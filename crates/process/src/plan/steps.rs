//! The plan of one process: what it is made from, its steps, and the program.

use super::working_directory::WorkingDirectory;
use coracle_bundle::{
    CapabilitySet, Config, ConsoleSize, ContainerId, IoPriority, Namespace, Process, Rlimit,
    Scheduler,
};
use coracle_host::{Host, Setgroups};
use coracle_sys::LandlockHandled;
use coracle_sys::StringArray;
use coracle_text::DEFAULT_PATH;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Input from the command line and the caller's environment.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The container's id; its session keyring is called `_ses.<id>`.
    pub id: &'a ContainerId,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// `KEY=VALUE` entries that the runtime adds, such as `LISTEN_FDS=1`; each replaces one of the
    /// same name.
    pub environment: Vec<CString>,
    /// Descriptors from 3 on that the process keeps, in order.
    pub preserved_fds: Vec<u32>,
}

/// The session keyring of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A keyring named after the container.
    New,
    /// The caller's (`--no-new-keyring`).
    Inherited,
}

/// The input of all parts of the planner.
pub(crate) struct Subject<'a> {
    pub(crate) process: &'a Process,
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options<'a>,
    /// Of the process's user namespace. `Unknown`: groups of the config are set, which may fail;
    /// without any, none are dropped.
    pub(crate) groups: Setgroups,
}

impl Subject<'_> {
    /// Whether the process runs in a user namespace other than the runtime's, where init has every
    /// capability after `CLONE_NEWUSER` or `setns` (user_namespaces(7)).
    pub(crate) fn in_new_user_namespace(&self) -> bool {
        self.config.linux.namespaces.user != Namespace::Inherit
    }
}

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
    Landlock(Landlock),
    Limit(Rlimit),
}

/// One step of Landlock: the first makes the ruleset, the last puts it in force.
#[derive(Clone, Debug)]
pub(crate) enum Landlock {
    Handle(LandlockHandled),
    /// These accesses to the path in the container, and to all below it.
    Path {
        path: CString,
        allowed: u64,
    },
    Port {
        port: u16,
        allowed: u64,
    },
    Restrict,
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
    /// Descriptors from 3 on that the process keeps, in order.
    pub preserved_fds: Vec<u32>,
    pub(crate) inheritance: Vec<Inheritance>,
    /// Joined namespaces that must not be the host's.
    pub(crate) separate: Vec<SeparateNamespace>,
    pub(crate) machine: Vec<Setting>,
    pub(crate) streams: Streams,
    pub(crate) confinement: Vec<Confinement>,
    pub(crate) privilege_drop: Vec<PrivilegeDrop>,
    pub(crate) cwd: WorkingDirectory,
    pub(crate) program: Program,
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

/// The arguments of execve(2).
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Empty if the config has no process.
    pub(crate) args: StringArray,
    /// Without HOME if init has to look it up.
    pub(crate) env: StringArray,
    /// The value of PATH.
    path: Vec<u8>,
}

impl Program {
    pub(crate) fn new(process: &Process, added: &[CString]) -> Self {
        let env = environment(&process.env, added);
        Self {
            path: value(&env, b"PATH")
                .unwrap_or(DEFAULT_PATH.as_bytes())
                .to_vec(),
            args: StringArray::new(process.args.clone()),
            env: StringArray::new(env),
        }
    }

    /// The configured `args[0]`.
    pub(crate) fn name(&self) -> &CStr {
        self.args.get(0).unwrap_or_default()
    }

    /// Whether `args[0]` is a path, which is not looked up in PATH.
    pub(crate) fn is_path(&self) -> bool {
        self.name().to_bytes().contains(&b'/')
    }

    /// The value of PATH.
    pub(crate) fn search_path(&self) -> &[u8] {
        &self.path
    }

    /// The entries of PATH in order; none for an empty name. Init joins them with the name one at a
    /// time: a list of all joined paths could need the length of PATH times that of `args[0]`.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &[u8]> {
        let entries = self.path.split(|byte| *byte == b':');
        entries.filter(|_| !self.name().is_empty())
    }
}

/// Whether HOME has to be looked up in the container's `/etc/passwd`, since it is missing or empty.
pub(crate) fn lacks_home(env: &[CString], added: &[CString]) -> bool {
    let home = value(added, b"HOME").or_else(|| value(env, b"HOME"));
    home.is_none_or(<[u8]>::is_empty)
}

/// The configured variables, with added ones in place of those of the same name. An empty HOME is
/// left out, since init looks it up.
fn environment(configured: &[CString], added: &[CString]) -> Vec<CString> {
    let replaced = |variable: &CString| {
        let name = name(variable);
        added.iter().any(|ours| self::name(ours) == name)
    };
    let kept = configured.iter().filter(|variable| !replaced(variable));
    let all = kept.chain(added);
    all.filter(|variable| variable.to_bytes() != b"HOME=")
        .cloned()
        .collect()
}

fn name(variable: &CStr) -> &[u8] {
    variable
        .to_bytes()
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
}

/// The value of the last variable of this name.
fn value<'a>(variables: &'a [CString], name: &[u8]) -> Option<&'a [u8]> {
    let value = |variable: &'a CString| variable.to_bytes().strip_prefix(name)?.strip_prefix(b"=");
    variables.iter().rev().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::without_process;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| c(text)).collect()
    }

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    #[test]
    fn ours_replace_the_configs() {
        let configured = strings(&["PATH=/bin", "LISTEN_FDS=9", "HOME=", "X=1=2", "odd"]);
        let added = strings(&["LISTEN_FDS=1"]);
        let expected = strings(&["PATH=/bin", "X=1=2", "odd", "LISTEN_FDS=1"]);
        assert_eq!(environment(&configured, &added), expected);
    }

    #[test]
    fn home_is_looked_for_when_missing_or_empty() {
        let lacks = |configured: &[&str]| lacks_home(&strings(configured), &[]);
        assert!(lacks(&[]) && lacks(&["HOME="]) && lacks(&["HOMES=/x"]));
        assert!(!lacks(&["HOME=/root"]));
        assert!(!lacks_home(&[], &strings(&["HOME=/x"])));
    }

    #[test]
    fn directories_are_those_of_the_path() {
        let directories = |name: &str, env: &[&str]| {
            let process = Process {
                args: strings(&[name]),
                env: strings(env),
                ..without_process()
            };
            let program = Program::new(&process, &[]);
            let directories = program.directories().map(<[u8]>::to_vec);
            directories.collect::<Vec<_>>()
        };
        assert_eq!(directories("a", &["PATH=/x::y"]), [&b"/x"[..], b"", b"y"]);
        assert_eq!(directories("a", &["PATH="]), [b""]);
        assert_eq!(directories("a", &[]).len(), 6);
        assert!(directories("", &[]).is_empty());
    }
}
