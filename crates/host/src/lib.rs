//! Facts of the machine and of the runtime's own process, gathered once.
//!
//! The plans of the other crates are pure: what they must know of the kernel, of its cgroup file
//! systems and of the caller's rights arrives as a [`Host`], a plain value. [`probe`] fills it, and
//! reads only what the [`Needs`] ask for, since some facts cost more than the work they serve: the
//! mount table of a busy node has thousands of lines. Tests take a [`Host`] from [`fixture`].
//!
//! ```
//! use coracle_host::{CgroupMode, Needs, fixture, probe};
//! let here = probe(Needs { cgroups: true, ..Needs::default() })?;
//! println!("kernel {}, cgroups {:?}", here.kernel, here.cgroups.mode);
//! assert_eq!(fixture::v2().cgroups.mode, CgroupMode::V2);
//! # Ok::<(), coracle_host::Error>(())
//! ```
//!
//! # Invariants
//!
//! * Nothing is changed, created or joined, and no program is run. systemd is only asked.
//! * Each file is read at most once, through a `/proc` that is checked to be one.
//! * The parsers are functions from text to values; the files are opened in one module.
//! * A fact that was not asked for has its empty value (`false`, an empty list).
//! * A [`Host`] of [`probe`] has a kernel of at least [`KERNEL_FLOOR`].

mod cgroup;
mod error;
pub mod fixture;
mod identity;
mod machine;
mod probe;
mod systemd;

use std::fmt;
use std::path::PathBuf;

use coracle_sys::{Capability, PerNamespace};

pub use coracle_dbus::{Bus, Peer};

pub use error::Error;
pub use machine::unescaped;
pub use probe::{namespaces_of, probe};

/// The oldest kernel that coracle runs on: it has `mount_setattr`, `cgroup.kill` and
/// `MOUNT_ATTR_NOSYMFOLLOW`, so that one code path serves every machine.
pub const KERNEL_FLOOR: KernelVersion = KernelVersion {
    major: 5,
    minor: 14,
};

/// Facts of the machine and of the runtime's own process, gathered once.
#[derive(Clone, Debug)]
pub struct Host {
    /// The running kernel: uname(2).
    pub kernel: KernelVersion,
    /// The runtime's effective user id, in its own user namespace.
    pub euid: u32,
    /// The runtime's effective group id, in its own user namespace.
    pub egid: u32,
    /// The runtime's effective capabilities, one bit each: bit 21 is `CAP_SYS_ADMIN`.
    pub capabilities: u64,
    /// The runtime's secure bits let ambient capabilities be raised: capabilities(7). A new user
    /// namespace starts without the bits.
    pub ambient_allowed: bool,
    /// Number of the kernel's last capability.
    pub last_capability: u8,
    /// The runtime runs in a user namespace other than the initial one.
    pub in_user_namespace: bool,
    /// `/proc/self/setgroups` does not say `deny`: user_namespaces(7).
    pub setgroups_allowed: bool,
    /// The caller's subordinate ids, filled only when [`Needs::id_maps`].
    pub subordinate_ids: SubordinateIds,
    /// The cgroup file systems, looked for only when [`Needs::cgroups`].
    pub cgroups: CgroupLayout,
    /// AppArmor is enabled; asked only when [`Needs::lsm`].
    pub apparmor: bool,
    /// SELinux is enabled and its file system mounted; asked only when [`Needs::lsm`].
    pub selinux: bool,
    /// Mount point of resctrl, looked for only when [`Needs::resctrl`].
    pub resctrl: Option<PathBuf>,
    /// The runtime's own namespaces.
    pub namespaces: NamespaceIds,
    /// Memory nodes that are online, ascending; asked only when [`Needs::nodes`].
    pub online_nodes: Vec<u32>,
    /// The manager of units that serves the caller; asked only when [`Needs::systemd`], and `None`
    /// where systemd does not run.
    pub systemd: Option<Systemd>,
    /// Where [`Needs::root`] really is: without links. `None` where it was not asked for, is not
    /// there, or is its own real path.
    pub real_root: Option<PathBuf>,
}

