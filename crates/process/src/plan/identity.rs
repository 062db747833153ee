//! From the container's root down to the process's user: config.md § User, § Linux Process.

use super::capabilities::{self, SETGID, SETPCAP, grant, names, numbers};
use super::steps::{Descent, Identity};
use super::{GroupsControl, Subject};
use crate::Error;
use coracle_bundle::{CapabilitySet, IdMapping, Namespace};

/// The steps in order. A seccomp filter loads before them when no_new_privs is not set, since that
/// takes CAP_SYS_ADMIN, and after them when it is.
pub(super) fn descent(
    subject: &Subject,
    warnings: &mut Vec<String>,
) -> Result<Vec<Descent>, Error> {
    let granted = grant(subject, warnings);
    let mut steps = Vec::new();
    steps.extend(bounding(subject, granted.bounding, warnings));
    steps.push(Descent::Identity(identity(subject)?));
    // A change of the uid clears the signal, so that it is set after it.
    steps.push(Descent::ParentDeathSignal(
        subject.options.parent_death_signal,
    ));
    steps.push(Descent::Capabilities(granted.sets));
    let (raise, keep) = (numbers(granted.ambient), granted.ambient);
    steps.push(Descent::Ambient { raise, keep });
    steps.push(Descent::WorkingDirectoryAgain);
    steps.push(Descent::Lookup);
    if subject.process.no_new_privileges {
        steps.push(Descent::NoNewPrivileges);
    }
    Ok(steps)
}

fn bounding(subject: &Subject, keep: CapabilitySet, warnings: &mut Vec<String>) -> Option<Descent> {
    let available = subject.available_capabilities();
    // Also those that the runtime does not have itself: the bounding set may hold them still.
    let drop = CapabilitySet(capabilities::up_to(subject.host.last_capability) & !keep.0);
    if capabilities::holds(available, SETPCAP) {
        return Some(Descent::Bounding {
            drop: numbers(drop),
            keep,
        });
    }
    warnings.push(format!(
        "process.capabilities.bounding: cannot be narrowed to {} without CAP_SETPCAP",
        names(keep)
    ));
    None
}

fn identity(subject: &Subject) -> Result<Identity, Error> {
    let user = &subject.process.user;
    if subject.config.linux.namespaces.user == Namespace::New {
        let mappings = &subject.config.linux.id_mappings;
        check_mapped("process.user.uid", user.uid, &mappings.uid)?;
        check_mapped("process.user.gid", user.gid, &mappings.gid)?;
        for (index, gid) in user.additional_gids.iter().enumerate() {
            let field = format!("process.user.additionalGids[{index}]");
            check_mapped(&field, *gid, &mappings.gid)?;
        }
    }
    Ok(Identity {
        uid: user.uid,
        gid: user.gid,
        groups: groups(subject)?,
    })
}

/// No mapping in the config means one that the runtime makes up; the kernel checks that.
fn check_mapped(field: &str, id: u32, mappings: &[IdMapping]) -> Result<(), Error> {
    let holds = |mapping: &IdMapping| {
        id.checked_sub(mapping.container_id)
            .is_some_and(|offset| offset < mapping.size)
    };
    match mappings.is_empty() || mappings.iter().any(holds) {
        true => Ok(()),
        false => Err(Error::UnmappedId {
            field: field.to_owned(),
            id,
        }),
    }
}

/// The list to set: exactly the config's, also when empty, so that the caller's groups are gone
/// (CVE-2022-36109 was a group too few, but one too many opens the host's files).
fn groups(subject: &Subject) -> Result<Option<Vec<u32>>, Error> {
    let keep = subject
        .config
        .annotations
        .get("run.oci.keep_original_groups");
    if keep.is_some_and(|value| value == "1") {
        return Ok(None);
    }
    let groups = &subject.process.user.additional_gids;
    match (can_set_groups(subject), groups.is_empty()) {
        (true, _) => Ok(Some(groups.clone())),
        (false, true) => Ok(None),
        (false, false) => Err(Error::GroupsDenied {
            groups: groups.clone(),
        }),
    }
}

fn can_set_groups(subject: &Subject) -> bool {
    subject.options.groups == GroupsControl::Allowed
        && subject.host.setgroups_allowed
        && capabilities::holds(subject.available_capabilities(), SETGID)
}
