//! What the facts of a machine mean for containers. Pure.

use coracle_checkpoint::{MINIMUM, Version};
use coracle_host::{CgroupMode, Host, KERNEL_FLOOR, Refused, SystemdManager};
use coracle_sys::{Capability, NamespaceKind};
use coracle_text::errno_text;
use nix::errno::Errno;

use super::finding::{Finding, Level};
use crate::options::CgroupManager;

/// All that is judged.
pub(super) struct Facts {
    pub(super) host: Host,
    /// What came of making a namespace of each kind.
    pub(super) namespaces: [(NamespaceKind, nix::Result<()>); 8],
    /// Why a systemd that runs does not answer.
    pub(super) systemd_problem: Option<coracle_host::Error>,
    /// Who is to make cgroups.
    pub(super) manager: CgroupManager,
    /// The flags of filters; none without filters.
    pub(super) seccomp: Option<Vec<&'static str>>,
    /// The names of the configured networks, and what is wrong with them.
    pub(super) networks: (Vec<String>, Vec<String>),
    pub(super) criu: Option<Version>,
    /// The runtime's own file is on a read-only mount.
    pub(super) is_protected: bool,
}

/// The controllers whose limits every engine sets.
const USUAL_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The kinds of namespaces that hardly any config goes without.
const USUAL_KINDS: [NamespaceKind; 5] = [
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Network,
    NamespaceKind::Pid,
    NamespaceKind::Mount,
];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let mut findings = vec![Level::Ok.of("kernel", host.kernel.to_string())];
    findings.extend(namespaces(facts));
    findings.extend(user_namespaces(facts));
    findings.extend(cgroups(facts));
    findings.extend(delegation(facts));
    findings.push(systemd(facts));
    findings.push(security_modules(host));
    findings.push(seccomp(facts));
    findings.extend(subordinate_ids(host));
    findings.extend(networks(facts));
    findings.push(match &facts.criu {
        Some(version) => Level::Ok.of("criu", version.to_string()),
        None => Level::Note
            .of("criu", "not found in PATH: no checkpoint and no restore")
            .mended_by(format!("install criu {MINIMUM} or newer")),
    });
    findings.push(program(facts));
    findings
}

/// The finding for a machine on which no container can run, from the error that ended the gathering
/// of facts. Any other error is returned.
pub(super) fn unusable(error: coracle_host::Error) -> Result<Finding, coracle_host::Error> {
    match &error {
        coracle_host::Error::KernelTooOld { .. } => Ok(Level::Lacking
            .of("kernel", error.to_string())
            .mended_by(format!("boot Linux {KERNEL_FLOOR} or newer"))),
        coracle_host::Error::Proc { .. } => Ok(Level::Lacking
            .of("proc", error.to_string())
            .mended_by("mount -t proc proc /proc")),
        _ => Err(error),
    }
}

/// The caller needs no user namespace for namespaces of other kinds.
fn is_capable(host: &Host) -> bool {
    host.has(Capability::SysAdmin)
}

fn namespaces(facts: &Facts) -> Vec<Finding> {
    let mut all = facts.namespaces.iter();
    let user = all.find(|(kind, _)| *kind == NamespaceKind::User);
    // A caller that needs a user namespace for the others gets one finding, on the user namespace.
    let is_reported = |kind| kind != NamespaceKind::User && (is_capable(&facts.host) || has(user));
    let mut findings = Vec::new();
    let mut names: Vec<_> = Vec::new();
    for (kind, outcome) in &facts.namespaces {
        match outcome {
            Ok(()) => names.push(kind.name()),
            Err(errno) if is_reported(*kind) => findings.push(without(*kind, *errno)),
            Err(_) => {}
        }
    }
    names.sort_unstable();
    if !names.is_empty() {
        findings.insert(0, Level::Ok.of("namespaces", names.join(", ")));
    }
    findings
}

fn has(attempt: Option<&(NamespaceKind, nix::Result<()>)>) -> bool {
    attempt.is_some_and(|(_, outcome)| outcome.is_ok())
}

fn without(kind: NamespaceKind, errno: Errno) -> Finding {
    let level = match USUAL_KINDS.contains(&kind) {
        true => Level::Lacking,
        false => Level::Note,
    };
    level
        .of(
            "namespaces",
            format!("no {} namespace: {}", kind.name(), errno_text(errno)),
        )
        .mended_by(remedy_of_kind(kind, errno))
}

