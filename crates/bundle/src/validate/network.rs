//! `linux.netDevices`: config-linux.md § Network Devices.

use super::text::check_interface;
use crate::error::{At, Error, Shown};
use crate::{Namespace, NetDevice};
use oci_spec::runtime as oci;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Devices to move into the container's network namespace, in order of their host names.
pub(super) fn net_devices(
    raw: Option<&HashMap<String, oci::LinuxNetDevice>>,
    network: &Namespace,
    at: At<'_>,
) -> Result<Vec<NetDevice>, Error> {
    let raw: BTreeMap<_, _> = raw.into_iter().flatten().collect();
    if !raw.is_empty() && *network == Namespace::Inherit {
        return Err(at.refuse("given, but linux.namespaces has no network entry"));
    }
    let mut names = BTreeSet::new();
    let mut devices = Vec::with_capacity(raw.len());
    for (host_name, device) in raw {
        let at = at.key(host_name);
        check_interface(host_name, at)?;
        if host_name.contains('%') {
            return Err(at.refuse(format!("{} is no name of a device", Shown(host_name))));
        }
        let name = device.name().as_deref().unwrap_or(host_name);
        check_name(name, at.key("name"))?;
        // The kernel numbers what has a template, so two of them are no clash.
        if !name.contains('%') && !names.insert(name) {
            return Err(at
                .key("name")
                .refuse(format!("{} is taken twice", Shown(name))));
        }
        devices.push(NetDevice {
            host_name: host_name.clone(),
            name: name.to_owned(),
        });
    }
    Ok(devices)
}

/// A name, or a template with one `%d` in it.
fn check_name(name: &str, at: At<'_>) -> Result<(), Error> {
    check_interface(name, at)?;
    if !name.replacen("%d", "", 1).contains('%') {
        return Ok(());
    }
    Err(at.refuse(format!("{} may hold `%` only once, in `%d`", Shown(name))))
}

#[cfg(test)]
mod tests {
    use crate::fixture::{base, parse_tree, refused, refused_from, remove, set, with};
    use serde_json::json;

    #[test]
    fn names_of_devices() {
        let at = "/linux/netDevices";
        let rule = "is no name for a network interface: 1 to 15 bytes without `/`, `:` and blanks";
        let name = |name: &str| json!({"eth0": {"name": name}});
        for wrong in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "sixteen-bytes-xx",
            "a\u{b}b",
        ] {
            let expected = format!("linux.netDevices.eth0.name: {wrong:?} {rule}");
            refused(&[(at, name(wrong), &expected)]);
        }
        refused(&[
            (
                at,
                json!({"a b": {}}),
                &format!("linux.netDevices[\"a b\"]: \"a b\" {rule}"),
            ),
            (
                at,
                json!({"x%d": {}}),
                "linux.netDevices[\"x%d\"]: \"x%d\" is no name of a device",
            ),
            (
                at,
                name("a%s"),
                "linux.netDevices.eth0.name: \"a%s\" may hold `%` only once, in `%d`",
            ),
            (
                at,
                name("a%d%d"),
                "linux.netDevices.eth0.name: \"a%d%d\" may hold `%` only once, in `%d`",
            ),
            (
                at,
                json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}}),
                "linux.netDevices.eth1.name: \"x\" is taken twice",
            ),
        ]);
        let list = json!({"eth1": {"name": "x%d"}, "eth0": {}, "eth2": {"name": "x%d"}});
        let devices = with(at, list).linux.net_devices;
        let names: Vec<_> = devices
            .iter()
            .map(|one| (&*one.host_name, &*one.name))
            .collect();
        assert_eq!(names, [("eth0", "eth0"), ("eth1", "x%d"), ("eth2", "x%d")]);
    }

    #[test]
    fn devices_need_a_network_namespace() {
        let mut tree = base();
        remove(&mut tree, "/hostname");
        set(&mut tree, "/linux/namespaces", json!([{"type": "mount"}]));
        assert!(parse_tree(&tree).is_ok());
        refused_from(
            &tree,
            &[(
                "/linux/netDevices",
                json!({"eth0": {}}),
                "linux.netDevices: given, but linux.namespaces has no network entry",
            )],
        );
    }
}
