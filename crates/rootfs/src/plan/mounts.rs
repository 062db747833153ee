//! Plans `mounts`: config.md § Mounts, § Linux mount options.

use super::planner::{Planner, c_string};
use super::steps::{Remount, Step, Target};
use super::target::{self, Entry};
use super::{bind, cgroup, fresh, propagation};
use crate::Error;
use coracle_bundle::{Destination, FileSystem, Mount, MountKind};

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let mounts = &planner.config.mounts;
    for (index, mount) in mounts.iter().enumerate() {
        let entry = Entry {
            at: format!("config.json: mounts[{index}]"),
            mount,
            later: mounts.get(index + 1..).unwrap_or_default(),
        };
        if mount.id_map.is_some() && !can_be_id_mapped(mount) {
            return Err(Error::IdMapHere { at: entry.at });
        }
        let step = match &mount.kind {
            MountKind::Remount { .. } => remount(&entry)?,
            MountKind::Bind { source, depth } => bind::plan(planner, &entry, (source, *depth))?,
            MountKind::New {
                file_system: FileSystem::Cgroup | FileSystem::Cgroup2,
                ..
            } => cgroup::plan(planner, &entry)?,
            MountKind::New {
                file_system,
                source,
            } => fresh::plan(planner, &entry, (file_system, source.as_deref()))?,
        };
        planner.push(step);
        if mount.destination == Destination::Root
            && !matches!(mount.kind, MountKind::Remount { .. })
        {
            if planner.is_on_hosts_namespace() {
                return Err(Error::RootOnHost { at: entry.at });
            }
            // The earlier mounts are hidden by the new root.
            (planner.proc, planner.sys) = (None, None);
        }
    }
    Ok(())
}

/// Whether the mount can be id-mapped: only a detached mount can, and cgroups and sysfs do not
/// support it.
fn can_be_id_mapped(mount: &Mount) -> bool {
    match &mount.kind {
        MountKind::Bind { .. } => true,
        MountKind::New { file_system, .. } => !matches!(
            file_system,
            FileSystem::Cgroup | FileSystem::Cgroup2 | FileSystem::Sysfs
        ),
        MountKind::Remount { .. } => false,
    }
}

fn remount(entry: &Entry) -> Result<Step, Error> {
    let (destination, options) = (entry.mount.destination.path(), &entry.mount.options);
    let mut changes = Vec::new();
    bind::attributes(options.attributes, &mut changes, false);
    bind::attributes(options.recursive, &mut changes, true);
    changes.extend(options.propagation.iter().copied().map(propagation::change));
    let mut data = Vec::new();
    for flag in &options.superblock {
        fresh::add_data(&mut data, flag, None);
    }
    for (key, value) in &options.data {
        fresh::add_data(&mut data, key, value.as_deref());
    }
    let data = match data.is_empty() {
        true => None,
        false => Some(fresh::mount_data(&data, &entry.at)?),
    };
    let shown = target::options(entry.mount);
    Ok(Step::Remount(Remount {
        text: format!("remount {}{shown}", destination.display()),
        target: Target {
            path: c_string(destination),
            base: None,
            lookup: target::lookup(entry.mount),
            outside_procfs: false,
        },
        changes: bind::merge(changes),
        data,
    }))
}