fn remedy_of_kind(kind: NamespaceKind, errno: Errno) -> String {
    let (option, limit) = match kind {
        NamespaceKind::User => ("USER_NS", "user"),
        NamespaceKind::Ipc => ("IPC_NS", "ipc"),
        NamespaceKind::Uts => ("UTS_NS", "uts"),
        NamespaceKind::Network => ("NET_NS", "net"),
        NamespaceKind::Pid => ("PID_NS", "pid"),
        NamespaceKind::Cgroup => ("CGROUPS", "cgroup"),
        NamespaceKind::Time => ("TIME_NS", "time"),
        NamespaceKind::Mount => ("NAMESPACES", "mnt"),
    };
    match errno {
        Errno::EINVAL => format!("boot a kernel with CONFIG_{option}"),
        Errno::ENOSPC | Errno::EUSERS => format!("sysctl -w user.max_{limit}_namespaces=15000"),
        _ => "run it outside of the container or sandbox that refuses clone3(2)".to_owned(),
    }
}

fn user_namespaces(facts: &Facts) -> Option<Finding> {
    let host = &facts.host;
    let mut all = facts.namespaces.iter();
    let (kind, outcome) = all.find(|(kind, _)| *kind == NamespaceKind::User)?;
    let subject = "user namespaces";
    let level = match is_capable(host) {
        true => Level::Note,
        false => Level::Lacking,
    };
    Some(match (outcome, &*host.user_namespaces_refused) {
        (Ok(()), Some(refusal)) if refusal.whom == Refused::Unprivileged && host.is_root() => {
            let found = format!("refused to users: {} is {}", refusal.setting, refusal.value);
            let remedy = format!("sysctl -w {}={}", refusal.setting, refusal.allowing);
            Level::Note.of(subject, found).mended_by(remedy)
        }
        (Ok(()), _) => Level::Ok.of(subject, "allowed"),
        (Err(_), Some(refusal)) => {
            let found = format!("refused: {} is {}", refusal.setting, refusal.value);
            let remedy = format!("sysctl -w {}={}", refusal.setting, refusal.allowing);
            level.of(subject, found).mended_by(remedy)
        }
        (Err(errno), None) => level
            .of(subject, format!("refused: {}", errno_text(*errno)))
            .mended_by(remedy_of_kind(*kind, *errno)),
    })
}

/// What it means that no cgroup can be made: a user's container does without.
fn without_cgroups(facts: &Facts) -> Level {
    match facts.host.is_root() && facts.manager != CgroupManager::Disabled {
        true => Level::Lacking,
        false => Level::Note,
    }
}