impl Host {
    /// Whether the runtime has the capability in its own user namespace.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        capability.is_in(self.capabilities)
    }
}

/// A running systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// Which of its managers.
    pub manager: SystemdManager,
    /// 257; 0 if it does not tell.
    pub version: u32,
    /// The manager's own cgroup, below which its slices are, from the top of the hierarchy.
    pub cgroup: PathBuf,
    /// Where it listens.
    pub bus: Bus,
}

/// Whose units a systemd manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemdManager {
    /// The machine's: for root of the initial user namespace.
    System,
    /// The user's own.
    User,
}

/// A kernel's version as far as it decides what the kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the caller may map besides its own id, and by whom: subuid(5), newuidmap(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubordinateIds {
    /// (first, count) of the caller's lines in `/etc/subuid`, by name and by uid, in their order.
    pub uid: Vec<(u32, u32)>,
    /// (first, count) of the caller's lines in `/etc/subgid`, by name and by uid, in their order.
    pub gid: Vec<(u32, u32)>,
    /// Absolute path of the helper that writes uid maps, where there is one.
    pub newuidmap: Option<PathBuf>,
    /// Absolute path of the helper that writes gid maps, where there is one.
    pub newgidmap: Option<PathBuf>,
}

/// Which cgroup file systems there are: cgroups(7), from `/proc/self/mountinfo` and
/// `/proc/self/cgroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLayout {
    /// Which version is in charge.
    pub mode: CgroupMode,
    /// Mounted v1 hierarchies in the order of `/proc/self/cgroup`; empty on v2.
    pub hierarchies: Vec<Hierarchy>,
    /// The v2 tree: the only one on v2, the side mount on hybrid.
    pub unified: Option<UnifiedTree>,
}

/// Which version of cgroups is in charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// No cgroup file system is mounted, or nobody asked.
    #[default]
    None,
    /// v1 hierarchies only.
    V1,
    /// v1 hierarchies with controllers, and a v2 mount beside.
    Hybrid,
    /// The v2 tree only; v1 hierarchies that somebody mounted elsewhere do not count.
    V2,
}

/// A v1 hierarchy and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`, …; `name=systemd` for a named one.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which of its directories the mount shows (mountinfo's root): `/` as a rule, the container's
    /// own cgroup inside a container without a cgroup namespace.
    pub root: PathBuf,
    /// The runtime's own cgroup in it (`/proc/self/cgroup`), from the same top as [`Self::root`].
    pub own: PathBuf,
    /// Files carry no controller's name in front (`cpus` for `cpuset.cpus`): a mount option.
    pub noprefix: bool,
}

/// The v2 tree and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnifiedTree {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which of its directories the mount shows (mountinfo's root), as in [`Hierarchy::root`].
    pub root: PathBuf,
    /// The runtime's own cgroup in it, as in [`Hierarchy::own`].
    pub own: PathBuf,
    /// `cgroup.controllers` of the mount's top.
    pub controllers: Vec<String>,
}

/// (device, inode) of each `/proc/PID/ns/…`: two processes share a namespace if and only if the
/// pairs are equal. (0, 0) where the kernel has no such kind. Of pid and time it is where the
/// process itself is, not its children to come.
pub type NamespaceIds = PerNamespace<(u64, u64)>;

/// What a command needs to know beyond the cheap facts: nothing else is probed.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// [`Host::cgroups`].
    pub cgroups: bool,
    /// [`Host::subordinate_ids`].
    pub id_maps: bool,
    /// [`Host::resctrl`].
    pub resctrl: bool,
    /// [`Host::apparmor`] and [`Host::selinux`].
    pub lsm: bool,
    /// [`Host::online_nodes`].
    pub nodes: bool,
    /// [`Host::systemd`].
    pub systemd: bool,
    /// [`Host::real_root`] of this directory.
    pub root: Option<PathBuf>,
}
