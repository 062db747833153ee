//! Plans where mounts go, and which are kept for later steps.

use super::planner::{Planner, c_string};
use super::steps::{Lookup, Target};
use crate::Error;
use coracle_bundle::{Destination, Mount};
use std::path::Path;

/// One of the config's mounts.
pub(super) struct Entry<'a> {
    /// For messages: `config.json: mounts[3]`.
    pub(super) at: String,
    pub(super) mount: &'a Mount,
    /// The mounts that are made after it.
    pub(super) later: &'a [Mount],
}

pub(super) fn plan(planner: &Planner, entry: &Entry, lookup: Lookup) -> Result<Target, Error> {
    let destination = &entry.mount.destination;
    let target = Target {
        path: c_string(destination.path()),
        base: None,
        lookup,
        outside_procfs: true,
    };
    Ok(match destination {
        Destination::Root | Destination::Path(_) => target,
        // The validation lets only a procfs have this destination. It may cover an older procfs, so
        // it is not outside_procfs.
        Destination::Proc => Target {
            lookup: Lookup::Directory,
            outside_procfs: false,
            ..target
        },
        // Reached through the procfs that was mounted, so that no link of the image can lead
        // elsewhere.
        Destination::ProcFile(path) => Target {
            path: c_string(path.trim_start_matches("/proc")),
            base: Some(planner.proc.ok_or_else(|| Error::NoProcfs {
                at: format!("{}.destination", entry.at),
                destination: path,
            })?),
            lookup: Lookup::NoFollow,
            outside_procfs: false,
        },
    })
}

/// How the destination is looked up, unless the kind of the mount decides it.
pub(super) fn lookup(mount: &Mount) -> Lookup {
    match mount.options.dest_nofollow {
        true => Lookup::NoFollow,
        false => Lookup::Follow,
    }
}

/// Keeps the mounts on /proc and /sys: masked paths in them are reached through them.
pub(super) fn kept(planner: &mut Planner, mount: &Mount) -> Option<usize> {
    if mount.destination == Destination::Proc {
        planner.proc = Some(planner.keep());
        return planner.proc;
    }
    if mount.destination.path() == Path::new("/sys") {
        planner.sys = Some(planner.keep());
        return planner.sys;
    }
    None
}

/// ` (nosuid,nodev)`, without the options for binding; empty if no other is left.
pub(super) fn options(mount: &Mount) -> String {
    let words = mount.options.texts.iter().map(String::as_str);
    let words: Vec<_> = words
        .filter(|word| !matches!(*word, "bind" | "rbind" | "remount"))
        .collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(",")),
    }
}
