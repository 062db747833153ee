//! Plans mounts of `type: cgroup`: all hierarchies under one destination.

use super::fresh::label_option;
use super::planner::{Planner, c_string, described, lookup};
use super::steps::{
    Cgroup, CgroupEntry, CgroupFill, Change, Fallback, Fresh, Parameters, Source, Step,
};
use crate::Error;
use coracle_bundle::{FileSystem, Mount, Namespace, PropagationKind};
use coracle_host::{CgroupMode, Hierarchy};
use coracle_sys::mount_attribute;
use std::path::{Path, PathBuf};

pub(super) fn plan(planner: &mut Planner, mount: &Mount) -> Result<Step, Error> {
    match planner.host.cgroups.mode {
        CgroupMode::V2 => unified(planner, mount),
        // With v1 hierarchies, `type: cgroup` means those. The v2 tree alone is requested by
        // `type: cgroup2`.
        _ if mount.file_system() == Some(&FileSystem::Cgroup2) => unified(planner, mount),
        CgroupMode::V1 | CgroupMode::Hybrid => hierarchies(planner, mount),
        CgroupMode::None => Err(Error::NoCgroups {
            at: mount.at.clone(),
        }),
    }
}

fn has_namespace(planner: &Planner) -> bool {
    planner.config.linux.namespaces.cgroup != Namespace::Inherit
}

/// The v2 mount. The kernel refuses a new one in a user namespace without a cgroup namespace of its
/// own. Then the host's is bound, which shows the same and to which the paths of
/// `/proc/self/cgroup` refer. If read-only is configured, all mounts below become read-only too
/// (CVE-2023-25809).
fn unified(planner: &mut Planner, mount: &Mount) -> Result<Step, Error> {
    let mut fresh = Fresh::new(planner, mount, (&FileSystem::Cgroup2, lookup(mount)))?;
    let set = fresh.attributes;
    fresh.fallback = match planner.host.cgroups.unified.clone() {
        Some(tree) => {
            let own = planner.context.unified_directory.clone();
            let path = match has_namespace(planner) {
                true => own.unwrap_or_else(|| inherited(&tree.mount, &tree.root, &tree.own)),
                false => tree.mount,
            };
            let source = source(planner, (&path, None), set, &mount.at);
            Some(Fallback::BindOrNothing(source))
        }
        None => None,
    };
    fresh.parameters = named();
    fresh.parameters.extend(mount.options.data.iter().cloned());
    Ok(Step::Fresh(fresh))
}

fn hierarchies(planner: &mut Planner, mount: &Mount) -> Result<Step, Error> {
    let at = &mount.at;
    let data = mount.options.data.iter().map(|(key, _)| key.as_c_str());
    if let Some(option) = data.chain(mount.options.superblock.iter().copied()).next() {
        return Err(Error::CgroupOption {
            at: at.clone(),
            option: option.to_string_lossy().into_owned(),
        });
    }
    let target = planner.target(mount, lookup(mount))?;
    let set = mount.options.of_new_mount();
    let mut parameters = named();
    parameters.push((c"mode".to_owned(), Some(c"755".to_owned())));
    parameters.extend(label_option(planner)?);
    let mut entries = Vec::new();
    let mut links = Vec::new();
    for hierarchy in planner.host.cgroups.hierarchies.clone() {
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let name = c_string(name);
        for controller in &hierarchy.controllers {
            let bytes = controller.as_bytes();
            if bytes != name.to_bytes() && !controller.starts_with("name=") {
                links.push((c_string(controller), name.clone()));
            }
        }
        let fill = self::hierarchy(planner, &hierarchy, set, at);
        entries.push(CgroupEntry { name, fill });
    }
    if let Some(entry) = side_tree(planner, set, at) {
        entries.push(entry);
    }
    Ok(Step::Cgroup(Cgroup {
        text: described(mount),
        target,
        parameters,
        attributes: set & !mount_attribute::RDONLY,
        read_only: set & mount_attribute::RDONLY != 0,
        propagation: Change::propagations(&mount.options),
        entries,
        links,
    }))
}

fn hierarchy(planner: &mut Planner, hierarchy: &Hierarchy, set: u64, at: &str) -> CgroupFill {
    let mut own = planner.context.cgroup_directories.iter();
    let own = own.find(|own| own.mount == hierarchy.mount);
    let own = own.map(|own| own.directory.as_path());
    let inherited = inherited(&hierarchy.mount, &hierarchy.root, &hierarchy.own);
    let mut parameters = named();
    for controller in &hierarchy.controllers {
        match controller.strip_prefix("name=") {
            Some(name) => {
                parameters.push((c"none".to_owned(), None));
                parameters.push((c"name".to_owned(), Some(c_string(name))));
            }
            None => parameters.push((c_string(controller), None)),
        }
    }
    if hierarchy.noprefix {
        parameters.push((c"noprefix".to_owned(), None));
    }
    let source = source(
        planner,
        (own.unwrap_or(&inherited), Some(&inherited)),
        set,
        at,
    );
    fill(planner, (FileSystem::Cgroup, parameters), source, set)
}

/// With a cgroup namespace, a new mount shows only the container's part. Without one it would show
/// the whole hierarchy of the host, so the cgroup that init will be in is bound: the container's
/// own, or the runtime's if the container has none.
fn fill(
    planner: &Planner,
    (file_system, parameters): (FileSystem, Parameters),
    source: usize,
    set: u64,
) -> CgroupFill {
    match has_namespace(planner) {
        false => CgroupFill::Bind { source },
        true => CgroupFill::Fresh {
            file_system,
            parameters,
            attributes: set,
            fallback: source,
        },
    }
}

/// What mountinfo shows as the source.
fn named() -> Parameters {
    vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))]
}

/// The runtime's cgroup, in which a container stays that has none of its own; the top of the mount
/// if the runtime's cgroup is outside of it.
fn inherited(mount: &Path, root: &Path, own: &Path) -> PathBuf {
    let below = own.strip_prefix(root).unwrap_or(Path::new(""));
    mount.join(below)
}

/// The v2 mount of a hybrid host, next to the v1 hierarchies.
fn side_tree(planner: &mut Planner, set: u64, at: &str) -> Option<CgroupEntry> {
    let tree = planner.host.cgroups.unified.clone()?;
    let name = tree.mount.file_name()?;
    let name = c_string(name);
    let own = planner.context.unified_directory.as_deref();
    let inherited = inherited(&tree.mount, &tree.root, &tree.own);
    let source = source(
        planner,
        (own.unwrap_or(&inherited), Some(&inherited)),
        set,
        at,
    );
    let fill = fill(planner, (FileSystem::Cgroup2, named()), source, set);
    Some(CgroupEntry { name, fill })
}

/// A source with a second path, which is used if the first does not exist when it is opened.
fn source(
    planner: &mut Planner,
    (path, alternative): (&Path, Option<&Path>),
    set: u64,
    at: &str,
) -> usize {
    let source = Source {
        recursive: true,
        changes: vec![Change {
            set,
            ..Change::propagation(PropagationKind::Private, true)
        }],
        optional: true,
        alternative: alternative.map(c_string),
        ..Source::new(at.to_owned(), c_string(path), planner.next_step())
    };
    planner.add_source(source)
}
