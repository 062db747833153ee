//! `linux`: config-linux.md.

use super::text::{absolute, check_absolute, climbs, optional_c_string, path_text};
use super::{devices, ids, memory_policy, namespaces, network, rdt, resources, seccomp, sysctl};
use crate::error::{At, Error, Shown};
use crate::read::Notes;
use crate::{Linux, Namespace, Personality, Propagation, options};
use oci_spec::runtime as oci;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Validates everything below `linux`, against the namespaces that it lists.
pub(super) fn linux(raw: Option<&oci::Linux>, at: At<'_>, notes: &Notes) -> Result<Linux, Error> {
    let Some(raw) = raw else {
        return Ok(Linux::default());
    };
    let listed = raw.namespaces().as_deref().unwrap_or_default();
    let namespaces = namespaces::namespaces(listed, at.key("namespaces"))?;
    let id_mappings = ids::of_container(raw, &namespaces.user, at)?;
    let offsets = raw.time_offsets().as_ref();
    Ok(Linux {
        time_offsets: namespaces::time_offsets(offsets, &namespaces.time, at.key("timeOffsets"))?,
        devices: devices::devices(raw.devices().as_deref(), at.key("devices"))?,
        net_devices: network::net_devices(
            raw.net_devices().as_ref(),
            &namespaces.network,
            at.key("netDevices"),
        )?,
        cgroups_path: cgroups_path(raw.cgroups_path().as_deref(), at.key("cgroupsPath"))?,
        resources: match raw.resources() {
            Some(raw) => resources::resources(raw, at.key("resources"), notes)?,
            None => Default::default(),
        },
        sysctl: sysctl::sysctl(raw.sysctl().as_ref(), &namespaces, at.key("sysctl"))?,
        rootfs_propagation: propagation(
            raw.rootfs_propagation().as_deref(),
            at.key("rootfsPropagation"),
        )?,
        masked_paths: paths(
            raw.masked_paths().as_deref(),
            &namespaces.mount,
            at.key("maskedPaths"),
        )?,
        readonly_paths: paths(
            raw.readonly_paths().as_deref(),
            &namespaces.mount,
            at.key("readonlyPaths"),
        )?,
        mount_label: optional_c_string(raw.mount_label().as_deref(), at.key("mountLabel"))?,
        personality: match raw.personality() {
            Some(raw) => Some(personality(raw, at.key("personality"))?),
            None => None,
        },
        memory_policy: match raw.memory_policy() {
            Some(raw) => Some(memory_policy::memory_policy(raw, at.key("memoryPolicy"))?),
            None => None,
        },
        intel_rdt: match raw.intel_rdt() {
            Some(raw) => Some(rdt::intel_rdt(raw, at.key("intelRdt"))?),
            None => None,
        },
        seccomp: match raw.seccomp() {
            Some(_) if notes.empty_seccomp => None,
            Some(raw) => Some(seccomp::seccomp(raw, at.key("seccomp"))?),
            None => None,
        },
        namespaces,
        id_mappings,
    })
}

/// Validates `cgroupsPath`. Its form depends on the cgroup manager, but in each `..` could lead out
/// of the hierarchy.
fn cgroups_path(path: Option<&Path>, at: At<'_>) -> Result<Option<String>, Error> {
    let Some(text) = path.map(path_text).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.contains('\0') {
        return Err(at.refuse(format!("{} holds a NUL byte", Shown(text))));
    }
    if climbs(text) {
        return Err(at.refuse(format!("{} has a `..` component", Shown(text))));
    }
    Ok(Some(text.to_owned()))
}

fn propagation(text: Option<&str>, at: At<'_>) -> Result<Option<Propagation>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    options::propagation(text).map(Some).ok_or_else(|| {
        at.refuse(format!(
            "{} is not one of shared, slave, private, unbindable, rshared, rslave, rprivate, \
             runbindable",
            Shown(text)
        ))
    })
}

