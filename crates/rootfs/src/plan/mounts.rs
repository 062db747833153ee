//! `mounts`: config.md § Mounts, § Linux mount options.

use super::{
    Change, IdMap, NetworkNamespace, Planner, Source, SourceBy, SourceCheck, Step, UserNamespace,
    c_string, cgroup, devices, propagation,
};
use crate::Error;
use coracle_bundle::{AttributeChange, Bind as BindKind, IdMappings, IdmapOption, Mount, Namespace};
use coracle_sys::mount_attribute;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::path::Path;

/// Where a step's mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Absolute, below the root or below the kept mount `base`.
    pub(crate) path: CString,
    pub(crate) base: Option<usize>,
    pub(crate) want: Want,
    /// Refuse what resolves into procfs: the text of the destination does not say where it leads.
    pub(crate) guarded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Links of the image are followed within the root.
    Any,
    /// A real directory, no link as its last part: else what looks like /proc is none
    /// (CVE-2019-19921, CVE-2023-27561).
    OrdinaryDirectory,
    /// The inode itself, even a symbolic link.
    NoFollow,
}

#[derive(Clone, Debug)]
pub(crate) struct Bind {
    /// `bind /etc/hosts on /etc/hosts (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) source: usize,
    pub(crate) keep: Option<usize>,
}

/// A new instance of a file system.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// `mount proc on /proc (nosuid)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) fs_type: CString,
    pub(crate) parameters: Vec<(CString, Option<CString>)>,
    pub(crate) attributes: u64,
    pub(crate) changes: Vec<Change>,
    /// tmpfs without `mode=`: the mode of the directory it covers.
    pub(crate) mode_of_target: bool,
    pub(crate) copy_up: bool,
    pub(crate) keep: Option<usize>,
    /// The source to bind when the kernel does not permit a fresh instance.
    pub(crate) fallback: Option<usize>,
    /// mqueue takes its label as an attribute of its root, not as an option.
    pub(crate) label: Option<CString>,
}

/// New flags for what is mounted already.
#[derive(Clone, Debug)]
pub(crate) struct Remount {
    /// `remount /dev (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) changes: Vec<Change>,
    /// `key=value,…` for the superblock; `None` leaves it alone.
    pub(crate) data: Option<CString>,
}

/// The only files of procfs that may be replaced: lxcfs does so. Any other mount in procfs could hide
/// what the runtime or the masks rely on.
const IN_PROC: [&str; 10] = [
    "/cpuinfo",
    "/diskstats",
    "/meminfo",
    "/stat",
    "/swaps",
    "/uptime",
    "/loadavg",
    "/slabinfo",
    "/sys/kernel/ns_last_pid",
    "/sys/crypto/fips_enabled",
];

/// File systems without a device behind: `ro` is a matter of the mount alone.
const PSEUDO: [&CStr; 12] = [
    c"proc",
    c"sysfs",
    c"tmpfs",
    c"ramfs",
    c"devpts",
    c"mqueue",
    c"cgroup",
    c"cgroup2",
    c"devtmpfs",
    c"bpf",
    c"overlay",
    c"hugetlbfs",
];

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let config = planner.config;
    for (index, mount) in config.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let later = config.mounts.get(index + 1..).unwrap_or_default();
        let fs_type = mount.fs_type.as_deref();
        let options = &mount.options;
        if options.tmpcopyup && (fs_type != Some(c"tmpfs") || options.bind.is_some()) {
            return Err(Error::CopyUp { at });
        }
        let step = if options.remount {
            remount(planner, mount, &at)?
        } else if let Some(kind) = options.bind {
            bind(planner, mount, kind, &at)?
        } else {
            let Some(fs_type) = fs_type else { return Err(Error::NoType { at }) };
            match fs_type.to_bytes() {
                b"cgroup" | b"cgroup2" => cgroup::plan(planner, mount, &at)?,
                _ => fresh(planner, mount, fs_type, (&at, later))?,
            }
        };
        planner.plan.steps.push(step);
    }
    Ok(())
}

/// `(nosuid,nodev)` with a blank before it, without the words for binding; nothing when none is left.
fn shown(mount: &Mount) -> String {
    let mut text = String::new();
    for option in &mount.options.given {
        if option == "bind" || option == "rbind" || option == "remount" {
            continue;
        }
        text.push_str(if text.is_empty() { " (" } else { "," });
        text.push_str(option);
    }
    if !text.is_empty() {
        text.push(')');
    }
    text
}

