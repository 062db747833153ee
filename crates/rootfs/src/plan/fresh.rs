//! Plans new instances of filesystems: their options, and a fallback if the kernel refuses one.

use super::planner::{Planner, c_string};
use super::steps::{Change, Fallback, Fresh, Long, Lookup, MODE_PREFIX, Source, SourceCheck, Step};
use super::target::{self, Entry};
use super::{bind, devices, propagation};
use crate::Error;
use coracle_bundle::{FileSystem, Mount, Namespace};
use coracle_sys::mount_attribute;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// fsconfig(2) takes strings of less than 256 bytes. The layers of an overlay may need more.
const LONGEST_VALUE: usize = 255;

/// mount(2) takes one page, including the terminating NUL.
const LONGEST_DATA: usize = 4095;

/// Mount options for SELinux labels: mount(8).
const CONTEXTS: [&CStr; 4] = [c"context", c"fscontext", c"defcontext", c"rootcontext"];

pub(super) fn plan(
    planner: &mut Planner,
    entry: &Entry,
    (file_system, source): (&FileSystem, Option<&CStr>),
) -> Result<Step, Error> {
    let (mount, at, options) = (entry.mount, &entry.at, &entry.mount.options);
    let lookup = match file_system {
        FileSystem::Proc | FileSystem::Sysfs | FileSystem::Mqueue | FileSystem::Devpts => {
            Lookup::Directory
        }
        _ => target::lookup(mount),
    };
    let target = target::plan(planner, entry, lookup)?;
    let mut set = options.attributes.set | options.recursive.set;
    let mut changes: Vec<Change> = options
        .propagation
        .iter()
        .copied()
        .map(propagation::change)
        .collect();
    changes.extend(bind::id_map(planner, entry));
    let mut keep = target::kept(planner, mount);
    if set & mount_attribute::RDONLY != 0 && is_filled(planner, entry, file_system) {
        // The last phase makes it read-only, since it is still to be filled.
        set &= !mount_attribute::RDONLY;
        let kept = *keep.get_or_insert_with(|| planner.keep());
        planner
            .read_only_mounts
            .push((kept, mount.destination.path().display().to_string()));
    }
    let fallback = fallback(planner, file_system)
        .map(|(path, check)| Fallback::Bind(fallback_source(planner, mount, (path, check), at)));
    let parameters = parameters(planner, mount, (file_system, source))?;
    let mode_of_target = *file_system == FileSystem::Tmpfs && !has_key(mount, c"mode");
    let long = long(&parameters, set, mode_of_target, at)?;
    Ok(Step::Fresh(Fresh {
        text: text_of_fresh(mount),
        target,
        file_system: file_system.clone(),
        parameters,
        attributes: set,
        changes,
        mode_of_target,
        copy_up: options.tmpcopyup,
        keep,
        fallback,
        label: (*file_system == FileSystem::Mqueue)
            .then(|| label(planner))
            .flatten(),
        long,
    }))
}

fn long(
    parameters: &[(CString, Option<CString>)],
    set: u64,
    mode_of_target: bool,
    at: &str,
) -> Result<Option<Long>, Error> {
    let length = |value: &CString| value.to_bytes().len();
    if parameters
        .iter()
        .all(|(_, value)| value.as_ref().map_or(0, length) <= LONGEST_VALUE)
    {
        return Ok(None);
    }
    let mut source = c"none".to_owned();
    let mut data = Vec::new();
    if mode_of_target {
        data.extend_from_slice(MODE_PREFIX.strip_suffix(b",").unwrap_or_default());
    }
    for (key, value) in parameters {
        match (key.to_bytes(), value) {
            (b"source", Some(value)) => source = value.clone(),
            // Set by a flag of mount(2).
            (b"ro", None) => {}
            _ => add_data(&mut data, key, value.as_deref()),
        }
    }
    Ok(Some(Long {
        source,
        flags: mount_flags(set),
        data: mount_data(&data, at)?,
    }))
}

/// Adds an option in mount(2)'s format. A label with commas must be quoted for SELinux.
pub(super) fn add_data(data: &mut Vec<u8>, key: &CStr, value: Option<&CStr>) {
    data.extend_from_slice(if data.is_empty() { b"" } else { b"," });
    data.extend_from_slice(key.to_bytes());
    let Some(value) = value.map(CStr::to_bytes) else {
        return;
    };
    let quote: &[u8] = match CONTEXTS.contains(&key) && value.contains(&b',') {
        true => b"\"",
        false => b"",
    };
    data.extend_from_slice(&[b"=", quote, value, quote].concat());
}

/// The options as one string for mount(2), which would silently cut a longer one.
pub(super) fn mount_data(data: &[u8], at: &str) -> Result<CString, Error> {
    if data.len() > LONGEST_DATA {
        return Err(Error::LongData { at: at.to_owned() });
    }
    Ok(c_string(OsStr::from_bytes(data)))
}

/// The attributes as flags of mount(2).
fn mount_flags(set: u64) -> u64 {
    let access_time = match set & mount_attribute::ATIME_MASK {
        mount_attribute::NOATIME => libc::MS_NOATIME,
        mount_attribute::STRICTATIME => libc::MS_STRICTATIME,
        _ => libc::MS_RELATIME,
    };
    let flags = mount_attribute::FLAGS.iter();
    let flags = flags.filter(|(attribute, ..)| set & attribute != 0);
    flags.fold(access_time, |flags, (_, flag, _)| flags | flag)
}

