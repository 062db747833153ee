//! Mounts of `type: cgroup`: the whole set of hierarchies under one destination.

use super::fresh::{CopyUp, Fresh, context_type, label, text_of_fresh};
use super::mounts::{Target, Want, target};
use super::{CgroupNamespace, Change, Planner, Source, Step, c_string, propagation};
use crate::Error;
use coracle_bundle::{Mount, PropagationKind};
use coracle_host::{CgroupMode, Hierarchy};
use coracle_sys::mount_attribute;
use std::ffi::CString;
use std::path::Path;

/// A tmpfs with one directory a hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// `mount cgroup on /sys/fs/cgroup (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    /// Of the tmpfs.
    pub(crate) parameters: Vec<(CString, CString)>,
    /// Of the tmpfs, without read-only, which it becomes once it is filled.
    pub(crate) attributes: u64,
    pub(crate) read_only: bool,
    pub(crate) propagation: Vec<Change>,
    pub(crate) entries: Vec<CgroupEntry>,
    /// Names of merged controllers and the directory they lead to: `cpu` → `cpu,cpuacct`.
    pub(crate) links: Vec<(CString, CString)>,
}

/// One hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct CgroupEntry {
    pub(crate) name: CString,
    pub(crate) fill: CgroupFill,
}

#[derive(Clone, Debug)]
pub(crate) enum CgroupFill {
    /// A new mount, which shows the cgroup namespace's part.
    Fresh {
        fs_type: CString,
        parameters: Vec<(CString, Option<CString>)>,
        attributes: u64,
        /// Bound instead where the kernel does not permit a fresh one.
        fallback: Option<usize>,
    },
    /// The container's own cgroup.
    Bind { source: usize },
}

pub(super) fn plan(planner: &mut Planner, mount: &Mount, at: &str) -> Result<Step, Error> {
    match planner.host.cgroups.mode {
        CgroupMode::V2 => unified(planner, mount, at),
        // On the others a v2 mount is asked for by its own name only.
        _ if mount.fs_type.as_deref() == Some(c"cgroup2") => unified(planner, mount, at),
        CgroupMode::V1 | CgroupMode::Hybrid => hierarchies(planner, mount, at),
        CgroupMode::None => Err(Error::NoCgroups { at: at.to_owned() }),
    }
}

fn has_namespace(planner: &Planner) -> bool {
    planner.context.cgroup_namespace != CgroupNamespace::Inherit
}

/// The v2 tree. A user namespace without a cgroup namespace of its own may not mount it: then the
/// container's own cgroup is bound, or the host's tree if it has none; read-only as asked, in every
/// mount below (CVE-2023-25809).
fn unified(planner: &mut Planner, mount: &Mount, at: &str) -> Result<Step, Error> {
    let target = target(planner, mount, at, Want::of(mount))?;
    let set = mount.options.attributes.set | mount.options.recursive.set;
    let fallback = if planner.in_user_namespace() {
        let own = planner.context.unified_directory.clone();
        let host = planner
            .host
            .cgroups
            .unified
            .as_ref()
            .map(|tree| tree.mount.clone());
        own.or(host)
            .map(|path| source(planner, &path, set, at))
            .transpose()?
    } else {
        None
    };
    let mut parameters = vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))];
    parameters.extend(mount.options.data.iter().cloned());
    Ok(Step::Fresh(Fresh {
        text: text_of_fresh(mount),
        target,
        fs_type: c"cgroup2".to_owned(),
        parameters,
        attributes: set,
        changes: mount
            .options
            .propagation
            .iter()
            .copied()
            .map(propagation::change)
            .collect(),
        mode_of_target: false,
        copy_up: CopyUp::Nothing,
        keep: None,
        fallback,
        label: None,
        long: None,
    }))
}

