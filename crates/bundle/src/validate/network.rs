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
