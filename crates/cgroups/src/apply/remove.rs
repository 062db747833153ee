//! Removing the container's cgroups.

use std::time::{Duration, Instant};

use super::rmdir::{Maker, Watch, remove_directory, remove_parents, remove_path};
use super::{resctrl, systemd};
use crate::{Record, Result};

/// How long processes that were killed may take to leave.
const LIMIT: Duration = Duration::from_secs(10);
/// Removes the directories that were made for the container, with all that it made in them. What
/// is gone already is success. It kills nobody, but waits up to 10 s for the killed to leave.
///
/// # Errors
/// A cgroup that stays busy, with a process that is left in it.
pub fn remove(record: &Record) -> Result<()> {
    let result = remove_until(record, Maker::We, Instant::now() + LIMIT);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] by the record of [`crate::planned_record`], of a create that was killed before the
/// one of [`crate::create`] was stored. What is in use, or has cgroups below, stays and is no
/// error: somebody else made it in between.
///
/// # Errors
/// The kernel's, but for a cgroup in use.
pub fn remove_planned(record: &Record) -> Result<()> {
    let result = remove_until(record, Maker::Anybody, Instant::now() + LIMIT);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] for a create that failed after [`crate::create`]: a resctrl group that the config
/// names goes, too, if it was made in this very create.
///
/// # Errors
/// As for [`remove`].
pub fn undo(record: &Record) -> Result<()> {
    undo_until(record, Instant::now() + LIMIT)
}

/// The same without waiting, for a cgroup that nobody has joined yet.
pub(super) fn undo_until(record: &Record, end: Instant) -> Result<()> {
    let result = remove_until(record, Maker::We, end);
    result.and(resctrl::remove(&record.resctrl, |group| group.made))
}

fn remove_until(record: &Record, maker: Maker, end: Instant) -> Result<()> {
    if let Some(unit) = &record.unit {
        // While the unit is there its cgroup is systemd's, not ours to remove.
        systemd::stop(unit, record, end);
    }
    // v2 first: its events wake us when the last process is gone, and then v1 is empty, too.
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
    for directory in record.hierarchies.iter().chain(&record.unified) {
        remove_parents(directory);
    }
    result
}
