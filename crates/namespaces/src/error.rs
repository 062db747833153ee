//! Why namespaces cannot be had: found by the plan, when opening, or by the runtime's own part.

use coracle_sys::{NamespaceFlags, NamespaceKind};
use coracle_text::errno_text;
use nix::errno::Errno;
use std::path::PathBuf;

/// What the plan or the runtime's side failed at. The container's side returns a fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RTL: no privilege and no user namespace to get it from.
    #[error(
        "linux.namespaces: without CAP_SYS_ADMIN a user namespace is needed \
         (type user, with mappings)"
    )]
    NeedsUserNamespace,
    /// An unprivileged caller's new user namespace has no power over an older namespace.
    #[error(
        "linux.namespaces[{index}].path: {path}: no CAP_SYS_ADMIN to join the {} namespace \
         beside a new user namespace", .kind.name()
    )]
    JoinBesideNewUser {
        /// What would be joined.
        kind: NamespaceKind,
        /// The config's path.
        path: PathBuf,
        /// Its place in linux.namespaces.
        index: usize,
    },
    /// Moving devices needs power over the runtime's network namespace.
    #[error("linux.netDevices: moving devices needs CAP_NET_ADMIN")]
    DevicesWithoutPrivilege,
    /// More text than the kernel takes.
    #[error("linux.{list}: the map is {bytes} bytes of text, the kernel takes at most 4095")]
    MapTooLong {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// How many there are.
        bytes: usize,
    },
    /// The set-uid program that maps more ids for an unprivileged caller is not installed.
    #[error(
        "linux.{list}: more than the caller's own id needs {helper}, missing here \
         (package uidmap)"
    )]
    HelperMissing {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// newuidmap or newgidmap.
        helper: &'static str,
    },
    /// A namespace's path does not open.
    #[error("linux.namespaces[{index}].path: {path}: {}", errno_text(*.errno))]
    OpenNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A namespace's path is some other file.
    #[error("linux.namespaces[{index}].path: {path} is not a namespace")]
    NotNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
    },
    /// A namespace's path is a namespace of another type.
    #[error(
        "linux.namespaces[{index}].path: {path} is a {} namespace, not {}",
        kind_name(*.found), .wanted.name()
    )]
    WrongType {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
        /// What it is.
        found: NamespaceFlags,
        /// What the config says.
        wanted: NamespaceKind,
    },
    /// Whoever changes its root changes the host's.
    #[error(
        "linux.namespaces[{index}].path: {path} is the runtime's own mount namespace; leave the \
         path out for a new one"
    )]
    OwnMountNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
    },
    /// The joined user namespace has other maps than the config says.
    #[error("linux.{list}: the user namespace that is joined has another map: {map}")]
    MapDiffers {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// The namespace's map, lines joined by commas.
        map: String,
    },
    /// The maps of a user namespace could not be read from inside it.
    #[error("look at the maps of the user namespace: {call}: {}", errno_text(*.errno))]
    ReadMaps {
        /// What failed.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// No descriptor is left.
    #[error("hold the container's init: {}", errno_text(*.errno))]
    HoldProcess {
        /// The kernel's answer.
        errno: Errno,
    },
    /// A private procfs could not be had.
    #[error("open procfs: {}", errno_text(*.errno))]
    Procfs {
        /// The kernel's answer.
        errno: Errno,
    },
    /// A map was refused.
    #[error("write /proc/{pid}/{file}: {}{hint}", errno_text(*.errno))]
    WriteMap {
        /// The first process of the user namespace.
        pid: i32,
        /// uid_map, gid_map or setgroups.
        file: &'static str,
        /// The kernel's answer.
        errno: Errno,
        /// The likely cause, or nothing.
        hint: &'static str,
    },
    /// newuidmap or newgidmap did not start.
    #[error("run {program}: {}", errno_text(*.errno))]
    StartHelper {
        /// Its path.
        program: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// newuidmap or newgidmap refused.
    #[error("{program}: {status}: {output}{}", behind(hint))]
    Helper {
        /// Its path.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// What it said, one line.
        output: String,
        /// What may be behind it; may be empty.
        hint: String,
    },
    /// There is no such device to move.
    #[error("linux.netDevices.{host_name}: no such network device")]
    NoDevice {
        /// The config's key.
        host_name: String,
    },
    /// The container's network namespace has a device of that name.
    #[error(
        "linux.netDevices.{host_name}: the container's network namespace already has a device \
         {name}"
    )]
    DeviceExists {
        /// The config's key.
        host_name: String,
        /// The wanted name.
        name: String,
    },
    /// A step of moving a device failed.
    #[error("linux.netDevices.{host_name}: {action}: {}", errno_text(*.errno))]
    Device {
        /// The config's key.
        host_name: String,
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Talking to the kernel's network configuration failed before any device was touched.
    #[error("linux.netDevices: {action}: {}", errno_text(*.errno))]
    Netlink {
        /// What was attempted.
        action: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

fn behind(hint: &str) -> String {
    match hint {
        "" => String::new(),
        hint => format!("; {hint}"),
    }
}

fn kind_name(flags: NamespaceFlags) -> &'static str {
    NamespaceKind::ALL
        .into_iter()
        .find(|kind| kind.flag() == flags)
        .map_or("strange", NamespaceKind::name)
}
