//! `linux.resources`: config-linux.md § Control groups. Engines send whole objects full of zeros,
//! so a zero is absent wherever the kernel has no zero of its own.

use std::collections::BTreeMap;

use crate::numbers;

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// At most this many bytes, microseconds or processes.
    Amount(u64),
}

impl Limit {
    /// What a number of the specification means: below zero is no limit.
    #[must_use]
    pub fn new(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Unlimited, Self::Amount)
    }

    /// The same where zero means that nothing is configured.
    #[must_use]
    pub fn unless_zero(number: Option<i64>) -> Option<Self> {
        number.filter(|number| *number != 0).map(Self::new)
    }
}

/// CPUs or memory nodes for cpuset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberList {
    /// For the kernel, without blanks around.
    pub text: String,
    /// The numbers, sorted; `None` for what only the kernel reads (`0-30:2/4`).
    pub numbers: Option<Vec<u32>>,
}

impl NumberList {
    /// The list of a text such as `0-3,7`. The kernel takes blanks for commas.
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
    /// In order: the last that matches decides.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// CPU time and CPUs.
    pub cpu: Cpu,
    /// `pids.limit`
    pub pids: Option<Limit>,
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

/// Memory limits. A `swap` of bytes comes with a `limit` that is not above it, but in an update's
/// request, whose other half the container may have.
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
    /// Microseconds of CPU time a period.
    pub quota: Option<Limit>,
    /// Microseconds, at most `quota`.
    pub burst: Option<u64>,
    /// Microseconds, 1000 to 1000000.
    pub period: Option<u64>,
    /// Microseconds a `realtime_period`.
    pub realtime_runtime: Option<Limit>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// For cpuset.
    pub cpus: Option<NumberList>,
    /// For cpuset.
    pub mems: Option<NumberList>,
    /// Runs only when nobody else wants to.
    pub idle: Option<bool>,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000.
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
    /// 10 to 1000.
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
    /// For net_cls; zero would be no class.
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
