//! `mounts`: config.md § Mounts, § Linux mount options. Binds and remounts; those of new file
//! systems have files of their own.

use super::planner::{Planner, c_string, described, lookup};
use super::steps::{Bind, Change, Lookup, Remount, Source, SourceCheck, Step, Target};
use super::{cgroup, fresh};
use crate::Error;
use coracle_bundle::{
    AttributeChange, Destination, FileSystem, Mount, MountKind, Propagation, PropagationKind,
};
use coracle_sys::{Capability, Depth, mount_attribute};
use std::path::Path;

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let mut mounts = planner.config.mounts.iter();
    while let Some(mount) = mounts.next() {
        let step = match &mount.kind {
            MountKind::Remount { .. } => remount(mount)?,
            MountKind::Bind { source, depth } => bind(planner, mount, (source, *depth))?,
            MountKind::New {
                file_system: FileSystem::Cgroup | FileSystem::Cgroup2,
                ..
            } => cgroup::plan(planner, mount)?,
            MountKind::New {
                file_system,
                source,
            } => {
                let later = mounts.as_slice();
                fresh::plan(planner, mount, (file_system, source.as_deref()), later)?
            }
        };
        planner.attached(mount, &step);
        planner.push(mount.at.as_str(), step);
        if mount.destination == Destination::Root
            && !matches!(mount.kind, MountKind::Remount { .. })
        {
            // The earlier mounts are hidden by the new root.
            (planner.proc, planner.sys) = (None, None);
            planner.made.clear();
        }
    }
    Ok(())
}

fn bind(
    planner: &mut Planner,
    mount: &Mount,
    (path, depth): (&Path, Depth),
) -> Result<Step, Error> {
    let options = &mount.options;
    // With `src-nofollow`, a symbolic link itself may be mounted there: when the destination is
    // looked up again, that link must not be followed.
    let lookup = match options.src_nofollow {
        true => Lookup::NoFollow,
        false => lookup(mount),
    };
    let target = planner.target(mount, lookup)?;
    let at = format!("{}.source", mount.at);
    let mut source = Source::new(at, c_string(path), planner.next_step());
    source.recursive = depth == Depth::Recursive;
    source.no_follow = options.src_nofollow;
    source.copy_link = options.copy_symlink;
    source.by_config = true;
    source.changes = bind_changes(planner, mount, depth);
    if !options.copy_symlink {
        source.inside = planner.inside(path).map(c_string);
    }
    if let Some(id_map) = planner.id_map(mount) {
        if !planner.host.has(Capability::SysAdmin) {
            return Err(Error::IdMapUnprivileged {
                at: mount.at.clone(),
            });
        }
        source.changes.push(id_map);
    }
    if mount.destination == Destination::Proc {
        source.check = SourceCheck::Procfs;
    }
    let keep = planner.kept(mount);
    let source = planner.add_source(source);
    Ok(Step::Bind(Bind {
        text: described(mount),
        target,
        source,
        keep,
    }))
}

/// The propagation and flags of a bind mount, in as few mount_setattr(2) calls as their depths
/// allow.
fn bind_changes(planner: &Planner, mount: &Mount, depth: Depth) -> Vec<Change> {
    let options = &mount.options;
    let mut changes = Change::propagations(options);
    if changes.is_empty() {
        changes.push(default_propagation(planner.config.linux.rootfs_propagation));
    }
    attributes(options.attributes, &mut changes, false);
    if let Some(change) = changes.last_mut().filter(|change| has_attributes(change)) {
        change.clear_unlocked = restrictions() & !(change.set | change.clear);
    }
    attributes(options.recursive, &mut changes, true);
    if depth == Depth::Single {
        for change in &mut changes {
            change.recursive = false;
        }
    }
    merge(changes)
}

/// The propagation of a bind mount without such an option: that of the root, or rprivate. It is
/// never unbindable, since no path in it could be made read-only by a bind then.
fn default_propagation(root: Option<Propagation>) -> Change {
    match root {
        Some(root) if root.kind != PropagationKind::Unbindable => {
            Change::propagation(root.kind, root.recursive)
        }
        _ => Change::propagation(PropagationKind::Private, true),
    }
}

/// The flags of the source that a bind mount clears if its options name any flag. They stay if the
/// options name them, or if the kernel has locked them.
fn restrictions() -> u64 {
    let flags = mount_attribute::FLAGS.iter();
    flags.fold(0, |bits, (attribute, ..)| bits | attribute) & !mount_attribute::NODIRATIME
}

fn has_attributes(change: &Change) -> bool {
    change.set | change.clear != 0
}

fn attributes(change: AttributeChange, changes: &mut Vec<Change>, recursive: bool) {
    if change.set != 0 || change.clear != 0 {
        let AttributeChange { set, clear } = change;
        changes.push(Change {
            set,
            clear,
            recursive,
            ..Change::default()
        });
    }
}

/// Merges consecutive changes of the same depth if neither overrides the other.
fn merge(changes: Vec<Change>) -> Vec<Change> {
    let mut merged: Vec<Change> = Vec::new();
    for change in changes {
        match merged.last_mut() {
            Some(last)
                if last.recursive == change.recursive
                    && (last.propagation == 0 || change.propagation == 0)
                    && (last.set | last.clear == 0 || change.set | change.clear == 0) =>
            {
                last.set |= change.set;
                last.clear |= change.clear;
                last.clear_unlocked |= change.clear_unlocked;
                last.propagation |= change.propagation;
            }
            _ => merged.push(change),
        }
    }
    merged
}

fn remount(mount: &Mount) -> Result<Step, Error> {
    let (destination, options) = (mount.destination.path(), &mount.options);
    let mut changes = Vec::new();
    attributes(options.attributes, &mut changes, false);
    attributes(options.recursive, &mut changes, true);
    changes.extend(Change::propagations(options));
    let mut data = Vec::new();
    for flag in &options.superblock {
        fresh::add_data(&mut data, flag, None);
    }
    for (key, value) in &options.data {
        fresh::add_data(&mut data, key, value.as_deref());
    }
    let data = match data.is_empty() {
        true => None,
        false => Some(fresh::mount_data(&data, &mount.at)?),
    };
    Ok(Step::Remount(Remount {
        text: described(mount),
        target: Target {
            path: c_string(destination),
            base: None,
            lookup: lookup(mount),
            outside_procfs: false,
            exchangeable: true,
        },
        changes: merge(changes),
        data,
    }))
}
