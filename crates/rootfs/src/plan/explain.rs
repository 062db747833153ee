//! Describes steps, and explains their failures.

use super::steps::{Bind, Fresh, HowMade, Plan, Step};
use coracle_bundle::FileSystem;
use coracle_sys::{Call, Cause, Fault};
use coracle_text::{Code, Detail, Report, cause_errno, cause_text, errno_text};
use nix::errno::Errno;

coracle_text::checks! {
    NotOrdinary = "must be mounted on ordinary directory, not a link or a file",
    InProc = "cannot be mounted because it is inside /proc",
    /// The destination resolves to the root but is not written as `/`.
    IsRoot = "a link of the image leads to the root: only / itself may be meant",
    Swapped = "the path leads elsewhere than a moment before",
    LongPath = "the path is longer than 4095 bytes",
    Links = "the path goes through more than 40 links",
    OtherDevice = "a file that is not this device is there already",
    OtherDeviceMade = "the node is not the one that was made",
    OtherLink = "something else is there already",
    NotConsole = "what the image has there is neither a file nor a device",
    NotTerminal = "the terminal is not of a devpts",
    HostRoot = "it is the host's own root directory",
    NotDirectory = "it is not a directory",
    OtherNode = "the host's node is another one",
    NotProcfs = "cannot be mounted because it is inside /proc: the source is no procfs",
    OtherPids = "the procfs there is of another pid namespace",
    NotQueues = "no file system of message queues is mounted there",
    ProviderGone = "the process that sends the sources of mounts has ended",
    Protocol = "the sources of mounts come in another order than the steps",
    NoDirectory = "no directory can be made, and the image has none of the usual ones",
    NoSource = "the source is missing",
    NoNode = "the host has no such node to bind",
    OtherMount = "another mount is over it",
    NotOpened = "the runtime has opened no descriptor for it",
    Inconsistent = "the plan does not fit what is there",
}

/// The sentence for a removal that failed, of a mount or a node of a running container.
#[must_use]
pub fn explain_removal(what: &str, cause: Cause) -> String {
    match cause {
        Cause::Check(check) => format!("{what}: {}", Check::text(check)),
        cause => format!("{what}: {}", cause_text(cause)),
    }
}

impl Plan {
    /// What the step does: `mount proc on /proc (nosuid,nodev,noexec)`. Empty for a number that is
    /// no step of this plan.
    #[must_use]
    pub fn describe(&self, step: usize) -> String {
        match self.steps.get(step) {
            None => String::new(),
            Some(Step::Propagation(change)) => {
                format!("make mounts {}", change.name())
            }
            Some(Step::Root) => format!("bind {} as the root", self.root_path()),
            Some(Step::Bind(bind)) => bind.text.clone(),
            Some(Step::Fresh(fresh)) => fresh.text.clone(),
            Some(Step::Cgroup(cgroup)) => cgroup.text.clone(),
            Some(Step::Remount(remount)) => remount.text.clone(),
            Some(Step::Device(device)) => {
                let verb = match device.how {
                    HowMade::Mknod { .. } => "make",
                    HowMade::Bind { .. } => "bind",
                };
                let (path, node) = (device.host_path.to_string_lossy(), device.node.describe());
                format!("{verb} device {path} {node}")
            }
            Some(Step::Link(link)) => {
                let (name, target) = (link.name.to_string_lossy(), link.target.to_string_lossy());
                format!("link /dev/{name} to {target}")
            }
            Some(Step::Pivot) => "pivot_root".to_owned(),
            Some(Step::Move) => "move the root over / and chroot".to_owned(),
            Some(Step::Chroot) => format!("chroot into {}", self.root_path()),
            Some(Step::RootPropagation(changes)) => {
                let last = changes.last().copied().unwrap_or_default();
                format!("make the root {}", last.name())
            }
            Some(Step::Console) => "bind the terminal on /dev/console".to_owned(),
            Some(Step::ReadOnlyPath(path)) => {
                format!("make {} read-only", path.shown.to_string_lossy())
            }
            Some(Step::Mask(path)) => format!("mask {}", path.shown.to_string_lossy()),
            Some(Step::ReadOnlyMount { destination, .. }) => {
                format!("make {destination} read-only")
            }
            Some(Step::ReadOnlyRoot) => "make the root read-only".to_owned(),
        }
    }

    /// The failure as one line: what was attempted, why it failed, and what helps if that is known.
    /// `why` is what [`crate::examine`] has found.
    #[must_use]
    pub fn explain(&self, fault: &Fault, why: &str) -> Report {
        let step = self.steps.get(fault.step);
        let at = self.at.get(fault.step).map_or("", String::as_str);
        let detail = Detail::new(code(step, fault.cause))
            .path(at)
            .errno(cause_errno(fault.cause));
        let cause = step.and_then(|step| self.cause(step, fault.cause));
        let (mut hint, cause) = cause.unwrap_or_else(|| (String::new(), cause_text(fault.cause)));
        if !why.is_empty() {
            why.clone_into(&mut hint);
        }
        let parts = [at, &self.describe(fault.step), &hint, &cause];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Report::new(parts.join(": "), detail.hint(hint))
    }

    fn root_path(&self) -> String {
        self.root
            .as_ref()
            .map(|root| root.path.display().to_string())
            .unwrap_or_default()
    }

