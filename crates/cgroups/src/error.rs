//! Errors of control groups, one variant for each operation.

use std::path::{Path, PathBuf};

use coracle_text::{Code, Detail, beginning, errno_text};
use nix::errno::Errno;

use crate::lack::Lack;
use crate::table::{CPUSET_PARTITION, Version};

/// How much of a value a message shows: a long one must not push the reason off the line.
const SHOWN_CHARACTERS: usize = 200;

/// A failure of planning or applying. Its text is one line in lower case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// systemd was requested, but does not run.
    #[error("--systemd-cgroup: systemd not running on this host")]
    NoSystemd,
    /// An operation of systemd failed.
    #[error("systemd: {attempted} {unit}: {problem}")]
    Systemd {
        /// `start`, `stop` …
        attempted: &'static str,
        /// The unit.
        unit: String,
        /// Why it failed.
        problem: UnitProblem,
    },
    /// A value of the config that is invalid or not supported on this machine.
    #[error("{path}: {reason}")]
    Config {
        /// JSON path of the value.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit needs a controller that no mounted hierarchy has.
    #[error("{path}: cgroup {controller} is required, but {lack}")]
    Controller {
        /// JSON path of the first value that needs it.
        path: String,
        /// The controller's name.
        controller: String,
        /// Where it is missing.
        lack: Lack,
    },
    /// Opening a directory or file of the cgroup file system.
    #[error("open {}: {}", path.display(), errno_text(*errno))]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// No right to write to a file of the container's cgroup.
    #[error(
        "write {}: {}: the container's cgroup is not delegated to this user",
        path.display(), errno_text(*errno)
    )]
    Rights {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The mount point has another file system.
    #[error("{}: not a cgroup file system", path.display())]
    NotCgroup {
        /// The mount point by mountinfo.
        path: PathBuf,
    },
    /// Making a cgroup.
    #[error("make cgroup {}: {}", path.display(), errno_text(*errno))]
    Make {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// No right to make a cgroup, though the config needs one.
    #[error(
        "{path}: no right to make cgroup {} ({}): {}, or leave this property out",
        directory.display(), errno_text(*errno), delegation_text(*errno)
    )]
    Delegation {
        /// JSON path of what needs the cgroup.
        path: String,
        /// The directory that could not be made.
        directory: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Enabling a controller for the children of a v2 cgroup.
    #[error(
        "{path}: enable controller {controller} in {}: {}",
        directory.display(), enable_text(*errno)
    )]
    Enable {
        /// JSON path of the first value that needs it.
        path: String,
        /// The controller's name.
        controller: String,
        /// The cgroup whose `cgroup.subtree_control` was written.
        directory: PathBuf,
        /// The kernel's answer; `None` if a parent does not enable the controller.
        errno: Option<Errno>,
    },
    /// A threaded or invalid v2 cgroup cannot have the requested limits.
    #[error(
        "cgroup {}: its type is `{kind}`, which allows no limits on memory, io or hugetlb",
        path.display()
    )]
    Threaded {
        /// The cgroup.
        path: PathBuf,
        /// `cgroup.type`.
        kind: String,
    },
    /// Writing a value.
    #[error("{source_path}: write `{}` to {}: {}{hint}", beginning(value, SHOWN_CHARACTERS),
        path.display(), errno_text(*errno))]
    Write {
        /// JSON path of what is written.
        source_path: String,
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// The kernel's answer.
        errno: Errno,
        /// Cause, where it is known: `: …` or empty.
        hint: String,
    },
    /// A cpuset partition that the kernel marks as invalid after it has accepted the value.
    #[error("{source_path}: write `{value}` to {}: {} says `{state}`", path.display(),
        CPUSET_PARTITION.name(Version::V2))]
    Partition {
        /// JSON path of what is written.
        source_path: String,
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// What the kernel shows in `cpuset.cpus.partition`: `root invalid (…)`.
        state: String,
    },
    /// Reading a file.
    #[error("read {}: {}", path.display(), errno_text(*errno))]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Moving a process into the container's cgroup.
    #[error("join cgroup {}: {}", path.display(), errno_text(*errno))]
    Enter {
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The container's cgroup is in use by others.
    #[error("container's cgroup is not empty: {count} process(es) found in {}", path.display())]
    NotEmpty {
        /// The cgroup.
        path: PathBuf,
        /// How many processes.
        count: usize,
    },
    /// The container's cgroup or a parent is frozen, so init would never run.
    #[error("container's cgroup unexpectedly frozen: {}", path.display())]
    Frozen {
        /// The cgroup.
        path: PathBuf,
    },
    /// Making the container's root user the owner of the cgroup.
    #[error("give {} to uid {uid}: {}", path.display(), errno_text(*errno))]
    Own {
        /// The file or directory.
        path: PathBuf,
        /// The owner in the host's ids.
        uid: u32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Loading or attaching the device program.
    #[error(
        "config.json: linux.resources.devices: {call} for {}: {}",
        path.display(), errno_text(*errno)
    )]
    Devices {
        /// `bpf BPF_PROG_LOAD` or `bpf BPF_PROG_ATTACH`.
        call: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Another tool has replaced the device program of a running container.
    #[error(
        "config.json: linux.resources.devices: another tool has replaced the device program of {}",
        path.display()
    )]
    Replaced {
        /// The cgroup.
        path: PathBuf,
    },
    /// An update failed, and its undo failed too.
    #[error("{source}; then, when its other values were taken back: {left}")]
    Halfway {
        /// Why it failed.
        source: Box<Error>,
        /// Which value could not be restored, and why.
        left: String,
    },
    /// The container has no cgroup for the requested operation.
    #[error("{verb}: the container has no {what}")]
    Lacking {
        /// `pause`, `resume`, `kill`.
        verb: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The freezer did not finish in time.
    #[error("{verb} {}: not done after {seconds} s", path.display())]
    Freeze {
        /// `freeze` or `thaw`.
        verb: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// Signalling a process of the container.
    #[error("signal {signal} to process {pid}: {}", errno_text(*errno))]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The process in the runtime's pid namespace.
        pid: i32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Removing a cgroup that stays busy.
    #[error("remove cgroup {}: {}{}", path.display(), errno_text(*errno), left_text(*pid))]
    Remove {
        /// The directory.
        path: PathBuf,
        /// The kernel's last answer.
        errno: Errno,
        /// A process that is still in it.
        pid: Option<i32>,
    },
    /// A group of resctrl.
    #[error("config.json: linux.intelRdt: {what} {}: {}{hint}", path.display(), errno_text(*errno))]
    Resctrl {
        /// `make`, `write schemata of` …
        what: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's reason from `info/last_cmd_status`, or empty.
        hint: String,
    },
}

/// Why an operation of systemd failed.
#[derive(Debug, thiserror::Error)]
pub enum UnitProblem {
    /// systemd returned an error, or the connection failed.
    #[error("{0}")]
    Bus(#[from] coracle_dbus::Error),
    /// The job ended with this result.
    #[error("the job's result is `{0}`")]
    Job(String),
    /// The process is in another cgroup than that of the unit.
    #[error("its process is in cgroup {}", .0.display())]
    Elsewhere(PathBuf),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The JSON path in the error, for a caller that replaces it by another name.
    pub fn path_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Config { path, .. } | Self::Controller { path, .. } => Some(path),
            Self::Write { source_path, .. } | Self::Partition { source_path, .. } => {
                Some(source_path)
            }
            Self::Halfway { source, .. } => source.path_mut(),
            _ => None,
        }
    }

    /// For `map_err`: this file of a cgroup's directory could not be opened or written.
    pub(crate) fn open<'a>(directory: &'a Path, file: &'a str) -> impl FnOnce(Errno) -> Self + 'a {
        move |errno| Self::Open {
            path: directory.join(file),
            errno,
        }
    }

    /// For `map_err`: this file of a cgroup's directory could not be read.
    pub(crate) fn read<'a>(directory: &'a Path, file: &'a str) -> impl FnOnce(Errno) -> Self + 'a {
        move |errno| Self::Read {
            path: directory.join(file),
            errno,
        }
    }

    /// An invalid value at a JSON path.
    pub(crate) fn config(path: &str, reason: impl Into<String>) -> Self {
        Self::Config {
            path: property(path),
            reason: reason.into(),
        }
    }
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        if let Self::Halfway { source, .. } = self {
            return source.detail();
        }
        let mut detail = Detail::new(self.code()).errno(self.errno());
        if let Some(path) = self.place() {
            detail = detail.path(path);
        }
        detail.hint(self.hint())
    }

    fn code(&self) -> Code {
        let busy = self.errno() == Some(Errno::EBUSY);
        let denied = matches!(
            self.errno(),
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
        );
        match self {
            Self::NoSystemd | Self::Systemd { .. } => Code::SystemdFailed,
            Self::Config { .. } => Code::ConfigInvalid,
            Self::Controller { .. } | Self::Enable { errno: None, .. } => Code::CgroupNoController,
            Self::Rights { .. } | Self::Delegation { .. } => Code::CgroupNoDelegation,
            Self::Make { .. } | Self::Enable { .. } if denied => Code::CgroupNoDelegation,
            Self::NotEmpty { .. } | Self::Frozen { .. } => Code::CgroupBusy,
            Self::Enable { .. } | Self::Enter { .. } | Self::Remove { .. } if busy => {
                Code::CgroupBusy
            }
            Self::Write { .. } | Self::Partition { .. } | Self::Threaded { .. } => {
                Code::CgroupLimitRefused
            }
            Self::Lacking { .. } => Code::ContainerNoCgroup,
            _ => Code::CgroupFailed,
        }
    }

    /// The property that it is about, or else the file.
    fn place(&self) -> Option<String> {
        Some(match self {
            Self::Config { path, .. }
            | Self::Controller { path, .. }
            | Self::Delegation { path, .. }
            | Self::Enable { path, .. } => path.clone(),
            Self::Write { source_path, .. } | Self::Partition { source_path, .. } => {
                source_path.clone()
            }
            Self::Devices { .. } | Self::Replaced { .. } => "linux.resources.devices".to_owned(),
            Self::Resctrl { .. } => "linux.intelRdt".to_owned(),
            Self::NoSystemd => "--systemd-cgroup".to_owned(),
            Self::Open { path, .. }
            | Self::Rights { path, .. }
            | Self::NotCgroup { path }
            | Self::Make { path, .. }
            | Self::Threaded { path, .. }
            | Self::Read { path, .. }
            | Self::Enter { path, .. }
            | Self::NotEmpty { path, .. }
            | Self::Frozen { path }
            | Self::Own { path, .. }
            | Self::Freeze { path, .. }
            | Self::Remove { path, .. } => path.display().to_string(),
            Self::Systemd { .. }
            | Self::Halfway { .. }
            | Self::Lacking { .. }
            | Self::Signal { .. } => return None,
        })
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. }
            | Self::Rights { errno, .. }
            | Self::Make { errno, .. }
            | Self::Delegation { errno, .. }
            | Self::Write { errno, .. }
            | Self::Read { errno, .. }
            | Self::Enter { errno, .. }
            | Self::Own { errno, .. }
            | Self::Devices { errno, .. }
            | Self::Signal { errno, .. }
            | Self::Remove { errno, .. }
            | Self::Resctrl { errno, .. } => Some(*errno),
            Self::Enable { errno, .. } => *errno,
            _ => None,
        }
    }

    /// What may help.
    fn hint(&self) -> &str {
        match self {
            Self::NoSystemd => "use --cgroup-manager cgroupfs",
            Self::Controller {
                lack: Lack::Everything,
                ..
            } => "",
            Self::Controller { .. } => {
                "enable the controller (kernel command line: cgroup_enable=NAME), or drop the limit"
            }
            Self::Delegation { errno, .. } if *errno == Errno::EROFS => OUTSIDE,
            Self::Delegation { .. } => {
                "delegate a cgroup: systemd-run --user --scope -p Delegate=yes COMMAND"
            }
            Self::Make { errno, .. } => match errno {
                Errno::EAGAIN => "cgroup.max.descendants or cgroup.max.depth above it is reached",
                Errno::ENOSPC => "the kernel's limit on cgroups is reached",
                Errno::EROFS => OUTSIDE,
                Errno::EACCES | Errno::EPERM => {
                    "mount cgroups writable, or use --cgroup-manager disabled"
                }
                _ => "",
            },
            Self::Write { hint, .. } | Self::Resctrl { hint, .. } => {
                hint.trim_start_matches([':', ' '])
            }
            _ => "",
        }
    }
}

