//! Hosts that do not exist, for tests of the crates above.
//!
//! All have kernel 6.12, capabilities up to `CAP_CHECKPOINT_RESTORE`, the namespaces that a boot
//! makes, no security module and one memory node. Change a field for the case at hand:
//!
//! ```
//! let old = coracle_host::Host {
//!     kernel: coracle_host::KERNEL_FLOOR,
//!     ..coracle_host::fixture::v1()
//! };
//! # assert!(old.kernel < coracle_host::fixture::v1().kernel);
//! ```

use crate::{
    Bus, CgroupLayout, CgroupMode, Fact, FileSystems, Hierarchy, Host, KernelVersion, NamespaceIds,
    Needs, Peer, Setgroups, SubordinateIds, Systemd, SystemdManager,
};
use coracle_sys::NamespaceFlags;
use std::path::PathBuf;

/// `CAP_CHECKPOINT_RESTORE`, the last one since Linux 5.9.
const LAST_CAPABILITY: u8 = 40;

/// The numbers of the namespaces that a boot makes: linux/nsfs.h.
const INITIAL: NamespaceIds = NamespaceIds {
    pid: (4, 4_026_531_836),
    network: (4, 4_026_531_833),
    mount: (4, 4_026_531_832),
    ipc: (4, 4_026_531_839),
    uts: (4, 4_026_531_838),
    user: (4, 4_026_531_837),
    cgroup: (4, 4_026_531_835),
    time: (4, 4_026_531_834),
};

/// Root with all capabilities on a pure v2 machine under systemd, in a service's cgroup.
#[must_use]
pub fn v2() -> Host {
    root(CgroupLayout {
        mode: CgroupMode::V2,
        hierarchies: Vec::new(),
        unified: Some(unified(
            "/sys/fs/cgroup",
            "/system.slice/engine.service",
            &[
                "cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc",
            ],
        )),
    })
}

/// Root with all capabilities on a v1 machine: one hierarchy a controller, as distributions had
/// it, and systemd's own.
#[must_use]
pub fn v1() -> Host {
    root(CgroupLayout {
        mode: CgroupMode::V1,
        hierarchies: hierarchies(),
        unified: None,
    })
}

/// [`v1`], and a v2 mount without controllers at `unified`.
#[must_use]
pub fn hybrid() -> Host {
    root(CgroupLayout {
        mode: CgroupMode::Hybrid,
        hierarchies: hierarchies(),
        unified: Some(unified(
            "/sys/fs/cgroup/unified",
            "/system.slice/engine.service",
            &[],
        )),
    })
}

/// Uid and gid 1000 without capabilities on [`v2`]'s machine, in its login's cgroup, with 65536
/// subordinate ids from 100000 and the helpers in `/usr/bin`.
#[must_use]
pub fn unprivileged() -> Host {
    let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope";
    Host {
        euid: 1000,
        egid: 1000,
        capabilities: 0,
        subordinate_ids: Fact::Known(SubordinateIds {
            uid: vec![(100_000, 65_536)],
            gid: vec![(100_000, 65_536)],
            newuidmap: Some(PathBuf::from("/usr/bin/newuidmap")),
            newgidmap: Some(PathBuf::from("/usr/bin/newgidmap")),
        }),
        cgroups: Fact::Known(CgroupLayout {
            mode: CgroupMode::V2,
            hierarchies: Vec::new(),
            unified: Some(unified(
                "/sys/fs/cgroup",
                own,
                &[
                    "cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc",
                ],
            )),
        }),
        ..v2()
    }
}

