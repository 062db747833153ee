//! Plans bind mounts: source, flags, id map.

use super::planner::{Planner, c_string};
use super::propagation;
use super::steps::{Bind, Change, IdMap, Lookup, Source, SourceCheck, Step};
use super::target::{self, Entry};
use crate::Error;
use coracle_bundle::{AttributeChange, Destination, Mount};
use coracle_sys::{Capability, Depth, mount_attribute};
use std::path::Path;

pub(super) fn plan(
    planner: &mut Planner,
    entry: &Entry,
    (path, depth): (&Path, Depth),
) -> Result<Step, Error> {
    let (mount, options) = (entry.mount, &entry.mount.options);
    // A copied link replaces the destination itself, so that is not followed.
    let lookup = match options.dest_nofollow || options.src_nofollow {
        true => Lookup::NoFollow,
        false => Lookup::Follow,
    };
    let target = target::plan(planner, entry, lookup)?;
    let at = format!("{}.source", entry.at);
    let mut source = Source::new(at, c_string(path), planner.next_step());
    source.recursive = depth == Depth::Recursive;
    source.no_follow = options.src_nofollow;
    source.copy_link = options.copy_symlink;
    source.by_config = true;
    source.changes = bind_changes(planner, mount, depth);
    if !options.copy_symlink {
        source.inside = planner.inside(path).map(c_string);
    }
    if let Some(id_map) = id_map(planner, entry) {
        if !planner.host.has(Capability::SysAdmin) {
            return Err(Error::IdMapUnprivileged {
                at: entry.at.clone(),
            });
        }
        source.changes.push(id_map);
    }
    if mount.destination == Destination::Proc {
        source.check = SourceCheck::Procfs;
    }
    let keep = target::kept(planner, mount);
    let source = planner.add_source(source);
    let text = format!(
        "bind {} on {}{}",
        path.display(),
        mount.destination.path().display(),
        target::options(mount)
    );
    Ok(Step::Bind(Bind {
        text,
        target,
        source,
        keep,
    }))
}

/// The propagation and flags of a bind mount, in as few mount_setattr(2) calls as their depths
/// allow.
fn bind_changes(planner: &Planner, mount: &Mount, depth: Depth) -> Vec<Change> {
    let options = &mount.options;
    let mut changes: Vec<Change> = if options.propagation.is_empty() {
        let default = propagation::of_bind(planner.config.linux.rootfs_propagation);
        vec![propagation::change(default)]
    } else {
        options
            .propagation
            .iter()
            .copied()
            .map(propagation::change)
            .collect()
    };
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

/// The flags of the source that a bind mount clears if its options name any flag. They stay if the
/// options name them, or if the kernel has locked them.
fn restrictions() -> u64 {
    let flags = mount_attribute::FLAGS.iter();
    flags.fold(0, |bits, (attribute, ..)| bits | attribute) & !mount_attribute::NODIRATIME
}

fn has_attributes(change: &Change) -> bool {
    change.set | change.clear != 0
}

pub(super) fn attributes(change: AttributeChange, changes: &mut Vec<Change>, recursive: bool) {
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
pub(super) fn merge(changes: Vec<Change>) -> Vec<Change> {
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

pub(super) fn id_map(planner: &mut Planner, entry: &Entry) -> Option<Change> {
    let requested = entry.mount.id_map.as_ref()?;
    let maps = &mut planner.plan.id_maps;
    let known = maps.iter().position(|known| known.ids == requested.ids);
    let id_map = known.unwrap_or_else(|| {
        maps.push(IdMap {
            at: entry.at.clone(),
            ids: requested.ids.clone(),
        });
        maps.len() - 1
    });
    Some(Change {
        set: mount_attribute::IDMAP,
        id_map: Some(id_map),
        recursive: requested.depth == Depth::Recursive,
        ..Change::default()
    })
}
