//! From the container's root, which has all capabilities there, to the process that the config
//! describes.

use super::home::Home;
use super::lookup::{self, Found};
use super::working_directory::{self, Entered};
use crate::plan::steps::{Affinity, Confinement, Descent, Identity, Label, SessionKeyring, Sets};
use crate::plan::steps::{Plan, Section};
use coracle_bundle::Scheduler;
use coracle_sys::{
    Call, Capabilities, Cause, Fault, KeepCapabilities, ProcFs, SchedulerAttributes,
};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use std::ffi::CStr;

/// Lets the owner of a keyring find it by its name; without it an `exec` would not join the
/// container's keyring but make another.
const KEY_USR_SEARCH: u32 = 0x0008_0000;

/// The call that failed inside a step.
type Failure = (Call, Errno);

/// What [`confine`] found out, for [`become_user`].
#[derive(Debug)]
pub struct Confined {
    home: Option<Home>,
    entered: Entered,
}

/// All but the exec is done.
#[derive(Debug)]
pub struct Ready {
    /// Where PATH has the program, if it is looked for.
    pub(crate) program: Option<Found>,
    pub(crate) home: Option<Home>,
}

impl Ready {
    /// `HOME=…`, where the environment of the plan lacks it.
    #[must_use]
    pub fn home(&self) -> Option<&CStr> {
        self.home.as_ref().and_then(Home::variable)
    }
}

/// What takes the privilege of the container's root: keyring, scheduling, personality, memory
/// policy, working directory, umask, security labels, limits.
///
/// Without no_new_privs a seccomp filter loads after this, while `CAP_SYS_ADMIN` is still there.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn confine(plan: &Plan) -> Result<Confined, Fault> {
    let mut confined = Confined {
        home: None,
        entered: Entered::Yes,
    };
    for (step, confinement) in (plan.first(Section::Confinement)..).zip(&plan.confinement) {
        match confinement {
            Confinement::Home { uid } => confined.home = Some(Home::of(*uid)),
            Confinement::WorkingDirectory => {
                confined.entered = working_directory::enter(&plan.cwd, step)?;
            }
            other => apply(other).map_err(Cause::at(step))?,
        }
    }
    Ok(confined)
}

