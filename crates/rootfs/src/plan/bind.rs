//! Binds: their source, their flags, their id map.

use super::mounts::{Target, Want, kept, shown, target};
use super::propagation;
use super::{
    CAP_SYS_ADMIN, Change, IdMap, Planner, Source, SourceCheck, Step, UserNamespace, c_string,
};
use crate::Error;
use coracle_bundle::{
    AttributeChange, Bind as BindKind, IdMappings, IdmapOption, Mount, Namespace,
};
use coracle_sys::mount_attribute;
use std::fmt::Write as _;
use std::path::Path;

#[derive(Clone, Debug)]
pub(crate) struct Bind {
    /// `bind /etc/hosts on /etc/hosts (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) source: usize,
    pub(crate) keep: Option<usize>,
}

pub(super) fn plan(
    planner: &mut Planner,
    mount: &Mount,
    kind: BindKind,
    at: &str,
) -> Result<Step, Error> {
    let options = &mount.options;
    let source_at = format!("{at}.source");
    let Some(path) = &mount.source else {
        return Err(Error::NoSource { at: source_at });
    };
    // Over a link there is nothing left to follow when the target is looked up again.
    let no_follow = options.dest_nofollow || options.src_nofollow;
    let want = if no_follow { Want::NoFollow } else { Want::Any };
    let target = target(planner, mount, at, want)?;
    let mut source = Source::new(
        source_at.clone(),
        c_string(path.as_os_str(), &source_at)?,
        planner.next_step(),
    );
    source.recursive = kind == BindKind::Recursive;
    source.no_follow = options.src_nofollow;
    source.copy_link = options.copy_symlink;
    source.by_config = true;
    source.changes = bind_changes(planner, mount, kind);
    if !options.copy_symlink
        && let Some(below) = planner.inside(path)
    {
        source.inside = Some(c_string(below.as_os_str(), &source_at)?);
    }
    if let Some(id_map) = id_map(planner, mount, at)? {
        if planner.host.capabilities & CAP_SYS_ADMIN == 0 {
            return Err(Error::IdMapUnprivileged { at: at.to_owned() });
        }
        source.changes.push(id_map);
    }
    if mount.destination == Path::new("/proc") {
        source.check = SourceCheck::Procfs;
    }
    let keep = kept(planner, mount);
    let source = planner.add_source(source);
    let text = format!(
        "bind {} on {}{}",
        path.display(),
        mount.destination.display(),
        shown(mount)
    );
    Ok(Step::Bind(Bind {
        text,
        target,
        source,
        keep,
    }))
}

/// The propagation and the flags of a bind, in as few calls as their depths allow.
fn bind_changes(planner: &Planner, mount: &Mount, kind: BindKind) -> Vec<Change> {
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
        change.clear_unlocked = RESTRICTIONS & !(change.set | change.clear);
    }
    attributes(options.recursive, &mut changes, true);
    if kind == BindKind::Plain {
        for change in &mut changes {
            change.recursive = false;
        }
    }
    merge(changes)
}

/// What a bind loses of its source as soon as its options name one flag of the mount, unless they
/// name these too, or the kernel has locked them.
const RESTRICTIONS: u64 = mount_attribute::RDONLY
    | mount_attribute::NOSUID
    | mount_attribute::NODEV
    | mount_attribute::NOEXEC
    | mount_attribute::NOSYMFOLLOW;

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

/// Neighbours of one depth become one call where neither overrides the other.
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

pub(super) fn id_map(
    planner: &mut Planner,
    mount: &Mount,
    at: &str,
) -> Result<Option<Change>, Error> {
    let wanted = mount.options.idmap;
    if mount.id_mappings.is_none() && wanted.is_none() {
        return Ok(None);
    }
    let linux = &planner.config.linux;
    let map = match (
        &mount.id_mappings,
        planner.context.user_namespace,
        &linux.namespaces.user,
    ) {
        (Some(own), _, _) => lines(own, at),
        (None, UserNamespace::New, _) => lines(&linux.id_mappings, at),
        (None, UserNamespace::Joined, Namespace::Join { path, .. }) => IdMap::Path {
            at: at.to_owned(),
            path: path.clone(),
        },
        _ => return Err(Error::IdMapMissing { at: at.to_owned() }),
    };
    let recursive = wanted == Some(IdmapOption::Recursive);
    let known = planner
        .plan
        .id_maps
        .iter()
        .position(|other| same_map(other, &map));
    let id_map = known.unwrap_or_else(|| {
        planner.plan.id_maps.push(map);
        planner.plan.id_maps.len() - 1
    });
    let set = mount_attribute::IDMAP;
    Ok(Some(Change {
        set,
        id_map: Some(id_map),
        recursive,
        ..Change::default()
    }))
}

fn lines(maps: &IdMappings, at: &str) -> IdMap {
    let render = |list: &[coracle_bundle::IdMapping]| {
        list.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{} {} {}", line.container_id, line.host_id, line.size);
            text
        })
    };
    IdMap::Lines {
        at: at.to_owned(),
        uid: render(&maps.uid),
        gid: render(&maps.gid),
    }
}

fn same_map(one: &IdMap, other: &IdMap) -> bool {
    match (one, other) {
        (IdMap::Lines { uid, gid, .. }, IdMap::Lines { uid: u, gid: g, .. }) => {
            (uid, gid) == (u, g)
        }
        (IdMap::Path { path, .. }, IdMap::Path { path: other, .. }) => path == other,
        _ => false,
    }
}