/// What a runtime in a container has to ask of the one outside, which mounts cgroups read-only.
const OUTSIDE: &str = "in a container: ask the runtime outside for writable cgroups \
    (--privileged, or with cgroup v2 podman --security-opt unmask=/sys/fs/cgroup), or use \
    --cgroup-manager disabled";

/// A property as messages name it.
pub(crate) fn property(path: &str) -> String {
    format!("config.json: {path}")
}

fn delegation_text(errno: Errno) -> &'static str {
    match errno {
        Errno::EROFS => "its file system is mounted read-only: mount it writable",
        _ => "delegate a cgroup to this user",
    }
}

fn enable_text(errno: Option<Errno>) -> String {
    match errno {
        None => "it is not enabled for this cgroup (Delegate=)".to_owned(),
        Some(Errno::EBUSY) => format!(
            "{}: the cgroup holds processes itself, and cgroup v2 has limits only below cgroups \
             without processes",
            errno_text(Errno::EBUSY)
        ),
        Some(Errno::EOPNOTSUPP) => format!(
            "{}: it is threaded, which allows no limits on memory, io or hugetlb",
            errno_text(Errno::EOPNOTSUPP)
        ),
        Some(errno @ (Errno::EACCES | Errno::EPERM | Errno::EROFS)) => format!(
            "{}: it is not delegated to this user (Delegate=)",
            errno_text(errno)
        ),
        Some(errno) => errno_text(errno),
    }
}

fn left_text(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(": process {pid} is left in it"))
}