fn hierarchies(planner: &mut Planner, mount: &Mount, at: &str) -> Result<Step, Error> {
    let data = mount.options.data.iter().map(|(key, _)| key.as_c_str());
    if let Some(option) = data.chain(mount.options.superblock.iter().copied()).next() {
        return Err(Error::CgroupOption {
            at: at.to_owned(),
            option: option.to_string_lossy().into_owned(),
        });
    }
    let target = target(planner, mount, at, Want::of(mount))?;
    let set = mount.options.attributes.set | mount.options.recursive.set;
    let mut parameters = vec![
        (c"source".to_owned(), c"cgroup".to_owned()),
        (c"mode".to_owned(), c"755".to_owned()),
    ];
    if let Some(label) = label(planner) {
        parameters.push((context_type(planner)?, label));
    }
    let mut entries = Vec::new();
    let mut links = Vec::new();
    for hierarchy in planner.host.cgroups.hierarchies.clone() {
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let name = c_string(name, at)?;
        for controller in &hierarchy.controllers {
            let bytes = controller.as_bytes();
            if bytes != name.to_bytes() && !controller.starts_with("name=") {
                links.push((c_string(controller.as_ref(), at)?, name.clone()));
            }
        }
        if let Some(fill) = fill(planner, &hierarchy, set, at)? {
            entries.push(CgroupEntry { name, fill });
        }
    }
    if let Some(entry) = side_tree(planner, set, at)? {
        entries.push(entry);
    }
    links.retain(|(_, name)| entries.iter().any(|entry| entry.name == *name));
    Ok(Step::Cgroup(Cgroup {
        text: text_of_fresh(mount),
        target,
        parameters,
        attributes: set & !mount_attribute::RDONLY,
        read_only: set & mount_attribute::RDONLY != 0,
        propagation: mount
            .options
            .propagation
            .iter()
            .copied()
            .map(propagation::change)
            .collect(),
        entries,
        links,
    }))
}

/// With a cgroup namespace a fresh mount shows just the container's part; without one it would show
/// the whole host, so that the container's own cgroup is bound, if it has one.
fn fill(
    planner: &mut Planner,
    hierarchy: &Hierarchy,
    set: u64,
    at: &str,
) -> Result<Option<CgroupFill>, Error> {
    let own = planner.context.cgroup_directories.iter();
    let own = own
        .filter(|own| own.mount == hierarchy.mount)
        .map(|own| own.directory.clone())
        .next();
    if !has_namespace(planner) {
        let bound = own.map(|own| source(planner, &own, set, at)).transpose()?;
        return Ok(bound.map(|source| CgroupFill::Bind { source }));
    }
    let mut parameters = vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))];
    for controller in &hierarchy.controllers {
        match controller.strip_prefix("name=") {
            Some(name) => {
                parameters.push((c"none".to_owned(), None));
                parameters.push((c"name".to_owned(), Some(c_string(name.as_ref(), at)?)));
            }
            None => parameters.push((c_string(controller.as_ref(), at)?, None)),
        }
    }
    if hierarchy.noprefix {
        parameters.push((c"noprefix".to_owned(), None));
    }
    let fallback = match own {
        Some(own) if planner.in_user_namespace() => Some(source(planner, &own, set, at)?),
        _ => None,
    };
    let fs_type = c"cgroup".to_owned();
    Ok(Some(CgroupFill::Fresh {
        fs_type,
        parameters,
        attributes: set,
        fallback,
    }))
}

/// The v2 mount beside v1 hierarchies.
fn side_tree(planner: &mut Planner, set: u64, at: &str) -> Result<Option<CgroupEntry>, Error> {
    let Some(tree) = &planner.host.cgroups.unified else {
        return Ok(None);
    };
    let Some(name) = tree.mount.file_name() else {
        return Ok(None);
    };
    let name = c_string(name, at)?;
    let own = planner.context.unified_directory.clone();
    let bound = match own {
        Some(own) if planner.in_user_namespace() || !has_namespace(planner) => {
            Some(source(planner, &own, set, at)?)
        }
        _ => None,
    };
    let fill = match (has_namespace(planner), bound) {
        (true, fallback) => CgroupFill::Fresh {
            fs_type: c"cgroup2".to_owned(),
            parameters: vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))],
            attributes: set,
            fallback,
        },
        (false, Some(source)) => CgroupFill::Bind { source },
        (false, None) => return Ok(None),
    };
    Ok(Some(CgroupEntry { name, fill }))
}

fn source(planner: &mut Planner, path: &Path, set: u64, at: &str) -> Result<usize, Error> {
    let private = coracle_bundle::Propagation {
        kind: PropagationKind::Private,
        recursive: true,
    };
    let source = Source {
        recursive: true,
        changes: vec![Change {
            set,
            ..propagation::change(private)
        }],
        optional: true,
        ..Source::new(
            at.to_owned(),
            c_string(path.as_os_str(), at)?,
            planner.next_step(),
        )
    };
    Ok(planner.add_source(source))
}
