//! The cgroup file systems, from the texts of `/proc/self/cgroup` and the mount table.

use crate::machine::{mount_point, unescaped};
use crate::{CgroupLayout, CgroupMode, Error, Hierarchy};
use procfs::ProcessCGroups;
use procfs::prelude::FromRead;
use procfs::process::MountInfo;
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// The usual mount point: cgroups(7), and the convention of systemd and the engines.
const TOP: &str = "/sys/fs/cgroup";

/// The layout that the text of `/proc/self/cgroup` and the mounts of types `cgroup` and `cgroup2`
/// describe. The controllers of the v2 tree are left empty: they are in a file below its mount.
pub(crate) fn layout(own: &[u8], mounts: &[MountInfo]) -> Result<CgroupLayout, Error> {
    let memberships = memberships(own)?;
    let unified = memberships
        .iter()
        .find(|membership| membership.controllers.is_empty())
        .and_then(|membership| unified(membership, mounts));
    let hierarchies: Vec<_> = memberships
        .iter()
        .filter_map(|membership| hierarchy(membership, mounts))
        .collect();
    let mode = mode(&hierarchies, unified.as_ref());
    let hierarchies = if mode == CgroupMode::V2 {
        Vec::new()
    } else {
        hierarchies
    };
    Ok(CgroupLayout {
        mode,
        hierarchies,
        unified,
    })
}

/// A line of `/proc/self/cgroup`.
struct Membership {
    /// Empty for v2.
    controllers: Vec<String>,
    path: PathBuf,
}

fn memberships(text: &[u8]) -> Result<Vec<Membership>, Error> {
    let Ok(lines) = ProcessCGroups::from_read(text) else {
        return Err(Error::Format {
            path: "/proc/self/cgroup",
            problem: "a line does not read as in cgroups(7)",
        });
    };
    let membership = |line: procfs::ProcessCGroup| Membership {
        controllers: line
            .controllers
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect(),
        path: PathBuf::from(line.pathname),
    };
    Ok(lines.into_iter().map(membership).collect())
}

fn mode(hierarchies: &[Hierarchy], unified: Option<&Hierarchy>) -> CgroupMode {
    let is_named = |hierarchy: &Hierarchy| {
        hierarchy
            .controllers
            .iter()
            .all(|controller| controller.starts_with("name="))
    };
    match unified {
        None if hierarchies.is_empty() => CgroupMode::None,
        None => CgroupMode::V1,
        // A v1 mount of an unused controller elsewhere does not make a v2 machine hybrid, and a
        // named hierarchy has no limits.
        Some(tree) if tree.mount == Path::new(TOP) => CgroupMode::V2,
        Some(_) if hierarchies.iter().all(is_named) => CgroupMode::V2,
        Some(_) => CgroupMode::Hybrid,
    }
}

fn unified(membership: &Membership, mounts: &[MountInfo]) -> Option<Hierarchy> {
    let mount = preferred(mounts, |mount| mount.fs_type == "cgroup2")?;
    Some(Hierarchy {
        mount: mount_point(mount),
        root: unescaped(mount.root.as_bytes()),
        own: membership.path.clone(),
        controllers: Vec::new(),
        noprefix: false,
    })
}

/// `None` for the v2 line, and for a hierarchy that is not mounted.
fn hierarchy(membership: &Membership, mounts: &[MountInfo]) -> Option<Hierarchy> {
    if membership.controllers.is_empty() {
        return None;
    }
    let mount = preferred(mounts, |mount| {
        mount.fs_type == "cgroup"
            && membership
                .controllers
                .iter()
                .all(|controller| has_controller(mount, controller))
    })?;
    Some(Hierarchy {
        controllers: membership.controllers.clone(),
        mount: mount_point(mount),
        root: unescaped(mount.root.as_bytes()),
        own: membership.path.clone(),
        noprefix: mount.super_options.contains_key("noprefix"),
    })
}

/// One hierarchy may be mounted several times: bound into containers, or one mount over another.
/// Returns the mount that other programs use: below the usual mount point if possible, with the
/// shortest path, and the last in the table, which covers the others.
fn preferred(mounts: &[MountInfo], fits: impl Fn(&MountInfo) -> bool) -> Option<&MountInfo> {
    mounts
        .iter()
        .filter(|mount| fits(mount))
        .max_by_key(|mount| {
            let depth = mount.mount_point.components().count();
            (mount.mount_point.starts_with(TOP), Reverse(depth))
        })
}