fn remount(planner: &mut Planner, mount: &Mount, at: &str) -> Result<Step, Error> {
    let options = &mount.options;
    let mut target = target(planner, mount, at, Want::Any)?;
    target.guarded = false;
    let mut changes = Vec::new();
    attributes(options.attributes, &mut changes, false);
    attributes(options.recursive, &mut changes, true);
    changes.extend(options.propagation.iter().copied().map(propagation::change));
    let mut data = Vec::new();
    for flag in &options.superblock {
        data.push(flag.to_string_lossy().into_owned());
    }
    for (key, value) in &options.data {
        let key = key.to_string_lossy();
        data.push(value.as_ref().map_or_else(
            || key.clone().into_owned(),
            |value| format!("{key}={}", value.to_string_lossy()),
        ));
    }
    if options.bind.is_some() && !options.data.is_empty() {
        return Err(Error::BindData { at: at.to_owned(), options: data.join(",") });
    }
    let data = (options.bind.is_none() && !data.is_empty())
        .then(|| c_string(data.join(",").as_ref(), at))
        .transpose()?;
    let text = format!("remount {}{}", mount.destination.display(), shown(mount));
    Ok(Step::Remount(Remount { text, target, changes: merge(changes), data }))
}

fn bind(planner: &mut Planner, mount: &Mount, kind: BindKind, at: &str) -> Result<Step, Error> {
    let options = &mount.options;
    let source_at = format!("{at}.source");
    let Some(path) = &mount.source else { return Err(Error::NoSource { at: source_at }) };
    if let Some((key, _)) = options.data.first() {
        let options = key.to_string_lossy().into_owned();
        return Err(Error::BindData { at: at.to_owned(), options });
    }
    let want = if options.dest_nofollow { Want::NoFollow } else { Want::Any };
    let target = target(planner, mount, at, want)?;
    let mut source =
        Source::new(source_at.clone(), c_string(path.as_os_str(), &source_at)?, planner.next_step());
    source.recursive = kind == BindKind::Recursive;
    source.no_follow = options.src_nofollow;
    source.copy_link = options.copy_symlink;
    source.changes = bind_changes(planner, mount, kind);
    if let Some(id_map) = id_map(planner, mount, at)? {
        if planner.plan.source_by == SourceBy::Init {
            return Err(Error::IdMapUnprivileged { at: at.to_owned() });
        }
        source.changes.push(id_map);
    }
    if mount.destination == Path::new("/proc") {
        source.check = SourceCheck::Procfs;
    }
    let keep = kept(planner, mount);
    let source = planner.add_source(source);
    let text =
        format!("bind {} on {}{}", path.display(), mount.destination.display(), shown(mount));
    Ok(Step::Bind(Bind { text, target, source, keep }))
}

/// The mounts on /proc and /sys are kept: what is masked in them is reached through them.
fn kept(planner: &mut Planner, mount: &Mount) -> Option<usize> {
    let keep = match mount.destination.to_str() {
        Some("/proc" | "/sys") => Some(planner.keep()),
        _ => return None,
    };
    if mount.destination == Path::new("/proc") {
        planner.proc = keep;
    } else {
        planner.sys = keep;
    }
    keep
}

/// The propagation and the flags of a bind, in as few calls as their depths allow.
fn bind_changes(planner: &Planner, mount: &Mount, kind: BindKind) -> Vec<Change> {
    let options = &mount.options;
    let mut changes: Vec<Change> = if options.propagation.is_empty() {
        let default = propagation::of_bind(planner.config.linux.rootfs_propagation);
        vec![propagation::change(default)]
    } else {
        options.propagation.iter().copied().map(propagation::change).collect()
    };
    attributes(options.attributes, &mut changes, false);
    attributes(options.recursive, &mut changes, true);
    if kind == BindKind::Plain {
        for change in &mut changes {
            change.recursive = false;
        }
    }
    merge(changes)
}

fn attributes(change: AttributeChange, changes: &mut Vec<Change>, recursive: bool) {
    if change.set != 0 || change.clear != 0 {
        let AttributeChange { set, clear } = change;
        changes.push(Change { set, clear, recursive, ..Change::default() });
    }
}

/// Neighbours of one depth become one call where neither overrides the other.
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
                last.propagation |= change.propagation;
            }
            _ => merged.push(change),
        }
    }
    merged
}

