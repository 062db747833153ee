//! Plans the steps that require the privileges of the container's root.

use super::affinity::{list, mask};
use super::describe::text;
use super::landlock;
use super::steps::{Affinity, Confinement, Label, MemoryPolicy, SessionKeyring};
use super::steps::{Keyring, Subject};
use crate::Error;
use coracle_bundle::Personality;
use std::ffi::CString;

/// The umask if the config has none. The engine's is not inherited, since it is arbitrary.
const UMASK: u32 = 0o022;

/// The steps in order.
///
/// Limits come last: a low `RLIMIT_NOFILE` would make steps fail that open files. Labels are
/// written before, and take effect at execve(2).
pub(super) fn steps(subject: &Subject) -> Result<Vec<Confinement>, Error> {
    let process = subject.process;
    let linux = &subject.config.linux;
    let mut steps = Vec::new();
    steps.extend(keyring(subject));
    // Before the scheduler: SCHED_DEADLINE requires an affinity to all CPUs (sched_setattr(2)).
    steps.push(Confinement::Affinity(Affinity::All));
    steps.extend(process.scheduler.map(Confinement::Scheduler));
    steps.extend(process.io_priority.map(Confinement::IoPriority));
    if let Some(policy) = &linux.memory_policy {
        check_nodes(policy, &subject.host.online_nodes)?;
        steps.push(memory_policy(policy));
    }
    steps.extend(linux.personality.map(personality));
    if super::steps::lacks_home(&process.env, &subject.options.environment) {
        steps.push(Confinement::Home {
            uid: process.user.uid,
        });
    }
    steps.push(Confinement::WorkingDirectory);
    steps.push(Confinement::Umask(process.user.umask.unwrap_or(UMASK)));
    steps.extend(labels(subject)?.into_iter().map(Confinement::Label));
    // The files of the labels may be among those that it denies.
    if let Some(requested) = &subject.config.landlock {
        let rules = landlock::steps(requested, *subject.host.landlock)?;
        steps.extend(rules.into_iter().map(Confinement::Landlock));
    }
    steps.extend(process.rlimits.iter().cloned().map(Confinement::Limit));
    Ok(steps)
}

fn keyring(subject: &Subject) -> Option<Confinement> {
    if subject.options.keyring == Keyring::Inherited {
        return None;
    }
    let name = format!("_ses.{}", subject.options.id.as_ref());
    // An id holds no NUL.
    let name = CString::new(name).unwrap_or_default();
    let label = subject
        .process
        .selinux_label
        .clone()
        .filter(|label| !label.is_empty());
    Some(Confinement::Keyring(SessionKeyring { name, label }))
}

/// Refuses nodes that are not online. The kernel would ignore them silently, as long as one node
/// remains.
fn check_nodes(policy: &coracle_bundle::MemoryPolicy, online: &[u32]) -> Result<(), Error> {
    let is_missing = |node: &&u32| !online.contains(node);
    match policy.nodes.iter().find(is_missing) {
        Some(node) if policy.flags & coracle_bundle::RELATIVE_NODES == 0 => {
            Err(Error::NodeOffline { node: *node })
        }
        _ => Ok(()),
    }
}

fn memory_policy(policy: &coracle_bundle::MemoryPolicy) -> Confinement {
    Confinement::MemoryPolicy(MemoryPolicy {
        name: policy.mode_name,
        mode: policy.mode | policy.flags,
        list: list(&policy.nodes),
        nodes: mask(&policy.nodes),
    })
}

fn personality(personality: Personality) -> Confinement {
    let (name, domain) = match personality {
        Personality::Linux => ("LINUX", 0x0000),
        Personality::Linux32 => ("LINUX32", 0x0008),
    };
    Confinement::Personality { name, domain }
}

/// The security labels. An empty label counts as none: engines write one if labelling is off.
fn labels(subject: &Subject) -> Result<Vec<Label>, Error> {
    let mut labels = Vec::new();
    let process = subject.process;
    if let Some(profile) = process
        .apparmor_profile
        .as_ref()
        .filter(|name| !name.is_empty())
    {
        if !*subject.host.apparmor {
            return Err(Error::AppArmorDisabled {
                profile: text(profile).into_owned(),
            });
        }
        labels.push(apparmor(profile));
    }
    if let Some(label) = process
        .selinux_label
        .as_ref()
        .filter(|label| !label.is_empty())
    {
        if !*subject.host.selinux {
            return Err(Error::SelinuxDisabled {
                label: text(label).into_owned(),
            });
        }
        labels.push(Label::Selinux {
            label: label.clone(),
        });
    }
    Ok(labels)
}

fn apparmor(profile: &std::ffi::CStr) -> Label {
    let mut text = b"exec ".to_vec();
    text.extend_from_slice(profile.to_bytes());
    // Taken from a C string, so it holds no NUL.
    let text = CString::new(text).unwrap_or_default();
    Label::AppArmor {
        profile: profile.to_owned(),
        text,
    }
}
