//! `mounts`: config.md § Mounts.

use super::text::{check_path, clean, optional_c_string, path_text};
use super::{Scope, ids};
use crate::error::{At, Error, Shown};
use crate::options::{self, Parsed};
use crate::strict::Notes;
use crate::{IdMapping, IdMappings, Mount, MountOptions, Namespace};
use oci_spec::runtime as oci;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// Far above what any engine asks for; each costs descriptors and kernel memory.
const MAX_MOUNTS: usize = 10_000;

/// The mounts in listed order, which is the order to make them in.
pub(super) fn mounts(
    raw: Option<&[oci::Mount]>,
    at: At<'_>,
    scope: &Scope<'_>,
    notes: &mut Notes,
) -> Result<Vec<Mount>, Error> {
    let raw = raw.unwrap_or_default();
    if raw.len() > MAX_MOUNTS {
        return Err(at.refuse(format!("{} entries, above {MAX_MOUNTS}", raw.len())));
    }
    let mut mounts = Vec::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        mounts.push(mount(entry, at.index(index), scope, notes)?);
    }
    Ok(mounts)
}

fn mount(
    raw: &oci::Mount,
    at: At<'_>,
    scope: &Scope<'_>,
    notes: &mut Notes,
) -> Result<Mount, Error> {
    let destination = destination(raw, at.key("destination"), notes)?;
    let given = raw.options().as_deref().unwrap_or_default();
    let at_options = at.key("options");
    let Parsed {
        mut options,
        mapping,
        meaningless,
    } = options::parse(given).map_err(|_| at_options.refuse("an option holds a NUL byte"))?;
    for option in meaningless {
        notes.warnings.push(format!(
            "{at_options}: {option} means nothing and is ignored"
        ));
    }
    // The spec looks at the options alone; this spelling is crun's.
    if raw.typ().as_deref() == Some("bind") && options.bind.is_none() {
        options.bind = Some(crate::Bind::Plain);
    }
    if options.bind.is_some() {
        // A bind shares its superblock with its source.
        options.superblock.clear();
    }
    let kind = raw.typ().as_deref().filter(|kind| !kind.is_empty());
    check_options(&options, kind, at)?;
    check_proc(&destination, &options, kind, at.key("destination"))?;
    check_ids(&options, kind, scope.mappings, at_options)?;
    Ok(Mount {
        source: source(raw, &options, at.key("source"), scope)?,
        fs_type: optional_c_string(kind, at.key("type"))?,
        id_mappings: id_mappings(raw, &options, mapping, at, scope)?,
        destination,
        options,
    })
}

fn destination(raw: &oci::Mount, at: At<'_>, notes: &mut Notes) -> Result<PathBuf, Error> {
    let text = path_text(raw.destination());
    check_path(text, at)?;
    let path = clean(text);
    if path == Path::new("/") {
        return Err(at.refuse(format!("{} is the root file system itself", Shown(text))));
    }
    if !text.starts_with('/') {
        notes
            .warnings
            .push(format!("{at}: {} is relative, taken from /", Shown(text)));
    }
    Ok(path)
}

/// A bind's source is a path; any other is a word that the file system understands.
fn source(
    raw: &oci::Mount,
    options: &MountOptions,
    at: At<'_>,
    scope: &Scope<'_>,
) -> Result<Option<PathBuf>, Error> {
    let text = raw
        .source()
        .as_deref()
        .map(path_text)
        .filter(|text| !text.is_empty());
    let Some(text) = text else {
        // A remount has its mount already.
        return match options.bind {
            Some(_) if !options.remount => Err(at.refuse("a bind mount needs a source")),
            _ => Ok(None),
        };
    };
    check_path(text, at)?;
    Ok(Some(match options.bind {
        Some(_) => scope.dir.join(text),
        None => PathBuf::from(text),
    }))
}

/// Refuses combinations that the kernel would ignore in silence.
fn check_options(options: &MountOptions, kind: Option<&str>, at: At<'_>) -> Result<(), Error> {
    let at_options = at.key("options");
    match &options.bind {
        Some(_) => {
            if let Some((key, _)) = options.data.first() {
                return Err(at_options.refuse(format!(
                    "bind mounts cannot have any filesystem-specific options applied: {}",
                    Shown(&key.to_string_lossy())
                )));
            }
        }
        None => {
            if options.copy_symlink || options.src_nofollow {
                return Err(at_options.refuse("copy-symlink and src-nofollow need a bind mount"));
            }
            if kind.is_none() && !options.remount {
                return Err(at.key("type").refuse(
                    "required where the options have neither bind nor rbind, but missing",
                ));
            }
        }
    }
    if options.tmpcopyup && (kind != Some("tmpfs") || options.bind.is_some()) {
        return Err(at_options.refuse("tmpcopyup needs a mount of type tmpfs"));
    }
    Ok(())
}

