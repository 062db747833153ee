//! Descriptions of the steps, and the messages for their failures.

use super::{Join, Plan, Step};
use crate::reason::Check;
use coracle_sys::{Call, Cause, Fault, NamespaceFlags, NamespaceKind};
use coracle_text::{Code, Detail, Report, after_colon, cause_errno, cause_text, errno_text};
use nix::errno::Errno;

impl Plan {
    /// The number of steps: those of the intermediate, init's clone, and those of init.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.clone_step() + 1 + self.enter.len()
    }

    /// The number of the step that is init's clone; the steps of `enter` follow it.
    #[must_use]
    pub fn clone_step(&self) -> usize {
        self.before.len()
    }

    /// What a step does, e.g. `join the ipc namespace /proc/1/ns/ipc`.
    #[must_use]
    pub fn describe(&self, step: usize) -> String {
        match self.step(step) {
            Some(step) => step.describe(),
            None => describe_clone(self.final_clone),
        }
    }

    /// The message for a fault, with the likely cause if the errno does not show it.
    #[must_use]
    pub fn explain(&self, fault: &Fault) -> Report {
        let what = self.describe(fault.step);
        let mut detail = Detail::new(Code::NamespaceFailed).errno(cause_errno(fault.cause));
        detail.path = self.property(fault.step);
        let (call, errno) = match fault.cause {
            Cause::Call(call, errno) => (call, errno),
            Cause::Check(check) => {
                return Report::new(format!("{what}: {}", Check::text(check)), detail);
            }
            cause @ Cause::Exit(_) => {
                return Report::new(format!("{what}: {}", cause_text(cause)), detail);
            }
        };
        let hint = match self.step(fault.step) {
            None => clone_hint(self.final_clone, errno),
            Some(Step::Unshare(flags)) => clone_hint(*flags, errno),
            Some(Step::Join(join)) => join_hint(join, errno),
            Some(Step::JoinProcess(_)) if errno == Errno::EPERM => FOREIGN,
            Some(Step::TimeOffsets(_)) => offsets_hint(errno),
            Some(Step::Loopback) if errno == Errno::EPERM => "no CAP_NET_ADMIN",
            Some(_) => "",
        };
        // The description of a step already implies every other call.
        let call = match call {
            Call::Setuid | Call::Setgid | Call::Setgroups => format!("{}: ", call.name()),
            _ => String::new(),
        };
        let text = format!("{what}: {call}{}{}", errno_text(errno), after_colon(hint));
        Report::new(text, detail.hint(hint))
    }

    /// The message for a failure of the runtime's own clone with these flags.
    #[must_use]
    pub fn explain_clone(&self, flags: NamespaceFlags, errno: Errno) -> Report {
        let (what, hint) = (describe_clone(flags), clone_hint(flags, errno));
        let text = format!("{what}: {}{}", errno_text(errno), after_colon(hint));
        let detail = Detail::new(Code::NamespaceFailed).path("linux.namespaces");
        Report::new(text, detail.errno(errno).hint(hint))
    }

    /// The property of the config that the step carries out.
    fn property(&self, step: usize) -> Option<String> {
        Some(match self.step(step) {
            Some(Step::Join(join)) => format!("linux.namespaces[{}].path", join.index),
            Some(Step::TimeOffsets(_)) => "linux.timeOffsets".to_owned(),
            Some(Step::JoinProcess(_)) => return None,
            _ => "linux.namespaces".to_owned(),
        })
    }

    fn step(&self, step: usize) -> Option<&Step> {
        match step.checked_sub(self.before.len()) {
            None => self.before.get(step),
            Some(0) => None,
            Some(later) => self.enter.get(later - 1),
        }
    }
}

impl Step {
    fn describe(&self) -> String {
        match self {
            Step::Join(Join { kind, path, .. }) => {
                format!("join the {} namespace {}", kind.name(), path.display())
            }
            Step::JoinProcess(flags) => {
                format!("join the container's {}", namespaces(*flags))
            }
            Step::DropGroups => "drop the caller's groups".to_owned(),
            Step::BecomeRoot => "become root of the user namespace".to_owned(),
            Step::BecomeRootWithGroups => {
                "become root of the user namespace (keeping groups)".to_owned()
            }
            Step::Unshare(flags) => format!("unshare the {}", namespaces(*flags)),
            Step::TimeOffsets(lines) => {
                format!(
                    "write time offsets {}",
                    lines.trim_end().replace('\n', ", ")
                )
            }
            Step::Loopback => "bring up loopback".to_owned(),
        }
    }
}

const FOREIGN: &str = "no CAP_SYS_ADMIN in the user namespace that owns it";

fn describe_clone(flags: NamespaceFlags) -> String {
    if flags.is_empty() {
        "clone the process".to_owned()
    } else {
        format!("create the {}", namespaces(flags))
    }
}

/// `pid, ipc and mount namespaces`, in the order of the kinds.
fn namespaces(flags: NamespaceFlags) -> String {
    let names: Vec<&str> = NamespaceKind::ALL
        .into_iter()
        .filter(|kind| flags.contains(kind.flag()))
        .map(NamespaceKind::name)
        .collect();
    match names.as_slice() {
        [one] => format!("{one} namespace"),
        [rest @ .., last] => format!("{} and {last} namespaces", rest.join(", ")),
        [] => "no namespace".to_owned(),
    }
}

fn clone_hint(flags: NamespaceFlags, errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSPC if flags.contains(NamespaceFlags::USER) => {
            "user.max_user_namespaces is reached or 0 (sysctl -w user.max_user_namespaces=15000), \
             or another limit in /proc/sys/user/max_*_namespaces, or 32 levels"
        }
        Errno::ENOSPC => "a limit in /proc/sys/user/max_*_namespaces is reached, or 32 levels",
        Errno::EAGAIN => {
            "a limit on processes is reached: pids.max of the runtime's cgroup or one above, \
             RLIMIT_NPROC of the user, or kernel.pid_max"
        }
        Errno::EINVAL => "the kernel is built without one of them",
        Errno::EPERM if flags.contains(NamespaceFlags::USER) => {
            "user namespaces are switched off (sysctl -w kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0), or this is a chroot"
        }
        Errno::EPERM if !flags.is_empty() => "no CAP_SYS_ADMIN",
        Errno::ENOSYS => {
            "a seccomp profile refuses clone3(2): ask the runtime outside for another \
             (podman, docker: --security-opt seccomp=unconfined)"
        }
        _ => "",
    }
}

fn join_hint(join: &Join, errno: Errno) -> &'static str {
    match (errno, join.kind) {
        (Errno::EPERM, _) => FOREIGN,
        (Errno::EINVAL, NamespaceKind::Pid) => "it is neither our own pid namespace nor below it",
        (Errno::EINVAL, NamespaceKind::User) => "it is our own, or not below it",
        _ => "",
    }
}

fn offsets_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ERANGE => "a clock would be negative or too far in the future",
        Errno::EPERM => "no CAP_SYS_TIME",
        _ => "",
    }
}
