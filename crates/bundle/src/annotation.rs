//! Annotations that change what the runtime does, and those of other runtimes that do not.

use std::collections::BTreeMap;

/// The mount option by which `linux.mountLabel` is set; podman's.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// The caller's supplementary groups stay.
pub const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
/// Unknown names of system calls are an error.
pub const SECCOMP_FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// A whole seccomp program, in base64, in place of `linux.seccomp`'s rules.
pub const SECCOMP_PROGRAM: &str = "run.oci.seccomp_bpf_data";
/// The socket of a seccomp agent, for a profile without `listenerPath`.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// The socket that gets init's pidfd.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// The file that hooks append their standard output to.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The file that hooks append their standard error to.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// The cgroup that init is put into below the container's own.
pub const INIT_CGROUP: &str = "run.coracle.init_cgroup";
/// crun's name for the same.
pub const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
/// The cgroup below the systemd unit's that the container's cgroup namespace begins at.
pub const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// Rules of Landlock, as JSON.
pub const LANDLOCK: &str = "run.coracle.landlock";
/// Properties of the systemd unit begin with this.
pub const SYSTEMD_PROPERTY: &str = "org.systemd.property.";
/// The configuration file of criu.
pub const CRIU_CONFIG: &str = "org.criu.config";

/// Annotations that are obeyed, sorted; those of networks are apart. One that ends with a dot is a
/// beginning.
pub const OBEYED: [&str; 14] = [
    CRIU_CONFIG,
    SYSTEMD_PROPERTY,
    INIT_CGROUP,
    LANDLOCK,
    DELEGATE_CGROUP,
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_ORIGINAL_GROUPS,
    MOUNT_CONTEXT_TYPE,
    PIDFD_RECEIVER,
    SECCOMP_RECEIVER,
    SECCOMP_PROGRAM,
    SECCOMP_FAIL_UNKNOWN,
    SUBGROUP,
];

/// Those of networks, which `coracle-cni` reads.
const NETWORKS: [&str; 2] = ["run.coracle.network", "run.coracle.network."];

/// Absolute paths.
pub(crate) const PATHS: [&str; 4] = [HOOKS_STDERR, HOOKS_STDOUT, PIDFD_RECEIVER, SECCOMP_RECEIVER];

/// What annotations with these beginnings ask of another runtime, and what happens here instead.
/// The first row that matches counts.
const NEIGHBOURS: [(&str, &str); 7] = [
    (
        "run.oci.handler",
        "the program is executed, and no handler in its place",
    ),
    (
        "module.wasm.image/variant",
        "WebAssembly is executed only as the kernel does it",
    ),
    ("krun.", "no virtual machine is made"),
    (
        "run.oci.seccomp.plugins",
        "no plugin is loaded; linux.seccomp.listenerPath can name an agent",
    ),
    (
        "run.oci.systemd.force_cgroup_v1",
        "cgroups are mounted as the host has them",
    ),
    ("run.oci.", "it is not known"),
    ("run.coracle.", "it is not known"),
];

/// A warning for each annotation that is meant for a runtime but not obeyed by this one.
pub(crate) fn ignored(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    annotations.keys().filter_map(|key| {
        let is = |name: &&str| key == name || (name.ends_with('.') && key.starts_with(name));
        if OBEYED.iter().chain(&NETWORKS).any(is) {
            return None;
        }
        let row = NEIGHBOURS.iter().find(|(start, _)| key.starts_with(start));
        Some(format!("annotations[{key:?}] is not obeyed: {}", row?.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(key: &str) -> Vec<String> {
        ignored(&BTreeMap::from([(key.to_owned(), String::new())])).collect()
    }

    #[test]
    fn only_what_is_meant_for_a_runtime_and_not_obeyed_is_named() {
        let prefixes = ["org.systemd.property.KillSignal", "run.coracle.network.ip"];
        let others = ["run.coracle.network", "org.opencontainers.image.title", "a"];
        for key in OBEYED.iter().chain(&prefixes).chain(&others) {
            assert_eq!(warnings(key), [""; 0], "{key}");
        }
        assert_eq!(
            warnings("run.oci.handler"),
            [
                "annotations[\"run.oci.handler\"] is not obeyed: the program is executed, and no \
                 handler in its place"
            ]
        );
        for key in [
            "krun.ram_mib",
            "run.oci.seccomp.plugins",
            "run.oci.hook.stdout",
        ] {
            let [warning] = &warnings(key)[..] else {
                panic!("{key}")
            };
            assert!(warning.starts_with(&format!("annotations[{key:?}]")));
        }
        assert_eq!(warnings("run.coracle.networks").len(), 1);
    }
}
