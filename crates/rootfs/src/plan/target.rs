//! Where the steps' mounts go, and what of them is kept for later steps.

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
    /// Those that are made after it.
    pub(super) later: &'a [Mount],
}

pub(super) fn plan(planner: &Planner, entry: &Entry, lookup: Lookup) -> Result<Target, Error> {
    let destination = &entry.mount.destination;
    let target = Target {
        path: c_string(destination.path()),
        base: None,
        lookup,
        guarded: true,
    };
    Ok(match destination {
        Destination::Root | Destination::Path(_) => target,
        // Only procfs itself gets here, which may cover an older procfs.
        Destination::Proc => Target {
            lookup: Lookup::Directory,
            guarded: false,
            ..target
        },
        // Reached through the mount that was made, so that no link of the image leads elsewhere.
        Destination::ProcFile(path) => Target {
            path: c_string(path.trim_start_matches("/proc")),
            base: Some(planner.proc.ok_or_else(|| Error::NoProcfs {
                at: format!("{}.destination", entry.at),
                destination: path,
            })?),
            lookup: Lookup::NoFollow,
            guarded: false,
        },
    })
}

/// How the destination is looked up where the kind of the mount does not decide.
pub(super) fn lookup(mount: &Mount) -> Lookup {
    match mount.options.dest_nofollow {
        true => Lookup::NoFollow,
        false => Lookup::Follow,
    }
}

/// The mounts on /proc and /sys are kept: what is masked in them is reached through them.
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

/// `(nosuid,nodev)` with a blank before it, without the words for binding; nothing when none is
/// left.
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
