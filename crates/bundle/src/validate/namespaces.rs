//! `linux.namespaces` and `linux.timeOffsets`: config-linux.md § Namespaces.

use super::text::{check_absolute, path_text};
use crate::error::{At, Error};
use crate::{Namespace, Namespaces, TimeOffsets};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;
use std::collections::{BTreeMap, HashMap};

/// Each kind at most once; an empty path is as good as none.
pub(super) fn namespaces(raw: &[oci::LinuxNamespace], at: At<'_>) -> Result<Namespaces, Error> {
    let mut namespaces = Namespaces::default();
    for (index, entry) in raw.iter().enumerate() {
        let at = at.index(index);
        let (kind, place) = match entry.typ() {
            Type::Pid => ("pid", &mut namespaces.pid),
            Type::Network => ("network", &mut namespaces.network),
            Type::Mount => ("mount", &mut namespaces.mount),
            Type::Ipc => ("ipc", &mut namespaces.ipc),
            Type::Uts => ("uts", &mut namespaces.uts),
            Type::User => ("user", &mut namespaces.user),
            Type::Cgroup => ("cgroup", &mut namespaces.cgroup),
            Type::Time => ("time", &mut namespaces.time),
        };
        if *place != Namespace::Inherit {
            return Err(at.key("type").refuse(format!("{kind} stands here twice")));
        }
        *place = match entry
            .path()
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty())
        {
            None => Namespace::New,
            Some(path) => {
                check_absolute(path_text(path), at.key("path"))?;
                Namespace::Join {
                    path: path.to_owned(),
                    index,
                }
            }
        };
    }
    Ok(namespaces)
}

/// Offsets of the clocks of a new time namespace; those of a joined one are fixed.
pub(super) fn time_offsets(
    raw: Option<&HashMap<String, oci::LinuxTimeOffset>>,
    time: &Namespace,
    at: At<'_>,
) -> Result<TimeOffsets, Error> {
    let offsets: BTreeMap<_, _> = raw.into_iter().flatten().collect();
    if offsets.is_empty() {
        return Ok(TimeOffsets::default());
    }
    match time {
        Namespace::New => {}
        Namespace::Inherit => {
            return Err(at.refuse("given, but linux.namespaces has no time entry"));
        }
        Namespace::Join { index, .. } => {
            return Err(at.refuse(format!(
                "given, but linux.namespaces[{index}] joins a time namespace, whose offsets are \
                 fixed"
            )));
        }
    }
    let mut result = TimeOffsets::default();
    for (clock, offset) in offsets {
        let at = at.key(clock);
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            return Err(at
                .key("nanosecs")
                .refuse(format!("{nanoseconds} is above 999999999")));
        }
        let offset = Some((offset.secs().unwrap_or(0), nanoseconds));
        match clock.as_str() {
            "monotonic" => result.monotonic = offset,
            "boottime" => result.boottime = offset,
            _ => return Err(at.refuse("no such clock, expected monotonic or boottime")),
        }
    }
    Ok(result)
}