/// Validates masked or read-only paths. They become mounts, so they need a mount namespace.
fn paths(raw: Option<&[String]>, mount: &Namespace, at: At<'_>) -> Result<Vec<PathBuf>, Error> {
    let raw = raw.unwrap_or_default();
    if !raw.is_empty() {
        namespaces::check_entry(mount, "mount", at)?;
    }
    let mut seen = HashSet::with_capacity(raw.len());
    let mut paths = Vec::with_capacity(raw.len());
    for (index, text) in raw.iter().enumerate() {
        check_absolute(text, at.index(index))?;
        let path = absolute(text);
        if seen.insert(path.clone()) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn personality(raw: &oci::LinuxPersonality, at: At<'_>) -> Result<Personality, Error> {
    if let Some(flag) = raw.flags().iter().flatten().next() {
        return Err(at
            .key("flags")
            .refuse(format!("{}: no flag is supported", Shown(flag))));
    }
    Ok(match raw.domain() {
        oci::LinuxPersonalityDomain::PerLinux => Personality::Linux,
        oci::LinuxPersonalityDomain::PerLinux32 => Personality::Linux32,
    })
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base, refused, refused_from, remove, set, with};
    use crate::{Personality, PropagationKind};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn masked_and_read_only_paths() {
        for key in ["maskedPaths", "readonlyPaths"] {
            let at = format!("/linux/{key}");
            let place = format!("linux.{key}");
            refused(&[
                (
                    &at,
                    json!(["/a", "proc/kcore"]),
                    &format!("{place}[1]: \"proc/kcore\" is not an absolute path"),
                ),
                (&at, json!([""]), &format!("{place}[0]: \"\" is not a path")),
                (
                    &at,
                    json!(["/a\0"]),
                    &format!("{place}[0]: \"/a\\0\" holds a NUL byte"),
                ),
                (
                    &at,
                    json!("/a"),
                    &format!("{place}: found a string, expected an array"),
                ),
            ]);
            let mut tree = base();
            set(&mut tree, "/linux/namespaces", json!([{"type": "uts"}]));
            let missing = format!("{place}: needs a mount entry in linux.namespaces");
            refused_from(&tree, &[(&at, json!(["/a"]), &missing)]);
            crate::fixture::accepted_from(&tree, &[(&at, json!([]))]);
        }
        let masked = with("/linux/maskedPaths", json!(["/b", "/a/../b/", "/a"]))
            .linux
            .masked_paths;
        assert_eq!(masked, [Path::new("/b"), Path::new("/a")]);
    }

    #[test]
    fn root_propagation() {
        let at = "/linux/rootfsPropagation";
        let words = "is not one of shared, slave, private, unbindable, rshared, rslave, rprivate, \
                     runbindable";
        refused(&[
            (
                at,
                json!("ro"),
                &format!("linux.rootfsPropagation: \"ro\" {words}"),
            ),
            (
                at,
                json!("Shared"),
                &format!("linux.rootfsPropagation: \"Shared\" {words}"),
            ),
        ]);
        let propagation = with(at, json!("rslave")).linux.rootfs_propagation.unwrap();
        assert_eq!(
            (propagation.kind, propagation.recursive),
            (PropagationKind::Slave, true)
        );
        assert_eq!(with(at, json!("")).linux.rootfs_propagation, None);
    }

    #[test]
    fn cgroup_paths() {
        let at = "/linux/cgroupsPath";
        refused(&[
            (
                at,
                json!("/a/../../b"),
                "linux.cgroupsPath: \"/a/../../b\" has a `..` component",
            ),
            (
                at,
                json!(".."),
                "linux.cgroupsPath: \"..\" has a `..` component",
            ),
            (
                at,
                json!("/a\0"),
                "linux.cgroupsPath: \"/a\\0\" holds a NUL byte",
            ),
        ]);
        accepted(&[
            (at, json!("/a..b/..c")),
            (at, json!("a.slice:b:c")),
            (at, json!("")),
        ]);
    }

    #[test]
    fn personalities() {
        let at = "/linux/personality";
        refused(&[
            (
                at,
                json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
                "linux.personality.flags: \"ADDR_NO_RANDOMIZE\": no flag is supported",
            ),
            (
                at,
                json!({"domain": "BSD"}),
                "linux.personality.domain: unknown variant `BSD`, expected `LINUX` or `LINUX32`",
            ),
            (
                at,
                json!({}),
                "linux.personality.domain: required, but missing",
            ),
        ]);
        let personality = with(at, json!({"domain": "LINUX32", "flags": []}))
            .linux
            .personality;
        assert_eq!(personality, Some(Personality::Linux32));
    }

    #[test]
    fn seccomp_is_there_or_not() {
        let at = "/linux/seccomp";
        for (value, there) in [
            (json!(null), false),
            (json!({}), false),
            (
                json!({"architectures": ["SCMP_ARCH_X86"], "syscalls": []}),
                false,
            ),
            (json!({"defaultAction": "SCMP_ACT_ALLOW"}), true),
        ] {
            let seccomp = with(at, value.clone()).linux.seccomp;
            assert_eq!(seccomp.is_some(), there, "{value}");
        }
        let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
        refused(&[(
            at,
            json!({"syscalls": [rule]}),
            "linux.seccomp.defaultAction: required, but missing",
        )]);
        let mut tree = base();
        remove(&mut tree, "/linux");
        remove(&mut tree, "/hostname");
        let seccomp = crate::fixture::parse_tree(&tree).unwrap().linux.seccomp;
        assert_eq!(seccomp, None);
    }

    #[test]
    fn labels() {
        refused(&[(
            "/linux/mountLabel",
            json!("\0"),
            "linux.mountLabel: \"\\0\" holds a NUL byte",
        )]);
        assert!(
            with("/linux/mountLabel", json!("u:r:t:s0:c1,c2"))
                .linux
                .mount_label
                .is_some()
        );
    }
}
