//! The flags of networks, which `create`, `run` and `network` share.

use std::path::PathBuf;

use coracle_container::{NetworkFlags, Search};

use super::number;
use super::table::{Flag, switch, value, values};
use super::usage::Usage;
use super::values::{Arguments, utf8};

/// The flags that request a network.
pub(crate) const REQUEST: &[Flag] = &[
    value(
        "network",
        "NETWORK",
        "Attach to none, host, container:ID or NAME[,NAME...]",
    ),
    values(
        "publish",
        "[IP:]HOST:CONTAINER[/PROTO]",
        "Forward a port of the host to the container",
    ),
    values("ip", "ADDRESS", "Request this address of the network"),
    value(
        "mac",
        "ADDRESS",
        "Request this hardware address of the network",
    ),
    values("dns", "ADDRESS", "Use this name server"),
    values(
        "bandwidth",
        "KEY=BITS",
        "Limit ingressRate, ingressBurst, egressRate or egressBurst",
    ),
    switch(
        "network-files",
        "Mount /etc/resolv.conf and /etc/hosts for the network",
    ),
];

/// The flags that name the directories of networks and plugins.
pub(crate) const SEARCH: &[Flag] = &[
    value(
        "cni-conf-dir",
        "DIR",
        "Find networks here [default: /etc/cni/net.d]",
    ),
    values(
        "cni-bin-dir",
        "DIR",
        "Find plugins here [default: /opt/cni/bin, /usr/lib/cni]",
    ),
    value(
        "cni-timeout",
        "SECONDS",
        "Kill a plugin that takes longer [default: 60]",
    ),
];

/// The values of the flags that request a network, not yet checked.
pub(crate) fn request(arguments: &Arguments) -> Result<NetworkFlags, Usage> {
    Ok(NetworkFlags {
        network: arguments.parsed("network", "UTF-8", utf8)?,
        publish: arguments.texts("publish")?,
        ip: arguments.texts("ip")?,
        mac: arguments.parsed("mac", "UTF-8", utf8)?,
        dns: arguments.texts("dns")?,
        bandwidth: arguments.texts("bandwidth")?,
        files: arguments.is_on("network-files"),
    })
}

/// The directories of networks and plugins, and the time limit of plugins.
pub(crate) fn search(arguments: &Arguments) -> Result<Search, Usage> {
    let mut search = Search::default();
    if let Some(dir) = arguments.path("cni-conf-dir") {
        search.conf_dir = dir;
    }
    let dirs: Vec<PathBuf> = arguments.values("cni-bin-dir").map(PathBuf::from).collect();
    if !dirs.is_empty() {
        search.bin_dirs = dirs;
    }
    let seconds = |text: &[u8]| number::unsigned(text).filter(|seconds| *seconds > 0);
    if let Some(seconds) =
        arguments.parsed("cni-timeout", "a number of seconds, 1 or more", seconds)?
    {
        search.timeout_s = seconds;
    }
    Ok(search)
}
