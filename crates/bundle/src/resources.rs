//! `linux.resources`: config-linux.md § Control groups. Absent, null, zero and a value stay apart.

use std::collections::BTreeMap;

/// Limits of a cgroup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// In order: the last that matches decides.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// CPU time and CPUs.
    pub cpu: Cpu,
    /// `pids.limit`; -1 is unlimited, and nothing is below.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// By page size.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Classes and priorities of packets (cgroup v1).
    pub network: Network,
    /// By device; each with at least one limit.
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 and their new content. Each name is `controller.name`, without `/`.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits; none is below -1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes; -1 is unlimited.
    pub limit: Option<i64>,
    /// Bytes, a soft limit.
    pub reservation: Option<i64>,
    /// Bytes of memory plus swap.
    pub swap: Option<i64>,
    /// Obsolete.
    pub kernel: Option<i64>,
    /// Obsolete.
    pub kernel_tcp: Option<i64>,
    /// At most 100.
    pub swappiness: Option<u64>,
    /// Processes wait where they would be killed (cgroup v1).
    pub disable_oom_killer: Option<bool>,
    /// Accounts for children (cgroup v1).
    pub use_hierarchy: Option<bool>,
    /// An update below the usage is refused.
    pub check_before_update: Option<bool>,
}

/// CPU limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144 in the kernel.
    pub shares: Option<u64>,
    /// Microseconds of CPU time a period; zero or less is unlimited.
    pub quota: Option<i64>,
    /// Microseconds, at most `quota`.
    pub burst: Option<u64>,
    /// Microseconds, 1000 to 1000000; zero is unset.
    pub period: Option<u64>,
    /// Microseconds a `realtime_period`.
    pub realtime_runtime: Option<i64>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// A list for cpuset.
    pub cpus: Option<String>,
    /// A list for cpuset.
    pub mems: Option<String>,
    /// 0 or 1.
    pub idle: Option<i64>,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000; zero is unset.
    pub weight: Option<u16>,
    /// The same, against child cgroups (cgroup v1).
    pub leaf_weight: Option<u16>,
    /// By device.
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

/// Weights of one device; at least one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000; zero is unset.
    pub weight: Option<u16>,
    /// The same.
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
    /// As the kernel's files have it, e.g. `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Network limits (cgroup v1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// For net_cls.
    pub class_id: Option<u32>,
    /// By interface.
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
    /// Allows, or denies.
    pub allow: bool,
    /// Which type.
    pub kind: DeviceRuleKind,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// At least one.
    pub access: DeviceAccess,
}

/// The type of device that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRuleKind {
    /// `a`: both of the others.
    All,
    /// `c`.
    Char,
    /// `b`.
    Block,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceAccess {
    /// `r`.
    pub read: bool,
    /// `w`.
    pub write: bool,
    /// `m`.
    pub mknod: bool,
}
