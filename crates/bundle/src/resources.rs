//! `linux.resources`: config-linux.md § Control groups. Engines send whole objects of zeros, so a
//! zero counts as absent wherever it is no valid limit.

use std::collections::BTreeMap;

use crate::numbers;

/// A limit that may be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// At most this many bytes, microseconds or processes.
    Amount(u64),
}

impl Limit {
    /// The limit for a number of the specification, in which a negative number means unlimited.
    #[must_use]
    pub fn new(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Unlimited, Self::Amount)
    }

    /// The limit for a number of which zero means that it is not set.
    #[must_use]
    pub fn unless_zero(number: Option<i64>) -> Option<Self> {
        number.filter(|number| *number != 0).map(Self::new)
    }
}

/// CPUs or memory nodes for cpuset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberList {
    /// The text for the kernel, trimmed.
    pub text: String,
    /// The sorted numbers; `None` for a format that only the kernel parses (`0-30:2/4`).
    pub numbers: Option<Vec<u32>>,
}

impl NumberList {
    /// Parses a list such as `0-3,7`. As for the kernel, blanks separate as commas do.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let parts = text.split([',', ' ', '\n']);
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        Self {
            text: text.trim().to_owned(),
            numbers: numbers::parse(&parts.join(",")).ok(),
        }
    }
}

/// Limits of a cgroup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Device rules in order: the last one that matches decides.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// CPU time and CPUs.
    pub cpu: Cpu,
    /// `pids.limit`
    pub pids: Option<Limit>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Limits of huge pages by page size.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Classes and priorities of packets (cgroup v1).
    pub network: Network,
    /// RDMA limits by device; each has at least one limit.
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 and their new content. Each name is `controller.name`, without `/`.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits. If `swap` is a number of bytes, there is a `limit` that is not above it, except
/// in a request for an update, since the container may have a limit already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub limit: Option<Limit>,
    /// Bytes, a soft limit.
    pub reservation: Option<Limit>,
    /// Bytes of memory plus swap.
    pub swap: Option<Limit>,
    /// Obsolete.
    pub kernel: Option<Limit>,
    /// Obsolete.
    pub kernel_tcp: Option<Limit>,
    /// At most 100.
    pub swappiness: Option<u64>,
    /// Whether processes wait at the limit and are not killed (cgroup v1).
    pub disable_oom_killer: Option<bool>,
    /// Whether child cgroups are accounted as well (cgroup v1).
    pub use_hierarchy: Option<bool>,
    /// Whether an update below the current use is refused.
    pub check_before_update: Option<bool>,
}

/// CPU limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144 in the kernel.
    pub shares: Option<u64>,
    /// Microseconds of CPU time for each `period`.
    pub quota: Option<Limit>,
    /// Microseconds, at most `quota`.
    pub burst: Option<u64>,
    /// Microseconds, 1000 to 1000000.
    pub period: Option<u64>,
    /// Microseconds for each `realtime_period`.
    pub realtime_runtime: Option<Limit>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// CPUs, for cpuset.
    pub cpus: Option<NumberList>,
    /// Memory nodes, for cpuset.
    pub mems: Option<NumberList>,
    /// Whether the cgroup is scheduled as SCHED_IDLE: with the least weight.
    pub idle: Option<bool>,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, the weight against child cgroups (cgroup v1).
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes a second.
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes a second.
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations a second.
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations a second.
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// Weights of one device, of which at least one is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, the weight against child cgroups (cgroup v1).
    pub leaf_weight: Option<u16>,
}

/// A throttle of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Zero is unlimited.
    pub rate: u64,
}

/// A limit of huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepageLimit {
    /// The size as in the names of the kernel's files, such as `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Network limits (cgroup v1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The class for net_cls. Zero means that it is not set.
    pub class_id: Option<u32>,
    /// Priorities by interface.
    pub priorities: Vec<(String, u32)>,
}

/// Limits of an RDMA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
}

/// One entry of the device list; `None` numbers are wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows or denies access.
    pub allow: bool,
    /// The type of device.
    pub kind: DeviceRuleKind,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// The kinds of access, at least one.
    pub access: DeviceAccess,
}

/// The type of device that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRuleKind {
    /// `a`: both character and block devices.
    All,
    /// `c`.
    Char,
    /// `b`.
    Block,
}

/// The kinds of access that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceAccess {
    /// `r`.
    pub read: bool,
    /// `w`.
    pub write: bool,
    /// `m`.
    pub mknod: bool,
}
