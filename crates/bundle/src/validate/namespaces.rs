//! `linux.namespaces` and `linux.timeOffsets`: config-linux.md § Namespaces.

use super::text::{check_absolute, path_text};
use crate::error::{At, Error};
use crate::{Namespace, Namespaces, TimeOffsets};
use coracle_sys::NamespaceKind;
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;
use std::collections::{BTreeMap, HashMap};

/// Validates the namespaces: each kind at most once. An empty path counts as absent.
pub(super) fn namespaces(raw: &[oci::LinuxNamespace], at: At<'_>) -> Result<Namespaces, Error> {
    let mut namespaces = Namespaces::default();
    for (index, entry) in raw.iter().enumerate() {
        let at = at.index(index);
        let kind = kind(entry.typ());
        let place = namespaces.of_mut(kind);
        if *place != Namespace::Inherit {
            let kind = kind.name();
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

fn kind(name: Type) -> NamespaceKind {
    match name {
        Type::Pid => NamespaceKind::Pid,
        Type::Network => NamespaceKind::Network,
        Type::Mount => NamespaceKind::Mount,
        Type::Ipc => NamespaceKind::Ipc,
        Type::Uts => NamespaceKind::Uts,
        Type::User => NamespaceKind::User,
        Type::Cgroup => NamespaceKind::Cgroup,
        Type::Time => NamespaceKind::Time,
    }
}

/// Refuses what would otherwise be done to the runtime's own namespace of this kind.
pub(super) fn check_entry(namespace: &Namespace, kind: &str, at: At<'_>) -> Result<(), Error> {
    match namespace {
        Namespace::Inherit => Err(at.refuse(format!("needs a {kind} entry in linux.namespaces"))),
        Namespace::New | Namespace::Join { .. } => Ok(()),
    }
}

/// Validates the offsets of clocks. They can only be set for a new time namespace.
pub(super) fn time_offsets(
    raw: Option<&HashMap<String, oci::LinuxTimeOffset>>,
    time: &Namespace,
    at: At<'_>,
) -> Result<TimeOffsets, Error> {
    let offsets: BTreeMap<_, _> = raw.into_iter().flatten().collect();
    if offsets.is_empty() {
        return Ok(TimeOffsets::default());
    }
    check_entry(time, "time", at)?;
    if let Namespace::Join { index, .. } = time {
        return Err(at.refuse(format!(
            "linux.namespaces[{index}] joins a time namespace, whose offsets are fixed"
        )));
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

#[cfg(test)]
mod tests {
    use crate::Namespace;
    use crate::fixture::{accepted, accepted_from, base, refused, refused_from, set, with};
    use serde_json::json;

    #[test]
    fn namespace_lists() {
        let append = "/linux/namespaces/-";
        refused(&[
            (
                append,
                json!({"type": "pid"}),
                "linux.namespaces[6].type: pid stands here twice",
            ),
            (
                append,
                json!({"type": "pid", "path": "/x"}),
                "linux.namespaces[6].type: pid stands here twice",
            ),
            (
                append,
                json!({"path": "/x"}),
                "linux.namespaces[6].type: required, but missing",
            ),
            (
                append,
                json!("user"),
                "linux.namespaces[6]: found a string, expected an object",
            ),
            (
                append,
                json!({"type": "time", "path": "ns/time"}),
                "linux.namespaces[6].path: \"ns/time\" is not an absolute path",
            ),
            (
                append,
                json!({"type": "time", "path": "/x\0"}),
                "linux.namespaces[6].path: \"/x\\0\" holds a NUL byte",
            ),
        ]);
        accepted(&[
            (append, json!({"type": "time"})),
            (append, json!({"type": "user", "path": "/proc/1/ns/user"})),
            ("/linux/namespaces/0/path", json!("")),
            ("/linux/namespaces/0/path", json!(null)),
        ]);
        let namespaces = with("/linux/namespaces/1/path", json!("/run/netns/a"))
            .linux
            .namespaces;
        assert_eq!(
            namespaces.network,
            Namespace::Join {
                path: "/run/netns/a".into(),
                index: 1
            }
        );
        assert_eq!(
            (namespaces.pid, namespaces.user),
            (Namespace::New, Namespace::Inherit)
        );
    }

    #[test]
    fn offsets_of_clocks() {
        let at = "/linux/timeOffsets";
        let offset = json!({"monotonic": {"secs": -5, "nanosecs": 999_999_999}});
        refused(&[(
            at,
            offset.clone(),
            "linux.timeOffsets: needs a time entry in linux.namespaces",
        )]);
        let mut tree = base();
        set(&mut tree, "/linux/namespaces/-", json!({"type": "time"}));
        refused_from(
            &tree,
            &[
                (
                    at,
                    json!({"realtime": {"secs": 1}}),
                    "linux.timeOffsets.realtime: no such clock, expected monotonic or boottime",
                ),
                (
                    at,
                    json!({"boottime": {"nanosecs": 1_000_000_000}}),
                    "linux.timeOffsets.boottime.nanosecs: 1000000000 is above 999999999",
                ),
                (
                    at,
                    json!({"boottime": {"nanosecs": -1}}),
                    "linux.timeOffsets.boottime.nanosecs: invalid value: integer `-1`, expected a \
                     whole number from 0 to 4294967295",
                ),
                (
                    at,
                    json!({"boottime": 5}),
                    "linux.timeOffsets.boottime: found a number, expected an object",
                ),
            ],
        );
        accepted_from(
            &tree,
            &[
                (at, json!({})),
                (at, json!({"boottime": {}})),
                (at, offset.clone()),
            ],
        );
        set(&mut tree, at, offset);
        let offsets = crate::fixture::parse_tree(&tree)
            .unwrap()
            .linux
            .time_offsets;
        assert_eq!(
            (offsets.monotonic, offsets.boottime),
            (Some((-5, 999_999_999)), None)
        );
        set(
            &mut tree,
            "/linux/namespaces/6/path",
            json!("/proc/1/ns/time"),
        );
        let error = crate::fixture::parse_tree(&tree).unwrap_err().to_string();
        assert!(
            error.contains("linux.namespaces[6] joins a time namespace"),
            "{error}"
        );
    }
}
