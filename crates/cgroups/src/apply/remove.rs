//! Removing the container's cgroups.

use std::time::{Duration, Instant};

use coracle_program::Interrupts;

use super::rmdir::{Maker, Watch, remove_directory, remove_parents, remove_path};
use super::{resctrl, systemd};
use crate::{Record, Result};

/// How long killed processes may take to leave the cgroup.
const LIMIT: Duration = Duration::from_secs(10);
/// Removes the directories that were made for the container, with all that the container made in
/// them. A directory that is already gone is no error. Kills nothing, but waits up to 10 s for
/// killed processes to leave.
///
/// # Errors
/// A cgroup that stays busy, with one of the processes in it.
pub fn remove(record: &Record) -> Result<()> {
    let result = remove_until(record, Maker::We, Instant::now() + LIMIT, None);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] by the record of [`crate::planned_record`], for a create that was killed before the
/// record of [`crate::create`] was stored. A cgroup that is in use or has children was made by
/// another program meanwhile; it stays and is no error.
///
/// # Errors
/// The kernel's, except for a cgroup in use.
pub fn remove_planned(record: &Record) -> Result<()> {
    let result = remove_until(record, Maker::Anybody, Instant::now() + LIMIT, None);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] for a create that failed after [`crate::create`]. It also removes a resctrl group
/// that the config names, if this create made it. Signals end the wait for systemd.
///
/// # Errors
/// Those of [`remove`].
pub fn undo(record: &Record, interrupts: &Interrupts) -> Result<()> {
    undo_until(record, Instant::now() + LIMIT, Some(interrupts))
}

/// Like [`undo`], waiting until `end`.
pub(super) fn undo_until(
    record: &Record,
    end: Instant,
    interrupts: Option<&Interrupts>,
) -> Result<()> {
    let result = remove_until(record, Maker::We, end, interrupts);
    result.and(resctrl::remove(&record.resctrl, |group| group.made))
}

fn remove_until(
    record: &Record,
    maker: Maker,
    end: Instant,
    interrupts: Option<&Interrupts>,
) -> Result<()> {
    if let Some(unit) = &record.unit {
        // While the unit exists, systemd owns its cgroup.
        systemd::stop(unit, record, end, interrupts);
    }
    // v2 first: its cgroup.events reports when the last process is gone, and then the v1 cgroups
    // are empty too.
    let mut result = Ok(());
    if let Some(unified) = &record.unified {
        let how = (Watch::Events, maker);
        if let (true, Some(init_cgroup)) = (record.init_cgroup_made, &record.init_cgroup) {
            result = result.and(remove_path(&unified.path.join(init_cgroup), how, end));
        }
        result = result.and(remove_directory(unified, how, end));
    }
    for hierarchy in &record.hierarchies {
        result = result.and(remove_directory(hierarchy, (Watch::Sleep, maker), end));
    }
    for directory in record.all() {
        remove_parents(directory);
    }
    result
}