fn has_controller(mount: &MountInfo, controller: &str) -> bool {
    match controller.strip_prefix("name=") {
        Some(name) => mount
            .super_options
            .get("name")
            .is_some_and(|value| value.as_deref() == Some(name)),
        None => mount.super_options.contains_key(controller),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::mounts_of;

    const HYBRID_OWN: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/api/59cc\n3:cpuset:/\n\
        2:cpuacct,cpu:/\n1:net_cls:/\n0::/\n";
    const HYBRID_MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,noprefix
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    /// The layout, one line a tree: mount, root, own, controllers.
    fn check(own: &str, mounts: &str, expected: &str) {
        let mounts = mounts_of(mounts.as_bytes(), &["cgroup", "cgroup2"]).expect("mounts");
        let layout = layout(own.as_bytes(), &mounts).expect("a layout");
        let mut text = format!("{:?}\n", layout.mode);
        for h in &layout.hierarchies {
            let paths = [&h.mount, &h.root, &h.own].map(|path| path.display().to_string());
            let noprefix = if h.noprefix { " noprefix" } else { "" };
            text += &format!(
                "{} {}{noprefix}\n",
                paths.join(" "),
                h.controllers.join(",")
            );
        }
        if let Some(u) = &layout.unified {
            let paths = [&u.mount, &u.root, &u.own].map(|path| path.display().to_string());
            text += &format!("{} v2\n", paths.join(" "));
        }
        assert_eq!(text.trim_end(), expected.trim());
    }

    #[test]
    fn hybrid_in_the_order_of_the_memberships() {
        check(
            HYBRID_OWN,
            HYBRID_MOUNTS,
            "
Hybrid
/sys/fs/cgroup/systemd / / name=systemd
/sys/fs/cgroup/pids / / pids
/sys/fs/cgroup/memory / /api/59cc memory
/sys/fs/cgroup/cpuset / / cpuset noprefix
/sys/fs/cgroup/cpu,cpuacct / / cpuacct,cpu
/sys/fs/cgroup/unified / / v2"
                .trim_start(),
        );
    }

    #[test]
    fn v1_without_the_side_mount() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        check(
            "4:memory:/a:b/c\n0::/\n",
            mounts,
            "
V1
/sys/fs/cgroup/memory / /a:b/c memory",
        );
    }

    #[test]
    fn v2_under_systemd() {
        let own = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let mounts = "\
27 23 0:24 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,\
nsdelegate,memory_recursiveprot\n\
99 23 0:24 /x /run/x/cgroup ro shared:5 - cgroup2 cgroup2 rw\n";
        check(
            own,
            mounts,
            "
V2
/sys/fs/cgroup / /user.slice/user-1000.slice/session-3.scope v2",
        );
    }

    #[test]
    fn v2_with_a_spare_controller_mounted_elsewhere() {
        let mounts = "\
27 23 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
90 23 0:60 / /opt/vpn/net_cls rw - cgroup net_cls rw,net_cls\n";
        check(
            "1:net_cls:/\n0::/init.scope\n",
            mounts,
            "
V2
/sys/fs/cgroup / /init.scope v2",
        );
    }

    #[test]
    fn v2_beside_a_named_hierarchy() {
        let mounts = "\
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        check(
            "1:name=systemd:/\n0::/\n",
            mounts,
            "
V2
/sys/fs/cgroup/unified / / v2",
        );
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let own = "4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n";
        let mounts = "\
500 499 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n\
501 499 0:37 /docker/abc /sys/fs/cgroup/systemd ro master:9 - cgroup cgroup rw,name=systemd\n";
        check(
            own,
            mounts,
            "
V1
/sys/fs/cgroup/memory /docker/abc /docker/abc memory
/sys/fs/cgroup/systemd /docker/abc /docker/abc name=systemd",
        );
    }

    #[test]
    fn a_container_with_its_own_cgroup_namespace() {
        let mounts = "27 23 0:24 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        check(
            "0::/\n",
            mounts,
            "
V2
/sys/fs/cgroup / / v2",
        );
    }

    #[test]
    fn the_usual_place_wins_over_binds_and_the_last_over_what_it_covers() {
        let mounts = "\
50 23 0:32 / /mnt/memory rw - cgroup cgroup rw,memory\n\
51 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
52 51 0:32 /part /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
53 52 0:32 /part/deep /sys/fs/cgroup/memory/deep rw - cgroup cgroup rw,memory\n";
        check(
            "4:memory:/part\n",
            mounts,
            "
V1
/sys/fs/cgroup/memory /part /part memory",
        );
    }

    #[test]
    fn nothing_mounted_or_nothing_there() {
        check("0::/\n", "22 27 0:21 / /proc rw - proc proc rw\n", "None");
        check("", "", "None");
        assert!(layout(b"memory\n", &[]).is_err());
    }
}
