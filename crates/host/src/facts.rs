//! The facts of the machine, as plain values.

use std::fmt;
use std::ops::{BitOr, Deref, DerefMut};
use std::path::PathBuf;

use coracle_dbus::Bus;
use coracle_sys::{Capability, NamespaceFlags, PerNamespace};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

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
    /// Whether the runtime's secure bits permit raising ambient capabilities: capabilities(7). A
    /// new user namespace starts without secure bits.
    pub ambient_allowed: bool,
    /// Number of the kernel's last capability.
    pub last_capability: u8,
    /// The runtime runs in a user namespace other than the initial one.
    pub in_user_namespace: bool,
    /// What the runtime's own user namespace says.
    pub setgroups: Setgroups,
    /// The caller's subordinate ids, gathered for [`Needs::id_maps`].
    pub subordinate_ids: Fact<SubordinateIds>,
    /// The cgroup file systems, gathered for [`Needs::cgroups`].
    pub cgroups: Fact<CgroupLayout>,
    /// AppArmor is enabled; gathered for [`Needs::apparmor`].
    pub apparmor: Fact<bool>,
    /// SELinux is enabled and its file system mounted; gathered for [`Needs::selinux`].
    pub selinux: Fact<bool>,
    /// The version of Landlock's ABI, 0 without Landlock; gathered for [`Needs::landlock`].
    pub landlock: Fact<u32>,
    /// Mount point of resctrl, if it is mounted; gathered for [`Needs::resctrl`].
    pub resctrl: Fact<Option<PathBuf>>,
    /// The runtime's own namespaces.
    pub namespaces: Fact<NamespaceIds>,
    /// The kinds of [`Needs::compared`] of which the process is in another namespace than the
    /// runtime.
    pub differing: Fact<NamespaceFlags>,
    /// Memory nodes that are online, ascending; gathered for [`Needs::nodes`].
    pub online_nodes: Fact<Vec<u32>>,
    /// The systemd manager for the caller, `None` where systemd does not run; gathered for
    /// [`Needs::systemd`].
    pub systemd: Fact<Option<Systemd>>,
    /// The setting by which user namespaces are refused, if one does it; gathered for
    /// [`Needs::refusals`].
    pub user_namespaces_refused: Fact<Option<Refusal>>,
    /// Whether cgroups can be made; gathered for [`Needs::cgroups`] and [`Needs::refusals`]
    /// together.
    pub delegation: Fact<Option<Delegation>>,
    /// The types of file systems that the kernel has at the moment; gathered for
    /// [`Needs::file_systems`].
    pub file_systems: Fact<FileSystems>,
    /// The real path of [`Needs::root`], without links; `None` if the directory does not exist or
    /// the path has no links.
    pub real_root: Fact<Option<PathBuf>>,
}

impl Host {
    /// Whether the runtime has the capability in its own user namespace.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        capability.is_in(self.capabilities)
    }

    /// Whether the runtime has the rights of the machine's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.euid == 0 && !self.in_user_namespace
    }
}

/// A fact that is gathered only where a plan needs it.
///
/// Whether it is needed depends on the config: SELinux is looked for if there is a label. So no
/// type of the planner's input can hold exactly the facts that it will read, and a fact that was
/// forgotten is found when it is read. The fuzz targets plan every config from the facts that its
/// [`Needs`] name and no others ([`fixture::only`](crate::fixture::only)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// The fact was gathered.
    Known(T),
    /// No [`Needs`] named it. Reading it is a programming error, and panics.
    NotGathered,
}

impl<T> From<T> for Fact<T> {
    fn from(value: T) -> Self {
        Fact::Known(value)
    }
}

const NOT_NAMED: &str = "a planner reads a fact that its needs did not name";

impl<T> Deref for Fact<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        match self {
            Fact::Known(value) => value,
            Fact::NotGathered => unreachable!("{NOT_NAMED}"),
        }
    }
}

impl<T> DerefMut for Fact<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Fact::Known(value) => value,
            Fact::NotGathered => unreachable!("{NOT_NAMED}"),
        }
    }
}

/// A setting of the machine that refuses user namespaces: user_namespaces(7), and those of the
/// kernels of Debian and Ubuntu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As sysctl(8) names it.
    pub setting: &'static str,
    /// The value that it has, which refuses them.
    pub value: &'static str,
    /// One that does not.
    pub allowing: &'static str,
    /// Who is refused them.
    pub whom: Refused,
}

/// Who is refused user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Root, too.
    Everybody,
    /// Who has no `CAP_SYS_ADMIN`.
    Unprivileged,
}

/// Where the runtime would make cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The directory: the top of a mount for root, the runtime's own cgroup for a user.
    pub directory: PathBuf,
    /// Why no directory can be made in it: it is another user's (`EACCES`), or mounted read-only
    /// (`EROFS`).
    pub refused: Option<Errno>,
    /// The controllers that a cgroup below it can have (v2).
    pub controllers: Vec<String>,
}

