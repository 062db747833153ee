//! `features`: features.md and features-linux.md of the runtime specification.
//!
//! Prints what this build supports, not what the host does: engines read it once and cache it. Only
//! `supportedFlags` of seccomp depends on the running kernel, as the specification requires, and
//! annotations have the version of criu on this host.

use coracle_bundle::annotation::OBEYED;
use coracle_bundle::{
    HookPoint, LANDLOCK_FS, LANDLOCK_NET, LANDLOCK_SCOPES, MEMORY_FLAGS, MEMORY_MODES,
};
use coracle_container::{CriuCan, CriuVersion};
use coracle_seccomp::Abi;
use coracle_sys::NamespaceKind;
use serde_json::{Value, json};

use super::help;
use super::verb::{Context, Request, Verb};
use crate::arguments::Expected;
use crate::arguments::table::{Command, Order};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "features",
        synopsis: "",
        about: "Print what this runtime supports, as JSON",
        order: Order::Anywhere,
        flags: &[],
        examples: &[("features", "Print it")],
    },
    needs_seal: false,
    read: |arguments| {
        arguments.expect(Expected::Exactly(0))?;
        Ok(Box::new(Features))
    },
};

const SECCOMP_ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

struct Features;

impl Request for Features {
    fn perform(&self, _: &Context) -> Result<i32, Error> {
        output::json(&features(coracle_container::criu()))?;
        Ok(0)
    }
}

/// The version and abilities of the installed criu, if there is one.
type Criu = Option<(CriuVersion, CriuCan)>;

fn features(criu: Criu) -> Value {
    let mut mount_options = sorted(coracle_bundle::mount_options());
    mount_options.dedup();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": coracle_container::OCI_VERSION,
        "hooks": sorted(HookPoint::ALL.map(HookPoint::name)),
        "mountOptions": mount_options,
        "linux": linux(),
        "annotations": annotations(criu),
        "potentiallyUnsafeConfigAnnotations": obeyed_annotations(),
    })
}

fn obeyed_annotations() -> Vec<&'static str> {
    let networks = coracle_container::NETWORK_ANNOTATIONS.into_iter();
    sorted(networks.chain(OBEYED))
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = items.into_iter().collect();
    all.sort_unstable();
    all
}

fn linux() -> Value {
    json!({
        "namespaces": sorted(NamespaceKind::ALL.map(NamespaceKind::name)),
        "capabilities": sorted((0..64).filter_map(coracle_bundle::capability_name)),
        "cgroup": {
            "v1": true,
            "v2": true,
            "systemd": true,
            "systemdUser": true,
            "rdma": true,
        },
        "seccomp": seccomp(),
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": { "modes": sorted(MEMORY_MODES), "flags": MEMORY_FLAGS },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

fn seccomp() -> Value {
    // The call fails only on a kernel without seccomp.
    let supported = coracle_seccomp::supported_flags().unwrap_or_default();
    // A profile may also list other architectures of the specification, but coracle makes no
    // filters for them.
    let name = |abi: Abi| format!("SCMP_ARCH_{}", abi.name().to_ascii_uppercase());
    json!({
        "enabled": true,
        "actions": SECCOMP_ACTIONS,
        "operators": SECCOMP_OPERATORS,
        "archs": sorted(Abi::ALL.map(name)),
        "knownFlags": sorted(coracle_seccomp::known_flags()),
        "supportedFlags": sorted(supported),
    })
}

fn annotations(criu: Criu) -> Value {
    let mut all = vec![
        ("run.coracle.version", env!("CARGO_PKG_VERSION").to_owned()),
        // runc's annotation, which engines read.
        (
            "org.opencontainers.runc.checkpoint.enabled",
            "true".to_owned(),
        ),
    ];
    // The newest version of Landlock whose accesses and scopes can be named.
    let tables = [&LANDLOCK_FS[..], &LANDLOCK_NET, &LANDLOCK_SCOPES].into_iter();
    if let Some(newest) = tables.flatten().map(|right| right.abi).max() {
        all.push(("run.coracle.landlock.abi", newest.to_string()));
    }
    if let Some(commit) = help::COMMIT {
        all.push(("run.coracle.commit", commit.to_owned()));
    }
    if let Some((version, can)) = criu {
        all.push(("run.coracle.criu.version", version.to_string()));
        all.push(("run.coracle.criu.lazy-pages", can.lazy_pages.to_string()));
        all.push(("run.coracle.criu.pre-dump", can.memory_tracking.to_string()));
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_documents_name_what_is_obeyed() {
        let pages = [
            include_str!("../../../../docs/cli.md"),
            include_str!("../../../../docs/cni.md"),
            include_str!("../../../../docs/checkpoint.md"),
        ];
        for annotation in obeyed_annotations() {
            let own = annotation.strip_prefix("run.coracle.network.");
            let short = own.map(|own| format!("`….{own}"));
            let named = pages.iter().any(|page| {
                page.contains(annotation) || short.as_ref().is_some_and(|it| page.contains(it))
            });
            assert!(named, "{annotation}");
        }
    }

    #[test]
    fn every_list_is_sorted_and_holds_nothing_twice() {
        fn check(value: &Value) {
            match value {
                Value::Array(items) => {
                    let texts: Vec<&str> =
                        items.iter().map(|item| item.as_str().unwrap()).collect();
                    assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
                    assert!(!texts.is_empty());
                }
                Value::Object(members) => members.values().for_each(check),
                Value::String(text) => assert_eq!(text.trim(), text),
                _ => {}
            }
        }
        check(&features(None));
    }

    #[test]
    fn all_that_is_listed_of_seccomp_is_understood() {
        let rules = SECCOMP_ACTIONS.map(|action| json!({"names": ["read"], "action": action}));
        let arguments = SECCOMP_OPERATORS.map(|op| json!({"index": 0, "value": 0, "op": op}));
        let features = features(None);
        let seccomp = &features["linux"]["seccomp"];
        let known = seccomp["knownFlags"].as_array().unwrap();
        let mut config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "linux": {"seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": seccomp["archs"],
                "flags": known,
                "syscalls": rules
            }}
        });
        config["linux"]["seccomp"]["syscalls"][0]["args"] = json!(arguments);
        let text = config.to_string();
        let config = coracle_bundle::parse(Path::new("/b"), text.as_bytes()).unwrap();
        let profile = config.linux.seccomp.unwrap();
        assert_eq!(profile.rules.len(), SECCOMP_ACTIONS.len());
        assert_eq!(profile.flags.unwrap().len(), known.len());
        // The flags of this kernel are among the known.
        let supported = seccomp["supportedFlags"].as_array().unwrap();
        assert!(supported.iter().all(|flag| known.contains(flag)) && !supported.is_empty());
    }

    #[test]
    fn containerd_finds_what_it_needs_for_user_namespaces() {
        let features = features(None);
        assert_eq!(
            features["linux"]["mountExtensions"]["idmap"]["enabled"],
            true
        );
        for option in ["rro", "rbind", "idmap", "ridmap", "tmpcopyup"] {
            assert!(
                features["mountOptions"]
                    .as_array()
                    .unwrap()
                    .contains(&option.into())
            );
        }
    }
}