/// Files of `/proc` that lxcfs and others stand in for; none of them takes our writes.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// A file that looks like procfs and is not would take what is meant for the kernel: labels and
/// sysctls (CVE-2019-16884, CVE-2019-19921). Links in the image are followed only at run time,
/// where the same is asked of the resolved place.
fn check_proc(
    destination: &Path,
    options: &MountOptions,
    kind: Option<&str>,
    at: At<'_>,
) -> Result<(), Error> {
    let Ok(below) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    let allowed = if below == Path::new("") {
        options.bind.is_some() || options.remount || kind == Some("proc")
    } else {
        options.bind.is_some() && PROC_FILES.iter().any(|file| Path::new(file) == destination)
    };
    if allowed {
        return Ok(());
    }
    let why = if below == Path::new("") {
        " (only a procfs may take its place)"
    } else {
        ""
    };
    Err(at.refuse(format!(
        "{} cannot be mounted because it is inside /proc{why}",
        Shown(path_text(destination))
    )))
}

/// The kernel says a bare EINVAL to ids that the container's user namespace does not map.
fn check_ids(
    options: &MountOptions,
    kind: Option<&str>,
    mappings: &IdMappings,
    at: At<'_>,
) -> Result<(), Error> {
    if options.bind.is_some() || !matches!(kind, Some("tmpfs" | "devpts" | "proc")) {
        return Ok(());
    }
    for (key, value) in &options.data {
        let (map, name) = match key.as_bytes() {
            b"uid" => (&mappings.uid, "uidMappings"),
            b"gid" => (&mappings.gid, "gidMappings"),
            _ => continue,
        };
        let text = value
            .as_deref()
            .map(CStr::to_string_lossy)
            .unwrap_or_default();
        if let Ok(id) = text.parse::<u32>()
            && !ids::is_mapped(map, id)
        {
            let key = key.to_string_lossy();
            return Err(at.refuse(format!("{key}={id} is not mapped by linux.{name}")));
        }
    }
    Ok(())
}

/// The mapping of the mount itself, from either of its spellings.
fn id_mappings(
    raw: &oci::Mount,
    options: &MountOptions,
    mapping: Option<&str>,
    at: At<'_>,
    scope: &Scope<'_>,
) -> Result<Option<IdMappings>, Error> {
    let (uid, gid) = (raw.uid_mappings().as_deref(), raw.gid_mappings().as_deref());
    match (uid, gid, mapping) {
        (None, None, None) => {
            if options.idmap.is_some() && scope.namespaces.user == Namespace::Inherit {
                return Err(at.key("options").refuse(
                    "idmap without uidMappings and gidMappings needs a user namespace, and \
                     linux.namespaces has none",
                ));
            }
            Ok(None)
        }
        (None, None, Some(text)) => written(text, at.key("options"), scope.mappings).map(Some),
        (Some(uid), Some(gid), None) => Ok(Some(IdMappings {
            uid: non_empty(ids::map(uid, at.key("uidMappings"))?, at.key("uidMappings"))?,
            gid: non_empty(ids::map(gid, at.key("gidMappings"))?, at.key("gidMappings"))?,
        })),
        (None, Some(_), None) => Err(at.key("uidMappings").refuse("missing beside gidMappings")),
        (Some(_), None, None) => Err(at.key("gidMappings").refuse("missing beside uidMappings")),
        (_, _, Some(_)) => Err(at.key("options").refuse(
            "a mapping behind idmap= and one in uidMappings or gidMappings exclude each other",
        )),
    }
}

fn non_empty(map: Vec<IdMapping>, at: At<'_>) -> Result<Vec<IdMapping>, Error> {
    if map.is_empty() {
        Err(at.refuse("has no range"))
    } else {
        Ok(map)
    }
}

/// `uids=0-1-10#10-11-10;gids=0-100-10`: first id on the file system, first id on the host, size.
/// With `@` in front the second number is the container's, to be looked up in its own map.
fn written(text: &str, at: At<'_>, container: &IdMappings) -> Result<IdMappings, Error> {
    let wrong = || {
        at.refuse(format!(
            "idmap={} is not of the form uids=0-1-10#10-11-10;gids=0-100-10",
            Shown(text)
        ))
    };
    let mut mappings = IdMappings::default();
    for part in text.split(';') {
        let (target, map, list) = match part.split_once('=') {
            Some(("uids", list)) => (&mut mappings.uid, &container.uid, list),
            Some(("gids", list)) => (&mut mappings.gid, &container.gid, list),
            _ => return Err(wrong()),
        };
        for range in list.split('#') {
            let (relative, numbers) = match range.strip_prefix('@') {
                Some(numbers) => (true, numbers),
                None => (false, range),
            };
            let mut range = triplet(numbers).ok_or_else(wrong)?;
            if relative {
                let host = ids::to_host(map, range.host_id, range.size);
                range.host_id = host.ok_or_else(|| {
                    at.refuse(format!(
                        "idmap={}: @{} is not within one range of the container's mappings",
                        Shown(text),
                        numbers
                    ))
                })?;
            }
            target.push(range);
        }
    }
    if mappings.uid.is_empty() || mappings.gid.is_empty() {
        return Err(wrong());
    }
    Ok(IdMappings {
        uid: ids::check(mappings.uid, at)?,
        gid: ids::check(mappings.gid, at)?,
    })
}

fn triplet(text: &str) -> Option<IdMapping> {
    let mut numbers = text.split('-').map(|number| {
        number
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| number.parse::<u32>().ok())?
    });
    let mut next = || numbers.next().flatten();
    let range = IdMapping {
        container_id: next()?,
        host_id: next()?,
        size: next()?,
    };
    numbers.next().is_none().then_some(range)
}