fn apply(step: &Confinement) -> Result<(), Failure> {
    match step {
        Confinement::Keyring(keyring) => join_keyring(keyring),
        Confinement::Scheduler(scheduler) => {
            coracle_sys::sched_setattr(&attributes(scheduler)).map_err(in_call(Call::Scheduler))
        }
        Confinement::IoPriority(priority) => {
            coracle_sys::set_io_priority(priority.class, priority.level)
                .map_err(in_call(Call::Ioprio))
        }
        // The cgroup's CPUs are the ones that count, so that a refusal loses nothing.
        Confinement::Affinity(Affinity::All) => {
            let _ = coracle_sys::set_affinity(&[u64::MAX; 128]);
            Ok(())
        }
        Confinement::Affinity(Affinity::Cpus(cpus)) => {
            coracle_sys::set_affinity(&cpus.mask).map_err(in_call(Call::Affinity))
        }
        Confinement::MemoryPolicy(policy) => {
            coracle_sys::set_memory_policy(policy.mode, &policy.nodes)
                .map_err(in_call(Call::MemoryPolicy))
        }
        Confinement::Personality { domain, .. } => {
            coracle_sys::personality(*domain).map_err(in_call(Call::Personality))
        }
        Confinement::Umask(mask) => {
            umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Confinement::Label(label) => write_label(label),
        Confinement::Limit(limit) => {
            coracle_sys::set_rlimit(limit.resource, limit.soft, limit.hard)
                .map_err(in_call(Call::Setrlimit))
        }
        Confinement::Home { .. } | Confinement::WorkingDirectory => Ok(()),
    }
}

fn in_call(call: Call) -> impl FnOnce(Errno) -> Failure {
    move |errno| (call, errno)
}

/// Kernels without keys have nothing to share.
fn join_keyring(keyring: &SessionKeyring) -> Result<(), Failure> {
    let label = keyring
        .label
        .as_deref()
        .map_or(&b""[..], |label| label.to_bytes());
    if !label.is_empty() {
        label_new_keys(label)?;
    }
    let joined = coracle_sys::join_session_keyring(&keyring.name);
    if !label.is_empty() {
        label_new_keys(b"")?;
    }
    let key = match joined {
        Err(Errno::ENOSYS) => return Ok(()),
        other => other.map_err(in_call(Call::Keyctl))?,
    };
    let permissions = coracle_sys::key_permissions(key).map_err(in_call(Call::Keyctl))?;
    if permissions & KEY_USR_SEARCH != 0 {
        return Ok(());
    }
    coracle_sys::set_key_permissions(key, permissions | KEY_USR_SEARCH)
        .map_err(in_call(Call::Keyctl))
}

fn label_new_keys(label: &[u8]) -> Result<(), Failure> {
    let procfs = ProcFs::private().map_err(in_call(Call::Fsmount))?;
    procfs.write_self(c"attr/keycreate", label)
}

/// Through a procfs of our own: the container's may be the image's (CVE-2019-16884).
fn write_label(label: &Label) -> Result<(), Failure> {
    let procfs = ProcFs::private().map_err(in_call(Call::Fsmount))?;
    match label {
        Label::Selinux { label } => procfs.write_self(c"attr/exec", label.to_bytes()),
        Label::AppArmor { text, .. } => procfs.write_self(c"attr/apparmor/exec", text.to_bytes()),
    }
}

fn attributes(scheduler: &Scheduler) -> SchedulerAttributes {
    let mut attributes = SchedulerAttributes::of_policy(scheduler.policy);
    attributes.flags = scheduler.flags;
    attributes.nice = scheduler.nice;
    attributes.priority = scheduler.priority;
    attributes.runtime = scheduler.runtime;
    attributes.deadline = scheduler.deadline;
    attributes.period = scheduler.period;
    attributes
}

/// Gives up the privilege of the container's root and looks up the program with what is left.
///
/// With no_new_privs a seccomp filter loads after this, as the last step but the exec.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn become_user(plan: &Plan, confined: Confined) -> Result<Ready, Fault> {
    let mut ready = Ready {
        program: None,
        home: confined.home,
    };
    for (step, descent) in (plan.first(Section::Descent)..).zip(&plan.descent) {
        match descent {
            Descent::Bounding { drop, .. } => drop
                .iter()
                .try_for_each(|number| coracle_sys::drop_bounding(*number))
                .map_err(Call::Prctl.at(step))?,
            Descent::Identity(identity) => change_identity(identity, step)?,
            Descent::Capabilities(sets) => {
                coracle_sys::capset(&sets.into()).map_err(Call::Capset.at(step))?;
            }
            Descent::Ambient { raise, .. } => raise_ambient(raise).map_err(Call::Prctl.at(step))?,
            Descent::ParentDeathSignal => {
                prctl::set_pdeathsig(None).map_err(Call::Prctl.at(step))?;
            }
            Descent::WorkingDirectoryAgain => {
                if confined.entered == Entered::Denied {
                    working_directory::enter_as_user(&plan.cwd, step)?;
                }
            }
            Descent::Lookup => ready.program = lookup::find(&plan.program, step)?,
            Descent::Reachable => {
                prctl::set_dumpable(true).map_err(Call::Prctl.at(step))?;
            }
            Descent::NoNewPrivileges => {
                prctl::set_no_new_privs().map_err(Call::Prctl.at(step))?;
            }
        }
    }
    Ok(ready)
}

fn change_identity(identity: &Identity, step: u32) -> Result<(), Fault> {
    // Or the permitted set would go with uid 0; the exec takes the flag back.
    coracle_sys::set_keep_capabilities(KeepCapabilities::Keep).map_err(Call::Prctl.at(step))?;
    if let Some(groups) = &identity.groups {
        coracle_sys::setgroups(groups).map_err(Call::Setgroups.at(step))?;
    }
    coracle_sys::setresgid(identity.gid).map_err(Call::Setgid.at(step))?;
    coracle_sys::setresuid(identity.uid).map_err(Call::Setuid.at(step))?;
    // The change put fs.suid_dumpable in force, and where that is 1 others of the user could now
    // trace us with all that we still hold (CVE-2016-9962).
    prctl::set_dumpable(false).map_err(Call::Prctl.at(step))
}

/// The caller's own go; of the config's the kernel may refuse one by its securebits.
fn raise_ambient(numbers: &[u8]) -> nix::Result<()> {
    coracle_sys::ambient_clear()?;
    for number in numbers {
        let _ = coracle_sys::ambient_raise(*number);
    }
    Ok(())
}

impl From<&Sets> for Capabilities {
    fn from(sets: &Sets) -> Self {
        Self {
            effective: sets.effective.0,
            permitted: sets.permitted.0,
            inheritable: sets.inheritable.0,
        }
    }
}