pub(super) fn text_of_fresh(mount: &Mount) -> String {
    let file_system = mount.file_system().map(FileSystem::name);
    let name = file_system.unwrap_or_default().to_string_lossy();
    format!(
        "mount {name} on {}{}",
        mount.destination.path().display(),
        target::options(mount)
    )
}

fn has_key(mount: &Mount, wanted: &CStr) -> bool {
    mount
        .options
        .data
        .iter()
        .any(|(key, _)| key.as_c_str() == wanted)
}

/// Whether something is mounted or made below the destination later.
fn is_filled(planner: &Planner, entry: &Entry, file_system: &FileSystem) -> bool {
    let destination = entry.mount.destination.path();
    let below = |path: &Path| path != destination && path.starts_with(destination);
    let mut later = entry.later.iter().map(|later| later.destination.path());
    matches!(file_system, FileSystem::Tmpfs | FileSystem::Ramfs)
        && (later.any(below) || devices::places(planner).iter().any(|path| below(path)))
}

/// The parameters for fsconfig(2), in order: the source, then the filesystem's options.
fn parameters(
    planner: &Planner,
    mount: &Mount,
    (file_system, source): (&FileSystem, Option<&CStr>),
) -> Result<Vec<(CString, Option<CString>)>, Error> {
    let mut parameters = Vec::new();
    if let Some(source) = source {
        parameters.push((c"source".to_owned(), Some(source.to_owned())));
    }
    for flag in &mount.options.superblock {
        // fsconfig(2) has no such parameters, and with mount(2) they have no effect on these
        // filesystems.
        if !matches!(flag.to_bytes(), b"silent" | b"loud" | b"iversion") {
            parameters.push(((*flag).to_owned(), None));
        }
    }
    let set = mount.options.attributes.set | mount.options.recursive.set;
    if set & mount_attribute::RDONLY != 0 && matches!(file_system, FileSystem::Other(_)) {
        parameters.push((c"ro".to_owned(), None));
    }
    for (key, value) in &mount.options.data {
        parameters.push((key.clone(), value.clone()));
    }
    if !matches!(
        file_system,
        FileSystem::Proc | FileSystem::Sysfs | FileSystem::Mqueue
    ) && let Some(label) = label(planner)
    {
        parameters.push((context_type(planner)?, Some(label)));
    }
    Ok(parameters)
}

pub(super) fn label(planner: &Planner) -> Option<CString> {
    let label = planner.config.linux.mount_label.clone();
    label.filter(|_| *planner.host.selinux)
}

/// The mount option for the SELinux label; podman's annotation may choose another one.
pub(super) fn context_type(planner: &Planner) -> Result<CString, Error> {
    match planner
        .config
        .annotations
        .get("run.oci.mount_context_type")
        .map(String::as_str)
    {
        None => Ok(c"context".to_owned()),
        Some(wanted) => CONTEXTS
            .into_iter()
            .find(|context| context.to_bytes() == wanted.as_bytes())
            .map(CStr::to_owned)
            .ok_or_else(|| Error::ContextType {
                value: wanted.to_owned(),
            }),
    }
}

/// The mount of the host that is bound if the kernel refuses a new instance in a user namespace. It
/// permits a sysfs only if the network namespace belongs to that user namespace, an mqueue if the
/// ipc namespace does, and a procfs if the pid namespace does; sysfs and procfs also only if the
/// host's are not partly covered. The host's mqueue or procfs is used only if the container shares
/// the host's namespace, whose contents they show.
fn fallback(planner: &Planner, file_system: &FileSystem) -> Option<(&'static CStr, SourceCheck)> {
    let namespaces = &planner.config.linux.namespaces;
    if !planner.plan.in_user_namespace {
        return None;
    }
    match file_system {
        FileSystem::Sysfs => Some((c"/sys", SourceCheck::None)),
        FileSystem::Mqueue if namespaces.ipc == Namespace::Inherit => {
            Some((c"/dev/mqueue", SourceCheck::Queues))
        }
        FileSystem::Proc if namespaces.pid == Namespace::Inherit => {
            Some((c"/proc", SourceCheck::OwnProcfs))
        }
        _ => None,
    }
}

/// Bound with the mounts below, which a user namespace must not uncover. All flags but those of
/// access times, which these filesystems do not have.
fn fallback_source(
    planner: &mut Planner,
    mount: &Mount,
    (path, check): (&CStr, SourceCheck),
    at: &str,
) -> usize {
    let options = &mount.options;
    let set = options.attributes.set | options.recursive.set;
    let access_time = mount_attribute::ATIME_MASK | mount_attribute::NODIRATIME;
    let changes = vec![Change {
        set: set & !access_time,
        propagation: libc::MS_PRIVATE,
        recursive: true,
        ..Change::default()
    }];
    let source = Source {
        recursive: true,
        changes,
        check,
        optional: true,
        ..Source::new(at.to_owned(), path.to_owned(), planner.next_step())
    };
    planner.add_source(source)
}
