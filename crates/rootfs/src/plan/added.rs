//! Plans a mount or a device that a running container gets.

use super::planner::{Context, Planner, c_string};
use super::steps::{Ends, Plan, Root, Step};
use super::{devices, mounts};
use crate::Error;
use coracle_bundle::{Config, Destination, FileSystem, Mount, MountKind, Namespace};
use coracle_host::Host;
use std::path::{Path, PathBuf};

/// Plans the mounts and the devices of `config`, which is the container's but for these: it has
/// only the one that is added. Carried out by [`crate::mounts`], below the root that
/// [`crate::Inherited::attach_in`] names. Pure.
///
/// # Errors
/// As [`super::plan`]; [`Error::NotAddable`] for what only `create` can mount.
pub fn plan_added(config: &Config, host: &Host) -> Result<Plan, Error> {
    for mount in &config.mounts {
        refuse(mount, config, host)?;
    }
    let context = Context::default();
    let mut planner = Planner::new(config, host, &context);
    planner.plan.root = Some(Root {
        path: config.root.path.clone(),
        path_c: c_string(&config.root.path),
        source: None,
        step: 0,
    });
    mounts::plan(&mut planner)?;
    devices::plan_requested(&mut planner);
    let mut plan = planner.plan;
    // The mounts are not from a config.json, so messages name no place in it.
    plan.at.clear();
    for (mount, step) in config.mounts.iter().zip(&plan.steps) {
        // mount(2) would attach it in the mount namespace that its source is found in.
        if matches!(step, Step::Fresh(fresh) if fresh.long.is_some()) {
            return Err(not_addable(mount, "options", "one of more than 255 bytes"));
        }
    }
    let steps = plan.steps();
    plan.ends = Ends {
        mounts: steps,
        pivot: steps,
        console: steps,
    };
    // The mount namespace exists already, and other processes are in it.
    plan.mount_namespace = Namespace::Join {
        path: PathBuf::new(),
        index: 0,
    };
    Ok(plan)
}

fn refuse(mount: &Mount, config: &Config, host: &Host) -> Result<(), Error> {
    let is_in_root = |source: &Path| {
        let real = host.real_root.as_deref();
        let roots = [Some(config.root.path.as_path()), real];
        roots.iter().flatten().any(|root| source.starts_with(root))
    };
    let refused = |member, what| Err(not_addable(mount, member, what));
    match &mount.destination {
        Destination::Root => return refused("destination", "a mount on /"),
        Destination::Proc | Destination::ProcFile(_) => {
            return refused("destination", "a mount in /proc");
        }
        Destination::Path(_) => {}
    }
    use FileSystem::{Cgroup, Cgroup2, Mqueue, Proc, Sysfs};
    match &mount.kind {
        MountKind::Remount { .. } => refused("options", "a remount"),
        MountKind::Bind { .. } if mount.options.copy_symlink => {
            refused("options", "a copy of a link")
        }
        // Links of the image in the path would be followed as if they were the host's.
        MountKind::Bind { source, .. } if is_in_root(source) => {
            refused("source", "a path below the container's own root")
        }
        // Such a file system shows the namespaces of the process that mounts it, which are not the
        // container's.
        MountKind::New {
            file_system: Proc | Sysfs | Mqueue | Cgroup | Cgroup2,
            ..
        } => refused("type", "a file system that shows namespaces"),
        MountKind::Bind { .. } | MountKind::New { .. } => Ok(()),
    }
}

fn not_addable(mount: &Mount, member: &str, what: &'static str) -> Error {
    Error::NotAddable {
        at: format!("{}.{member}", mount.at),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::fixture;

    fn planned(mount: &str, linux: &str) -> String {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "/b/rootfs"}}, "mounts": [{mount}],
                "linux": {{"namespaces": [{{"type": "mount"}}]{linux}}}}}"#
        );
        let config = coracle_bundle::parse(Path::new("/b"), text.as_bytes()).expect("valid");
        match plan_added(&config, &fixture::v1()) {
            Ok(plan) => {
                let steps = (0..plan.steps()).map(|step| plan.describe(step));
                steps.collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        }
    }

    fn mount(destination: &str, rest: &str) -> String {
        planned(
            &format!(r#"{{"destination": "{destination}", {rest}}}"#),
            "",
        )
    }

    #[test]
    fn one_mount_is_one_step() {
        let bind = r#""type": "bind", "source": "/h", "options": ["rbind", "ro"]"#;
        assert_eq!(mount("/data", bind), "bind /h on /data (ro)");
        let tmpfs = r#""type": "tmpfs", "source": "x", "options": ["ro", "size=1m"]"#;
        assert_eq!(mount("/data", tmpfs), "mount tmpfs on /data (ro,size=1m)");
    }

    #[test]
    fn one_device_is_one_step() {
        let fuse = r#", "devices": [{"path": "/dev/fuse", "type": "c", "major": 10,
            "minor": 229}]"#;
        let made = planned("", fuse);
        assert_eq!(made, "make device /dev/fuse c 10:229");
    }

    #[test]
    fn what_only_create_can_mount_is_refused() {
        let bind = |source: &str, option: &str| {
            format!(r#""type": "bind", "source": "{source}", "options": ["bind"{option}]"#)
        };
        let long = format!(
            r#""type": "overlay", "source": "o", "options": ["lowerdir={}"]"#,
            "/l".repeat(200)
        );
        let new = |kind: &str| format!(r#""type": "{kind}", "source": "{kind}""#);
        for (destination, rest, expected) in [
            ("/", bind("/h", ""), "destination: a mount on /"),
            ("/proc", new("proc"), "destination: a mount in /proc"),
            (
                "/sys",
                new("sysfs"),
                "type: a file system that shows namespaces",
            ),
            (
                "/c",
                new("cgroup"),
                "type: a file system that shows namespaces",
            ),
            ("/a", bind("/h", r#", "remount""#), "options: a remount"),
            (
                "/a",
                bind("/b/rootfs/x", ""),
                "source: a path below the container's own root",
            ),
            ("/a", long, "options: one of more than 255 bytes"),
        ] {
            let expected =
                format!("config.json: mounts[0].{expected} cannot be added to a running container");
            assert_eq!(mount(destination, &rest), expected);
        }
    }
}