fn cgroups(facts: &Facts) -> Vec<Finding> {
    let layout = &facts.host.cgroups;
    let of_v1 = || layout.hierarchies.iter().flat_map(|one| &one.controllers);
    let of_v2 = layout.unified.as_ref().map(|tree| &tree.controllers);
    let (name, mut controllers): (_, Vec<&String>) = match layout.mode {
        CgroupMode::None => {
            return vec![
                without_cgroups(facts)
                    .of("cgroups", "no cgroup file system is mounted")
                    .mended_by("mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
            ];
        }
        CgroupMode::V1 => ("v1", of_v1().collect()),
        CgroupMode::Hybrid => (
            "hybrid",
            of_v1().chain(of_v2.into_iter().flatten()).collect(),
        ),
        CgroupMode::V2 => ("v2", of_v2.into_iter().flatten().collect()),
    };
    controllers.retain(|name| !name.starts_with("name="));
    let names: Vec<&str> = controllers.iter().map(|name| name.as_str()).collect();
    let mut findings = vec![Level::Ok.of("cgroups", format!("{name}: {}", names.join(", ")))];
    let missing = USUAL_CONTROLLERS
        .iter()
        .filter(|name| !names.contains(name));
    findings.extend(missing.map(|name| {
        let found = format!("no {name} controller: a config with its limits is refused");
        let remedy = format!("add cgroup_enable={name} to the kernel's command line");
        Level::Note.of("cgroups", found).mended_by(remedy)
    }));
    findings
}

fn delegation(facts: &Facts) -> Option<Finding> {
    let host = &facts.host;
    let place = host.delegation.as_ref()?;
    let subject = "cgroup rights";
    let shown = place.directory.display();
    let Some(errno) = place.refused else {
        let lacks = |name: &&&str| !place.controllers.iter().any(|known| known == **name);
        let missing: Vec<_> = USUAL_CONTROLLERS.iter().filter(lacks).copied().collect();
        if host.is_root() || host.cgroups.mode != CgroupMode::V2 || missing.is_empty() {
            return Some(Level::Ok.of(subject, format!("{shown} can be written")));
        }
        let found = format!("{shown} has no controller {}", missing.join(", "));
        let remedy = "in [Service] of user@.service: Delegate=cpu cpuset io memory pids";
        return Some(Level::Note.of(subject, found).mended_by(remedy));
    };
    let found = format!("no cgroup can be made in {shown}: {}", errno_text(errno));
    let level = without_cgroups(facts);
    Some(match host.is_root() {
        true => level
            .of(subject, found)
            .mended_by("mount it writable, or use --cgroup-manager disabled"),
        false => level
            .of(subject, found + ": no limits")
            .mended_by("systemd-run --user --scope -p Delegate=yes coracle ..."),
    })
}

fn systemd(facts: &Facts) -> Finding {
    let subject = "systemd";
    let level = match facts.manager {
        CgroupManager::Systemd => Level::Lacking,
        CgroupManager::Cgroupfs | CgroupManager::Disabled => Level::Note,
    };
    match (&*facts.host.systemd, &facts.systemd_problem) {
        (Some(systemd), _) => {
            let manager = match systemd.manager {
                SystemdManager::System => "the machine's manager",
                SystemdManager::User => "the user's manager",
            };
            Level::Ok.of(subject, format!("{manager}, version {}", systemd.version))
        }
        (None, Some(problem)) => {
            level
                .of(subject, problem.to_string())
                .mended_by(match facts.host.is_root() {
                    true => "systemctl daemon-reexec, or use --cgroup-manager cgroupfs",
                    false => "loginctl enable-linger USER, and log in anew",
                })
        }
        (None, None) => level
            .of(subject, "not running: --cgroup-manager systemd is refused")
            .mended_by("use --cgroup-manager cgroupfs, the default"),
    }
}

fn security_modules(host: &Host) -> Finding {
    let modules = [(*host.apparmor, "AppArmor"), (*host.selinux, "SELinux")];
    let names = modules.iter().filter(|(is_on, _)| *is_on);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    let found = match names.is_empty() {
        true => "neither AppArmor nor SELinux".to_owned(),
        false => names.join(", "),
    };
    Level::Ok.of("security modules", found)
}

fn seccomp(facts: &Facts) -> Finding {
    match &facts.seccomp {
        Some(flags) => Level::Ok.of("seccomp", format!("filters, with {}", flags.join(", "))),
        None => Level::Lacking
            .of("seccomp", "this kernel has no filters of system calls")
            .mended_by("boot a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

/// Root may map all ids.
fn subordinate_ids(host: &Host) -> Option<Finding> {
    if host.is_root() {
        return None;
    }
    let ids = &host.subordinate_ids;
    let count = |ranges: &[(u32, u32)]| ranges.iter().map(|(_, count)| u64::from(*count)).sum();
    let (uids, gids): (u64, u64) = (count(&ids.uid), count(&ids.gid));
    let subject = "subordinate ids";
    Some(if uids == 0 || gids == 0 {
        let range = "100000-165535";
        Level::Note
            .of(subject, "none: a container has the caller's own id alone")
            .mended_by(format!(
                "usermod --add-subuids {range} --add-subgids {range} USER"
            ))
    } else if ids.newuidmap.is_none() || ids.newgidmap.is_none() {
        Level::Note
            .of(
                subject,
                "newuidmap and newgidmap are missing, which map them",
            )
            .mended_by("install the package uidmap")
    } else {
        Level::Ok.of(subject, format!("{uids} uids, {gids} gids"))
    })
}

fn networks(facts: &Facts) -> Vec<Finding> {
    let subject = "networks";
    let (names, problems) = &facts.networks;
    let mut findings = vec![match names.is_empty() {
        true => Level::Note
            .of(
                subject,
                "none is configured: --network takes none and host alone",
            )
            .mended_by("put a CNI configuration into /etc/cni/net.d"),
        false => Level::Ok.of(subject, names.join(", ")),
    }];
    findings.extend(problems.iter().map(|problem| {
        Level::Note
            .of(subject, problem.clone())
            .mended_by("install the CNI plugins, or correct the configuration")
    }));
    findings
}

fn program(facts: &Facts) -> Finding {
    let subject = "program";
    if facts.is_protected {
        return Level::Ok.of(subject, "on a read-only mount");
    }
    match facts.host.is_root() {
        true => Level::Ok.of(subject, "on a writable mount: protected at each call"),
        false => Level::Note
            .of(
                subject,
                "on a writable mount: copied into memory at each call",
            )
            .mended_by("put it on a read-only mount"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::{Delegation, Refusal, fixture};
    use expect_test::{Expect, expect};

    fn facts(host: Host) -> Facts {
        Facts {
            host,
            namespaces: NamespaceKind::ALL.map(|kind| (kind, Ok(()))),
            systemd_problem: None,
            manager: CgroupManager::Cgroupfs,
            seccomp: Some(vec!["SECCOMP_FILTER_FLAG_LOG"]),
            networks: (vec!["web".to_owned()], Vec::new()),
            criu: Some(MINIMUM),
            is_protected: true,
        }
    }

    fn text(findings: &[Finding]) -> String {
        let line = |one: &Finding| {
            let remedy = one.remedy.as_ref();
            let remedy = remedy.map_or_else(String::new, |remedy| format!("  => {remedy}\n"));
            let level = one.level.name();
            format!("{level} {}\n  {}\n{remedy}", one.subject, one.found)
        };
        findings.iter().map(line).collect()
    }

    fn check(facts: &Facts, expected: Expect) {
        expected.assert_eq(&text(&judge(facts)));
    }

    /// All that is not well.
    fn check_wrong(facts: &Facts, expected: Expect) {
        let mut findings = judge(facts);
        findings.retain(|one| one.level != Level::Ok);
        assert!(findings.iter().all(|one| one.remedy.is_some()));
        expected.assert_eq(&text(&findings));
    }

    #[test]
    fn a_host_that_has_all() {
        check(
            &facts(fixture::with_systemd(fixture::v2())),
            expect![[r#"
            ok kernel
              6.12
            ok namespaces
              cgroup, ipc, mount, network, pid, time, user, uts
            ok user namespaces
              allowed
            ok cgroups
              v2: cpuset, cpu, io, memory, hugetlb, pids, rdma, misc
            ok systemd
              the machine's manager, version 257
            ok security modules
              neither AppArmor nor SELinux
            ok seccomp
              filters, with SECCOMP_FILTER_FLAG_LOG
            ok networks
              web
            ok criu
              3.0
            ok program
              on a read-only mount
        "#]],
        );
    }

    #[test]
    fn a_user_who_has_all() {
        let mut facts = facts(fixture::with_systemd(fixture::unprivileged()));
        facts.host.delegation = Some(Delegation {
            directory: "/sys/fs/cgroup/user".into(),
            refused: None,
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
        })
        .into();
        check_wrong(&facts, expect![[""]]);
    }

    #[test]
    fn a_user_who_lacks_much() {
        let mut facts = facts(fixture::unprivileged());
        facts.namespaces = NamespaceKind::ALL.map(|kind| (kind, Err(Errno::EPERM)));
        facts.host.user_namespaces_refused = Some(Refusal {
            setting: "kernel.unprivileged_userns_clone",
            value: "0",
            allowing: "1",
            whom: Refused::Unprivileged,
        })
        .into();
        facts.host.delegation = Some(Delegation {
            directory: "/sys/fs/cgroup/user".into(),
            refused: Some(Errno::EACCES),
            controllers: Vec::new(),
        })
        .into();
        facts.host.subordinate_ids.newuidmap = None;
        facts.is_protected = false;
        check_wrong(
            &facts,
            expect![[r#"
            lacking user namespaces
              refused: kernel.unprivileged_userns_clone is 0
              => sysctl -w kernel.unprivileged_userns_clone=1
            note cgroup rights
              no cgroup can be made in /sys/fs/cgroup/user: permission denied (EACCES): no limits
              => systemd-run --user --scope -p Delegate=yes coracle ...
            note systemd
              not running: --cgroup-manager systemd is refused
              => use --cgroup-manager cgroupfs, the default
            note subordinate ids
              newuidmap and newgidmap are missing, which map them
              => install the package uidmap
            note program
              on a writable mount: copied into memory at each call
              => put it on a read-only mount
        "#]],
        );
        facts.host.user_namespaces_refused = None.into();
        facts.host.subordinate_ids.gid.clear();
        facts.host.delegation.as_mut().unwrap().refused = None;
        check_wrong(
            &facts,
            expect![[r#"
            lacking user namespaces
              refused: operation not permitted (EPERM)
              => run it outside of the container or sandbox that refuses clone3(2)
            note cgroup rights
              /sys/fs/cgroup/user has no controller cpu, memory, pids
              => in [Service] of user@.service: Delegate=cpu cpuset io memory pids
            note systemd
              not running: --cgroup-manager systemd is refused
              => use --cgroup-manager cgroupfs, the default
            note subordinate ids
              none: a container has the caller's own id alone
              => usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER
            note program
              on a writable mount: copied into memory at each call
              => put it on a read-only mount
        "#]],
        );
    }

    /// Of a root who lacks much.
    fn poor_root() -> Facts {
        let mut facts = facts(fixture::v1());
        for (kind, outcome) in &mut facts.namespaces {
            match kind {
                NamespaceKind::Time | NamespaceKind::Pid => *outcome = Err(Errno::EINVAL),
                NamespaceKind::Network | NamespaceKind::User => *outcome = Err(Errno::ENOSPC),
                NamespaceKind::Ipc => *outcome = Err(Errno::EPERM),
                _ => {}
            }
        }
        facts
            .host
            .cgroups
            .hierarchies
            .retain(|one| one.controllers != ["memory"]);
        facts.host.delegation = Some(Delegation {
            directory: "/sys/fs/cgroup/pids".into(),
            refused: Some(Errno::EROFS),
            controllers: Vec::new(),
        })
        .into();
        facts.manager = CgroupManager::Systemd;
        facts.seccomp = None;
        facts.networks = (
            Vec::new(),
            vec!["network web: plugin bridge: not found".to_owned()],
        );
        facts.criu = None;
        facts
    }

    #[test]
    fn a_root_who_lacks_much() {
        let facts = poor_root();
        check_wrong(
            &facts,
            expect![[r#"
            lacking namespaces
              no pid namespace: invalid argument (EINVAL)
              => boot a kernel with CONFIG_PID_NS
            note namespaces
              no time namespace: invalid argument (EINVAL)
              => boot a kernel with CONFIG_TIME_NS
            lacking namespaces
              no network namespace: no space left on device (ENOSPC)
              => sysctl -w user.max_net_namespaces=15000
            lacking namespaces
              no ipc namespace: operation not permitted (EPERM)
              => run it outside of the container or sandbox that refuses clone3(2)
            note user namespaces
              refused: no space left on device (ENOSPC)
              => sysctl -w user.max_user_namespaces=15000
            note cgroups
              no memory controller: a config with its limits is refused
              => add cgroup_enable=memory to the kernel's command line
            lacking cgroup rights
              no cgroup can be made in /sys/fs/cgroup/pids: read-only file system (EROFS)
              => mount it writable, or use --cgroup-manager disabled
            lacking systemd
              not running: --cgroup-manager systemd is refused
              => use --cgroup-manager cgroupfs, the default
            lacking seccomp
              this kernel has no filters of system calls
              => boot a kernel with CONFIG_SECCOMP_FILTER
            note networks
              none is configured: --network takes none and host alone
              => put a CNI configuration into /etc/cni/net.d
            note networks
              network web: plugin bridge: not found
              => install the CNI plugins, or correct the configuration
            note criu
              not found in PATH: no checkpoint and no restore
              => install criu 3.0 or newer
        "#]],
        );
    }

    #[test]
    fn a_root_without_cgroups() {
        let mut facts = facts(fixture::with_systemd(fixture::v2()));
        facts.host.cgroups = coracle_host::CgroupLayout::default().into();
        check_wrong(
            &facts,
            expect![[r#"
            lacking cgroups
              no cgroup file system is mounted
              => mount -t cgroup2 cgroup2 /sys/fs/cgroup
        "#]],
        );
    }

    #[test]
    fn who_disables_cgroups_lacks_none() {
        let mut facts = poor_root();
        facts.manager = CgroupManager::Disabled;
        let levels = |facts: &Facts| {
            let about = [cgroups(facts), delegation(facts).into_iter().collect()];
            about
                .concat()
                .iter()
                .map(|one| one.level)
                .collect::<Vec<_>>()
        };
        assert!(!levels(&facts).contains(&Level::Lacking));
        facts.host.cgroups = coracle_host::CgroupLayout::default().into();
        assert_eq!(levels(&facts), [Level::Note; 2]);
    }

    #[test]
    fn settings_that_bind_users_alone_are_a_note_to_root() {
        let mut facts = facts(fixture::with_systemd(fixture::v2()));
        facts.host.user_namespaces_refused = Some(Refusal {
            setting: "kernel.apparmor_restrict_unprivileged_userns",
            value: "1",
            allowing: "0",
            whom: Refused::Unprivileged,
        })
        .into();
        check_wrong(
            &facts,
            expect![[r#"
            note user namespaces
              refused to users: kernel.apparmor_restrict_unprivileged_userns is 1
              => sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
        "#]],
        );
    }

    #[test]
    fn a_machine_that_cannot_be_used() {
        let old = coracle_host::Error::KernelTooOld {
            found: coracle_host::KernelVersion { major: 5, minor: 4 },
        };
        let finding = unusable(old).unwrap();
        assert_eq!(finding.level, Level::Lacking);
        assert_eq!(finding.remedy.unwrap(), "boot Linux 5.14 or newer");
        let other = coracle_host::Error::Capabilities {
            errno: Errno::EPERM,
        };
        assert!(unusable(other).is_err());
    }
}