fn fresh(
    planner: &mut Planner,
    mount: &Mount,
    fs_type: &CStr,
    (at, later): (&str, &[Mount]),
) -> Result<Step, Error> {
    let options = &mount.options;
    let ordinary = matches!(fs_type.to_bytes(), b"proc" | b"sysfs" | b"mqueue" | b"devpts");
    let want = match (ordinary, options.dest_nofollow) {
        (true, _) => Want::OrdinaryDirectory,
        (false, true) => Want::NoFollow,
        (false, false) => Want::Any,
    };
    let target = target(planner, mount, at, want)?;
    if fs_type == c"sysfs" && sysfs_is_refused(planner) {
        return bound_sysfs(planner, mount, at, target);
    }
    let mut set = options.attributes.set | options.recursive.set;
    let mut changes: Vec<Change> =
        options.propagation.iter().copied().map(propagation::change).collect();
    changes.extend(id_map(planner, mount, at)?);
    let mut keep = kept(planner, mount);
    if set & mount_attribute::RDONLY != 0 && is_filled(planner, mount, fs_type, later) {
        // Read-only from the start it could not be filled: the last phase makes it so.
        set &= !mount_attribute::RDONLY;
        let slot = *keep.get_or_insert_with(|| planner.keep());
        planner.seals.push((slot, mount.destination.display().to_string()));
    }
    let fallback = (fs_type == c"sysfs" && sysfs_may_be_refused(planner))
        .then(|| sysfs_source(planner, mount, at));
    let mqueue = fs_type == c"mqueue";
    Ok(Step::Fresh(Fresh {
        text: text_of_fresh(mount),
        target,
        fs_type: fs_type.to_owned(),
        parameters: parameters(planner, mount, fs_type, at)?,
        attributes: set,
        changes,
        mode_of_target: fs_type == c"tmpfs" && !has_key(mount, c"mode"),
        copy_up: options.tmpcopyup,
        keep,
        fallback,
        label: if mqueue { label(planner) } else { None },
    }))
}

pub(super) fn text_of_fresh(mount: &Mount) -> String {
    let fs_type = mount.fs_type.as_deref().unwrap_or_default().to_string_lossy();
    format!("mount {fs_type} on {}{}", mount.destination.display(), shown(mount))
}

fn has_key(mount: &Mount, wanted: &CStr) -> bool {
    mount.options.data.iter().any(|(key, _)| key.as_c_str() == wanted)
}

/// Something is put below the destination later on.
fn is_filled(planner: &Planner, mount: &Mount, fs_type: &CStr, later: &[Mount]) -> bool {
    let below = |path: &Path| path != mount.destination && path.starts_with(&mount.destination);
    matches!(fs_type.to_bytes(), b"tmpfs" | b"ramfs")
        && (later.iter().any(|later| below(&later.destination))
            || devices::places(planner).iter().any(|path| below(path)))
}

/// What fsconfig(2) is told, in order: the source, then the options of the file system.
fn parameters(
    planner: &Planner,
    mount: &Mount,
    fs_type: &CStr,
    at: &str,
) -> Result<Vec<(CString, Option<CString>)>, Error> {
    let mut parameters = Vec::new();
    if let Some(source) = &mount.source {
        let source = c_string(source.as_os_str(), at)?;
        parameters.push((c"source".to_owned(), Some(source)));
    }
    for flag in &mount.options.superblock {
        // fsconfig(2) has no word for these two, and mount(2) gave them no effect here.
        if !matches!(flag.to_bytes(), b"silent" | b"loud" | b"iversion") {
            parameters.push(((*flag).to_owned(), None));
        }
    }
    let set = mount.options.attributes.set | mount.options.recursive.set;
    if set & mount_attribute::RDONLY != 0 && !PSEUDO.contains(&fs_type) {
        parameters.push((c"ro".to_owned(), None));
    }
    for (key, value) in &mount.options.data {
        mapped(planner, key, value.as_deref(), at)?;
        parameters.push((key.clone(), value.clone()));
    }
    if !matches!(fs_type.to_bytes(), b"proc" | b"sysfs" | b"mqueue")
        && let Some(label) = label(planner)
    {
        parameters.push((context_type(planner)?, Some(label)));
    }
    Ok(parameters)
}

/// `uid=` and `gid=` are ids of the container: one that its user namespace does not map is refused by
/// the kernel with a bare EINVAL, so it is said here.
fn mapped(planner: &Planner, key: &CStr, value: Option<&CStr>, at: &str) -> Result<(), Error> {
    let maps = &planner.config.linux.id_mappings;
    let lines = match key.to_bytes() {
        b"uid" => &maps.uid,
        b"gid" => &maps.gid,
        _ => return Ok(()),
    };
    if planner.context.user_namespace != UserNamespace::New || lines.is_empty() {
        return Ok(());
    }
    let number = value.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let Some(id) = number else { return Ok(()) };
    if lines.iter().any(|line| id.checked_sub(line.container_id).is_some_and(|n| n < line.size)) {
        return Ok(());
    }
    Err(Error::UnmappedId {
        at: format!("{at}.options"),
        option: format!("{}={id}", key.to_string_lossy()),
    })
}

pub(super) fn label(planner: &Planner) -> Option<CString> {
    planner.host.selinux.then(|| planner.config.linux.mount_label.clone()).flatten()
}

/// podman may ask for another of SELinux's four mount options.
pub(super) fn context_type(planner: &Planner) -> Result<CString, Error> {
    match planner.config.annotations.get("run.oci.mount_context_type").map(String::as_str) {
        None | Some("context") => Ok(c"context".to_owned()),
        Some("fscontext") => Ok(c"fscontext".to_owned()),
        Some("defcontext") => Ok(c"defcontext".to_owned()),
        Some("rootcontext") => Ok(c"rootcontext".to_owned()),
        Some(other) => Err(Error::ContextType { value: other.to_owned() }),
    }
}

