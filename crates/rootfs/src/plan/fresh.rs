//! Plans new instances of filesystems: their options, and a fallback if the kernel refuses one.

use super::devices;
use super::planner::{Planner, c_string, described, is_made, lookup};
use super::steps::{
    Change, Fallback, Fresh, Long, Lookup, MODE_PREFIX, Parameters, Source, SourceCheck, Step,
};
use crate::Error;
use coracle_bundle::{FileSystem, Mount, Namespace, PropagationKind, annotation};
use coracle_sys::{MOUNT_DATA_BYTES, mount_attribute};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// fsconfig(2) takes strings of less than 256 bytes. The layers of an overlay may need more.
const LONGEST_VALUE: usize = 255;

/// Mount options for SELinux labels: mount(8).
const CONTEXTS: [&CStr; 4] = [c"context", c"fscontext", c"defcontext", c"rootcontext"];

pub(super) fn plan(
    planner: &mut Planner,
    mount: &Mount,
    (file_system, source): (&FileSystem, Option<&CStr>),
    later: &[Mount],
) -> Result<Step, Error> {
    let (at, options) = (&mount.at, &mount.options);
    let lookup = match file_system {
        FileSystem::Proc | FileSystem::Sysfs | FileSystem::Mqueue | FileSystem::Devpts => {
            Lookup::Directory
        }
        _ => lookup(mount),
    };
    let mut fresh = Fresh::new(planner, mount, (file_system, lookup))?;
    fresh.changes.extend(planner.id_map(mount));
    fresh.keep = planner.kept(mount);
    if fresh.attributes & mount_attribute::RDONLY != 0
        && is_filled(planner, mount, later, file_system)
    {
        // The last phase makes it read-only, since it is still to be filled.
        fresh.attributes &= !mount_attribute::RDONLY;
        let kept = *fresh.keep.get_or_insert_with(|| planner.keep());
        planner
            .read_only_mounts
            .push((kept, mount.destination.path().display().to_string()));
    }
    fresh.fallback = fallback(planner, file_system)
        .map(|(path, check)| Fallback::Bind(fallback_source(planner, mount, (path, check), at)));
    fresh.parameters = parameters(planner, mount, (file_system, source))?;
    fresh.mode_of_target = *file_system == FileSystem::Tmpfs && !has_key(mount, c"mode");
    fresh.copy_up = options.tmpcopyup;
    if is_made(mount.destination.path(), &fresh) && *file_system == FileSystem::Tmpfs {
        let kept = *fresh.keep.get_or_insert_with(|| planner.keep());
        planner.plan.dev = Some(kept);
    }
    if *file_system == FileSystem::Mqueue {
        fresh.label = label(planner);
    }
    fresh.long = long(&fresh, at)?;
    Ok(Step::Fresh(fresh))
}

impl Fresh {
    /// With the flags and the propagation of the mount, and no options of the file system.
    pub(super) fn new(
        planner: &Planner,
        mount: &Mount,
        (file_system, lookup): (&FileSystem, Lookup),
    ) -> Result<Self, Error> {
        Ok(Self {
            text: described(mount),
            target: planner.target(mount, lookup)?,
            file_system: file_system.clone(),
            parameters: Vec::new(),
            attributes: mount.options.of_new_mount(),
            changes: Change::propagations(&mount.options),
            mode_of_target: false,
            copy_up: false,
            keep: None,
            fallback: None,
            label: None,
            long: None,
        })
    }
}

fn long(fresh: &Fresh, at: &str) -> Result<Option<Long>, Error> {
    let parameters = &fresh.parameters;
    let length = |value: &CString| value.to_bytes().len();
    if parameters
        .iter()
        .all(|(_, value)| value.as_ref().map_or(0, length) <= LONGEST_VALUE)
    {
        return Ok(None);
    }
    let mut source = c"none".to_owned();
    let mut data = Vec::new();
    if fresh.mode_of_target {
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
        flags: mount_flags(fresh.attributes),
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
    if data.len() >= MOUNT_DATA_BYTES {
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

fn has_key(mount: &Mount, wanted: &CStr) -> bool {
    mount
        .options
        .data
        .iter()
        .any(|(key, _)| key.as_c_str() == wanted)
}

/// Whether something is mounted or made below the destination later.
fn is_filled(planner: &Planner, mount: &Mount, later: &[Mount], file_system: &FileSystem) -> bool {
    let destination = mount.destination.path();
    let below = |path: &Path| path != destination && path.starts_with(destination);
    let mut later = later.iter().map(|later| later.destination.path());
    matches!(file_system, FileSystem::Tmpfs | FileSystem::Ramfs)
        && (later.any(below) || devices::places(planner).iter().any(|path| below(path)))
}

/// The parameters for fsconfig(2), in order: the source, then the filesystem's options.
fn parameters(
    planner: &Planner,
    mount: &Mount,
    (file_system, source): (&FileSystem, Option<&CStr>),
) -> Result<Parameters, Error> {
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
    let set = mount.options.of_new_mount();
    if set & mount_attribute::RDONLY != 0 && matches!(file_system, FileSystem::Other(_)) {
        parameters.push((c"ro".to_owned(), None));
    }
    parameters.extend(mount.options.data.iter().cloned());
    if !matches!(
        file_system,
        FileSystem::Proc | FileSystem::Sysfs | FileSystem::Mqueue
    ) {
        parameters.extend(label_option(planner)?);
    }
    Ok(parameters)
}

fn label(planner: &Planner) -> Option<CString> {
    let label = planner.config.linux.mount_label.clone();
    label.filter(|_| *planner.host.selinux)
}

/// The label as an option. podman may ask for another of SELinux's four.
pub(super) fn label_option(planner: &Planner) -> Result<Option<(CString, Option<CString>)>, Error> {
    let Some(label) = label(planner) else {
        return Ok(None);
    };
    let annotations = &planner.config.annotations;
    let wanted = annotations.get(annotation::MOUNT_CONTEXT_TYPE);
    let wanted = wanted.map_or("context", String::as_str);
    let mut contexts = CONTEXTS.into_iter();
    match contexts.find(|context| context.to_bytes() == wanted.as_bytes()) {
        Some(context) => Ok(Some((context.to_owned(), Some(label)))),
        None => Err(Error::ContextType {
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
    let set = mount.options.of_new_mount();
    let access_time = mount_attribute::ATIME_MASK | mount_attribute::NODIRATIME;
    let changes = vec![Change {
        set: set & !access_time,
        ..Change::propagation(PropagationKind::Private, true)
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
