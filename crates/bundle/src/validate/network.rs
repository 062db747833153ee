//! `linux.netDevices`: config-linux.md § Network Devices; and the replacement of the network
//! namespace of `linux.namespaces`.

use super::namespaces::check_entry;
use super::sysctl;
use super::text::check_interface;
use crate::error::{At, Document, Error, Shown};
use crate::{Config, Namespace, NetDevice, Sysctl};
use oci_spec::runtime as oci;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Validates the devices to move into the container's network namespace. Returns them in order of
/// their host names.
pub(super) fn net_devices(
    raw: Option<&HashMap<String, oci::LinuxNetDevice>>,
    network: &Namespace,
    at: At<'_>,
) -> Result<Vec<NetDevice>, Error> {
    let raw: BTreeMap<_, _> = raw.into_iter().flatten().collect();
    if !raw.is_empty() {
        check_entry(network, "network", at)?;
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
        // The kernel replaces `%d` of a template by a free number, so two equal templates do not
        // conflict.
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

impl Config {
    /// Replaces the network namespace of `linux.namespaces`. Properties that were checked against
    /// the old one are checked again: a sysctl must not reach the host.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a namespace that the config gives by path, for sysctls and devices
    /// that need a namespace other than the host's.
    pub fn replace_network(&mut self, network: Namespace) -> Result<(), Error> {
        let root = At::Root(Document::Config);
        let at = root.key("linux");
        if let Namespace::Join { index, .. } = self.linux.namespaces.network {
            let entry = at.key("namespaces");
            let entry = entry.index(index);
            return Err(entry
                .key("path")
                .refuse("joins a network namespace, but another network is requested"));
        }
        self.linux.namespaces.network = network;
        for Sysctl { key, namespace, .. } in &self.linux.sysctl {
            let parent = at.key("sysctl");
            let namespaces = &self.linux.namespaces;
            sysctl::check_owner(key, *namespace, namespaces, parent.key(key))?;
        }
        match &*self.linux.net_devices {
            [] => Ok(()),
            _ => check_entry(
                &self.linux.namespaces.network,
                "network",
                at.key("netDevices"),
            ),
        }
    }
}

/// Validates a name, or a template with one `%d`.
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
                "linux.netDevices: needs a network entry in linux.namespaces",
            )],
        );
    }

    #[test]
    fn another_network_is_checked_anew() {
        let change = |edits: &[(&str, serde_json::Value)], network: crate::Namespace| {
            let mut tree = base();
            for (pointer, value) in edits {
                set(&mut tree, pointer, value.clone());
            }
            let mut config = parse_tree(&tree).expect("a good config");
            let answer = config.replace_network(network);
            answer.map_err(|error| error.to_string())
        };
        use crate::Namespace::{Inherit, New};
        let own = (
            "/linux/namespaces",
            json!([{"type": "network"}, {"type": "mount"}, {"type": "uts"}]),
        );
        let sysctl = ("/linux/sysctl", json!({"net.core.somaxconn": "9"}));
        assert_eq!(change(&[own.clone(), sysctl.clone()], New), Ok(()));
        assert_eq!(
            change(&[own.clone(), sysctl], Inherit),
            Err(
                "config.json: linux.sysctl[\"net.core.somaxconn\"]: \"net.core.somaxconn\" is not \
                 in a separate kernel namespace: linux.namespaces has no network entry"
                    .to_owned()
            )
        );
        let device = ("/linux/netDevices", json!({"eth7": {}}));
        assert_eq!(
            change(&[own, device], Inherit),
            Err(
                "config.json: linux.netDevices: needs a network entry in linux.namespaces"
                    .to_owned()
            )
        );
        let path = json!([{"type": "uts"}, {"type": "network", "path": "/n"}, {"type": "mount"}]);
        assert_eq!(
            change(&[("/linux/namespaces", path)], New),
            Err(
                "config.json: linux.namespaces[1].path: joins a network namespace, but another \
                 network is requested"
                    .to_owned()
            )
        );
    }
}