/// The types of file systems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystems {
    /// Those of `/proc/filesystems`.
    pub present: Vec<String>,
    /// Those that the kernel loads as modules when they are needed. `None` where it loads modules
    /// and their list cannot be seen, as in a container.
    pub loadable: Option<Vec<String>>,
}

impl FileSystems {
    /// Whether the kernel has this type of file system; `None` if that cannot be known.
    #[must_use]
    pub fn has(&self, kind: &str) -> Option<bool> {
        // What stands after a dot is for a program in user space: `fuse.sshfs`.
        let kind = kind.split('.').next().unwrap_or(kind);
        let is_in = |kinds: &[String]| kinds.iter().any(|known| known == kind);
        match &self.loadable {
            _ if is_in(&self.present) => Some(true),
            loadable => loadable.as_deref().map(is_in),
        }
    }
}

/// What `/proc/PID/setgroups` of a user namespace says of setgroups(2): user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setgroups {
    /// `allow`, as it is from the start.
    Allowed,
    /// `deny`: the kernel's condition for an unprivileged gid map, since dropping a group could
    /// give access (CVE-2014-8989).
    Denied,
    /// It can be read inside only.
    Unknown,
}

/// A running systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// The manager that serves the caller.
    pub manager: SystemdManager,
    /// Its major version, such as 257; 0 if it reports none.
    pub version: u32,
    /// The manager's own cgroup, from the root of the hierarchy; its slices are below it.
    pub cgroup: PathBuf,
    /// The bus on which it can be called.
    pub bus: Bus,
}

/// Which systemd manager: the system's or a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemdManager {
    /// The system manager, for root of the initial user namespace.
    System,
    /// The user's own manager.
    User,
}

/// The kernel version, as far as it determines what the kernel can do.
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

/// The ids that the caller may map besides its own, and the programs that write the maps:
/// subuid(5), newuidmap(1).
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
    /// The v2 tree: the only one in mode `V2`, mounted beside v1 in mode `Hybrid`.
    pub unified: Option<Hierarchy>,
}

/// Which version of cgroups has the controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// No cgroup file system is mounted.
    #[default]
    None,
    /// v1 hierarchies only.
    V1,
    /// v1 hierarchies with controllers, and a v2 mount beside them.
    Hybrid,
    /// The v2 tree; v1 hierarchies mounted in other places do not count.
    V2,
}

/// A hierarchy and where it is mounted: one of v1, or the v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1: `cpu`, `cpuacct`, …; `name=systemd` for a named one. v2: `cgroup.controllers` of the
    /// mount's top.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of the hierarchy that is mounted (mountinfo's root): `/` as a rule; inside a
    /// container without a cgroup namespace, the container's own cgroup.
    pub root: PathBuf,
    /// The runtime's own cgroup in it (`/proc/self/cgroup`), from the same root as [`Self::root`].
    pub own: PathBuf,
    /// Whether the hierarchy is mounted with `noprefix`, an option of v1: file names lack the
    /// controller's name (`cpus` for `cpuset.cpus`).
    pub noprefix: bool,
}

/// (device, inode) of each `/proc/PID/ns/…`: two processes share a namespace if and only if the
/// pairs are equal. (0, 0) if the kernel lacks the kind. The pid and time namespaces are those of
/// the process itself, not those that its children will be in.
pub type NamespaceIds = PerNamespace<(u64, u64)>;

/// The facts that a planner needs besides those that are always gathered.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// [`Host::namespaces`].
    pub namespaces: bool,
    /// [`Host::differing`]: a process, in the runtime's pid namespace, and kinds of namespaces.
    pub compared: Option<(i32, NamespaceFlags)>,
    /// [`Host::cgroups`].
    pub cgroups: bool,
    /// [`Host::subordinate_ids`].
    pub id_maps: bool,
    /// [`Host::resctrl`].
    pub resctrl: bool,
    /// [`Host::apparmor`].
    pub apparmor: bool,
    /// [`Host::selinux`].
    pub selinux: bool,
    /// [`Host::landlock`].
    pub landlock: bool,
    /// [`Host::online_nodes`].
    pub nodes: bool,
    /// [`Host::systemd`].
    pub systemd: bool,
    /// [`Host::user_namespaces_refused`].
    pub refusals: bool,
    /// [`Host::file_systems`].
    pub file_systems: bool,
    /// [`Host::real_root`] of this directory.
    pub root: Option<PathBuf>,
}

impl BitOr for Needs {
    type Output = Self;

    /// The facts that at least one of two planners needs.
    fn bitor(self, other: Self) -> Self {
        Self {
            namespaces: self.namespaces | other.namespaces,
            compared: self.compared.or(other.compared),
            cgroups: self.cgroups | other.cgroups,
            id_maps: self.id_maps | other.id_maps,
            resctrl: self.resctrl | other.resctrl,
            apparmor: self.apparmor | other.apparmor,
            selinux: self.selinux | other.selinux,
            landlock: self.landlock | other.landlock,
            nodes: self.nodes | other.nodes,
            systemd: self.systemd | other.systemd,
            refusals: self.refusals | other.refusals,
            file_systems: self.file_systems | other.file_systems,
            root: self.root.or(other.root),
        }
    }
}
