//! `linux`: config-linux.md.

use crate::{IdMappings, Propagation, Resources, Seccomp};
use coracle_sys::{NamespaceKind, PerNamespace};
use std::ffi::CString;
use std::path::PathBuf;

/// The Linux section; absent properties are empty.
#[derive(Clone, Debug, Default)]
pub struct Linux {
    /// By kind.
    pub namespaces: Namespaces,
    /// Only with a user namespace; both empty without mappings, never only one.
    pub id_mappings: IdMappings,
    /// Only with a new time namespace.
    pub time_offsets: TimeOffsets,
    /// Nodes to make besides the default ones.
    pub devices: Vec<Device>,
    /// Devices to move into the network namespace, in order of their host names.
    pub net_devices: Vec<NetDevice>,
    /// The config's text, which `cgroups` interprets. No `..` component, no NUL.
    pub cgroups_path: Option<String>,
    /// Limits of the cgroup.
    pub resources: Resources,
    /// In order of the keys. Each is of a namespace that has an entry.
    pub sysctl: Vec<Sysctl>,
    /// Of the root mount, after all others were made.
    pub rootfs_propagation: Option<Propagation>,
    /// Absolute, lexically clean, duplicates removed; only with a mount namespace entry.
    pub masked_paths: Vec<PathBuf>,
    /// The same.
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label for mounts.
    pub mount_label: Option<CString>,
    /// Argument of personality(2).
    pub personality: Option<Personality>,
    /// NUMA policy of the process.
    pub memory_policy: Option<MemoryPolicy>,
    /// Cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
    /// The filter for system calls; `None` too for an object without an action and without rules.
    pub seccomp: Option<Seccomp>,
}

/// A kernel parameter of a namespace: config-linux.md § Sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// As given.
    pub key: String,
    /// Below `/proc/sys`: `net/ipv4/ip_forward`.
    pub path: String,
    /// The kind of namespace that has its own.
    pub namespace: NamespaceKind,
    /// Verbatim, without NUL.
    pub value: String,
}

/// `linux.namespaces` by kind: config-linux.md § Namespaces.
pub type Namespaces = PerNamespace<Namespace>;

/// What the config asks of one kind of namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Not listed: the runtime's own.
    #[default]
    Inherit,
    /// Listed without a path.
    New,
    /// Listed with a path.
    Join {
        /// Absolute. Whether it leads to a namespace of this kind is seen when it is opened.
        path: PathBuf,
        /// Its place in `linux.namespaces`, for messages.
        index: usize,
    },
}

/// `linux.timeOffsets`: seconds and nanoseconds (0..=999_999_999) by clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOffsets {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Option<(i64, u32)>,
    /// `CLOCK_BOOTTIME`.
    pub boottime: Option<(i64, u32)>,
}

/// A node to make: config-linux.md § Devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute, no `..`, no trailing slash.
    pub path: PathBuf,
    /// Its type.
    pub kind: DeviceKind,
    /// At most 12 bits; zero for fifos.
    pub major: u32,
    /// At most 20 bits; zero for fifos.
    pub minor: u32,
    /// Permission bits, at most 0o7777; 0o666 by default.
    pub mode: u32,
    /// In the container; 0 by default.
    pub uid: u32,
    /// The same.
    pub gid: u32,
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`, and `u`, which mknod(1) takes for the same.
    Char,
    /// `b`.
    Block,
    /// `p`.
    Fifo,
}

/// A network device to move: config-linux.md § Network Devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host_name: String,
    /// Its name in the container, or a template with one `%d`.
    pub name: String,
}

/// `linux.personality.domain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// `PER_LINUX`.
    Linux,
    /// `PER_LINUX32`.
    Linux32,
}

/// Arguments of set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` mode.
    pub mode: u32,
    /// The config's name of it.
    pub mode_name: &'static str,
    /// `MPOL_F_*` bits.
    pub flags: u32,
    /// Sorted; empty where the mode takes none.
    pub nodes: Vec<u32>,
}

/// `linux.intelRdt`: config-linux.md § IntelRdt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntelRdt {
    /// A plain name, or `/` for the default group; the container's id when absent.
    pub clos_id: Option<String>,
    /// Lines in the order of the spec: l3CacheSchema, memBwSchema, schemata. Empty: nothing is
    /// written.
    pub schemata: Vec<String>,
    /// A monitoring group is requested.
    pub enable_monitoring: bool,
}
