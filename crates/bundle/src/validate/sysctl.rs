//! `linux.sysctl`: config-linux.md § Sysctl.

use crate::error::{At, Error, Shown};
use crate::{Namespace, Namespaces, Sysctl};
use coracle_sys::NamespaceKind;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;

/// Validates sysctls. Only those of namespaces that the config lists are accepted: any other would
/// change the host.
pub(super) fn sysctl(
    raw: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
    at: At<'_>,
) -> Result<Vec<Sysctl>, Error> {
    let raw: BTreeMap<&String, &String> = raw.into_iter().flatten().collect();
    let one = |(key, value): (&String, &String)| {
        let at = at.key(key);
        let parts = parts(key);
        let namespace = owner(key, &parts, at)?;
        check_owner(key, namespace, namespaces, at)?;
        if value.contains('\0') {
            return Err(at.refuse(format!("{} holds a NUL byte", Shown(value))));
        }
        Ok(Sysctl {
            key: key.clone(),
            path: parts.join("/"),
            namespace,
            value: value.clone(),
        })
    };
    raw.into_iter().map(one).collect()
}

fn owner(key: &str, parts: &[String], at: At<'_>) -> Result<NamespaceKind, Error> {
    let odd = |part: &String| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if parts.len() < 2 || parts.iter().any(odd) {
        return Err(at.refuse(format!("{} is no name of a kernel parameter", Shown(key))));
    }
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["kernel", "hostname"] => {
            Err(at.refuse("conflicts with the hostname property, which is to be used"))
        }
        ["kernel", "domainname"] => Ok(NamespaceKind::Uts),
        ["kernel", name] if IPC.contains(name) => Ok(NamespaceKind::Ipc),
        ["fs", "mqueue", ..] => Ok(NamespaceKind::Ipc),
        ["net", ..] => Ok(NamespaceKind::Network),
        ["user", ..] => Ok(NamespaceKind::User),
        _ => Err(at.refuse(format!(
            "{} is not in a separate kernel namespace",
            Shown(key)
        ))),
    }
}

/// Refuses a sysctl of a namespace that the container shares with the host, since it would change
/// the host.
pub(super) fn check_owner(
    key: &str,
    kind: NamespaceKind,
    namespaces: &Namespaces,
    at: At<'_>,
) -> Result<(), Error> {
    if *namespaces.of(kind) == Namespace::Inherit {
        return Err(at.refuse(format!(
            "{} is not in a separate kernel namespace: linux.namespaces has no {} entry",
            Shown(key),
            kind.name()
        )));
    }
    Ok(())
}

/// Refuses `kernel.domainname` together with the property `domainname`: one would overwrite the
/// other.
pub(super) fn check_domainname(
    domainname: Option<&CString>,
    sysctl: &[Sysctl],
    at: At<'_>,
) -> Result<(), Error> {
    match sysctl.iter().find(|one| one.path == "kernel/domainname") {
        Some(one) if domainname.is_some() => Err(at
            .key(&one.key)
            .refuse("conflicts with the domainname property")),
        _ => Ok(()),
    }
}

/// The `kernel.*` sysctls of IPC namespaces.
const IPC: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

/// The components of a key. As in sysctl(8), the first separator decides which one separates, and
/// the other stands for a separator inside a component: `net.ipv4.conf.eno2/100.mtu`.
fn parts(key: &str) -> Vec<String> {
    let (separator, other) = match key.find(['.', '/']) {
        Some(position)
            if key
                .get(position..)
                .is_some_and(|rest| rest.starts_with('/')) =>
        {
            // After a slash as the first separator, a dot stands for itself.
            return key.split('/').map(str::to_owned).collect();
        }
        _ => ('.', '/'),
    };
    key.split(separator)
        .map(|part| part.replace(other, "."))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{accepted, base, base_with_user, refused, refused_from, remove, set};
    use serde_json::json;

    #[test]
    fn only_what_a_namespace_owns() {
        let host = [
            "kernel.panic",
            "kernel/core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "kernel.shm_next_id",
            "kernel.sem.x",
            "fs.inotify.max_user_watches",
        ];
        for key in host {
            let expected =
                format!("linux.sysctl[{key:?}]: {key:?} is not in a separate kernel namespace");
            refused(&[("/linux/sysctl", json!({key: "1"}), &expected)]);
        }
        for key in [
            "kernel",
            "net..x",
            ".net",
            "net.",
            "net/ipv4/../x",
            "net/../kernel/x",
            "n\0.x",
            "",
        ] {
            let place = if key == "kernel" {
                ".kernel".to_owned()
            } else {
                format!("[{key:?}]")
            };
            let expected = format!("linux.sysctl{place}: {key:?} is no name of a kernel parameter");
            refused(&[("/linux/sysctl", json!({key: "1"}), &expected)]);
        }
        for key in ["kernel.hostname", "kernel/hostname"] {
            let expected = format!(
                "linux.sysctl[{key:?}]: conflicts with the hostname property, which is to be used"
            );
            refused(&[("/linux/sysctl", json!({key: "a"}), &expected)]);
        }
        refused(&[(
            "/linux/sysctl",
            json!({"net.a": "\0"}),
            "linux.sysctl[\"net.a\"]: \"\\0\" holds a NUL byte",
        )]);
    }

    #[test]
    fn a_domainname_is_set_once() {
        let mut tree = base();
        set(&mut tree, "/domainname", json!("example.org"));
        for (key, place) in [
            ("kernel.domainname", "[\"kernel.domainname\"]"),
            ("kernel/domainname", "[\"kernel/domainname\"]"),
        ] {
            let expected = format!("linux.sysctl{place}: conflicts with the domainname property");
            refused_from(&tree, &[("/linux/sysctl", json!({key: "a"}), &expected)]);
        }
    }

    #[test]
    fn each_needs_its_namespace() {
        let owned = [
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/conf/eno2.100/rp_filter", "network"),
            ("kernel.msgmax", "ipc"),
            ("kernel/shm_rmid_forced", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("kernel.domainname", "uts"),
        ];
        let mut alone = base();
        remove(&mut alone, "/hostname");
        set(&mut alone, "/linux/namespaces", json!([{"type": "mount"}]));
        for (key, kind) in owned {
            accepted(&[("/linux/sysctl", json!({key: "1"}))]);
            let expected = format!(
                "linux.sysctl[{key:?}]: {key:?} is not in a separate kernel namespace: \
                 linux.namespaces has no {kind} entry"
            );
            refused_from(&alone, &[("/linux/sysctl", json!({key: "1"}), &expected)]);
        }
        let user = json!({"user.max_user_namespaces": "5"});
        crate::fixture::accepted_from(&base_with_user(), &[("/linux/sysctl", user.clone())]);
        assert!(
            crate::fixture::parse_tree(&{
                let mut tree = base();
                set(&mut tree, "/linux/sysctl", user);
                tree
            })
            .is_err()
        );
    }

    #[test]
    fn both_spellings_have_the_same_parts() {
        let expected = ["net", "ipv4", "conf", "eno2.100", "rp_filter"];
        assert_eq!(parts("net.ipv4.conf.eno2/100.rp_filter"), expected);
        assert_eq!(parts("net/ipv4/conf/eno2.100/rp_filter"), expected);
    }
}