pub(super) fn target(
    planner: &Planner,
    mount: &Mount,
    at: &str,
    want: Want,
) -> Result<Target, Error> {
    let at = format!("{at}.destination");
    let destination = &mount.destination;
    let refused = || Error::InProc { at: at.clone(), destination: destination.clone() };
    let path = c_string(destination.as_os_str(), &at)?;
    let proc = Path::new("/proc");
    let options = &mount.options;
    if !destination.starts_with(proc) || options.remount {
        return Ok(Target { path, base: None, want, guarded: true });
    }
    if destination == proc {
        if options.bind.is_none() && mount.fs_type.as_deref() != Some(c"proc") {
            return Err(refused());
        }
        // Only procfs itself gets here, which may cover an older procfs.
        return Ok(Target { path, base: None, want: Want::OrdinaryDirectory, guarded: false });
    }
    let below = path.to_str().ok().and_then(|path| path.strip_prefix("/proc"));
    let allowed = below.is_some_and(|below| IN_PROC.contains(&below));
    match (planner.proc, below) {
        (Some(base), Some(below)) if allowed && options.bind.is_some() => {
            // Reached through the mount we made, so that no link of the image can lead elsewhere.
            let path = c_string(below.as_ref(), &at)?;
            Ok(Target { path, base: Some(base), want: Want::NoFollow, guarded: false })
        }
        _ => Err(refused()),
    }
}

fn id_map(planner: &mut Planner, mount: &Mount, at: &str) -> Result<Option<Change>, Error> {
    let wanted = mount.options.idmap;
    if mount.id_mappings.is_none() && wanted.is_none() {
        return Ok(None);
    }
    let linux = &planner.config.linux;
    let map = match (&mount.id_mappings, planner.context.user_namespace, &linux.namespaces.user) {
        (Some(own), _, _) => lines(own, at),
        (None, UserNamespace::New, _) => lines(&linux.id_mappings, at),
        (None, UserNamespace::Joined, Namespace::Join { path, .. }) => {
            IdMap::Path { at: at.to_owned(), path: path.clone() }
        }
        _ => return Err(Error::IdMapMissing { at: at.to_owned() }),
    };
    let recursive = wanted == Some(IdmapOption::Recursive);
    let known = planner.plan.id_maps.iter().position(|other| same_map(other, &map));
    let id_map = known.unwrap_or_else(|| {
        planner.plan.id_maps.push(map);
        planner.plan.id_maps.len() - 1
    });
    let set = mount_attribute::IDMAP;
    Ok(Some(Change { set, id_map: Some(id_map), recursive, ..Change::default() }))
}

fn lines(maps: &IdMappings, at: &str) -> IdMap {
    let render = |list: &[coracle_bundle::IdMapping]| {
        list.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{} {} {}", line.container_id, line.host_id, line.size);
            text
        })
    };
    IdMap::Lines { at: at.to_owned(), uid: render(&maps.uid), gid: render(&maps.gid) }
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

/// sysfs shows a network namespace, so only who owns that may mount it.
fn sysfs_is_refused(planner: &Planner) -> bool {
    matches!(planner.context.user_namespace, UserNamespace::New | UserNamespace::Joined)
        && planner.context.network_namespace == NetworkNamespace::Inherit
}

fn sysfs_may_be_refused(planner: &Planner) -> bool {
    planner.in_user_namespace() && planner.context.network_namespace != NetworkNamespace::New
}

/// The host's /sys with the mounts below it, since a user namespace must not uncover them.
fn sysfs_source(planner: &mut Planner, mount: &Mount, at: &str) -> usize {
    let set = mount.options.attributes.set | mount.options.recursive.set;
    let safe = mount_attribute::RDONLY
        | mount_attribute::NOSUID
        | mount_attribute::NODEV
        | mount_attribute::NOEXEC;
    let source = Source {
        recursive: true,
        changes: vec![Change {
            set: set & safe,
            propagation: libc::MS_PRIVATE,
            recursive: true,
            ..Change::default()
        }],
        ..Source::new(at.to_owned(), c"/sys".to_owned(), planner.next_step())
    };
    planner.add_source(source)
}

fn bound_sysfs(
    planner: &mut Planner,
    mount: &Mount,
    at: &str,
    target: Target,
) -> Result<Step, Error> {
    let source = sysfs_source(planner, mount, at);
    let keep = kept(planner, mount);
    let text = format!("bind /sys on {}{}", mount.destination.display(), shown(mount));
    Ok(Step::Bind(Bind { text, target, source, keep }))
}