    /// The cause of a failure as a hint and a text. The hint explains what the errno does not;
    /// empty if the text says all.
    fn cause(&self, step: &Step, cause: Cause) -> Option<(String, String)> {
        let (call, errno) = match (step, cause) {
            (Step::Mask(_), cause) if cause == Check::OtherNode.into() => {
                return Some((
                    String::new(),
                    "the host's /dev/null is not c 1:3".to_owned(),
                ));
            }
            (_, Cause::Check(check)) => {
                return Some((String::new(), Check::text(check).to_owned()));
            }
            (_, Cause::Call(call, errno)) => (call, errno),
            (_, Cause::Exit(_)) => return None,
        };
        let text = errno_text(errno);
        if errno == Errno::EROFS {
            let hint = "its place cannot be made in a read-only file system";
            return Some((hint.to_owned(), text));
        }
        let hint = match (step, call, errno) {
            (Step::Fresh(fresh), call, errno) => return self.fresh_cause(fresh, call, errno),
            (Step::Propagation(_), _, Errno::EACCES) => {
                "a security module forbids mounts, as AppArmor does in containers: ask the runtime \
                 outside for --security-opt apparmor=unconfined"
            }
            (Step::Bind(_), Call::OpenTree, Errno::EINVAL) => {
                "the source is unbindable, or has mounts below it that a user namespace must not \
                 uncover (then use rbind)"
            }
            (Step::Bind(_), Call::OpenTree | Call::Openat2, Errno::ENOENT) => {
                "the source is missing"
            }
            (Step::Bind(_), Call::Openat2, Errno::ELOOP) => {
                "the source is reached through a magic link of procfs, or through too many links"
            }
            (Step::Bind(bind), Call::MountSetattr, Errno::EINVAL) if self.is_id_mapped(bind) => {
                "its file system cannot be id-mapped"
            }
            (Step::Bind(_) | Step::Remount(_), Call::MountSetattr, Errno::EPERM) => {
                "cannot clear locked flags: the source belongs to a more privileged namespace"
            }
            (Step::Remount(_), Call::MountSetattr, Errno::EINVAL) => "nothing is mounted there",
            // Linux returns EINVAL since 5.2, but engines match the text of ENOTDIR.
            (Step::Bind(_), Call::MoveMount, Errno::ENOTDIR | Errno::EINVAL) => {
                "not a directory: are you trying to mount a directory onto a file (or vice-versa)?"
            }
            (Step::Device(_), Call::OpenTree | Call::Stat, _) => {
                "the host has no such node to bind"
            }
            (Step::Pivot, Call::PivotRoot, Errno::EINVAL) => {
                "the root cannot be changed: on an initramfs --no-pivot is needed"
            }
            _ => return None,
        };
        Some((hint.to_owned(), format!("{}: {text}", call.name())))
    }

    fn is_id_mapped(&self, bind: &Bind) -> bool {
        let source = self.sources.get(bind.source);
        source.is_some_and(|source| source.changes.iter().any(|change| change.id_map.is_some()))
    }

    fn fresh_cause(&self, fresh: &Fresh, call: Call, errno: Errno) -> Option<(String, String)> {
        let name = fresh.file_system.name().to_string_lossy();
        let hint = match (call, errno) {
            (Call::Fsopen, Errno::ENODEV) => {
                match fresh
                    .parameters
                    .iter()
                    .find(|(key, _)| key.as_c_str() == c"source")
                {
                    // A source with a path points to a bind mount whose option was forgotten, not
                    // to a device.
                    Some((_, Some(source))) if source.to_bytes().starts_with(b"/") => format!(
                        "unknown file system type {name:?}: a bind mount has bind or rbind in its \
                         options"
                    ),
                    _ => format!("unknown file system type {name:?}"),
                }
            }
            (Call::Fsconfig, Errno::EINVAL) => {
                format!("{name} does not accept the options {}", options(fresh))
            }
            (Call::Fsopen | Call::Fsconfig | Call::Fsmount, Errno::EPERM)
                if self.in_user_namespace =>
            {
                refused(&fresh.file_system).to_owned()
            }
            (Call::Fsopen | Call::Fsconfig | Call::Fsmount, _) => String::new(),
            _ => return None,
        };
        Some((hint, errno_text(errno)))
    }
}

fn code(step: Option<&Step>, cause: Cause) -> Code {
    let missing = match cause {
        Cause::Call(Call::OpenTree | Call::Openat2, Errno::ENOENT) => true,
        cause => cause == Check::NoSource.into(),
    };
    match step {
        Some(Step::Bind(_)) if missing => Code::MountSourceNotFound,
        Some(Step::Bind(_) | Step::Fresh(_) | Step::Cgroup(_) | Step::Remount(_)) => {
            Code::MountFailed
        }
        Some(Step::Device(_) | Step::Link(_)) => Code::DeviceFailed,
        Some(Step::Console) => Code::TerminalFailed,
        _ => Code::RootFailed,
    }
}

/// Why the kernel refuses a new instance of a filesystem in a user namespace.
fn refused(file_system: &FileSystem) -> &'static str {
    match file_system {
        FileSystem::Proc => {
            "in a user namespace the kernel allows it only with an own pid namespace, and where \
             the runtime's /proc has no other mounts over it"
        }
        FileSystem::Sysfs => {
            "in a user namespace the kernel allows it only with an own network namespace, and \
             where the runtime's /sys has no other mounts over it"
        }
        FileSystem::Mqueue => {
            "in a user namespace the kernel allows it only with an own ipc namespace"
        }
        FileSystem::Cgroup | FileSystem::Cgroup2 => {
            "in a user namespace the kernel allows it only with an own cgroup namespace"
        }
        _ => "the kernel does not allow this file system in a user namespace",
    }
}

fn options(fresh: &Fresh) -> String {
    let mut list = String::new();
    for (key, value) in fresh
        .parameters
        .iter()
        .filter(|(key, _)| key.as_c_str() != c"source")
    {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&key.to_string_lossy());
        if let Some(value) = value {
            list.push('=');
            list.push_str(&value.to_string_lossy());
        }
    }
    list
}
