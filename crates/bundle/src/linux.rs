//! `linux`: config-linux.md.

use crate::{IdMappings, Propagation, Resources, Seccomp};
use coracle_sys::{NamespaceKind, PerNamespace};
use std::ffi::CString;
use std::path::PathBuf;

/// The `linux` section; absent properties are empty.
#[derive(Clone, Debug, Default)]
pub struct Linux {
    /// The namespaces by kind.
    pub namespaces: Namespaces,
    /// The id maps, only with a user namespace. Either both are empty or neither.
    pub id_mappings: IdMappings,
    /// Offsets of clocks, only with a new time namespace.
    pub time_offsets: TimeOffsets,
    /// Device nodes to make besides the default ones.
    pub devices: Vec<Device>,
    /// Network devices to move into the network namespace, in order of their host names.
    pub net_devices: Vec<NetDevice>,
    /// The configured path, whose meaning depends on the cgroup manager. It has no `..` component.
    pub cgroups_path: Option<String>,
    /// The limits of the cgroup.
    pub resources: Resources,
    /// Sysctls in order of their keys, only of namespaces that the config lists.
    pub sysctl: Vec<Sysctl>,
    /// The propagation of the root mount, set after all others were made.
    pub rootfs_propagation: Option<Propagation>,
    /// Absolute paths without `.` and `..`, each once; only with a mount namespace.
    pub masked_paths: Vec<PathBuf>,
    /// Absolute paths without `.` and `..`, each once; only with a mount namespace.
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label for mounts.
    pub mount_label: Option<CString>,
    /// Argument of personality(2).
    pub personality: Option<Personality>,
    /// The NUMA policy of the process.
    pub memory_policy: Option<MemoryPolicy>,
    /// The resctrl group, for cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
    /// The filter of system calls. An object without an action and rules counts as absent.
    pub seccomp: Option<Seccomp>,
}

/// A kernel parameter of a namespace: config-linux.md § Sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// The configured key.
    pub key: String,
    /// The path below `/proc/sys`: `net/ipv4/ip_forward`.
    pub path: String,
    /// The kind of namespace that it belongs to.
    pub namespace: NamespaceKind,
    /// The configured value.
    pub value: String,
}

/// `linux.namespaces` by kind: config-linux.md § Namespaces.
pub type Namespaces = PerNamespace<Namespace>;

/// How the container gets a namespace of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Not listed: the container stays in the runtime's.
    #[default]
    Inherit,
    /// Listed without a path: a new one.
    New,
    /// Listed with a path: an existing one.
    Join {
        /// The absolute path. Whether it is a namespace of this kind is checked when it is opened.
        path: PathBuf,
        /// Its index in `linux.namespaces`, for messages.
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

/// A device node to make: config-linux.md § Devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The absolute path, without `..` and a trailing slash.
    pub path: PathBuf,
    /// Its type.
    pub kind: DeviceKind,
    /// At most 12 bits; zero for fifos.
    pub major: u32,
    /// At most 20 bits; zero for fifos.
    pub minor: u32,
    /// Permission bits, at most 0o7777; 0o666 by default.
    pub mode: u32,
    /// The owner in the container; 0 by default.
    pub uid: u32,
    /// The group in the container; 0 by default.
    pub gid: u32,
}

impl Device {
    /// What every container has, unless the config has a device of the same path: config-linux.md
    /// § Default Devices.
    pub fn defaults() -> impl Iterator<Item = Device> {
        let numbers = [
            ("/dev/null", 1, 3),
            ("/dev/zero", 1, 5),
            ("/dev/full", 1, 7),
            ("/dev/random", 1, 8),
            ("/dev/urandom", 1, 9),
            ("/dev/tty", 5, 0),
        ];
        numbers.into_iter().map(|(path, major, minor)| Device {
            path: path.into(),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
    }
}

/// The type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`, or `u`, which means the same to mknod(1).
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
    /// Sorted node numbers; empty if the mode has none.
    pub nodes: Vec<u32>,
}

/// `linux.intelRdt`: config-linux.md § IntelRdt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntelRdt {
    /// The name of the group, or `/` for the default group; `None` for the container's id.
    pub clos_id: Option<String>,
    /// Lines to write, in the order of the specification: l3CacheSchema, memBwSchema, schemata.
    pub schemata: Vec<String>,
    /// Whether a monitoring group is requested.
    pub enable_monitoring: bool,
}
