//! The flags of networks, which `create`, `run` and `network` share.

use std::path::PathBuf;

use clap::{Arg, Command};
use coracle_container::{NetworkFlags, Search};

use super::flag::{switch, value, values};
use super::{Given, Usage, number};

/// The flags that ask for a network.
pub(crate) fn asking(command: Command) -> Command {
    command
        .arg(value(
            "network",
            "NETWORK",
            "Attach to none, host, container:ID or NAME[,NAME...]",
        ))
        .arg(values(
            "publish",
            "[IP:]HOST:CONTAINER[/PROTO]",
            "Lead a port of the host to the container",
        ))
        .arg(values("ip", "ADDRESS", "Ask the network for this address"))
        .arg(value(
            "mac",
            "ADDRESS",
            "Ask the network for this hardware address",
        ))
        .arg(values("dns", "ADDRESS", "Use this name server"))
        .arg(values(
            "bandwidth",
            "KEY=BITS",
            "Limit ingressRate, ingressBurst, egressRate or egressBurst",
        ))
        .arg(switch(
            "network-files",
            "Mount /etc/resolv.conf and /etc/hosts for the network",
        ))
        .args(searching())
}

/// The flags that say where networks and plugins are.
pub(crate) fn searching() -> [Arg; 3] {
    [
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
    ]
}

/// What is asked for, as it was typed.
pub(crate) fn asked(given: &Given) -> Result<NetworkFlags, Usage> {
    let text = |text: &[u8]| std::str::from_utf8(text).ok().map(str::to_owned);
    let several = |flag| given.all_parsed(flag, "UTF-8", text);
    Ok(NetworkFlags {
        network: given.parsed("network", "UTF-8", text)?,
        publish: several("publish")?,
        ip: several("ip")?,
        mac: given.parsed("mac", "UTF-8", text)?,
        dns: several("dns")?,
        bandwidth: several("bandwidth")?,
        files: given.is_on("network-files"),
    })
}

/// Where to look, and how long to wait.
pub(crate) fn search(given: &Given) -> Result<Search, Usage> {
    let mut search = Search::default();
    if let Some(dir) = given.path("cni-conf-dir") {
        search.conf_dir = dir;
    }
    let dirs: Vec<PathBuf> = given.values("cni-bin-dir").map(PathBuf::from).collect();
    if !dirs.is_empty() {
        search.bin_dirs = dirs;
    }
    let seconds = |text: &[u8]| number::unsigned(text).filter(|seconds| *seconds > 0);
    if let Some(seconds) = given.parsed("cni-timeout", "a number of seconds, 1 or more", seconds)? {
        search.timeout_s = seconds;
    }
    Ok(search)
}
