//! `mounts`: config.md § Mounts, § Linux mount options.

use super::{Change, MountNamespace, Planner, Step, bind, c_string, cgroup, fresh, propagation};
use crate::Error;
use coracle_bundle::Mount;
use std::ffi::CString;
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

impl Want {
    /// What the config says where the kind of mount does not.
    pub(super) fn of(mount: &Mount) -> Self {
        match mount.options.dest_nofollow {
            true => Want::NoFollow,
            false => Want::Any,
        }
    }
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

/// The only files of procfs that may be replaced: lxcfs does so. Any other mount in procfs could
/// hide what the runtime or the masks rely on.
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

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let config = planner.config;
    for (index, mount) in config.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let later = config.mounts.get(index + 1..).unwrap_or_default();
        let fs_type = mount.fs_type.as_deref();
        let options = &mount.options;
        let id_mapped = mount.id_mappings.is_some() || options.idmap.is_some();
        if id_mapped && !can_be_id_mapped(mount) {
            return Err(Error::IdMapHere { at });
        }
        let step = if options.remount {
            remount(planner, mount, &at)?
        } else if let Some(kind) = options.bind {
            bind::plan(planner, mount, kind, &at)?
        } else {
            let Some(fs_type) = fs_type else {
                return Err(Error::NoType { at });
            };
            match fs_type.to_bytes() {
                b"cgroup" | b"cgroup2" => cgroup::plan(planner, mount, &at)?,
                _ => fresh::plan(planner, mount, fs_type, (&at, later))?,
            }
        };
        planner.plan.steps.push(step);
        if mount.destination == Path::new("/") && !options.remount {
            if planner.context.mount_namespace == MountNamespace::Host {
                return Err(Error::RootOnHost { at });
            }
            // What was mounted before is under the new root.
            (planner.proc, planner.sys) = (None, None);
        }
    }
    Ok(())
}

/// Only what is still detached can be, and cgroups and sysfs have no owners to map.
fn can_be_id_mapped(mount: &Mount) -> bool {
    let options = &mount.options;
    let fs_type = mount.fs_type.as_ref().map(|fs_type| fs_type.to_bytes());
    let no_owners = matches!(fs_type, Some(b"cgroup" | b"cgroup2" | b"sysfs"));
    !options.remount && (options.bind.is_some() || !no_owners)
}

/// `(nosuid,nodev)` with a blank before it, without the words for binding; nothing when none is
/// left.
pub(super) fn shown(mount: &Mount) -> String {
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
    let mut target = target(planner, mount, at, Want::of(mount))?;
    target.guarded = false;
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
    let data = (options.bind.is_none() && !data.is_empty())
        .then(|| fresh::mount_data(&data, at))
        .transpose()?;
    let text = format!("remount {}{}", mount.destination.display(), shown(mount));
    Ok(Step::Remount(Remount {
        text,
        target,
        changes: bind::merge(changes),
        data,
    }))
}

/// The mounts on /proc and /sys are kept: what is masked in them is reached through them.
pub(super) fn kept(planner: &mut Planner, mount: &Mount) -> Option<usize> {
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

pub(super) fn target(
    planner: &Planner,
    mount: &Mount,
    at: &str,
    want: Want,
) -> Result<Target, Error> {
    let at = format!("{at}.destination");
    let destination = &mount.destination;
    let refused = || Error::InProc {
        at: at.clone(),
        destination: destination.clone(),
    };
    let path = c_string(destination.as_os_str(), &at)?;
    let proc = Path::new("/proc");
    let options = &mount.options;
    if !destination.starts_with(proc) || options.remount {
        return Ok(Target {
            path,
            base: None,
            want,
            guarded: true,
        });
    }
    if destination == proc {
        if options.bind.is_none() && mount.fs_type.as_deref() != Some(c"proc") {
            return Err(refused());
        }
        // Only procfs itself gets here, which may cover an older procfs.
        return Ok(Target {
            path,
            base: None,
            want: Want::OrdinaryDirectory,
            guarded: false,
        });
    }
    let below = path
        .to_str()
        .ok()
        .and_then(|path| path.strip_prefix("/proc"));
    let allowed = below.is_some_and(|below| IN_PROC.contains(&below));
    match (planner.proc, below) {
        (Some(base), Some(below)) if allowed && options.bind.is_some() => {
            // Reached through the mount we made, so that no link of the image can lead elsewhere.
            let path = c_string(below.as_ref(), &at)?;
            Ok(Target {
                path,
                base: Some(base),
                want: Want::NoFollow,
                guarded: false,
            })
        }
        _ => Err(refused()),
    }
}
