//! Plans the change from the container's root to the process's user: config.md § User, § Linux
//! Process.

use super::capabilities::{self, grant, names, numbers};
use super::steps::Subject;
use super::steps::{Identity, PrivilegeDrop};
use crate::Error;
use coracle_bundle::{CapabilitySet, Namespace};
use coracle_host::Setgroups;
use coracle_sys::Capability;

/// The steps in order. The seccomp filter is loaded after them with no_new_privs, and before them
/// otherwise, since that requires CAP_SYS_ADMIN.
pub(super) fn privilege_drop(
    subject: &Subject,
    warnings: &mut Vec<String>,
) -> Result<Vec<PrivilegeDrop>, Error> {
    let granted = grant(subject, warnings);
    let mut steps = Vec::new();
    steps.extend(bounding(subject, granted.bounding, warnings));
    steps.push(PrivilegeDrop::Identity(identity(subject)?));
    steps.push(PrivilegeDrop::ParentDeathSignal);
    steps.push(PrivilegeDrop::Capabilities(granted.sets));
    // No capability is ambient that is not both permitted and inheritable: capset(2) has taken away
    // all of the caller's where none can be (capabilities(7)).
    if granted.sets.permitted.0 & granted.sets.inheritable.0 != 0 {
        let (raise, keep) = (numbers(granted.ambient), granted.ambient);
        steps.push(PrivilegeDrop::Ambient { raise, keep });
    }
    steps.push(PrivilegeDrop::WorkingDirectoryAgain);
    // Without a program a container can be created; only its start fails.
    if !subject.process.args.is_empty() {
        steps.push(PrivilegeDrop::Lookup);
    }
    if subject.process.no_new_privileges {
        steps.push(PrivilegeDrop::NoNewPrivileges);
    }
    Ok(steps)
}

/// Makes init dumpable if `exec` could not join it otherwise. Until init executes the program, its
/// memory belongs to the runtime's user namespace, so that entering its namespaces requires
/// `CAP_SYS_PTRACE` there (`__ptrace_may_access` of the kernel). Dumpable, init can be traced by
/// its owner, who owns the container's user namespace and has all rights over its processes anyway.
pub(super) fn let_exec_join(subject: &Subject, steps: &mut Vec<PrivilegeDrop>) {
    if !exec_cannot_join(subject) {
        return;
    }
    let last = steps
        .last()
        .is_some_and(|step| matches!(step, PrivilegeDrop::NoNewPrivileges));
    steps.insert(
        steps.len().saturating_sub(usize::from(last)),
        PrivilegeDrop::Dumpable,
    );
}

/// Whether `exec` by this caller could not join init. In a joined pid namespace, init stays
/// protected: other processes there must not trace it.
fn exec_cannot_join(subject: &Subject) -> bool {
    subject.in_new_user_namespace()
        && !matches!(subject.config.linux.namespaces.pid, Namespace::Join { .. })
        && !subject.host.has(Capability::SysPtrace)
}

fn bounding(
    subject: &Subject,
    keep: CapabilitySet,
    warnings: &mut Vec<String>,
) -> Option<PrivilegeDrop> {
    let available = capabilities::available(subject);
    // Also drops those that the runtime does not have: they may still be in its bounding set.
    let drop = CapabilitySet(capabilities::up_to(subject.host.last_capability) & !keep.0);
    if drop.0 == 0 {
        return None;
    }
    if Capability::Setpcap.is_in(available) {
        return Some(PrivilegeDrop::Bounding {
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
    Ok(Identity {
        uid: user.uid,
        gid: user.gid,
        groups: groups(subject)?,
    })
}

/// The supplementary groups to set: exactly the config's, even if it has none, so that the process
/// does not keep the caller's groups and their access to the host's files.
fn groups(subject: &Subject) -> Result<Option<Vec<u32>>, Error> {
    if subject.config.keeps_groups() {
        return Ok(None);
    }
    let groups = &subject.process.user.additional_gids;
    match (setgroups(subject), groups.is_empty()) {
        (Setgroups::Allowed, _) | (Setgroups::Unknown, false) => Ok(Some(groups.clone())),
        (Setgroups::Denied | Setgroups::Unknown, true) => Ok(None),
        (Setgroups::Denied, false) => Err(Error::GroupsDenied {
            groups: groups.clone(),
        }),
    }
}

fn setgroups(subject: &Subject) -> Setgroups {
    match Capability::Setgid.is_in(capabilities::available(subject)) {
        true => subject.groups,
        false => Setgroups::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, options, planned_with};
    use super::*;
    use coracle_bundle::Config;
    use coracle_host::Host;
    use coracle_host::fixture::v2;

    fn check(config: &Config, host: &Host, groups: Setgroups, expected: &[&str]) {
        let text = planned_with(config, host, &options(), groups);
        let shown = |line: &&str| {
            let starts = ["error", "warning", "become"];
            starts.iter().any(|start| line.starts_with(start))
        };
        assert_eq!(text.lines().filter(shown).collect::<Vec<_>>(), expected);
    }

    fn user(uid: u32, gid: u32, groups: &str) -> String {
        format!(r#", "user": {{"uid": {uid}, "gid": {gid}, "additionalGids": [{groups}]}}"#)
    }

    #[test]
    fn groups_are_the_configs_or_an_error() {
        let with_groups = config(&user(0, 0, "10, 20"), "");
        let denied = "error: process.user.additionalGids: [10, 20] cannot be set, \
                      setgroups is not allowed here";
        check(&with_groups, &v2(), Setgroups::Denied, &[denied]);
        let without = config(&user(0, 0, ""), "");
        let kept = "become 0:0 (keeping groups)";
        check(&without, &v2(), Setgroups::Denied, &[kept]);
        check(&without, &v2(), Setgroups::Allowed, &["become 0:0"]);
        let tried = "become 0:0 (groups 10,20)";
        check(&with_groups, &v2(), Setgroups::Unknown, &[tried]);
        check(&without, &v2(), Setgroups::Unknown, &[kept]);
    }

    #[test]
    fn an_annotation_keeps_the_callers_groups() {
        let mut config = config(&user(0, 0, "10"), "");
        let annotation = "run.oci.keep_original_groups".to_owned();
        config.annotations.insert(annotation, "1".to_owned());
        let kept = "become 0:0 (keeping groups)";
        check(&config, &v2(), Setgroups::Denied, &[kept]);
    }

    #[test]
    fn a_runtime_that_cannot_narrow_says_so() {
        let host = Host {
            capabilities: 1,
            ..v2()
        };
        let config = config(r#", "capabilities": {"bounding": ["CAP_CHOWN"]}"#, "");
        let warning = "warning: process.capabilities.bounding: cannot be narrowed to cap_chown \
                       without CAP_SETPCAP";
        let kept = "become 0:0 (keeping groups)";
        check(&config, &host, Setgroups::Allowed, &[warning, kept]);
    }
}