fn root(cgroups: CgroupLayout) -> Host {
    Host {
        kernel: KernelVersion {
            major: 6,
            minor: 12,
        },
        euid: 0,
        egid: 0,
        capabilities: (1 << (LAST_CAPABILITY + 1)) - 1,
        ambient_allowed: true,
        last_capability: LAST_CAPABILITY,
        in_user_namespace: false,
        setgroups: Setgroups::Allowed,
        subordinate_ids: SubordinateIds::default().into(),
        cgroups: cgroups.into(),
        apparmor: false.into(),
        landlock: 7.into(),
        selinux: false.into(),
        resctrl: None.into(),
        namespaces: INITIAL.into(),
        differing: NamespaceFlags::empty().into(),
        online_nodes: vec![0, 1].into(),
        systemd: None.into(),
        user_namespaces_refused: None.into(),
        delegation: None.into(),
        file_systems: FileSystems::default().into(),
        real_root: None.into(),
    }
}

/// The host, with systemd 257 as its manager of units.
#[must_use]
pub fn with_systemd(host: Host) -> Host {
    let (manager, cgroup, address) = if host.euid == 0 && !host.in_user_namespace {
        (
            SystemdManager::System,
            "/",
            "unix:path=/run/dbus/system_bus_socket",
        )
    } else {
        let own = "/user.slice/user-1000.slice/user@1000.service";
        (SystemdManager::User, own, "unix:path=/run/user/1000/bus")
    };
    Host {
        systemd: Fact::Known(Some(Systemd {
            manager,
            version: 257,
            cgroup: PathBuf::from(cgroup),
            bus: Bus {
                address: address.to_owned(),
                peer: Peer::Daemon,
            },
        })),
        ..host
    }
}

/// The host with the facts that `needs` name, as [`probe`](crate::probe) gathers them: a planner
/// that reads another one panics.
#[must_use]
pub fn only(host: Host, needs: &Needs) -> Host {
    Host {
        subordinate_ids: kept(host.subordinate_ids, needs.id_maps),
        cgroups: kept(host.cgroups, needs.cgroups),
        apparmor: kept(host.apparmor, needs.apparmor),
        selinux: kept(host.selinux, needs.selinux),
        landlock: kept(host.landlock, needs.landlock),
        resctrl: kept(host.resctrl, needs.resctrl),
        namespaces: kept(host.namespaces, needs.namespaces),
        differing: kept(host.differing, needs.compared.is_some()),
        online_nodes: kept(host.online_nodes, needs.nodes),
        systemd: kept(host.systemd, needs.systemd),
        user_namespaces_refused: kept(host.user_namespaces_refused, needs.refusals),
        delegation: kept(host.delegation, needs.cgroups && needs.refusals),
        file_systems: kept(host.file_systems, needs.file_systems),
        real_root: kept(host.real_root, needs.root.is_some()),
        ..host
    }
}

fn kept<T>(fact: Fact<T>, is_needed: bool) -> Fact<T> {
    match is_needed {
        true => fact,
        false => Fact::NotGathered,
    }
}

fn unified(mount: &str, own: &str, controllers: &[&str]) -> Hierarchy {
    Hierarchy {
        mount: PathBuf::from(mount),
        root: PathBuf::from("/"),
        own: PathBuf::from(own),
        controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        noprefix: false,
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    [
        "name=systemd",
        "cpu,cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls,net_prio",
        "perf_event",
        "rdma",
    ]
    .into_iter()
    .map(hierarchy)
    .collect()
}

fn hierarchy(controllers: &str) -> Hierarchy {
    let directory = controllers.strip_prefix("name=").unwrap_or(controllers);
    Hierarchy {
        controllers: controllers.split(',').map(ToOwned::to_owned).collect(),
        mount: PathBuf::from("/sys/fs/cgroup").join(directory),
        root: PathBuf::from("/"),
        own: PathBuf::from("/system.slice/engine.service"),
        noprefix: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_each() {
        let modes = [v2(), v1(), hybrid()].map(|host| host.cgroups.mode);
        assert_eq!(modes, [CgroupMode::V2, CgroupMode::V1, CgroupMode::Hybrid]);
        assert_eq!(v1().cgroups.hierarchies.len(), 12);
        assert_eq!(v2().capabilities, 0x1ff_ffff_ffff);
        assert_eq!(unprivileged().capabilities, 0);
    }
}
