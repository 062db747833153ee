//! Turns init, which runs as the container's root with all capabilities, into the process that the
//! config describes.

use super::exec::{Ready, find};
use super::home::Home;
use super::landlock::Ruleset;
use super::working_directory::{self, Entered};
use crate::plan::steps::{
    Affinity, Confinement, Identity, Label, PrivilegeDrop, SessionKeyring, Sets,
};
use crate::plan::steps::{Plan, Section};
use coracle_bundle::Scheduler;
use coracle_sys::{
    Call, Capabilities, Cause, Fault, KeepCapabilities, ProcFs, SchedulerAttributes,
};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};

/// The permission of a keyring's owner to find it by its name. Without it, `exec` would make a new
/// keyring instead of joining the container's (keyctl(2), keyrings(7)).
const KEY_USR_SEARCH: u32 = 0x0008_0000;

/// The call that failed inside a step.
type Failure = (Call, Errno);

/// The result of [`confine`], for [`become_user`].
#[derive(Debug)]
pub struct Confined {
    home: Option<Home>,
    entered: Entered,
}

/// Carries out the steps that require the privileges of the container's root: keyring, scheduling,
/// personality, memory policy, working directory, umask, security labels, limits.
///
/// Without no_new_privs the seccomp filter is loaded after this, while init still has
/// `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn confine(plan: &Plan) -> Result<Confined, Fault> {
    let mut confined = Confined {
        home: None,
        entered: Entered::Yes,
    };
    let mut ruleset = Ruleset::default();
    for (step, confinement) in (plan.first(Section::Confinement)..).zip(&plan.confinement) {
        match confinement {
            Confinement::Landlock(rule) => ruleset.apply(rule).map_err(Cause::at(step))?,
            Confinement::Home { uid } => confined.home = Some(Home::of(*uid)),
            Confinement::WorkingDirectory => {
                confined.entered = working_directory::enter(&plan.cwd, step)?;
            }
            other => apply(other).map_err(Cause::at(step))?,
        }
        coracle_sys::note_step(step);
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
        // An error is ignored: the caller's mask then stays, within the CPUs of the cgroup.
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
        Confinement::Home { .. } | Confinement::WorkingDirectory | Confinement::Landlock(_) => {
            Ok(())
        }
    }
}

fn in_call(call: Call) -> impl FnOnce(Errno) -> Failure {
    move |errno| (call, errno)
}

/// Joins the container's session keyring. A kernel without keyrings (ENOSYS) has none to share.
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

/// Writes through a detached procfs or the checked `/proc` (see [`ProcFs`]): the image may have put
/// another file in place of the container's (CVE-2019-16884).
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

/// Gives up the privileges of the container's root, and looks up the program as the process's user.
///
/// With no_new_privs the seccomp filter is loaded after this, as the last step before execve(2).
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn become_user(plan: &Plan, confined: Confined) -> Result<Ready, Fault> {
    let mut ready = Ready {
        program: None,
        home: confined.home,
    };
    for (step, drop) in (plan.first(Section::PrivilegeDrop)..).zip(&plan.privilege_drop) {
        match drop {
            PrivilegeDrop::Bounding { drop, .. } => drop
                .iter()
                .try_for_each(|number| coracle_sys::drop_bounding(*number))
                .map_err(Call::Prctl.at(step))?,
            PrivilegeDrop::Identity(identity) => change_identity(identity, step)?,
            PrivilegeDrop::Capabilities(sets) => {
                coracle_sys::capset(&sets.into()).map_err(Call::Capset.at(step))?;
            }
            PrivilegeDrop::Ambient { raise, .. } => {
                raise_ambient(raise).map_err(Call::Prctl.at(step))?
            }
            PrivilegeDrop::ParentDeathSignal => {
                prctl::set_pdeathsig(None).map_err(Call::Prctl.at(step))?;
            }
            PrivilegeDrop::WorkingDirectoryAgain => {
                if confined.entered == Entered::Denied {
                    working_directory::enter_as_user(&plan.cwd, step)?;
                }
            }
            PrivilegeDrop::Lookup => ready.program = find(&plan.program, step)?,
            PrivilegeDrop::Dumpable => {
                prctl::set_dumpable(true).map_err(Call::Prctl.at(step))?;
            }
            PrivilegeDrop::NoNewPrivileges => {
                prctl::set_no_new_privs().map_err(Call::Prctl.at(step))?;
            }
        }
        coracle_sys::note_step(step);
    }
    Ok(ready)
}

fn change_identity(identity: &Identity, step: usize) -> Result<(), Fault> {
    if identity.uid != 0 {
        // Otherwise the kernel would clear the permitted set when uid 0 is left; execve(2) clears
        // the flag.
        coracle_sys::set_keep_capabilities(KeepCapabilities::Keep).map_err(Call::Prctl.at(step))?;
    }
    if let Some(groups) = &identity.groups {
        coracle_sys::setgroups(groups).map_err(Call::Setgroups.at(step))?;
    }
    coracle_sys::setresgid(identity.gid).map_err(Call::Setgid.at(step))?;
    coracle_sys::setresuid(identity.uid).map_err(Call::Setuid.at(step))?;
    // A change of ids sets the dumpable flag to fs.suid_dumpable. If that is 1, other processes of
    // the user could trace init, which still has descriptors of the host (CVE-2016-9962).
    prctl::set_dumpable(false).map_err(Call::Prctl.at(step))
}

/// Replaces the caller's ambient capabilities by the config's. One that cannot be raised is left
/// out: the securebits may forbid it (capabilities(7)). A failure to clear is an error.
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
